/* Paths: which are routes, which are bad topics, which are nothing. */
#include "route.h"
#include "support.h"

struct route_case {
    const char *uri;
    const char *script_name;
    enum route_kind kind;
    const char *topic;
};

static const struct route_case cases[] = {
    {"/topics/alpha/events", "", ROUTE_TOPIC_EVENTS, "alpha"},
    {"/topics/ALPHA/events", "", ROUTE_TOPIC_EVENTS, "alpha"},
    {"/topics/a-z_09/events", "", ROUTE_TOPIC_EVENTS, "a-z_09"},
    {"/topics/alpha/events?x=1", "", ROUTE_TOPIC_EVENTS, "alpha"},
    {"/topics/alpha/events?", "", ROUTE_TOPIC_EVENTS, "alpha"},
    {"/topics/alpha/events?/x/y?z", "", ROUTE_TOPIC_EVENTS, "alpha"},
    {"/topics/%61lpha/events", "", ROUTE_TOPIC_EVENTS, "alpha"},
    {"/top%69cs/alpha/event%73", "", ROUTE_TOPIC_EVENTS, "alpha"},
    {"/topics/events/events", "", ROUTE_TOPIC_EVENTS, "events"},

    {"/healthz", "", ROUTE_HEALTH, ""},
    {"/healthz?limit=5", "", ROUTE_HEALTH, ""},
    {"/health%7a", "", ROUTE_HEALTH, ""},
    {"/healthz/", "", ROUTE_NONE, ""},
    {"/healthz/x", "", ROUTE_NONE, ""},
    {"/Healthz", "", ROUTE_NONE, ""},

    {"", "", ROUTE_NONE, ""},
    {"/", "", ROUTE_NONE, ""},
    {"?", "", ROUTE_NONE, ""},
    {"*", "", ROUTE_NONE, ""},
    {"topics/alpha/events", "", ROUTE_NONE, ""},
    {"/topics", "", ROUTE_NONE, ""},
    {"/topics/", "", ROUTE_NONE, ""},
    {"/topics/alpha", "", ROUTE_NONE, ""},
    {"/topics/alpha/", "", ROUTE_NONE, ""},
    {"/topics/alpha/event", "", ROUTE_NONE, ""},
    {"/topics/alpha/events/", "", ROUTE_NONE, ""},
    {"/topics/alpha/events/x", "", ROUTE_NONE, ""},
    {"/topics/alpha/Events", "", ROUTE_NONE, ""},
    {"/Topics/alpha/events", "", ROUTE_NONE, ""},
    {"/topicsx/alpha/events", "", ROUTE_NONE, ""},
    {"/topics//events", "", ROUTE_NONE, ""},
    {"//topics/alpha/events", "", ROUTE_NONE, ""},
    {"/topics//alpha/events", "", ROUTE_NONE, ""},
    {"/topics/alpha//events", "", ROUTE_NONE, ""},
    {"/x/../topics/alpha/events", "", ROUTE_NONE, ""},
    {"/./topics/alpha/events", "", ROUTE_NONE, ""},
    {"/topics/alpha/events%2f", "", ROUTE_NONE, ""},
    {"/topics/alpha%2fevents", "", ROUTE_NONE, ""},
    {"/topics/alpha/%zz", "", ROUTE_NONE, ""},
    {"/%zz/alpha/events", "", ROUTE_NONE, ""},
    {"/topics/alpha/events%00", "", ROUTE_NONE, ""},
    {"http://host/topics/alpha/events", "", ROUTE_NONE, ""},

    {"/topics/a.b/events", "", ROUTE_BAD_TOPIC, ""},
    {"/topics/a%20b/events", "", ROUTE_BAD_TOPIC, ""},
    {"/topics/a+b/events", "", ROUTE_BAD_TOPIC, ""},
    {"/topics/a%2fb/events", "", ROUTE_BAD_TOPIC, ""},
    {"/topics/a%00/events", "", ROUTE_BAD_TOPIC, ""},
    {"/topics/%2561/events", "", ROUTE_BAD_TOPIC, ""},
    {"/topics/%/events", "", ROUTE_BAD_TOPIC, ""},
    {"/topics/%4/events", "", ROUTE_BAD_TOPIC, ""},
    {"/topics/%zz/events", "", ROUTE_BAD_TOPIC, ""},
    {"/topics/../events", "", ROUTE_BAD_TOPIC, ""},
    {"/topics/./events", "", ROUTE_BAD_TOPIC, ""},
    {"/topics/caf\xc3\xa9/events", "", ROUTE_BAD_TOPIC, ""},
    {"/topics/caf%c3%a9/events", "", ROUTE_BAD_TOPIC, ""},
    {"/topics/%ff/events", "", ROUTE_BAD_TOPIC, ""},
    {"/topics/a;b=c/events", "", ROUTE_BAD_TOPIC, ""},

    /* mounted somewhere else */
    {"/app/topics/alpha/events", "", ROUTE_NONE, ""},
    {"/app/topics/alpha/events", "/app", ROUTE_TOPIC_EVENTS, "alpha"},
    {"/app/topics/a.b/events", "/app", ROUTE_BAD_TOPIC, ""},
    {"/app/healthz", "/app", ROUTE_HEALTH, ""},
    {"/app/x/healthz?limit=1", "/app/x", ROUTE_HEALTH, ""},
    {"/topics/alpha/events", "/app", ROUTE_TOPIC_EVENTS, "alpha"},
    {"/topics/alpha/events", "/topics", ROUTE_TOPIC_EVENTS, "alpha"},
    {"/apptopics/alpha/events", "/app", ROUTE_NONE, ""},
    {"/application/healthz", "/app", ROUTE_NONE, ""},
    {"/app", "/app", ROUTE_NONE, ""},
    {"/ap", "/app", ROUTE_NONE, ""},
    {"/app?/topics/alpha/events", "/app", ROUTE_NONE, ""},
};

