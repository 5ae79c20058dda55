/* From parameters to what the client wants. */
#include "pairs.h"
#include "request.h"
#include "wire.h"

#define PLACE "0.abcdefghijklm.17"

static struct request parse(const char *const *pairs) {
    struct parameters parameters = {pairs, pairs_get};
    struct request request;
    memset(&request, 'x', sizeof request);
    static const struct route_paths paths = {"/topics", "/healthz", "/api/events",
                                             "/events", "/api/sse", "/health"};
    request_parse(&parameters, &paths, &request);
    return request;
}

#define PARSE(...) parse((const char *const[]){__VA_ARGS__, NULL, NULL})

static void test_nothing_given(void **state) {
    struct request request = PARSE("REQUEST_METHOD", "GET", "REQUEST_URI", "/topics/a/events");
    assert_int_equal(request.method, METHOD_GET);
    assert_int_equal(request.route.kind, ROUTE_TOPIC_EVENTS);
    assert_string_equal(request.route.topic, "a");
    assert_int_equal(request.position_kind, POSITION_NONE);
    assert_int_equal(request.limit, WIRE_HEALTH_LIMIT);
    assert_false(request.accepts_events);
    assert_false(request.wants_position);
    assert_false(request.has_heartbeat_events);
    assert_string_equal(request.identity.user, "");
    assert_string_equal(request.content_type, "");
    assert_true(request.content_length == REQUEST_LENGTH_NONE);
}

static void test_methods(void **state) {
    static const struct {
        const char *name;
        enum method method;
    } cases[] = {{"GET", METHOD_GET},         {"HEAD", METHOD_HEAD}, {"POST", METHOD_POST},
                 {"OPTIONS", METHOD_OPTIONS}, {"PUT", METHOD_OTHER}, {"get", METHOD_OTHER},
                 {"GETX", METHOD_OTHER},      {"", METHOD_OTHER},    {"DELETE", METHOD_OTHER}};
    for (size_t i = 0; i < length_of(cases); i++) {
        assert_int_equal(PARSE("REQUEST_METHOD", cases[i].name).method, cases[i].method);
    }
}

static void test_script_name(void **state) {
    struct request request = PARSE("REQUEST_URI", "/app/topics/a/events", "SCRIPT_NAME", "/app");
    assert_int_equal(request.route.kind, ROUTE_TOPIC_EVENTS);
}

struct position_source {
    const char *header;
    const char *query;
    enum position_kind kind;
};

static const struct position_source sources[] = {
    {"", "", POSITION_NONE},
    {PLACE, "", POSITION_KNOWN},
    {"0", "", POSITION_ALL},
    {"nonsense", "", POSITION_MALFORMED},
    {" ", "", POSITION_NONE},
    {"", "last_event_id=" PLACE, POSITION_KNOWN},
    {"", "lastEventId=" PLACE, POSITION_KNOWN},
    {"", "x=1&lastEventId=" PLACE "&y", POSITION_KNOWN},
    {"", "last_event_id=%30", POSITION_ALL},
    {"", "last_event_id=0.abcdefghijklm.17%7Eown", POSITION_KNOWN},
    {"", "last_event_id=", POSITION_NONE},
    {"", "last_event_id=&lastEventId=0", POSITION_ALL},
    {"", "last_event_id=0&lastEventId=" PLACE, POSITION_ALL},
    {"", "last_event_id=nonsense", POSITION_MALFORMED},
    {"", "LAST_EVENT_ID=0", POSITION_NONE},
    /* the header wins */
    {"0", "last_event_id=" PLACE, POSITION_ALL},
    {"nonsense", "last_event_id=0", POSITION_MALFORMED},
    /* one that is there but cannot be read was meant as a position */
    {"", "last_event_id=0%zz", POSITION_MALFORMED},
    {"", "last_event_id=%zz", POSITION_MALFORMED},
    {"", "last_event_id=%", POSITION_MALFORMED},
    {"", "lastEventId=%3", POSITION_MALFORMED},
};

static void test_position(void **state) {
    for (size_t i = 0; i < length_of(sources); i++) {
        struct request request =
            PARSE("HTTP_LAST_EVENT_ID", sources[i].header, "QUERY_STRING", sources[i].query);
        if (request.position_kind != sources[i].kind) {
            fail_msg("header '%s', query '%s': kind %d", sources[i].header, sources[i].query,
                     (int)request.position_kind);
        }
        if (request.position_kind == POSITION_KNOWN) {
            assert_string_equal(request.position.marker, "abcdefghijklm");
            assert_int_equal(request.position.since, 17);
        }
    }
}

static void test_what_a_stream_is_to_show(void **state) {
    static const struct {
        const char *query;
        bool wants_position;
        bool has_heartbeat_events;
    } cases[] = {{"heartbeat=event", false, true},
                 {"a=b&heartbeat=%65vent&position=1", true, true},
                 {"position=1", true, false},
                 {"position=0&heartbeat=comment", false, false},
                 {"position=&heartbeat=", false, false},
                 {"position=11&heartbeat=events", false, false},
                 {"positions=1&xheartbeat=event", false, false},
                 {"position=%zz&heartbeat=%zz", false, false}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct request request = PARSE("QUERY_STRING", cases[i].query);
        assert_int_equal(request.wants_position, cases[i].wants_position);
        assert_int_equal(request.has_heartbeat_events, cases[i].has_heartbeat_events);
    }
}

