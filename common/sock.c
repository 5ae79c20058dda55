#include "sock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { SOCK_BACKLOG = 1024 };

static bool address_of(const char *path, struct sockaddr_un *address) {
    size_t length = strlen(path);
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (length == 0 || length > SOCK_PATH_MAX) {
        errno = ENAMETOOLONG;
        return false;
    }
    memcpy(address->sun_path, path, length + 1);
    return true;
}

static int socket_open(void) {
    return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

int sock_connect(const char *path) {
    struct sockaddr_un address;
    if (!address_of(path, &address)) {
        return -1;
    }
    int fd = socket_open();
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* A full backlog (EAGAIN) means that a server listens, too. */
static bool somebody_answers(const char *path) {
    int fd = sock_connect(path);
    if (fd >= 0) {
        close(fd);
        return true;
    }
    return errno == EAGAIN;
}

static bool path_is_free(const char *path, const char **reason) {
    struct stat status;
    if (lstat(path, &status) != 0) {
        return true; /* bind reports other errors */
    }
    if (!S_ISSOCK(status.st_mode)) {
        *reason = "the path exists and is not a socket";
        return false;
    }
    if (somebody_answers(path)) {
        *reason = "another server answers there";
        return false;
    }
    if (unlink(path) != 0) {
        *reason = strerror(errno);
        return false;
    }
    return true;
}

/* chmod comes before listen, so that nobody can connect before the mode is set. */
static bool bind_and_listen(int fd, const char *path, mode_t mode) {
    struct sockaddr_un address;
    return address_of(path, &address) &&
           bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && chmod(path, mode) == 0 &&
           listen(fd, SOCK_BACKLOG) == 0;
}

int sock_listen(const char *path, mode_t mode, const char **reason) {
    if (strlen(path) > SOCK_PATH_MAX) {
        *reason = "the path of a Unix socket ends at " text_of(SOCK_PATH_MAX) " bytes";
        return -1;
    }
    if (!path_is_free(path, reason)) {
        return -1;
    }
    int fd = socket_open();
    if (fd < 0 || !bind_and_listen(fd, path, mode)) {
        *reason = strerror(errno);
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

int sock_accept(int listen_fd) {
    for (;;) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0 || (errno != EINTR && errno != ECONNABORTED)) {
            return fd;
        }
    }
}

bool sock_peer(int fd, uid_t *uid, pid_t *pid) {
    struct ucred peer;
    socklen_t length = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
        return false;
    }
    *uid = peer.uid;
    *pid = peer.pid;
    return true;
}

void sock_set_nonblocking(int fd) {
    int flags = fcntl(fd, F_GETFL);
    check(flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0);
}
