/* Connections that have not said all yet: silent ones, half ones, long ones, wrong ones. */
#include "incoming.h"
#include "log.h"
#include "record.h"
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

static struct rig {
    struct loop *loop;
    struct directory directory;
    char path[128];
    int listen_fd;
    struct budget budget;
    struct incoming_requests incoming_requests;
    int requests;
    int fd;     /* of the last request */
    int source; /* likewise */
} rig;

static void on_request(void *self, int fd, int source) {
    rig.requests++;
    rig.fd = fd;
    rig.source = source;
}

static void rig_end(void) {
    incoming_requests_stop(&rig.incoming_requests);
    assert_int_equal(rig.budget.bytes, 0);
    loop_reap(rig.loop);
    loop_destroy(&rig.loop);
    if (rig.source >= 0 && rig.source != rig.fd) {
        close(rig.source);
    }
    if (rig.fd >= 0) {
        close(rig.fd);
    }
    close(rig.listen_fd);
    directory_remove(&rig.directory);
}

static void rig_begin_with(size_t body_bytes_max, size_t budget_bytes) {
    const char *reason;
    fixture_begin(rig_end);
    rig = (struct rig){.fd = -1, .source = -1};
    log_init("pgsse-unit", LOG_LEVEL_ERROR);
    directory_make(&rig.directory);
    snprintf(rig.path, sizeof rig.path, "%s/s", rig.directory.path);
    rig.listen_fd = sock_listen(rig.path, 0600, &reason);
    assert_true(rig.listen_fd >= 0);
    rig.loop = loop_create();
    struct incoming_requests_owner owner = {&rig, on_request};
    rig.budget.bytes_max = budget_bytes;
    incoming_requests_start(&rig.incoming_requests, rig.loop, rig.listen_fd, body_bytes_max,
                            &rig.budget, &owner);
}

static void rig_begin(size_t body_bytes_max) {
    rig_begin_with(body_bytes_max, 64 * 1024 * 1024);
}

static int rig_connect(void) {
    int fd = sock_connect(rig.path);
    assert_true(fd >= 0);
    return fd;
}

static void say(int fd, struct slice bytes) {
    send_all(fd, bytes);
    run_turns(rig.loop, 3);
}

static bool is_closed_by_peer(int fd) {
    char byte;
    ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN);
}

static void test_whole_request(void **state) {
    char got[sizeof request];
    rig_begin(0);
    int client = rig_connect();
    say(client, LITERAL(request));
    assert_int_equal(rig.requests, 1);
    assert_int_equal(rig.source, rig.fd);
    assert_true(incoming_requests_are_empty(&rig.incoming_requests));
    /* nothing was taken out of the socket */
    assert_int_equal(recv(rig.fd, got, sizeof got, MSG_DONTWAIT), sizeof request - 1);
    assert_memory_equal(got, request, sizeof request - 1);
    close(client);
}

static void test_silent_then_half_then_complete(void **state) {
    rig_begin(0);
    int client = rig_connect();
    run_turns(rig.loop, 3);
    assert_false(incoming_requests_are_empty(&rig.incoming_requests));
    say(client, (struct slice){request, 4}); /* half a header */
    say(client, (struct slice){request + 4, 20});
    assert_int_equal(rig.requests, 0);
    assert_false(incoming_requests_are_empty(&rig.incoming_requests));
    say(client, (struct slice){request + 24, sizeof request - 1 - 24});
    assert_int_equal(rig.requests, 1);
    assert_true(incoming_requests_are_empty(&rig.incoming_requests));
    assert_false(is_closed_by_peer(client));
    close(client);
}

static void test_byte_by_byte(void **state) {
    rig_begin(0);
    int client = rig_connect();
    for (size_t i = 0; i < sizeof request - 1; i++) {
        assert_int_equal(rig.requests, 0);
        say(client, (struct slice){request + i, 1});
    }
    assert_int_equal(rig.requests, 1);
    close(client);
}

static void test_wrong_ones_are_closed(void **state) {
    static const struct slice wrong[] = {
        LITERAL("G"), LITERAL("GET / HTTP/1.1\r\n\r\n"), LITERAL("\x01\x09\0\0\0\0\0\0"),
        LITERAL("\x01\x04\0\x01\0\0\0\0"), LITERAL(BEGIN "\x01\x09\0\0\0\0\0\0")};
    for (size_t i = 0; i < length_of(wrong); i++) {
        for (int is_late = 0; is_late < 2; is_late++) {
            rig_begin(0);
            int client = rig_connect();
            if (is_late == 1) {
                run_turns(rig.loop, 2); /* it is waited for already */
            }
            say(client, wrong[i]);
            assert_true(is_closed_by_peer(client));
            assert_true(incoming_requests_are_empty(&rig.incoming_requests));
            assert_int_equal(rig.requests, 0);
            close(client);
        }
    }
}

