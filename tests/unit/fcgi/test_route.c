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

    {"/healthz", "", ROUTE_FULL_HEALTH, ""},
    {"/healthz?limit=5", "", ROUTE_FULL_HEALTH, ""},
    {"/health%7a", "", ROUTE_FULL_HEALTH, ""},
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
    {"/app/healthz", "/app", ROUTE_FULL_HEALTH, ""},
    {"/app/x/healthz?limit=1", "/app/x", ROUTE_FULL_HEALTH, ""},
    {"/topics/alpha/events", "/app", ROUTE_TOPIC_EVENTS, "alpha"},
    {"/topics/alpha/events", "/topics", ROUTE_TOPIC_EVENTS, "alpha"},
    {"/apptopics/alpha/events", "/app", ROUTE_NONE, ""},
    {"/application/healthz", "/app", ROUTE_NONE, ""},
    {"/app", "/app", ROUTE_NONE, ""},
    {"/ap", "/app", ROUTE_NONE, ""},
    {"/app?/topics/alpha/events", "/app", ROUTE_NONE, ""},

    /* the durable API */
    {"/api/events/publish", "", ROUTE_DURABLE_PUBLISH, ""},
    {"/api/events/channels/subscribe", "", ROUTE_SUBSCRIBE, ""},
    {"/api/events/channels/unsubscribe", "", ROUTE_UNSUBSCRIBE, ""},
    {"/api/events/channels", "", ROUTE_CHANNELS, ""},
    {"/api/events/channels/list", "", ROUTE_CHANNELS, ""},
    {"/api/events/history", "", ROUTE_HISTORY, ""},
    {"/api/events/stream", "", ROUTE_USER_STREAM, ""},
    {"/api/events/active-connections", "", ROUTE_USER_STREAMS, ""},
    {"/health", "", ROUTE_SHORT_HEALTH, ""},

    {"/api/events/history?topic=a&limit=5", "", ROUTE_HISTORY, ""},
    {"/api/events/stream?/x/y?z", "", ROUTE_USER_STREAM, ""},
    {"/api/events/channels?", "", ROUTE_CHANNELS, ""},
    {"/health?", "", ROUTE_SHORT_HEALTH, ""},
    {"/%61pi/event%73/publi%73h", "", ROUTE_DURABLE_PUBLISH, ""},
    {"/api/events/%63hannels/%6cist", "", ROUTE_CHANNELS, ""},
    {"/api/events/active%2dconnections", "", ROUTE_USER_STREAMS, ""},
    {"/api/events/active%2Dconnections", "", ROUTE_USER_STREAMS, ""},
    {"/healt%68", "", ROUTE_SHORT_HEALTH, ""},

    {"/api", "", ROUTE_NONE, ""},
    {"/api/", "", ROUTE_NONE, ""},
    {"/api/events", "", ROUTE_NONE, ""},
    {"/api/events/", "", ROUTE_NONE, ""},
    {"/api/events?", "", ROUTE_NONE, ""},
    {"/api/events/x", "", ROUTE_NONE, ""},
    {"/publish", "", ROUTE_NONE, ""},
    {"/api/publish", "", ROUTE_NONE, ""},
    {"/api/events/subscribe", "", ROUTE_NONE, ""},
    {"/api/events/list", "", ROUTE_NONE, ""},
    {"/api/events/publish/channels", "", ROUTE_NONE, ""},
    {"/api/events/health", "", ROUTE_NONE, ""},
    {"/api/events/healthz", "", ROUTE_NONE, ""},
    {"/api/health", "", ROUTE_NONE, ""},
    {"/api/events/api/events/stream", "", ROUTE_NONE, ""},
    {"/api/events/alpha/events", "", ROUTE_NONE, ""},
    {"/api/events/a.b/events", "", ROUTE_NONE, ""},

    {"/api/events/publish/", "", ROUTE_NONE, ""},
    {"/api/events/channels/", "", ROUTE_NONE, ""},
    {"/api/events/channels/subscribe/", "", ROUTE_NONE, ""},
    {"/api/events/channels/unsubscribe/", "", ROUTE_NONE, ""},
    {"/api/events/channels/list/", "", ROUTE_NONE, ""},
    {"/api/events/history/", "", ROUTE_NONE, ""},
    {"/api/events/stream/", "", ROUTE_NONE, ""},
    {"/api/events/active-connections/", "", ROUTE_NONE, ""},
    {"/health/", "", ROUTE_NONE, ""},

    {"/api/events/publish/x", "", ROUTE_NONE, ""},
    {"/api/events/channels/x", "", ROUTE_NONE, ""},
    {"/api/events/channels/subscribe/x", "", ROUTE_NONE, ""},
    {"/api/events/channels/unsubscribe/x", "", ROUTE_NONE, ""},
    {"/api/events/channels/list/x", "", ROUTE_NONE, ""},
    {"/api/events/history/x", "", ROUTE_NONE, ""},
    {"/api/events/stream/x", "", ROUTE_NONE, ""},
    {"/api/events/stream/events", "", ROUTE_NONE, ""},
    {"/api/events/active-connections/x", "", ROUTE_NONE, ""},
    {"/health/x", "", ROUTE_NONE, ""},

    {"//api/events/stream", "", ROUTE_NONE, ""},
    {"/api//events/stream", "", ROUTE_NONE, ""},
    {"/api/events//stream", "", ROUTE_NONE, ""},
    {"/api/events//channels/list", "", ROUTE_NONE, ""},
    {"/api/events/channels//list", "", ROUTE_NONE, ""},
    {"/api/events/channels//", "", ROUTE_NONE, ""},
    {"//health", "", ROUTE_NONE, ""},

    {"/api/events/publishx", "", ROUTE_NONE, ""},
    {"/api/events/publis", "", ROUTE_NONE, ""},
    {"/api/events/channel", "", ROUTE_NONE, ""},
    {"/api/events/channelslist", "", ROUTE_NONE, ""},
    {"/api/events/channels/lis", "", ROUTE_NONE, ""},
    {"/api/events/channels/subscribed", "", ROUTE_NONE, ""},
    {"/api/events/active", "", ROUTE_NONE, ""},
    {"/api/events/streams", "", ROUTE_NONE, ""},
    {"/api/eventsx/stream", "", ROUTE_NONE, ""},
    {"/api/event/stream", "", ROUTE_NONE, ""},
    {"/apix/events/stream", "", ROUTE_NONE, ""},
    {"/api/eventsstream", "", ROUTE_NONE, ""},
    {"/healt", "", ROUTE_NONE, ""},
    {"/healthx", "", ROUTE_NONE, ""},

    {"/API/events/stream", "", ROUTE_NONE, ""},
    {"/api/events/Stream", "", ROUTE_NONE, ""},
    {"/api/events/channels/LIST", "", ROUTE_NONE, ""},
    {"/Health", "", ROUTE_NONE, ""},
    {"/api%2fevents/stream", "", ROUTE_NONE, ""},
    {"/api/events%2fstream", "", ROUTE_NONE, ""},
    {"/api/events/channels%2flist", "", ROUTE_NONE, ""},
    {"/api/events/stream%2f", "", ROUTE_NONE, ""},
    {"/api/events/stream%00", "", ROUTE_NONE, ""},
    {"/api/events/stream%", "", ROUTE_NONE, ""},
    {"/api/events/%zz", "", ROUTE_NONE, ""},
    {"/api/events/%2573tream", "", ROUTE_NONE, ""},
    {"/api/events/./stream", "", ROUTE_NONE, ""},
    {"/api/events/x/../stream", "", ROUTE_NONE, ""},
    {"/topics/../api/events/stream", "", ROUTE_NONE, ""},
    {"api/events/stream", "", ROUTE_NONE, ""},
    {"http://host/api/events/stream", "", ROUTE_NONE, ""},

    {"/app/api/events/publish", "/app", ROUTE_DURABLE_PUBLISH, ""},
    {"/app/api/events/channels/subscribe", "/app", ROUTE_SUBSCRIBE, ""},
    {"/app/api/events/channels/unsubscribe", "/app", ROUTE_UNSUBSCRIBE, ""},
    {"/app/api/events/channels", "/app", ROUTE_CHANNELS, ""},
    {"/app/api/events/channels/list?x", "/app", ROUTE_CHANNELS, ""},
    {"/app/x/api/events/history", "/app/x", ROUTE_HISTORY, ""},
    {"/app/api/events/stream", "/app", ROUTE_USER_STREAM, ""},
    {"/app/api/events/active-connections", "/app", ROUTE_USER_STREAMS, ""},
    {"/app/health", "/app", ROUTE_SHORT_HEALTH, ""},
    {"/app/api/events/stream", "", ROUTE_NONE, ""},
    {"/app/api/events/stream", "/ap", ROUTE_NONE, ""},
    {"/app/api/events/stream", "/app/api/events", ROUTE_NONE, ""},
    {"/app/api/events/stream/", "/app", ROUTE_NONE, ""},
    {"/app/health/", "/app", ROUTE_NONE, ""},
    {"/api/events/stream", "/app", ROUTE_USER_STREAM, ""},
    {"/api/events/stream", "/api/events", ROUTE_USER_STREAM, ""},
    {"/api/events/stream", "/api/events/stream", ROUTE_USER_STREAM, ""},
    {"/api/events/api/events/stream", "/api/events", ROUTE_USER_STREAM, ""},
    {"/health", "/health", ROUTE_SHORT_HEALTH, ""},
    {"/health/health", "/health", ROUTE_SHORT_HEALTH, ""},
    {"/health/healthz", "/health", ROUTE_FULL_HEALTH, ""},

    /* the events API */
    {"/events", "", ROUTE_EVENTS, ""},
    {"/events?topics=a,b", "", ROUTE_EVENTS, ""},
    {"/%65vents", "", ROUTE_EVENTS, ""},
    {"/events/publish", "", ROUTE_EVENTS_PUBLISH, ""},
    {"/events/publish?x=/y", "", ROUTE_EVENTS_PUBLISH, ""},
    {"/api/sse/publish", "", ROUTE_SSE_PUBLISH, ""},
    {"/api/ss%65/publish", "", ROUTE_SSE_PUBLISH, ""},
    {"/api/sse/stats", "", ROUTE_SSE_STATS, ""},
    {"/events/", "", ROUTE_NONE, ""},
    {"/events/publish/", "", ROUTE_NONE, ""},
    {"/events/publish/x", "", ROUTE_NONE, ""},
    {"/events/stats", "", ROUTE_NONE, ""},
    {"/events/alpha/events", "", ROUTE_NONE, ""},
    {"/eventsx", "", ROUTE_NONE, ""},
    {"/Events", "", ROUTE_NONE, ""},
    {"/events%2fpublish", "", ROUTE_NONE, ""},
    {"//events", "", ROUTE_NONE, ""},
    {"/api/sse", "", ROUTE_NONE, ""},
    {"/api/sse/", "", ROUTE_NONE, ""},
    {"/api/sse/stats/x", "", ROUTE_NONE, ""},
    {"/api/sse/stream", "", ROUTE_NONE, ""},
    {"/app/events", "/app", ROUTE_EVENTS, ""},
    {"/app/events/publish?x", "/app", ROUTE_EVENTS_PUBLISH, ""},
    {"/app/api/sse/publish", "/app", ROUTE_SSE_PUBLISH, ""},
    {"/app/events", "", ROUTE_NONE, ""},
    {"/events", "/events", ROUTE_EVENTS, ""},
    {"/events/events", "/events", ROUTE_EVENTS, ""},
    {"/api/events/publish", "/api", ROUTE_DURABLE_PUBLISH, ""},
};

