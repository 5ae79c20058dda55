/* Requests of the durable API that are no stream, and what is refused: whole, from the web server's
 * bytes to the answer's. */
#include "handler_rig.h"

#include <sys/resource.h>

#define JSON "Content-Type: application/json\r\n"
#define TEXT "Content-Type: text/plain; charset=utf-8\r\n"

static void expect_answer(const char *method, const char *uri, const char *status,
                          const char *header, const char *body) {
    struct visit visit = VISIT(method, uri, "");
    visit_expect_answer(&visit, status, header, body);
    visit_end(&visit);
}

#define WRONG_METHOD "{\"error\":\"this method is not served here\"}"
#define WRONG_POST   "{\"error\":\"POST is pgsse-publish's: the web server's routes are wrong\"}"
#define WRONG_GET    "{\"error\":\"this is pgsse-publish's: the web server's routes are wrong\"}"
#define NO_ROUTE     "{\"error\":\"nothing is served under this path\"}"

static void test_methods_and_routes(void **state) {
    static const struct {
        const char *method;
        const char *uri;
        const char *status;
        const char *header;
        const char *body;
    } cases[] = {
        {"OPTIONS", "/api/events/stream", "204", "Allow: GET, HEAD, OPTIONS\r\n", ""},
        {"POST", "/api/events/stream", "405", "Allow: GET, HEAD, OPTIONS\r\n", WRONG_METHOD},
        {"PUT", "/api/events/stream", "405", JSON, WRONG_METHOD},
        {"OPTIONS", "/api/events/active-connections", "204", "Allow: GET, HEAD, OPTIONS\r\n", ""},
        {"POST", "/api/events/active-connections", "405", JSON, WRONG_METHOD},
        {"OPTIONS", "/health", "204", "Allow: GET, HEAD, OPTIONS\r\n", ""},
        {"POST", "/health", "405", "Allow: GET, HEAD, OPTIONS\r\n", WRONG_METHOD},
        {"POST", "/api/events/publish", "405", "Allow: POST, OPTIONS\r\n", WRONG_POST},
        {"POST", "/api/events/channels/subscribe", "405", JSON, WRONG_POST},
        {"POST", "/api/events/channels/unsubscribe", "405", JSON, WRONG_POST},
        {"GET", "/api/events/publish", "405", "Allow: POST, OPTIONS\r\n", WRONG_METHOD},
        {"HEAD", "/api/events/publish", "405", "Allow: POST, OPTIONS\r\n", ""},
        {"DELETE", "/api/events/channels/subscribe", "405", JSON, WRONG_METHOD},
        {"OPTIONS", "/api/events/publish", "204", "Allow: POST, OPTIONS\r\n", ""},
        {"GET", "/api/events/history", "500 Internal Server Error\r\n", JSON, WRONG_GET},
        {"GET", "/api/events/channels", "500", JSON, WRONG_GET},
        {"GET", "/api/events/channels/list", "500", JSON, WRONG_GET},
        {"HEAD", "/api/events/history", "500", JSON, ""},
        {"POST", "/api/events/history", "405", "Allow: GET, HEAD, OPTIONS\r\n", WRONG_METHOD},
        {"OPTIONS", "/api/events/channels", "204", "Allow: GET, HEAD, OPTIONS\r\n", ""},
        {"GET", "/api/events/nothing", "404", JSON, NO_ROUTE},
        {"GET", "/api/events", "404", JSON, NO_ROUTE},
        {"GET", "/api/eventsx", "404", TEXT, "nothing is served under this path\n"},
        {"GET", "/x", "404", TEXT, "nothing is served under this path\n"},
        {"POST", "/topics/a/events", "405", TEXT,
         "POST is pgsse-publish's: the web server's routes are wrong\n"},
    };
    handler_begin();
    for (size_t i = 0; i < length_of(cases); i++) {
        expect_answer(cases[i].method, cases[i].uri, cases[i].status, cases[i].header,
                      cases[i].body);
    }
    broker_expect_silence();
}

