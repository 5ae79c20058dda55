/* What the unit tests share: cmocka with its includes, slices, loop turns, sockets, directories.
 * Nothing here knows a room other than common/. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "buf.h"
#include "loop.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define unused __attribute__((unused))

/* Runs them all; the program's exit status is the number of failures. */
#define RUN_TESTS(...)                                    \
    int main(void) {                                      \
        const struct CMUnitTest tests[] = {__VA_ARGS__};  \
        return cmocka_run_group_tests(tests, NULL, NULL); \
    }

#define TEST(function) cmocka_unit_test(function)

/* A slice of a literal, NUL bytes inside included. */
#define LITERAL(text) ((struct slice){text, sizeof(text) - 1})

/* --- texts ------------------------------------------------------------------------------------ */

/* A copy that ends where its memory ends: reading one byte too many is seen by ASan. free() the
 * pointer that is stored in *memory. */
static unused struct slice exact(struct slice text, char **memory) {
    *memory = must_alloc(text.length > 0 ? text.length : 1);
    if (text.length > 0) {
        memcpy(*memory, text.at, text.length);
    }
    return (struct slice){*memory, text.length};
}

static unused void expect_slice(struct slice got, struct slice wanted, const char *about) {
    if (!slice_equals(got, wanted)) {
        fail_msg("%s: got %zu bytes \"%.*s\", wanted %zu bytes \"%.*s\"", about, got.length,
                 (int)got.length, got.at == NULL ? "" : got.at, wanted.length, (int)wanted.length,
                 wanted.at == NULL ? "" : wanted.at);
    }
}

static unused void expect_text(struct slice got, const char *wanted) {
    expect_slice(got, slice_of(wanted), wanted);
}

static unused void expect_buf(struct buf *got, const char *wanted) {
    expect_text(buf_slice(got), wanted);
    buf_release(got);
}

/* count times the same byte; free() it. */
static unused char *repeated(char byte, size_t count) {
    char *text = must_alloc(count + 1);
    memset(text, byte, count);
    text[count] = '\0';
    return text;
}

/* --- chance that can be repeated ---------------------------------------------------------------
 */

static unused uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* --- the loop ----------------------------------------------------------------------------------
 */

struct stopper {
    struct loop_timer timer;
    struct loop *loop;
};

static unused void stopper_due(struct loop_timer *timer) {
    loop_stop(container_of(timer, struct stopper, timer)->loop);
}

static unused void run_for(struct loop *loop, int64_t ms) {
    struct stopper stopper = {.loop = loop};
    loop_timer_start(loop, &stopper.timer, ms, stopper_due);
    loop_run(loop);
    loop_timer_stop(loop, &stopper.timer);
}

/* A few turns: enough for whatever is ready to be read, answered and written. */
static unused void run_turns(struct loop *loop, int turns) {
    for (int i = 0; i < turns; i++) {
        run_for(loop, 0);
    }
}

/* --- sockets -----------------------------------------------------------------------------------
 */

/* A connected pair, non-blocking; what the first sends is buffered in the smallest way that the
 * kernel offers. */
static unused void small_pair(int fds[2]) {
    int least = 1;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0);
}

static unused void plain_pair(int fds[2]) {
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

/* Takes what is there, at most `most` bytes. False when the peer has closed. */
static unused bool drain(int fd, struct buf *into, size_t most) {
    while (most > 0) {
        size_t wanted = most < 65536 ? most : 65536;
        ssize_t got = recv(fd, buf_reserve(into, wanted), wanted, MSG_DONTWAIT);
        if (got <= 0) {
            return got < 0 && errno == EAGAIN;
        }
        into->length += (size_t)got;
        most -= (size_t)got;
    }
    return true;
}

static unused bool drain_all(int fd, struct buf *into) {
    return drain(fd, into, SIZE_MAX);
}

static unused void send_all(int fd, struct slice bytes) {
    while (bytes.length > 0) {
        ssize_t sent = send(fd, bytes.at, bytes.length, MSG_NOSIGNAL);
        assert_true(sent > 0);
        bytes = (struct slice){bytes.at + sent, bytes.length - (size_t)sent};
    }
}

static unused bool is_open_fd(int fd) {
    return lseek(fd, 0, SEEK_CUR) >= 0 || errno != EBADF;
}

/* --- directories -------------------------------------------------------------------------------
 */

struct directory {
    char path[64];
};

static unused void directory_make(struct directory *directory) {
    snprintf(directory->path, sizeof directory->path, "/tmp/pgsse-unit-XXXXXX");
    assert_non_null(mkdtemp(directory->path));
}

static unused int remove_entry(const char *path, const struct stat *status, int kind,
                               struct FTW *place) {
    (void)status;
    (void)kind;
    (void)place;
    return remove(path);
}

static unused void directory_remove(const struct directory *directory) {
    assert_int_equal(nftw(directory->path, remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
}