static const struct route_paths usual = {"/topics", "/healthz", "/api/events",
                                         "/events", "/api/sse", "/health"};

static void expect_routes(const struct route_case *expected, size_t count,
                          const struct route_paths *paths) {
    for (size_t i = 0; i < count; i++) {
        struct route route;
        memset(&route, 'x', sizeof route);
        route_parse(expected[i].uri, expected[i].script_name, paths, &route);
        if (route.kind != expected[i].kind) {
            fail_msg("'%s' mounted at '%s' is of kind %d", expected[i].uri, expected[i].script_name,
                     (int)route.kind);
        }
        if (route.kind == ROUTE_TOPIC_EVENTS) {
            assert_string_equal(route.topic, expected[i].topic);
        }
    }
}

static void test_cases(void **state) {
    expect_routes(cases, length_of(cases), &usual);
}

static void test_lengths_of_topics(void **state) {
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
        route_parse(uri.bytes, "", &usual, &route);
        assert_int_equal(route.kind, lengths[i].kind);
        free(topic);
        buf_release(&uri);
    }
}

/* 128 escaped bytes are 384 of the path, and one topic. */
static void test_length_counts_decoded_bytes(void **state) {
    for (int count = 128; count <= 129; count++) {
        struct route route;
        struct buf uri = {0};
        buf_append_text(&uri, "/topics/");
        for (int i = 0; i < count; i++) {
            buf_append_text(&uri, "%61");
        }
        buf_append(&uri, "/events", sizeof "/events");
        route_parse(uri.bytes, "", &usual, &route);
        assert_int_equal(route.kind, count == 128 ? ROUTE_TOPIC_EVENTS : ROUTE_BAD_TOPIC);
        buf_release(&uri);
    }
}