static void test_gone_without_a_word(void **state) {
    rig_begin(0);
    int client = rig_connect();
    run_turns(rig.loop, 2);
    close(client);
    run_turns(rig.loop, 3);
    assert_true(incoming_requests_are_empty(&rig.incoming_requests));
    assert_int_equal(rig.requests, 0);
}

static void test_others_are_not_held_up(void **state) {
    int silent[20];
    rig_begin(0);
    for (size_t i = 0; i < length_of(silent); i++) {
        silent[i] = rig_connect();
        say(silent[i], (struct slice){request, i});
    }
    int client = rig_connect();
    say(client, LITERAL(request));
    assert_int_equal(rig.requests, 1);
    for (size_t i = 0; i < length_of(silent); i++) {
        assert_false(is_closed_by_peer(silent[i]));
        close(silent[i]);
    }
    close(client);
}

/* Silent ones, half ones, and half ones whose peer has gone. The one slow test here: the patience
 * is a constant. */
static void test_patience_ends(void **state) {
    rig_begin(0);
    int silent = rig_connect();
    int half = rig_connect();
    int gone = rig_connect();
    run_turns(rig.loop, 2);
    say(half, (struct slice){request, 20});
    say(gone, (struct slice){request, 4});
    close(gone);
    run_for(rig.loop, INCOMING_TIMEOUT_MS + 50);
    assert_true(incoming_requests_are_empty(&rig.incoming_requests));
    assert_true(is_closed_by_peer(silent));
    assert_true(is_closed_by_peer(half));
    assert_int_equal(rig.requests, 0);
    close(silent);
    close(half);
}

