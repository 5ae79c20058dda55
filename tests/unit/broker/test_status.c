/* The status socket: silence gets the document, HTTP gets HTTP, and nothing can be changed. */
#include "broker_rig.h"

#include "sock.h"

static void begin(void) {
    char reason[BROKER_REASON_BYTES];
    rig_begin();
    assert_true(status_open(&rig.broker->status, rig.loop, &rig.config, &rig.broker->health, reason,
                            sizeof reason));
}

static int connect_to(void) {
    char path[128];
    snprintf(path, sizeof path, "%s/status.sock", rig.directory.path);
    int fd = sock_connect(path);
    assert_true(fd >= 0);
    return fd;
}

/* Sends the text and reads until the broker closes. */
static void ask(const char *text, struct buf *answer) {
    int fd = connect_to();
    if (text[0] != '\0') {
        send_all(fd, slice_of(text));
    }
    for (int i = 0; i < 200 && drain_all(fd, answer); i++) {
        run_for(rig.loop, 5);
    }
    buf_append(answer, "", 1);
    close(fd);
}

static void expect_start(const char *text, const char *start) {
    struct buf answer = {0};
    ask(text, &answer);
    if (strncmp(answer.bytes, start, strlen(start)) != 0) {
        fail_msg("'%s' is answered '%s'", text, answer.bytes);
    }
    buf_release(&answer);
}

static void test_silence_gets_the_document(void **state) {
    struct buf answer = {0};
    begin();
    ask("", &answer);
    assert_int_equal(answer.bytes[0], '{');
    assert_memory_equal(answer.bytes + answer.length - 3, "}\n", 3);
    buf_release(&answer);
}

static void test_get(void **state) {
    begin();
    expect_start("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
                 "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n");
    rig_listen();
    expect_start("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n");
    expect_start("GET /healthz?limit=1 HTTP/1.0\n\n", "HTTP/1.1 200 OK\r\n");
}

static void test_head_has_no_body(void **state) {
    struct buf answer = {0};
    begin();
    rig_listen();
    ask("HEAD /healthz HTTP/1.1\r\n\r\n", &answer);
    assert_memory_equal(answer.bytes, "HTTP/1.1 200 OK\r\n", 17);
    assert_memory_equal(answer.bytes + answer.length - 5, "\r\n\r\n", 5);
    buf_release(&answer);
}

static void test_what_is_refused(void **state) {
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
    begin();
    for (size_t i = 0; i < length_of(cases); i++) {
        expect_start(cases[i][0], cases[i][1]);
    }
}

static void test_too_long_and_binary(void **state) {
    struct buf answer = {0};
    begin();
    char *text = repeated('x', 20000);
    expect_start(text, "HTTP/1.1 400 ");
    int fd = connect_to();
    send_all(fd, LITERAL("GET /\0 HTTP/1.1\r\n\r\n"));
    for (int i = 0; i < 100 && drain_all(fd, &answer); i++) {
        run_for(rig.loop, 5);
    }
    assert_memory_equal(answer.bytes, "HTTP/1.1 400 ", 13);
    close(fd);
    buf_release(&answer);
    free(text);
}

static void test_request_in_pieces(void **state) {
    static const char request[] = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    struct buf answer = {0};
    begin();
    rig_listen();
    int fd = connect_to();
    for (size_t i = 0; i < sizeof request - 1; i++) {
        send_all(fd, (struct slice){request + i, 1});
        run_turns(rig.loop, 2);
    }
    for (int i = 0; i < 100 && drain_all(fd, &answer); i++) {
        run_for(rig.loop, 5);
    }
    assert_memory_equal(answer.bytes, "HTTP/1.1 200 OK\r\n", 17);
    close(fd);
    buf_release(&answer);
}

/* A connection that closes before its answer leaves nothing behind; too many at a time are
 * refused. */
static void test_connections_are_bounded_and_given_back(void **state) {
    int fds[STATUS_CONNECTIONS_MAX + 5];
    begin();
    for (size_t i = 0; i < length_of(fds); i++) {
        fds[i] = connect_to();
        send_all(fds[i], LITERAL("GET /healthz"));
        run_turns(rig.loop, 2);
    }
    assert_int_equal(rig.broker->status.connection_count, STATUS_CONNECTIONS_MAX);
    for (size_t i = 0; i < length_of(fds); i++) {
        close(fds[i]);
    }
    run_turns(rig.loop, 3);
    assert_int_equal(rig.broker->status.connection_count, 0);
}

static void test_socket_is_removed(void **state) {
    char path[128];
    begin();
    snprintf(path, sizeof path, "%s/status.sock", rig.directory.path);
    assert_int_equal(access(path, F_OK), 0);
    status_close(&rig.broker->status);
    assert_int_equal(access(path, F_OK), -1);
    status_close(&rig.broker->status);
}

RUN_TESTS(TEST(test_silence_gets_the_document), TEST(test_get), TEST(test_head_has_no_body),
          TEST(test_what_is_refused), TEST(test_too_long_and_binary), TEST(test_request_in_pieces),
          TEST(test_connections_are_bounded_and_given_back), TEST(test_socket_is_removed))