static void test_cases(void **state) {
    (void)state;
    for (size_t i = 0; i < length_of(cases); i++) {
        struct route route;
        memset(&route, 'x', sizeof route);
        route_parse(cases[i].uri, cases[i].script_name, "/topics", "/healthz", &route);
        if (route.kind != cases[i].kind) {
            fail_msg("'%s' mounted at '%s' is of kind %d", cases[i].uri, cases[i].script_name,
                     (int)route.kind);
        }
        if (route.kind == ROUTE_TOPIC_EVENTS) {
            assert_string_equal(route.topic, cases[i].topic);
        }
    }
}

static void test_lengths_of_topics(void **state) {
    (void)state;
    static const struct {
        size_t length;
        enum route_kind kind;
    } lengths[] = {{1, ROUTE_TOPIC_EVENTS}, {128, ROUTE_TOPIC_EVENTS}, {129, ROUTE_BAD_TOPIC},
                   {511, ROUTE_BAD_TOPIC},  {512, ROUTE_BAD_TOPIC},    {513, ROUTE_BAD_TOPIC},
                   {10000, ROUTE_BAD_TOPIC}};
    for (size_t i = 0; i < length_of(lengths); i++) {
        struct route route;
        struct buf uri = {0};
        char *topic = repeated('x', lengths[i].length);
        buf_printf(&uri, "/topics/%s/events", topic);
        buf_append(&uri, "", 1);
        route_parse(uri.bytes, "", "/topics", "/healthz", &route);
        assert_int_equal(route.kind, lengths[i].kind);
        free(topic);
        buf_release(&uri);
    }
}

/* 128 escaped bytes are 384 of the path, and one topic. */
static void test_length_counts_decoded_bytes(void **state) {
    (void)state;
    for (int count = 128; count <= 129; count++) {
        struct route route;
        struct buf uri = {0};
        buf_append_text(&uri, "/topics/");
        for (int i = 0; i < count; i++) {
            buf_append_text(&uri, "%61");
        }
        buf_append(&uri, "/events", sizeof "/events");
        route_parse(uri.bytes, "", "/topics", "/healthz", &route);
        assert_int_equal(route.kind, count == 128 ? ROUTE_TOPIC_EVENTS : ROUTE_BAD_TOPIC);
        buf_release(&uri);
    }
}

static void test_other_bases(void **state) {
    (void)state;
    struct route route;
    route_parse("/api/v1/alpha/events", "", "/api/v1", "/status/health", &route);
    assert_int_equal(route.kind, ROUTE_TOPIC_EVENTS);
    assert_string_equal(route.topic, "alpha");
    route_parse("/status/health", "", "/api/v1", "/status/health", &route);
    assert_int_equal(route.kind, ROUTE_HEALTH);
    route_parse("/api/alpha/events", "", "/api/v1", "/status/health", &route);
    assert_int_equal(route.kind, ROUTE_NONE);
    route_parse("/status", "", "/api/v1", "/status/health", &route);
    assert_int_equal(route.kind, ROUTE_NONE);
}

RUN_TESTS(TEST(test_cases), TEST(test_lengths_of_topics), TEST(test_length_counts_decoded_bytes),
          TEST(test_other_bases))
