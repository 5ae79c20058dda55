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
#include "topic_key.h"

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

#define TEST(function) cmocka_unit_test_teardown(function, fixture_finish)

/* --- fixtures -----------------------------------------------------------------------------------
 *
 * A fixture is what tests play in. A test says only how it begins: its end is called when the test
 * is over, also if it failed, or when the test begins the next one. */

static void (*fixture_end)(void);

static unused int fixture_finish(void **state) {
    void (*end)(void) = fixture_end;
    fixture_end = NULL;
    if (end != NULL) {
        end();
    }
    return 0;
}

static unused void fixture_begin(void (*end)(void)) {
    (void)fixture_finish(NULL);
    fixture_end = end;
}

/* --- slices ----------------------------------------------------------------------------------- */

/* A slice of a literal, NUL bytes inside included. */
#define LITERAL(text) ((struct slice){text, sizeof(text) - 1})

/* --- texts ------------------------------------------------------------------------------------ */

/* A copy whose memory ends after its last byte, so that ASan sees a read past it. free()
 * *memory. */
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

/* --- topics ------------------------------------------------------------------------------------ */

/* The key of a topic without a tenant, or of a pattern if the name ends in '*'; also if the name is
 * not valid. It stays as long as the program. */
static unused struct topic_key key_of_slice(struct slice name) {
    static struct known_key {
        UT_hash_handle hh;
        size_t length;
        char bytes[];
    } * known;
    struct known_key *key;
    size_t before = topic_is_pattern(name) ? 2 : 1;
    HASH_FIND(hh, known, name.at, name.length, key);
    if (key == NULL) {
        key = must_zalloc(sizeof *key + before + name.length);
        key->length = before + name.length;
        memcpy(key->bytes, before == 2 ? "*\n" : "\n", before);
        memcpy(key->bytes + before, name.at, name.length);
        HASH_ADD_KEYPTR(hh, known, key->bytes + before, name.length, key);
    }
    return (struct topic_key){{key->bytes, key->length}};
}

static unused struct topic_key key_of(const char *name) {
    return name == NULL ? (struct topic_key){0} : key_of_slice(slice_of(name));
}

static unused void expect_topic(struct topic_key got, const char *wanted) {
    expect_slice(got.bytes, key_of(wanted).bytes, wanted);
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

/* A connected, non-blocking pair; the first one's send buffer is as small as the kernel allows. */
static unused void small_pair(int fds[2]) {
    int least = 1;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0);
}

static unused void plain_pair(int fds[2]) {
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

/* Reads what is there, at most `most` bytes. False when the peer has closed. */
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
    return remove(path);
}

static unused void directory_remove(const struct directory *directory) {
    assert_int_equal(nftw(directory->path, remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
}