static void test_too_long_parameters(void **state) {
    struct buf bytes = {0};
    char *filler = repeated('x', 65535);
    rig_begin(0);
    buf_append(&bytes, BEGIN, 16);
    buf_append(&bytes, "\x01\x04\0\x01\xff\xff\0\0", 8);
    buf_append(&bytes, filler, 65535);
    int client = rig_connect();
    send_all(client, buf_slice(&bytes));
    run_turns(rig.loop, 4);
    assert_true(is_closed_by_peer(client));
    assert_true(incoming_requests_are_empty(&rig.incoming_requests));
    close(client);
    free(filler);
    buf_release(&bytes);
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

static void read_source(struct buf *got) {
    ssize_t length;
    while ((length = read(rig.source, buf_reserve(got, 65536), 65536)) > 0) {
        got->length += (size_t)length;
    }
}

/* Sends as the socket takes it, with the loop running in between. */
static void say_all(int fd, struct slice bytes) {
    for (int tries = 0; bytes.length > 0; tries++) {
        assert_true(tries < 10000);
        ssize_t sent = send(fd, bytes.at, bytes.length < 20000 ? bytes.length : 20000,
                            MSG_NOSIGNAL | MSG_DONTWAIT);
        assert_true(sent > 0 || errno == EAGAIN);
        run_turns(rig.loop, 2);
        size_t taken = sent > 0 ? (size_t)sent : 0;
        bytes = (struct slice){bytes.at + taken, bytes.length - taken};
    }
    run_turns(rig.loop, 3);
}

static void test_bodies_are_waited_for(void **state) {
    static const size_t sizes[] = {0, 1, 1000, 60000, 65536, 70000, 262144};
    for (size_t i = 0; i < length_of(sizes); i++) {
        struct buf bytes = {0};
        struct buf got = {0};
        rig_begin(262144 + 65536);
        request_with_body(&bytes, sizes[i]);
        int client = rig_connect();
        say_all(client, (struct slice){bytes.bytes, bytes.length - 1});
        assert_int_equal(rig.requests, 0);
        say_all(client, (struct slice){bytes.bytes + bytes.length - 1, 1});
        if (rig.requests != 1) {
            fail_msg("a body of %zu bytes: %d requests", sizes[i], rig.requests);
        }
        read_source(&got);
        expect_slice(buf_slice(&got), buf_slice(&bytes), "the request");
        buf_release(&got);
        buf_release(&bytes);
        close(client);
    }
}

/* The rest of a body that is too long is thrown away, and the request comes all the same. */
static void test_body_that_is_too_long(void **state) {
    struct buf bytes = {0};
    struct buf got = {0};
    rig_begin(1000);
    request_with_body(&bytes, 500000);
    int client = rig_connect();
    say_all(client, buf_slice(&bytes));
    assert_int_equal(rig.requests, 1);
    read_source(&got);
    assert_true(got.length >= sizeof head - 1 + 1000 && got.length < bytes.length);
    assert_memory_equal(got.bytes, bytes.bytes, got.length);
    assert_false(is_closed_by_peer(client));
    buf_release(&got);
    buf_release(&bytes);
    close(client);
}

/* --- the door
 * ------------------------------------------------------------------------------------- */

static void test_door_closed(void **state) {
    rig_begin(0);
    int early = rig_connect();
    say(early, (struct slice){request, 20});
    incoming_requests_close_door(&rig.incoming_requests);
    int late = rig_connect();
    say(late, LITERAL(request));
    assert_int_equal(rig.requests, 0);
    say(early, (struct slice){request + 20, sizeof request - 1 - 20});
    assert_int_equal(rig.requests, 1);
    close(early);
    close(late);
}

static void test_door_paused(void **state) {
    rig_begin(0);
    incoming_requests_set_paused(&rig.incoming_requests, true);
    int client = rig_connect();
    say(client, LITERAL(request));
    assert_int_equal(rig.requests, 0);
    incoming_requests_set_paused(&rig.incoming_requests, false);
    run_turns(rig.loop, 3);
    assert_int_equal(rig.requests, 1);
    close(client);
}

static void test_stop_closes_what_waits(void **state) {
    rig_begin(0);
    int client = rig_connect();
    say(client, (struct slice){request, 20});
    incoming_requests_stop(&rig.incoming_requests);
    run_turns(rig.loop, 1);
    assert_true(incoming_requests_are_empty(&rig.incoming_requests));
    assert_true(is_closed_by_peer(client));
    close(client);
}

/* --- the budget ---------------------------------------------------------------------------------
 */

enum { BODY_BYTES = 60000 };

#define BODY_HEADER "\x01\x05\0\x01\xea\x60\0\0" /* of a record with so many */

/* Up to the middle of its body. */
static int rig_begin_long(char *filler) {
    int fd = rig_connect();
    say(fd, LITERAL(head));
    say(fd, LITERAL(BODY_HEADER));
    say(fd, (struct slice){filler, BODY_BYTES / 2});
    return fd;
}

static void rig_end_long(int fd, char *filler) {
    say(fd, (struct slice){filler, BODY_BYTES - BODY_BYTES / 2});
    say(fd, LITERAL(BODY_END));
}

static void forget_request(void) {
    close(rig.source);
    close(rig.fd);
    rig.source = rig.fd = -1;
}

/* The oldest is read to its end, then the next one: none of them is lost. */
static void test_spent_budget_is_for_the_oldest(void **state) {
    int fds[3];
    char *filler = repeated('b', BODY_BYTES);
    rig_begin_with(1024 * 1024, 10000);
    for (size_t i = 0; i < length_of(fds); i++) {
        fds[i] = i == 0 ? rig_begin_long(filler) : rig_connect();
        if (i > 0) { /* it has been accepted before the budget was spent, or is not at all */
            send_all(fds[i], LITERAL(head));
        }
    }
    run_turns(rig.loop, 5);
    assert_true(budget_is_spent(&rig.budget));
    size_t spent = rig.budget.bytes;
    assert_true(rig.incoming_requests.acceptor.is_paused);
    rig_end_long(fds[0], filler);
    assert_int_equal(rig.requests, 1);
    assert_true(rig.budget.bytes < spent);
    assert_false(rig.incoming_requests.acceptor.is_paused);
    forget_request();
    for (size_t i = 1; i < length_of(fds); i++) {
        say(fds[i], LITERAL(BODY_END));
    }
    assert_int_equal(rig.requests, 3);
    for (size_t i = 0; i < length_of(fds); i++) {
        close(fds[i]);
    }
    free(filler);
}

static void test_many_at_once_share_the_budget(void **state) {
    enum { MANY = 12 };
    int fds[MANY];
    char *filler = repeated('b', BODY_BYTES);
    rig_begin_with(1024 * 1024, 200000);
    for (size_t i = 0; i < MANY; i++) { /* all are accepted, and have begun */
        fds[i] = rig_connect();
        say(fds[i], LITERAL(head));
    }
    size_t max = 0;
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < MANY; i++) {
            if (round == 0) {
                send_all(fds[i], LITERAL(BODY_HEADER));
                send_all(fds[i], (struct slice){filler, BODY_BYTES});
            } else {
                send_all(fds[i], LITERAL(BODY_END));
            }
            run_turns(rig.loop, 3);
            max = rig.budget.bytes > max ? rig.budget.bytes : max;
        }
    }
    for (int turn = 0; turn < 100 && rig.requests < MANY; turn++) {
        run_turns(rig.loop, 3);
    }
    assert_int_equal(rig.requests, MANY);
    assert_in_range(max, 200000, 200000 + 128 * 1024); /* what one of them takes */
    for (size_t i = 0; i < MANY; i++) {
        close(fds[i]);
    }
    free(filler);
}