/* --- what the broker is asked for ---------------------------------------------------------------
 */

/* The broker is asked for that document. */
static uint64_t hear_question(enum wire_document_kind kind) {
    struct wire_ask_document question;
    assert_true(wire_decode_ask_document(broker_hear(WIRE_ASK_DOCUMENT), &question));
    assert_int_equal(question.kind, kind);
    return question.token;
}

static const struct {
    const char *uri;
    enum wire_document_kind kind;
} documents[] = {{"/api/events/active-connections", WIRE_USER_STREAMS},
                 {"/health", WIRE_SHORT_HEALTH}};

static void test_documents(void **state) {
    handler_begin();
    for (size_t i = 0; i < 2 * length_of(documents); i++) {
        bool is_head = i % 2 == 1;
        struct visit visit = VISIT(is_head ? "HEAD" : "GET", documents[i / 2].uri, "");
        struct wire_document document = {.token = hear_question(documents[i / 2].kind),
                                         .status = 503,
                                         .document = LITERAL("{\"a\":1}")};
        broker_say(wire_encode_document(&document));
        visit_expect_answer(&visit, "503", JSON "Content-Length: 7\r\n",
                            is_head ? "" : "{\"a\":1}");
        visit_end(&visit);
    }
}

/* It goes while it is asked, and then it is away. */
static void test_documents_without_broker(void **state) {
    for (size_t i = 0; i < length_of(documents); i++) {
        handler_begin();
        struct visit asked = VISIT("GET", documents[i].uri, "");
        (void)hear_question(documents[i].kind);
        broker_go();
        struct visit late = VISIT("GET", documents[i].uri, "");
        struct visit *visits[] = {&asked, &late};
        for (size_t j = 0; j < length_of(visits); j++) {
            visit_read(visits[j]);
            buf_append(&visits[j]->content, "", 1);
            const char *text = visits[j]->content.bytes;
            const char *body = strstr(text, "\r\n\r\n") + 4;
            assert_true(visits[j]->is_over);
            assert_true(strncmp(text, "Status: 503 Service Unavailable\r\n", 33) == 0);
            assert_non_null(strstr(text, JSON));
            assert_non_null(strstr(text, "Retry-After: "));
            if (documents[i].kind == WIRE_SHORT_HEALTH) {
                char *now = strstr(body, ",\"timestamp\":\"20");
                assert_non_null(now);
                assert_int_equal(strlen(now),
                                 strlen(",\"timestamp\":\"2026-02-20T10:00:00.000Z\"}"));
                *now = '\0';
                assert_string_equal(
                    body, "{\"status\":\"degraded\",\"message\":\"the broker does not answer\"");
            } else {
                assert_string_equal(body, "{\"error\":\"the broker does not answer\"}");
            }
            visit_end(visits[j]);
        }
    }
}

#define STREAM "/api/events/stream"
#define QUERY  "userId=1&channels=a,b"

/* HEAD says where a stream would begin. */
static void test_head_of_a_topic(void **state) {
    handler_begin();
    struct visit visit = VISIT("HEAD", "/topics/a/events", "");
    uint64_t token;
    assert_true(wire_decode_ask_position(broker_hear(WIRE_ASK_POSITION), &token));
    struct wire_position answer = {.token = token, .position = {0, "abcdefghijklm", 3}};
    broker_say(wire_encode_position(WIRE_POSITION, &answer));
    visit_expect_answer(&visit, "200", "\r\nPgsse-Position: 0.abcdefghijklm.3\r\n", "");
    visit_end(&visit);
}

static void test_head_without_broker(void **state) {
    handler_begin();
    broker_go();
    struct visit visit = VISIT("HEAD", "/topics/a/events", "");
    assert_int_equal(visit.client->state, CLIENT_OPEN);
    loop_timer_start(rig.loop, &visit.client->timer, 0, visit.client->timer.on_due);
    visit_expect_answer(&visit, "503", "\r\nRetry-After: ", "");
    visit_end(&visit);
}

