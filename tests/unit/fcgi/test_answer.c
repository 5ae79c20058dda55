/* Requests of the third door that are no stream, and what is refused: whole, from the web server's
 * bytes to the answer's. */
#include "handler_rig.h"

#define JSON "Content-Type: application/json\r\n"
#define TEXT "Content-Type: text/plain; charset=utf-8\r\n"

static void expect_answer(struct handler_rig *rig, const char *method, const char *uri,
                          const char *status, const char *header, const char *body) {
    struct visit visit = VISIT(rig, method, uri, "");
    visit_expect_answer(rig, &visit, status, header, body);
    visit_end(rig, &visit);
}

#define WRONG_METHOD "{\"error\":\"this method is not served here\"}"
#define WRONG_POST   "{\"error\":\"POST is pgsse-publish's: the web server's routes are wrong\"}"
#define WRONG_GET    "{\"error\":\"this is pgsse-publish's: the web server's routes are wrong\"}"
#define NO_ROUTE     "{\"error\":\"nothing is served under this path\"}"

static void test_methods_and_routes(void **state) {
    (void)state;
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
    struct handler_rig rig;
    handler_begin(&rig);
    for (size_t i = 0; i < length_of(cases); i++) {
        expect_answer(&rig, cases[i].method, cases[i].uri, cases[i].status, cases[i].header,
                      cases[i].body);
    }
    broker_expect_silence(&rig);
    handler_end(&rig);
}

/* --- what the broker is asked for ---------------------------------------------------------------
 */

static uint64_t hear_question(struct handler_rig *rig, enum wire_type type) {
    uint64_t token;
    assert_true(wire_decode_ask(broker_hear(rig, type), &token));
    return token;
}

static const struct {
    const char *uri;
    enum wire_type type;
} documents[] = {{"/api/events/active-connections", WIRE_ASK_CONNECTIONS},
                 {"/health", WIRE_ASK_STATUS}};

static void test_documents(void **state) {
    (void)state;
    struct handler_rig rig;
    handler_begin(&rig);
    for (size_t i = 0; i < 2 * length_of(documents); i++) {
        bool is_head = i % 2 == 1;
        struct visit visit = VISIT(&rig, is_head ? "HEAD" : "GET", documents[i / 2].uri, "");
        struct wire_document document = {.token = hear_question(&rig, documents[i / 2].type),
                                         .status = 503,
                                         .document = LITERAL("{\"a\":1}")};
        broker_say(&rig, wire_encode_document(&document));
        visit_expect_answer(&rig, &visit, "503", JSON "Content-Length: 7\r\n",
                            is_head ? "" : "{\"a\":1}");
        visit_end(&rig, &visit);
    }
    handler_end(&rig);
}

/* It goes while it is asked, and then it is away. */
static void test_documents_without_broker(void **state) {
    (void)state;
    for (size_t i = 0; i < length_of(documents); i++) {
        struct handler_rig rig;
        handler_begin(&rig);
        struct visit asked = VISIT(&rig, "GET", documents[i].uri, "");
        (void)hear_question(&rig, documents[i].type);
        broker_go(&rig);
        struct visit late = VISIT(&rig, "GET", documents[i].uri, "");
        struct visit *visits[] = {&asked, &late};
        for (size_t j = 0; j < length_of(visits); j++) {
            visit_read(&rig, visits[j]);
            buf_append(&visits[j]->content, "", 1);
            const char *text = visits[j]->content.bytes;
            const char *body = strstr(text, "\r\n\r\n") + 4;
            assert_true(visits[j]->is_over);
            assert_true(strncmp(text, "Status: 503 Service Unavailable\r\n", 33) == 0);
            assert_non_null(strstr(text, JSON));
            assert_non_null(strstr(text, "Retry-After: "));
            if (documents[i].type == WIRE_ASK_STATUS) {
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
            visit_end(&rig, visits[j]);
        }
        handler_end(&rig);
    }
}

#define STREAM "/api/events/stream"
#define QUERY  "userId=1&channels=a,b"

/* HEAD says where a stream would begin: by the table's id, if there is a table. */
static void test_head_of_a_stream(void **state) {
    (void)state;
    static const struct {
        uint64_t durable;
        const char *status;
        const char *header;
    } cases[] = {{17, "200 OK\r\n", "\r\nPgsse-Position: 17\r\n"},
                 {0, "501 Not Implemented\r\n", JSON}};
    struct handler_rig rig;
    handler_begin(&rig);
    for (size_t i = 0; i < length_of(cases); i++) {
        struct visit visit = VISIT(&rig, "HEAD", STREAM, QUERY);
        struct wire_position answer = {.token = hear_question(&rig, WIRE_ASK_POSITION),
                                       .position = {cases[i].durable, "abcdefghijklm", 3}};
        broker_say(&rig, wire_encode_position(WIRE_POSITION, &answer));
        visit_expect_answer(&rig, &visit, cases[i].status, cases[i].header, "");
        visit_end(&rig, &visit);
    }
    handler_end(&rig);
}

/* Its first-door twin still says all of it. */
static void test_head_of_a_topic(void **state) {
    (void)state;
    struct handler_rig rig;
    handler_begin(&rig);
    struct visit visit = VISIT(&rig, "HEAD", "/topics/a/events", "");
    struct wire_position answer = {.token = hear_question(&rig, WIRE_ASK_POSITION),
                                   .position = {0, "abcdefghijklm", 3}};
    broker_say(&rig, wire_encode_position(WIRE_POSITION, &answer));
    visit_expect_answer(&rig, &visit, "200", "\r\nPgsse-Position: 0.abcdefghijklm.3\r\n", "");
    visit_end(&rig, &visit);
    handler_end(&rig);
}

static void test_head_without_broker(void **state) {
    (void)state;
    struct handler_rig rig;
    handler_begin(&rig);
    broker_go(&rig);
    struct visit visit = VISIT(&rig, "HEAD", STREAM, QUERY);
    assert_int_equal(visit.client->state, CLIENT_ASKING);
    loop_timer_start(rig.loop, &visit.client->timer, 0, visit.client->timer.on_due);
    visit_expect_answer(&rig, &visit, "503", JSON, "");
    visit_end(&rig, &visit);
    handler_end(&rig);
}

/* A stream that is not even asked for. */
static void test_bad_streams(void **state) {
    (void)state;
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
    struct handler_rig rig;
    handler_begin(&rig);
    for (size_t i = 0; i < 2 * length_of(cases); i++) {
        bool is_head = i % 2 == 1;
        struct visit visit = VISIT(&rig, is_head ? "HEAD" : "GET", STREAM, cases[i / 2].query,
                                   "REMOTE_USER", cases[i / 2].user);
        visit_expect_answer(&rig, &visit, cases[i / 2].status, JSON,
                            is_head ? "" : cases[i / 2].body);
        visit_end(&rig, &visit);
    }
    broker_expect_silence(&rig);
    handler_end(&rig);
}

RUN_TESTS(TEST(test_methods_and_routes), TEST(test_documents), TEST(test_documents_without_broker),
          TEST(test_head_of_a_stream), TEST(test_head_of_a_topic), TEST(test_head_without_broker),
          TEST(test_bad_streams))