static void test_other_bases(void **state) {
    static const struct route_paths other = {"/api/v1",  "/status/health", "/v1/durable",
                                             "/v1/many", "/one",           "/up/ok"};
    static const struct route_case expected[] = {
        {"/api/v1/alpha/events", "", ROUTE_TOPIC_EVENTS, "alpha"},
        {"/status/health", "", ROUTE_FULL_HEALTH, ""},
        {"/api/alpha/events", "", ROUTE_NONE, ""},
        {"/status", "", ROUTE_NONE, ""},
        {"/topics/alpha/events", "", ROUTE_NONE, ""},
        {"/healthz", "", ROUTE_NONE, ""},
        {"/v1/durable/stream", "", ROUTE_USER_STREAM, ""},
        {"/v1/durable/channels/list", "", ROUTE_CHANNELS, ""},
        {"/v1/dur%61ble/publish", "", ROUTE_DURABLE_PUBLISH, ""},
        {"/x/v1/durable/history", "/x", ROUTE_HISTORY, ""},
        {"/v1/stream", "", ROUTE_NONE, ""},
        {"/durable/stream", "", ROUTE_NONE, ""},
        {"/v1/durable/events/stream", "", ROUTE_NONE, ""},
        {"/api/events/stream", "", ROUTE_NONE, ""},
        {"/v1/many", "", ROUTE_EVENTS, ""},
        {"/v1/many/publish", "", ROUTE_EVENTS_PUBLISH, ""},
        {"/one/publish", "", ROUTE_SSE_PUBLISH, ""},
        {"/one/stats", "", ROUTE_SSE_STATS, ""},
        {"/x/v1/many", "/x", ROUTE_EVENTS, ""},
        {"/events", "", ROUTE_NONE, ""},
        {"/api/sse/publish", "", ROUTE_NONE, ""},
        {"/up/ok", "", ROUTE_SHORT_HEALTH, ""},
        {"/x/up/ok", "/x", ROUTE_SHORT_HEALTH, ""},
        {"/up", "", ROUTE_NONE, ""},
        {"/ok", "", ROUTE_NONE, ""},
        {"/health", "", ROUTE_NONE, ""},
    };
    expect_routes(expected, length_of(expected), &other);
}

