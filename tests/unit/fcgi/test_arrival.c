/* Connections that have not said all yet: silent ones, half ones, long ones, wrong ones. */
#include "arrival.h"
#include "log.h"
#include "sock.h"
#include "support.h"

#define BEGIN                  \
    "\x01\x01\0\x01\0\x08\0\0" \
    "\0\x01\x01\0\0\0\0\0"
#define PARAMS                   \
    "\x01\x04\0\x01\0\x05\x03\0" \
    "\x01\x02"                   \
    "abb"                        \
    "pad"
#define PARAMS_END "\x01\x04\0\x01\0\0\0\0"
#define BODY_END   "\x01\x05\0\x01\0\0\0\0"

static const char head[] = BEGIN PARAMS PARAMS_END;
static const char request[] = BEGIN PARAMS PARAMS_END BODY_END;

struct rig {
    struct loop *loop;
    struct directory directory;
    char path[128];
    int listen_fd;
    struct arrivals arrivals;
    int requests;
    int fd;     /* of the last request */
    int source; /* likewise */
};

static void on_request(void *self, int fd, int source) {
    struct rig *rig = self;
    rig->requests++;
    rig->fd = fd;
    rig->source = source;
}

static void rig_begin(struct rig *rig, size_t body_bytes_max) {
    const char *reason;
    *rig = (struct rig){.fd = -1, .source = -1};
    log_init("pgsse-unit", LOG_LEVEL_ERROR);
    directory_make(&rig->directory);
    snprintf(rig->path, sizeof rig->path, "%s/s", rig->directory.path);
    rig->listen_fd = sock_listen(rig->path, 0600, &reason);
    assert_true(rig->listen_fd >= 0);
    rig->loop = loop_create();
    struct arrivals_owner owner = {rig, on_request};
    arrivals_start(&rig->arrivals, rig->loop, rig->listen_fd, body_bytes_max, &owner);
}

static void rig_end(struct rig *rig) {
    arrivals_stop(&rig->arrivals);
    loop_reap(rig->loop);
    loop_destroy(&rig->loop);
    if (rig->source >= 0 && rig->source != rig->fd) {
        close(rig->source);
    }
    if (rig->fd >= 0) {
        close(rig->fd);
    }
    close(rig->listen_fd);
    directory_remove(&rig->directory);
}

static int rig_connect(struct rig *rig) {
    int fd = sock_connect(rig->path);
    assert_true(fd >= 0);
    return fd;
}

static void say(struct rig *rig, int fd, struct slice bytes) {
    send_all(fd, bytes);
    run_turns(rig->loop, 3);
}

static bool is_closed_by_peer(int fd) {
    char byte;
    ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN);
}

static void test_whole_request(void **state) {
    (void)state;
    struct rig rig;
    char got[sizeof request];
    rig_begin(&rig, 0);
    int client = rig_connect(&rig);
    say(&rig, client, LITERAL(request));
    assert_int_equal(rig.requests, 1);
    assert_int_equal(rig.source, rig.fd);
    assert_true(arrivals_are_empty(&rig.arrivals));
    /* nothing was taken out of the socket */
    assert_int_equal(recv(rig.fd, got, sizeof got, MSG_DONTWAIT), sizeof request - 1);
    assert_memory_equal(got, request, sizeof request - 1);
    close(client);
    rig_end(&rig);
}

static void test_silent_then_half_then_complete(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig, 0);
    int client = rig_connect(&rig);
    run_turns(rig.loop, 3);
    assert_false(arrivals_are_empty(&rig.arrivals));
    say(&rig, client, (struct slice){request, 4}); /* half a header */
    say(&rig, client, (struct slice){request + 4, 20});
    assert_int_equal(rig.requests, 0);
    assert_false(arrivals_are_empty(&rig.arrivals));
    say(&rig, client, (struct slice){request + 24, sizeof request - 1 - 24});
    assert_int_equal(rig.requests, 1);
    assert_true(arrivals_are_empty(&rig.arrivals));
    assert_false(is_closed_by_peer(client));
    close(client);
    rig_end(&rig);
}

static void test_byte_by_byte(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig, 0);
    int client = rig_connect(&rig);
    for (size_t i = 0; i < sizeof request - 1; i++) {
        assert_int_equal(rig.requests, 0);
        say(&rig, client, (struct slice){request + i, 1});
    }
    assert_int_equal(rig.requests, 1);
    close(client);
    rig_end(&rig);
}

