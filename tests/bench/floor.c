#include "floor.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "procs.h"

enum {
    PAIRS = 500,
    ROUNDS = 50,
    PERIOD_MS = 10,
    MESSAGE_BYTES = 88, /* an event of the bench and a record header */
    READER_SECONDS = 20,
    READ_BYTES = 4096
};

struct pairs {
    int sender[PAIRS];
    int reader[PAIRS];
    int count;
};

static void close_all(const int *fds, int count) {
    for (int i = 0; i < count; i++) {
        close(fds[i]);
    }
}

static bool pairs_open(struct pairs *pairs) {
    for (pairs->count = 0; pairs->count < PAIRS; pairs->count++) {
        int fds[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) {
            return false;
        }
        pairs->sender[pairs->count] = fds[0];
        pairs->reader[pairs->count] = fds[1];
    }
    return true;
}

/* False at the end of the stream. */
static bool read_some(int fd) {
    char bytes[READ_BYTES];
    int waiting;

    ioctl(fd, FIONREAD, &waiting);
    return read(fd, bytes, sizeof(bytes)) > 0;
}

/* In a child process. Ends when the senders are closed. */
_Noreturn static void reader_run(const struct pairs *pairs) {
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int open = pairs->count;

    alarm(READER_SECONDS);
    close_all(pairs->sender, pairs->count);
    for (int i = 0; i < pairs->count; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = pairs->reader[i]};

        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pairs->reader[i], &event);
    }
    while (open > 0) {
        struct epoll_event ready[PAIRS];
        int count = epoll_wait(epoll_fd, ready, PAIRS, -1);

        for (int i = 0; i < count; i++) {
            if (!read_some(ready[i].data.fd)) {
                close(ready[i].data.fd);
                open--;
            }
        }
    }
    _exit(0);
}

static void send_rounds(const struct pairs *pairs) {
    static const char message[MESSAGE_BYTES];
    int64_t since_ns = clock_now_ns();

    for (int round = 0; round < ROUNDS; round++) {
        clock_sleep_until(since_ns + (int64_t)round * PERIOD_MS * CLOCK_NS_PER_MS);
        for (int i = 0; i < pairs->count; i++) {
            (void)send(pairs->sender[i], message, sizeof(message), MSG_NOSIGNAL);
        }
    }
}

double floor_send_us(void) {
    static struct pairs pairs;
    double microseconds = 0;
    pid_t reader = -1;

    if (pairs_open(&pairs)) {
        reader = fork();
        if (reader == 0) {
            reader_run(&pairs);
        }
    }
    close_all(pairs.reader, pairs.count);
    if (reader > 0) {
        int64_t own_ns = procs_own_cpu_ns();

        send_rounds(&pairs);
        microseconds = (double)(procs_own_cpu_ns() - own_ns) / 1000.0 / ROUNDS / PAIRS;
    }
    close_all(pairs.sender, pairs.count);
    if (reader > 0) {
        while (waitpid(reader, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    return microseconds;
}