/* All APIs below one path: a topic may be named like a route of the others. What two of the others
 * have is the durable API's. */
static void test_base_and_events_at_one_path(void **state) {
    static const struct route_paths one = {"/events", "/healthz", "/events",
                                           "/events", "/events",  "/health"};
    static const struct route_case expected[] = {
        {"/events/alpha/events", "", ROUTE_TOPIC_EVENTS, "alpha"},
        {"/events", "", ROUTE_EVENTS, ""},
        {"/events/publish", "", ROUTE_DURABLE_PUBLISH, ""},
        {"/events/stats", "", ROUTE_SSE_STATS, ""},
        {"/events/stats/events", "", ROUTE_TOPIC_EVENTS, "stats"},
        {"/events/channels/subscribe", "", ROUTE_SUBSCRIBE, ""},
        {"/events/channels/unsubscribe", "", ROUTE_UNSUBSCRIBE, ""},
        {"/events/channels", "", ROUTE_CHANNELS, ""},
        {"/events/channels/list", "", ROUTE_CHANNELS, ""},
        {"/events/history", "", ROUTE_HISTORY, ""},
        {"/events/stream", "", ROUTE_USER_STREAM, ""},
        {"/events/active-connections", "", ROUTE_USER_STREAMS, ""},
        {"/events/publish/events", "", ROUTE_TOPIC_EVENTS, "publish"},
        {"/events/channels/events", "", ROUTE_TOPIC_EVENTS, "channels"},
        {"/events/stream/events", "", ROUTE_TOPIC_EVENTS, "stream"},
        {"/events/active-connections/events", "", ROUTE_TOPIC_EVENTS, "active-connections"},
        {"/events/a.b/events", "", ROUTE_BAD_TOPIC, ""},
        {"/events/events", "", ROUTE_NONE, ""},
        {"/events/channels/events/", "", ROUTE_NONE, ""},
        {"/app/events/stream", "/app", ROUTE_USER_STREAM, ""},
        {"/app/events/stream/events", "/app", ROUTE_TOPIC_EVENTS, "stream"},
    };
    expect_routes(expected, length_of(expected), &one);
}