static void test_wrong_ones_are_closed(void **state) {
    (void)state;
    static const struct slice wrong[] = {
        LITERAL("G"), LITERAL("GET / HTTP/1.1\r\n\r\n"), LITERAL("\x01\x09\0\0\0\0\0\0"),
        LITERAL("\x01\x04\0\x01\0\0\0\0"), LITERAL(BEGIN "\x01\x09\0\0\0\0\0\0")};
    for (size_t i = 0; i < length_of(wrong); i++) {
        for (int is_late = 0; is_late < 2; is_late++) {
            struct rig rig;
            rig_begin(&rig, 0);
            int client = rig_connect(&rig);
            if (is_late == 1) {
                run_turns(rig.loop, 2); /* it is waited for already */
            }
            say(&rig, client, wrong[i]);
            assert_true(is_closed_by_peer(client));
            assert_true(arrivals_are_empty(&rig.arrivals));
            assert_int_equal(rig.requests, 0);
            close(client);
            rig_end(&rig);
        }
    }
}

static void test_gone_without_a_word(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig, 0);
    int client = rig_connect(&rig);
    run_turns(rig.loop, 2);
    close(client);
    run_turns(rig.loop, 3);
    assert_true(arrivals_are_empty(&rig.arrivals));
    assert_int_equal(rig.requests, 0);
    rig_end(&rig);
}

static void test_others_are_not_held_up(void **state) {
    (void)state;
    struct rig rig;
    int silent[20];
    rig_begin(&rig, 0);
    for (size_t i = 0; i < length_of(silent); i++) {
        silent[i] = rig_connect(&rig);
        say(&rig, silent[i], (struct slice){request, i});
    }
    int client = rig_connect(&rig);
    say(&rig, client, LITERAL(request));
    assert_int_equal(rig.requests, 1);
    for (size_t i = 0; i < length_of(silent); i++) {
        assert_false(is_closed_by_peer(silent[i]));
        close(silent[i]);
    }
    close(client);
    rig_end(&rig);
}

/* Silent ones, half ones, and half ones whose peer has gone. The one slow test here: the patience
 * is a constant. */
static void test_patience_ends(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig, 0);
    int silent = rig_connect(&rig);
    int half = rig_connect(&rig);
    int gone = rig_connect(&rig);
    run_turns(rig.loop, 2);
    say(&rig, half, (struct slice){request, 20});
    say(&rig, gone, (struct slice){request, 4});
    close(gone);
    run_for(rig.loop, ARRIVAL_TIMEOUT_MS + 50);
    assert_true(arrivals_are_empty(&rig.arrivals));
    assert_true(is_closed_by_peer(silent));
    assert_true(is_closed_by_peer(half));
    assert_int_equal(rig.requests, 0);
    close(silent);
    close(half);
    rig_end(&rig);
}

static void test_too_long_parameters(void **state) {
    (void)state;
    struct rig rig;
    struct buf bytes = {0};
    char *filler = repeated('x', 65535);
    rig_begin(&rig, 0);
    buf_append(&bytes, BEGIN, 16);
    buf_append(&bytes, "\x01\x04\0\x01\xff\xff\0\0", 8);
    buf_append(&bytes, filler, 65535);
    int client = rig_connect(&rig);
    send_all(client, buf_slice(&bytes));
    run_turns(rig.loop, 4);
    assert_true(is_closed_by_peer(client));
    assert_true(arrivals_are_empty(&rig.arrivals));
    close(client);
    free(filler);
    buf_release(&bytes);
    rig_end(&rig);
}

/* --- bodies
 * --------------------------------------------------------------------------------------- */

/* A request with a body in records of up to 32,000 bytes. */
static void request_with_body(struct buf *bytes, size_t body) {
    buf_append(bytes, head, sizeof head - 1);
    for (size_t left = body; left > 0;) {
        size_t length = left < 32000 ? left : 32000;
        char header[] = {1, 5, 0, 1, (char)(length >> 8), (char)length, 0, 0};
        buf_append(bytes, header, sizeof header);
        for (size_t i = 0; i < length; i++) {
            char byte = (char)((body - left + i) * 31);
            buf_append(bytes, &byte, 1);
        }
        left -= length;
    }
    buf_append(bytes, BODY_END, 8);
}

static void read_source(const struct rig *rig, struct buf *got) {
    ssize_t length;
    while ((length = read(rig->source, buf_reserve(got, 65536), 65536)) > 0) {
        got->length += (size_t)length;
    }
}