enum { SPENT_BYTES = 40000 };

/* Others hold the budget: of two requests that have begun the second is held. */
static void rig_begin_spent(int *first, int *second) {
    rig_begin_with(1024 * 1024, SPENT_BYTES);
    *first = rig_connect();
    *second = rig_connect();
    say(*first, LITERAL(head));
    say(*second, LITERAL(head));
    budget_take(&rig.budget, SPENT_BYTES);
    incoming_requests_on_budget(&rig.incoming_requests);
    say(*second, LITERAL(BODY_HEADER));
}

/* And they do not give it back. */
static void test_held_for_too_long(void **state) {
    char *filler = repeated('b', BODY_BYTES);
    int first;
    int second;
    rig_begin_spent(&first, &second);
    for (int i = 0; i < 30; i++) { /* the first keeps coming in */
        say(first, i == 0 ? LITERAL(BODY_HEADER) : (struct slice){filler, 10});
        run_for(rig.loop, INCOMING_PATIENCE_MS / 25);
    }
    char answer[512] = "";
    ssize_t got = recv(second, answer, sizeof answer - 1, MSG_DONTWAIT);
    assert_true(got > RECORD_HEADER_BYTES);
    assert_non_null(strstr(answer + RECORD_HEADER_BYTES, "Status: 503"));
    assert_non_null(strstr(answer + RECORD_HEADER_BYTES, "too many requests wait"));
    assert_true(is_closed_by_peer(second));
    assert_false(is_closed_by_peer(first));
    budget_give(&rig.budget, SPENT_BYTES);
    close(first);
    close(second);
    free(filler);
}

/* It was accepted, and the budget spent before its first byte came: the answer bears its id. */
static void test_held_before_the_first_byte(void **state) {
    char answer[512] = "";
    int first;
    int second;
    rig_begin_with(1024 * 1024, SPENT_BYTES);
    first = rig_connect();
    second = rig_connect();
    say(first, LITERAL(head));
    budget_take(&rig.budget, SPENT_BYTES);
    say(second, LITERAL(head));
    assert_int_equal(rig.incoming_requests.held_count, 1);
    run_for(rig.loop, INCOMING_PATIENCE_MS / 2);
    say(first, LITERAL(BODY_HEADER)); /* it stays the one that is read on */
    run_for(rig.loop, INCOMING_PATIENCE_MS / 2 + 100);
    assert_true(recv(second, answer, sizeof answer - 1, MSG_DONTWAIT) > RECORD_HEADER_BYTES);
    assert_memory_equal(answer, "\x01\x06\0\x01", 4);
    budget_give(&rig.budget, SPENT_BYTES);
    close(first);
    close(second);
}

/* The web server may go while its request is held: it is let go at once, and counted once. */
static void test_gone_while_held(void **state) {
    int first;
    int second;
    rig_begin_spent(&first, &second);
    assert_int_equal(rig.incoming_requests.held_count, 1);
    close(second);
    run_turns(rig.loop, 5);
    assert_int_equal(rig.incoming_requests.held_count, 0);
    budget_give(&rig.budget, SPENT_BYTES);
    incoming_requests_on_budget(&rig.incoming_requests);
    close(first);
}

RUN_TESTS(TEST(test_gone_while_held), TEST(test_held_before_the_first_byte),
          TEST(test_spent_budget_is_for_the_oldest), TEST(test_many_at_once_share_the_budget),
          TEST(test_held_for_too_long), TEST(test_whole_request),
          TEST(test_silent_then_half_then_complete), TEST(test_byte_by_byte),
          TEST(test_wrong_ones_are_closed), TEST(test_gone_without_a_word),
          TEST(test_others_are_not_held_up), TEST(test_patience_ends),
          TEST(test_too_long_parameters), TEST(test_bodies_are_waited_for),
          TEST(test_body_that_is_too_long), TEST(test_door_closed), TEST(test_door_paused),
          TEST(test_stop_closes_what_waits))