/* One path inside the other, and paths that begin alike. */
static void test_paths_inside_paths(void **state) {
    static const struct route_paths base_outside = {
        "/api", "/api/events/healthz", "/api/events", "/events", "/api/sse", "/api/events/health"};
    static const struct route_case outside[] = {
        {"/api/alpha/events", "", ROUTE_TOPIC_EVENTS, "alpha"},
        {"/api/events/events", "", ROUTE_TOPIC_EVENTS, "events"},
        {"/api/events/stream", "", ROUTE_USER_STREAM, ""},
        {"/api/events/healthz", "", ROUTE_FULL_HEALTH, ""},
        {"/api/events/health", "", ROUTE_SHORT_HEALTH, ""},
        {"/api/stream", "", ROUTE_NONE, ""},
    };
    static const struct route_paths base_inside = {
        "/api/events/channels", "/healthz", "/api/events", "/events", "/api/sse", "/health"};
    static const struct route_case inside[] = {
        {"/api/events/channels/alpha/events", "", ROUTE_TOPIC_EVENTS, "alpha"},
        {"/api/events/channels/list/events", "", ROUTE_TOPIC_EVENTS, "list"},
        {"/api/events/channels/list", "", ROUTE_CHANNELS, ""},
        {"/api/events/channels/events", "", ROUTE_NONE, ""},
    };
    expect_routes(outside, length_of(outside), &base_outside);
    expect_routes(inside, length_of(inside), &base_inside);
}

/* Who configures one path for both gets the whole document. */
static void test_health_at_one_path(void **state) {
    static const struct route_paths one = {"/topics", "/health",  "/api/events",
                                           "/events", "/api/sse", "/health"};
    static const struct route_case expected[] = {{"/health", "", ROUTE_FULL_HEALTH, ""},
                                                 {"/healthz", "", ROUTE_NONE, ""}};
    expect_routes(expected, length_of(expected), &one);
}