static void test_very_long_position(void **state) {
    char *long_id = repeated('1', 5000);
    struct buf query = {0};
    buf_printf(&query, "last_event_id=%s", long_id);
    buf_append(&query, "", 1);
    assert_int_equal(PARSE("QUERY_STRING", query.bytes).position_kind, POSITION_MALFORMED);
    assert_int_equal(PARSE("HTTP_LAST_EVENT_ID", long_id).position_kind, POSITION_MALFORMED);
    buf_release(&query);
    free(long_id);
}

static void test_limit(void **state) {
    static const struct {
        const char *query;
        uint32_t limit;
    } cases[] = {
        {"", 1000},
        {"limit=0", 0},
        {"limit=5", 5},
        {"limit=%35", 5},
        {"limit=65536", 65536},
        {"limit=65537", 65536},
        {"limit=999999999999999999", 65536},
        {"limit=", REQUEST_LIMIT_BAD},
        {"limit=-1", REQUEST_LIMIT_BAD},
        {"limit=+1", REQUEST_LIMIT_BAD},
        {"limit=1.5", REQUEST_LIMIT_BAD},
        {"limit=x", REQUEST_LIMIT_BAD},
        {"limit=1x", REQUEST_LIMIT_BAD},
        {"limit= 1", REQUEST_LIMIT_BAD},
        {"limit=5%zz", REQUEST_LIMIT_BAD},
        {"limit=%zz", REQUEST_LIMIT_BAD},
        {"Limit=5", 1000},
        {"x=1&limit=7", 7},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        uint32_t limit = PARSE("QUERY_STRING", cases[i].query).limit;
        if (limit != cases[i].limit) {
            fail_msg("'%s': %u", cases[i].query, limit);
        }
    }
}

/* More digits than any machine counts: too much, and never a small number. */
static void test_limit_of_many_digits(void **state) {
    uint32_t limit = PARSE("QUERY_STRING", "limit=18446744073709551617").limit;
    assert_int_equal(limit, 65536);
}

static void test_content_length(void **state) {
    static const struct {
        const char *text;
        int64_t length;
    } cases[] = {
        {"", REQUEST_LENGTH_NONE},
        {"0", 0},
        {"262144", 262144},
        {"007", 7},
        {"-1", REQUEST_LENGTH_BAD},
        {"+1", REQUEST_LENGTH_BAD},
        {"1 ", REQUEST_LENGTH_BAD},
        {"0x10", REQUEST_LENGTH_BAD},
        {"1,2", REQUEST_LENGTH_BAD},
        {"18446744073709551617", REQUEST_LENGTH_BAD},
        {"999999999999999999", 999999999999999999},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        if (PARSE("CONTENT_LENGTH", cases[i].text).content_length != cases[i].length) {
            fail_msg("'%s'", cases[i].text);
        }
    }
}

static void test_accept_user_and_type(void **state) {
    assert_true(PARSE("HTTP_ACCEPT", "text/event-stream").accepts_events);
    assert_true(PARSE("HTTP_ACCEPT", "text/html, text/event-stream;q=0.5").accepts_events);
    assert_false(PARSE("HTTP_ACCEPT", "*/*").accepts_events);
    assert_false(PARSE("HTTP_ACCEPT", "text/html").accepts_events);
    assert_true(PARSE("HTTP_ACCEPT_ENCODING", "gzip, deflate, br").accepts_gzip);
    assert_false(PARSE("HTTP_ACCEPT_ENCODING", "gzip;q=0").accepts_gzip);
    assert_false(PARSE("HTTP_ACCEPT", "gzip").accepts_gzip);
    assert_true(PARSE("HTTP_ACCEPT", "text/event-stream").is_event_source);
    assert_false(PARSE("HTTP_ACCEPT", "text/html, text/event-stream;q=0.5").is_event_source);
    assert_false(PARSE("HTTP_ACCEPT", "text/event-stream, */*").is_event_source);
    assert_false(PARSE("HTTP_ACCEPT", "").is_event_source);
    assert_string_equal(PARSE("REMOTE_USER", "anna").identity.user, "anna");
    assert_string_equal(PARSE("CONTENT_TYPE", "application/json").content_type, "application/json");
}

static void test_route_and_query(void **state) {
    struct request request = PARSE("REQUEST_URI", "/app/events/publish?a=%62", "SCRIPT_NAME",
                                   "/app", "QUERY_STRING", "a=%62");
    assert_int_equal(request.route.kind, ROUTE_EVENTS_PUBLISH);
    assert_int_equal(request.route.api, API_EVENTS);
    assert_string_equal(request.query, "a=%62");
    request = PARSE("REQUEST_URI", "/api/events/nothing");
    assert_int_equal(request.route.kind, ROUTE_NONE);
    assert_int_equal(request.route.api, API_DURABLE);
    assert_int_equal(PARSE("REQUEST_URI", "/topics/a/events").route.api, API_TOPICS);
}

RUN_TESTS(TEST(test_route_and_query), TEST(test_nothing_given), TEST(test_methods),
          TEST(test_script_name), TEST(test_position), TEST(test_what_a_stream_is_to_show),
          TEST(test_very_long_position), TEST(test_limit), TEST(test_limit_of_many_digits),
          TEST(test_content_length), TEST(test_accept_user_and_type))