/* Sends as the socket takes it, with the loop running in between. */
static void say_all(struct rig *rig, int fd, struct slice bytes) {
    for (int tries = 0; bytes.length > 0; tries++) {
        assert_true(tries < 10000);
        ssize_t sent = send(fd, bytes.at, bytes.length < 20000 ? bytes.length : 20000,
                            MSG_NOSIGNAL | MSG_DONTWAIT);
        assert_true(sent > 0 || errno == EAGAIN);
        run_turns(rig->loop, 2);
        size_t taken = sent > 0 ? (size_t)sent : 0;
        bytes = (struct slice){bytes.at + taken, bytes.length - taken};
    }
    run_turns(rig->loop, 3);
}

static void test_bodies_are_waited_for(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 1000, 60000, 65536, 70000, 262144};
    for (size_t i = 0; i < length_of(sizes); i++) {
        struct rig rig;
        struct buf bytes = {0};
        struct buf got = {0};
        rig_begin(&rig, 262144 + 65536);
        request_with_body(&bytes, sizes[i]);
        int client = rig_connect(&rig);
        say_all(&rig, client, (struct slice){bytes.bytes, bytes.length - 1});
        assert_int_equal(rig.requests, 0);
        say_all(&rig, client, (struct slice){bytes.bytes + bytes.length - 1, 1});
        if (rig.requests != 1) {
            fail_msg("a body of %zu bytes: %d requests", sizes[i], rig.requests);
        }
        read_source(&rig, &got);
        expect_slice(buf_slice(&got), buf_slice(&bytes), "the request");
        buf_release(&got);
        buf_release(&bytes);
        close(client);
        rig_end(&rig);
    }
}

/* The rest of a body that is too long is thrown away, and the request comes all the same. */
static void test_body_that_is_too_long(void **state) {
    (void)state;
    struct rig rig;
    struct buf bytes = {0};
    struct buf got = {0};
    rig_begin(&rig, 1000);
    request_with_body(&bytes, 500000);
    int client = rig_connect(&rig);
    say_all(&rig, client, buf_slice(&bytes));
    assert_int_equal(rig.requests, 1);
    read_source(&rig, &got);
    assert_true(got.length >= sizeof head - 1 + 1000 && got.length < bytes.length);
    assert_memory_equal(got.bytes, bytes.bytes, got.length);
    assert_false(is_closed_by_peer(client));
    buf_release(&got);
    buf_release(&bytes);
    close(client);
    rig_end(&rig);
}

/* --- the door
 * ------------------------------------------------------------------------------------- */

static void test_door_closed(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig, 0);
    int early = rig_connect(&rig);
    say(&rig, early, (struct slice){request, 20});
    arrivals_close_door(&rig.arrivals);
    int late = rig_connect(&rig);
    say(&rig, late, LITERAL(request));
    assert_int_equal(rig.requests, 0);
    say(&rig, early, (struct slice){request + 20, sizeof request - 1 - 20});
    assert_int_equal(rig.requests, 1);
    close(early);
    close(late);
    rig_end(&rig);
}

static void test_door_paused(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig, 0);
    arrivals_pause(&rig.arrivals);
    int client = rig_connect(&rig);
    say(&rig, client, LITERAL(request));
    assert_int_equal(rig.requests, 0);
    arrivals_resume(&rig.arrivals);
    run_turns(rig.loop, 3);
    assert_int_equal(rig.requests, 1);
    close(client);
    rig_end(&rig);
}

static void test_stop_closes_what_waits(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig, 0);
    int client = rig_connect(&rig);
    say(&rig, client, (struct slice){request, 20});
    arrivals_stop(&rig.arrivals);
    run_turns(rig.loop, 1);
    assert_true(arrivals_are_empty(&rig.arrivals));
    assert_true(is_closed_by_peer(client));
    close(client);
    rig_end(&rig);
}

RUN_TESTS(TEST(test_whole_request), TEST(test_silent_then_half_then_complete),
          TEST(test_byte_by_byte), TEST(test_wrong_ones_are_closed), TEST(test_gone_without_a_word),
          TEST(test_others_are_not_held_up), TEST(test_patience_ends),
          TEST(test_too_long_parameters), TEST(test_bodies_are_waited_for),
          TEST(test_body_that_is_too_long), TEST(test_door_closed), TEST(test_door_paused),
          TEST(test_stop_closes_what_waits))