/* Which API a path belongs to, also one that is no route. */
static void test_apis(void **state) {
    static const struct {
        const char *uri;
        const char *script_name;
        enum api api;
    } expected[] = {
        {"/api/events/publish", "", API_DURABLE},
        {"/api/events/history?channel=c", "", API_DURABLE},
        {"/api/events", "", API_DURABLE},
        {"/api/events/", "", API_DURABLE},
        {"/api/events/nothing", "", API_DURABLE},
        {"/api/events?x", "", API_DURABLE},
        {"/%61pi/events/publish", "", API_DURABLE},
        {"/%61pi/events/nothing", "", API_DURABLE},
        {"/health", "", API_DURABLE},
        {"/health?x", "", API_DURABLE},
        {"/health/x", "", API_DURABLE},
        {"/app/api/events/nothing", "/app", API_DURABLE},
        {"/app/api/events/publish", "/app", API_DURABLE},
        {"/api/events/events", "/api/events", API_EVENTS}, /* a route tells it */
        {"/api/events/nothing", "/api", API_EVENTS},       /* so does what is mounted */
        {"/api/events/nothing", "/api/events", API_DURABLE},
        {"/events", "", API_EVENTS},
        {"/events?topics=a", "", API_EVENTS},
        {"/events/", "", API_EVENTS},
        {"/events/publish", "", API_EVENTS},
        {"/events/nothing", "", API_EVENTS},
        {"/api/sse", "", API_EVENTS},
        {"/api/sse/publish", "", API_EVENTS},
        {"/api/sse/stats", "", API_EVENTS},
        {"/api/sse/nothing/at/all", "", API_EVENTS},
        {"/app/events", "/app", API_EVENTS},
        {"/app/events/nothing", "/app", API_EVENTS},
        {"/app/events/nothing", "", API_TOPICS},
        {"/app/api/events/nothing", "", API_TOPICS},
        {"/eventsx", "", API_TOPICS},
        {"/api/eventsx", "", API_TOPICS},
        {"/api/event", "", API_TOPICS},
        {"/api", "", API_TOPICS},
        {"/healthz", "", API_TOPICS},
        {"/topics/a/events", "", API_TOPICS},
        {"/topics/a.b/events", "", API_TOPICS},
        {"/topics/events", "", API_TOPICS},
        {"/", "", API_TOPICS},
        {"", "", API_TOPICS},
        {"/app", "/app", API_TOPICS},
    };
    for (size_t i = 0; i < length_of(expected); i++) {
        struct route route;
        route_parse(expected[i].uri, expected[i].script_name, &usual, &route);
        if (route.api != expected[i].api) {
            fail_msg("'%s' mounted at '%s' is of API %d", expected[i].uri, expected[i].script_name,
                     (int)route.api);
        }
    }
}

/* Each route has methods, OPTIONS among them. */
static void test_methods(void **state) {
    for (enum route_kind kind = ROUTE_NONE; kind <= ROUTE_SHORT_HEALTH; kind++) {
        bool is_route = kind != ROUTE_NONE && kind != ROUTE_BAD_TOPIC;
        assert_int_equal(route_methods(kind) != NULL, is_route);
        assert_true(!is_route || strstr(route_methods(kind), "OPTIONS") != NULL);
    }
    assert_string_equal(route_methods(ROUTE_EVENTS), "GET, HEAD, OPTIONS");
    assert_string_equal(route_methods(ROUTE_EVENTS_PUBLISH), "POST, OPTIONS");
}

static void test_paths_of_a_configuration(void **state) {
    struct config config = {0};
    const char *reason;
    config_set_defaults(&config);
    struct route_paths paths = route_paths_of(&config);
    assert_string_equal(paths.base, usual.base);
    assert_string_equal(paths.healthz, usual.healthz);
    assert_string_equal(paths.durable, usual.durable);
    assert_string_equal(paths.events, usual.events);
    assert_string_equal(paths.sse, usual.sse);
    assert_string_equal(paths.health, usual.health);
    assert_true(config_set(&config, "durable_path", "/e", &reason));
    assert_string_equal(route_paths_of(&config).durable, "/e");
    config_release(&config);
}

RUN_TESTS(TEST(test_cases), TEST(test_lengths_of_topics), TEST(test_length_counts_decoded_bytes),
          TEST(test_other_bases), TEST(test_base_and_events_at_one_path),
          TEST(test_paths_inside_paths), TEST(test_health_at_one_path), TEST(test_apis),
          TEST(test_methods), TEST(test_paths_of_a_configuration))
