/* The status socket: silence gets the document, HTTP gets HTTP, and nothing can be changed. */
#include "broker_rig.h"

#include "sock.h"

struct status_rig {
    struct rig rig;
    char reason[BROKER_REASON_BYTES];
};

static void begin(struct status_rig *status) {
    rig_begin(&status->rig);
    struct rig *rig = &status->rig;
    assert_true(
        status_open(&rig->broker->status, rig->broker, status->reason, sizeof status->reason));
}

static int connect_to(const struct rig *rig) {
    char path[128];
    snprintf(path, sizeof path, "%s/status.sock", rig->directory.path);
    int fd = sock_connect(path);
    assert_true(fd >= 0);
    return fd;
}

/* Sends the text and reads until the broker closes. */
static void ask(struct rig *rig, const char *text, struct buf *answer) {
    int fd = connect_to(rig);
    if (text[0] != '\0') {
        send_all(fd, slice_of(text));
    }
    for (int i = 0; i < 200 && drain_all(fd, answer); i++) {
        run_for(rig->loop, 5);
    }
    buf_append(answer, "", 1);
    close(fd);
}

static void expect_start(struct rig *rig, const char *text, const char *start) {
    struct buf answer = {0};
    ask(rig, text, &answer);
    if (strncmp(answer.bytes, start, strlen(start)) != 0) {
        fail_msg("'%s' is answered '%s'", text, answer.bytes);
    }
    buf_release(&answer);
}

static void test_silence_gets_the_document(void **state) {
    (void)state;
    struct status_rig status;
    struct buf answer = {0};
    begin(&status);
    ask(&status.rig, "", &answer);
    assert_int_equal(answer.bytes[0], '{');
    assert_memory_equal(answer.bytes + answer.length - 3, "}\n", 3);
    buf_release(&answer);
    rig_end(&status.rig);
}

static void test_get(void **state) {
    (void)state;
    struct status_rig status;
    begin(&status);
    expect_start(&status.rig, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
                 "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n");
    rig_listen(&status.rig);
    expect_start(&status.rig, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n");
    expect_start(&status.rig, "GET /healthz?limit=1 HTTP/1.0\n\n", "HTTP/1.1 200 OK\r\n");
    rig_end(&status.rig);
}

static void test_head_has_no_body(void **state) {
    (void)state;
    struct status_rig status;
    struct buf answer = {0};
    begin(&status);
    rig_listen(&status.rig);
    ask(&status.rig, "HEAD /healthz HTTP/1.1\r\n\r\n", &answer);
    assert_memory_equal(answer.bytes, "HTTP/1.1 200 OK\r\n", 17);
    assert_memory_equal(answer.bytes + answer.length - 5, "\r\n\r\n", 5);
    buf_release(&answer);
    rig_end(&status.rig);
}

static void test_what_is_refused(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 "},
        {"GET /healthzz HTTP/1.1\r\n\r\n", "HTTP/1.1 404 "},
        {"GET /healthz/ HTTP/1.1\r\n\r\n", "HTTP/1.1 404 "},
        {"POST /healthz HTTP/1.1\r\n\r\n", "HTTP/1.1 405 "},
        {"DELETE /healthz HTTP/1.1\r\n\r\n", "HTTP/1.1 405 "},
        {"GET /healthz?limit= HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
        {"GET /healthz?limit=x HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
        {"GET /healthz?limit=-1 HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
        {"GET /healthz?limit=1x HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
        {"nonsense\r\n\r\n", "HTTP/1.1 400 "},
        {"GET /healthz\r\n\r\n", "HTTP/1.1 400 "},
        {"\n\n", "HTTP/1.1 400 "},
    };
    struct status_rig status;
    begin(&status);
    for (size_t i = 0; i < length_of(cases); i++) {
        expect_start(&status.rig, cases[i][0], cases[i][1]);
    }
    rig_end(&status.rig);
}

static void test_too_long_and_binary(void **state) {
    (void)state;
    struct status_rig status;
    struct buf answer = {0};
    begin(&status);
    char *text = repeated('x', 20000);
    expect_start(&status.rig, text, "HTTP/1.1 400 ");
    int fd = connect_to(&status.rig);
    send_all(fd, LITERAL("GET /\0 HTTP/1.1\r\n\r\n"));
    for (int i = 0; i < 100 && drain_all(fd, &answer); i++) {
        run_for(status.rig.loop, 5);
    }
    assert_memory_equal(answer.bytes, "HTTP/1.1 400 ", 13);
    close(fd);
    buf_release(&answer);
    free(text);
    rig_end(&status.rig);
}

static void test_request_in_pieces(void **state) {
    (void)state;
    static const char request[] = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    struct status_rig status;
    struct buf answer = {0};
    begin(&status);
    rig_listen(&status.rig);
    int fd = connect_to(&status.rig);
    for (size_t i = 0; i < sizeof request - 1; i++) {
        send_all(fd, (struct slice){request + i, 1});
        run_turns(status.rig.loop, 2);
    }
    for (int i = 0; i < 100 && drain_all(fd, &answer); i++) {
        run_for(status.rig.loop, 5);
    }
    assert_memory_equal(answer.bytes, "HTTP/1.1 200 OK\r\n", 17);
    close(fd);
    buf_release(&answer);
    rig_end(&status.rig);
}

/* Who asks and goes leaves nothing behind; too many at a time are turned away. */
static void test_connections_are_bounded_and_given_back(void **state) {
    (void)state;
    struct status_rig status;
    int fds[STATUS_CONNECTIONS_MAX + 5];
    begin(&status);
    struct rig *rig = &status.rig;
    for (size_t i = 0; i < length_of(fds); i++) {
        fds[i] = connect_to(rig);
        send_all(fds[i], LITERAL("GET /healthz"));
        run_turns(rig->loop, 2);
    }
    assert_int_equal(rig->broker->status.connection_count, STATUS_CONNECTIONS_MAX);
    for (size_t i = 0; i < length_of(fds); i++) {
        close(fds[i]);
    }
    run_turns(rig->loop, 3);
    assert_int_equal(rig->broker->status.connection_count, 0);
    rig_end(rig);
}

static void test_socket_is_removed(void **state) {
    (void)state;
    struct status_rig status;
    char path[128];
    begin(&status);
    snprintf(path, sizeof path, "%s/status.sock", status.rig.directory.path);
    assert_int_equal(access(path, F_OK), 0);
    status_close(&status.rig.broker->status);
    assert_int_equal(access(path, F_OK), -1);
    status_close(&status.rig.broker->status);
    rig_end(&status.rig);
}

RUN_TESTS(TEST(test_silence_gets_the_document), TEST(test_get), TEST(test_head_has_no_body),
          TEST(test_what_is_refused), TEST(test_too_long_and_binary), TEST(test_request_in_pieces),
          TEST(test_connections_are_bounded_and_given_back), TEST(test_socket_is_removed))