/* A stream that is not even asked for. */
static void test_bad_streams(void **state) {
    static const struct {
        const char *query;
        const char *user;
        const char *status;
        const char *body;
    } cases[] = {
        {"channels=a", "", "400", "{\"error\":\"userId is missing\"}"},
        {"userId=1", "", "400", "{\"error\":\"channels is missing\"}"},
        {QUERY, "2", "403 Forbidden\r\n",
         "{\"error\":\"userId is not the user who was authenticated\"}"},
    };
    handler_begin();
    for (size_t i = 0; i < 2 * length_of(cases); i++) {
        bool is_head = i % 2 == 1;
        struct visit visit = VISIT(is_head ? "HEAD" : "GET", STREAM, cases[i / 2].query,
                                   "REMOTE_USER", cases[i / 2].user);
        visit_expect_answer(&visit, cases[i / 2].status, JSON, is_head ? "" : cases[i / 2].body);
        visit_end(&visit);
    }
    broker_expect_silence();
}

/* --- no room for another stream -----------------------------------------------------------------
 */

#define FULL       "too many streams are open here"
#define FULL_CLOSE ": " FULL "\nevent: close\ndata: {}\n\n"

/* A status would end an EventSource for good; anybody else is told by one. */
static void expect_turned_away(void) {
    struct visit plain = VISIT("GET", "/topics/a/events", "", "HTTP_ACCEPT", "*/*");
    visit_expect_answer(&plain, "503", "Retry-After: 2\r\n", FULL "\n");
    visit_end(&plain);
    struct visit browser = VISIT("GET", "/topics/a/events", "", "HTTP_ACCEPT", "text/event-stream");
    visit_expect_begun(&browser, FULL_CLOSE);
    assert_true(browser.is_over);
    visit_end(&browser);
    struct visit user = VISIT("GET", STREAM, "userId=1&channels=a");
    visit_expect_answer(&user, "503", JSON, "{\"error\":\"" FULL "\"}");
    visit_end(&user);
}

/* Health and positions are told all the same. */
static void expect_still_answered(void) {
    struct visit health = VISIT("GET", "/health", "");
    struct wire_document document = {
        .token = hear_question(WIRE_SHORT_HEALTH), .status = 200, .document = LITERAL("{}")};
    broker_say(wire_encode_document(&document));
    visit_expect_answer(&health, "200", JSON, "{}");
    visit_end(&health);
}

static void test_max_connections(void **state) {
    handler_begin();
    rig.config.max_connections = 2;
    struct visit first = VISIT("GET", "/topics/a/events", "");
    struct visit second = VISIT("GET", "/topics/b/events", "");
    (void)broker_hear(WIRE_SUBSCRIBE);
    (void)broker_hear(WIRE_SUBSCRIBE);
    expect_turned_away();
    broker_expect_silence();
    expect_still_answered();
    visit_end(&first);
    (void)broker_hear(WIRE_UNSUBSCRIBE);
    struct visit third = VISIT("GET", "/topics/c/events", "");
    (void)broker_hear(WIRE_SUBSCRIBE);
    visit_end(&second);
    visit_end(&third);
}

static void test_descriptors_are_short(void **state) {
    struct rlimit before;
    handler_begin();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int next = dup(0);
    close(next);
    struct rlimit few = {(rlim_t)next + 4, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    expect_turned_away();
    expect_still_answered();
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    broker_expect_silence();
}

RUN_TESTS(TEST(test_methods_and_routes), TEST(test_documents), TEST(test_documents_without_broker),
          TEST(test_head_of_a_topic), TEST(test_head_without_broker), TEST(test_bad_streams),
          TEST(test_max_connections), TEST(test_descriptors_are_short))
