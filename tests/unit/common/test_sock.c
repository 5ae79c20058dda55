/* Unix sockets: files in the way of a new listener, which are replaced and which are not. */
#include "sock.h"
#include "support.h"

#include <fcntl.h>
#include <sys/stat.h>

static void in_directory(const struct directory *directory, const char *name, char path[128]) {
    snprintf(path, 128, "%s/%s", directory->path, name);
}

static bool is_nonblocking(int fd) {
    return (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0;
}

static void test_listen_connect_accept(void **state) {
    struct directory directory;
    char path[128];
    const char *reason = NULL;
    uid_t uid;
    pid_t pid;
    directory_make(&directory);
    in_directory(&directory, "s", path);
    int listener = sock_listen(path, 0600, &reason);
    assert_true(listener >= 0 && is_nonblocking(listener));
    assert_int_equal(sock_accept(listener), -1);
    assert_int_equal(errno, EAGAIN);
    int client = sock_connect(path);
    assert_true(client >= 0 && is_nonblocking(client));
    int served = sock_accept(listener);
    assert_true(served >= 0 && is_nonblocking(served));
    assert_true(sock_peer(served, &uid, &pid));
    assert_int_equal(uid, geteuid());
    assert_int_equal(pid, getpid());
    close(served);
    close(client);
    close(listener);
    directory_remove(&directory);
}

static void test_mode(void **state) {
    static const mode_t modes[] = {0600, 0660, 0777};
    struct directory directory;
    directory_make(&directory);
    for (size_t i = 0; i < length_of(modes); i++) {
        char path[128];
        struct stat status;
        const char *reason;
        char name[] = {'s', (char)('0' + i), '\0'};
        in_directory(&directory, name, path);
        int listener = sock_listen(path, modes[i], &reason);
        assert_true(listener >= 0);
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_mode & 0777, modes[i]);
        close(listener);
    }
    directory_remove(&directory);
}

static void test_stale_socket_is_replaced(void **state) {
    struct directory directory;
    char path[128];
    const char *reason;
    directory_make(&directory);
    in_directory(&directory, "s", path);
    int dead = sock_listen(path, 0600, &reason);
    assert_true(dead >= 0);
    close(dead); /* its file stays */
    assert_int_equal(access(path, F_OK), 0);
    int listener = sock_listen(path, 0600, &reason);
    assert_true(listener >= 0);
    int client = sock_connect(path);
    assert_true(client >= 0);
    close(client);
    close(listener);
    directory_remove(&directory);
}

static void test_live_server_is_untouched(void **state) {
    struct directory directory;
    char path[128];
    struct stat before;
    struct stat after;
    const char *reason = NULL;
    directory_make(&directory);
    in_directory(&directory, "s", path);
    int live = sock_listen(path, 0600, &reason);
    assert_true(live >= 0);
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(sock_listen(path, 0666, &reason), -1);
    assert_non_null(reason);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_ino, before.st_ino);
    assert_int_equal(after.st_mode, before.st_mode);
    int client = sock_connect(path);
    assert_true(client >= 0);
    close(client);
    close(live);
    directory_remove(&directory);
}

/* A server whose backlog is full is alive. */
static void test_live_server_with_a_full_backlog_is_untouched(void **state) {
    struct directory directory;
    char path[128];
    const char *reason = NULL;
    int clients[64];
    size_t count = 0;
    directory_make(&directory);
    in_directory(&directory, "s", path);
    int live = sock_listen(path, 0600, &reason);
    assert_true(live >= 0);
    assert_int_equal(listen(live, 1), 0);
    while (count < length_of(clients) && (clients[count] = sock_connect(path)) >= 0) {
        count++;
    }
    assert_true(count > 0 && count < length_of(clients));
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(sock_listen(path, 0600, &reason), -1);
    assert_int_equal(access(path, F_OK), 0);
    while (count > 0) {
        close(clients[--count]);
    }
    close(live);
    directory_remove(&directory);
}

static void test_what_is_no_socket_is_untouched(void **state) {
    struct directory directory;
    char file[128];
    char link[128];
    char text[8] = "";
    const char *reason = NULL;
    directory_make(&directory);
    in_directory(&directory, "file", file);
    in_directory(&directory, "link", link);
    int fd = open(file, O_CREAT | O_RDWR, 0600);
    assert_int_equal(write(fd, "mine", 4), 4);
    assert_int_equal(symlink(file, link), 0);
    assert_int_equal(sock_listen(file, 0600, &reason), -1);
    assert_non_null(reason);
    assert_int_equal(sock_listen(link, 0600, &reason), -1);
    assert_int_equal(sock_listen(directory.path, 0600, &reason), -1);
    assert_int_equal(pread(fd, text, 4, 0), 4);
    assert_string_equal(text, "mine");
    assert_int_equal(access(link, F_OK), 0);
    close(fd);
    directory_remove(&directory);
}

static void test_path_of_107_and_108_bytes(void **state) {
    struct directory directory;
    char path[200];
    const char *reason = NULL;
    directory_make(&directory);
    for (size_t length = 106; length <= 110; length++) {
        size_t start = strlen(directory.path);
        memset(path, 'x', sizeof path);
        memcpy(path, directory.path, start);
        path[start] = '/';
        path[length] = '\0';
        int listener = sock_listen(path, 0600, &reason);
        assert_int_equal(listener >= 0, length <= SOCK_PATH_MAX);
        int client = sock_connect(path);
        assert_int_equal(client >= 0, length <= SOCK_PATH_MAX);
        assert_int_equal(access(path, F_OK) == 0, length <= SOCK_PATH_MAX);
        if (listener >= 0) {
            close(listener);
            close(client);
        } else {
            assert_non_null(strstr(reason, "107"));
        }
    }
    directory_remove(&directory);
}

static void test_errors_have_reasons(void **state) {
    const char *reason = NULL;
    assert_int_equal(sock_listen("/nowhere/at/all/s", 0600, &reason), -1);
    assert_non_null(reason);
    reason = NULL;
    assert_int_equal(sock_listen("", 0600, &reason), -1);
    assert_non_null(reason);
}

static void test_connect_to_nothing(void **state) {
    struct directory directory;
    char path[128];
    directory_make(&directory);
    in_directory(&directory, "s", path);
    assert_int_equal(sock_connect(path), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(sock_connect(""), -1);
    directory_remove(&directory);
}

static void test_set_nonblocking(void **state) {
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_false(is_nonblocking(fds[0]));
    sock_set_nonblocking(fds[0]);
    assert_true(is_nonblocking(fds[0]));
    sock_set_nonblocking(fds[0]);
    assert_true(is_nonblocking(fds[0]));
    assert_false(is_nonblocking(fds[1]));
    close(fds[0]);
    close(fds[1]);
}

RUN_TESTS(TEST(test_listen_connect_accept), TEST(test_mode), TEST(test_stale_socket_is_replaced),
          TEST(test_live_server_is_untouched),
          TEST(test_live_server_with_a_full_backlog_is_untouched),
          TEST(test_what_is_no_socket_is_untouched), TEST(test_path_of_107_and_108_bytes),
          TEST(test_errors_have_reasons), TEST(test_connect_to_nothing), TEST(test_set_nonblocking))
