/* Which request gets what from the publish handler. */
#include "service.h"
#include "support.h"

struct case_ {
    enum route_kind route;
    enum method method;
    enum service service;
    unsigned status; /* of the refusal */
    const char *allow;
};

#define POST_ONLY "POST, OPTIONS"
#define GET_ONLY  "GET, HEAD, OPTIONS"
#define ALL       "GET, HEAD, POST, OPTIONS"

static const struct case_ cases[] = {
    {ROUTE_TOPIC_EVENTS, METHOD_POST, SERVICE_PUBLISH_TOPIC, 0, NULL},
    {ROUTE_TOPIC_EVENTS, METHOD_GET, SERVICE_NONE, 405, ALL},
    {ROUTE_TOPIC_EVENTS, METHOD_OPTIONS, SERVICE_NONE, 405, ALL},
    {ROUTE_TOPIC_EVENTS, METHOD_OTHER, SERVICE_NONE, 405, ALL},
    {ROUTE_FULL_HEALTH, METHOD_POST, SERVICE_NONE, 405, GET_ONLY},
    {ROUTE_BAD_TOPIC, METHOD_POST, SERVICE_NONE, 400, NULL},
    {ROUTE_BAD_TOPIC, METHOD_GET, SERVICE_NONE, 400, NULL},
    {ROUTE_NONE, METHOD_POST, SERVICE_NONE, 404, NULL},
    {ROUTE_NONE, METHOD_OPTIONS, SERVICE_NONE, 404, NULL},
    {ROUTE_DURABLE_PUBLISH, METHOD_POST, SERVICE_PUBLISH_DURABLE, 0, NULL},
    {ROUTE_DURABLE_PUBLISH, METHOD_GET, SERVICE_NONE, 405, POST_ONLY},
    {ROUTE_DURABLE_PUBLISH, METHOD_HEAD, SERVICE_NONE, 405, POST_ONLY},
    {ROUTE_DURABLE_PUBLISH, METHOD_OPTIONS, SERVICE_NONE, 204, POST_ONLY},
    {ROUTE_DURABLE_PUBLISH, METHOD_OTHER, SERVICE_NONE, 405, POST_ONLY},
    {ROUTE_EVENTS, METHOD_POST, SERVICE_NONE, 405, GET_ONLY},
    {ROUTE_EVENTS, METHOD_GET, SERVICE_NONE, 405, GET_ONLY},
    {ROUTE_EVENTS, METHOD_OPTIONS, SERVICE_NONE, 405, GET_ONLY},
    {ROUTE_EVENTS_PUBLISH, METHOD_POST, SERVICE_PUBLISH_MANY, 0, NULL},
    {ROUTE_EVENTS_PUBLISH, METHOD_GET, SERVICE_NONE, 405, POST_ONLY},
    {ROUTE_EVENTS_PUBLISH, METHOD_HEAD, SERVICE_NONE, 405, POST_ONLY},
    {ROUTE_EVENTS_PUBLISH, METHOD_OPTIONS, SERVICE_NONE, 204, POST_ONLY},
    {ROUTE_EVENTS_PUBLISH, METHOD_OTHER, SERVICE_NONE, 405, POST_ONLY},
    {ROUTE_SSE_PUBLISH, METHOD_POST, SERVICE_PUBLISH_SSE, 0, NULL},
    {ROUTE_SSE_PUBLISH, METHOD_GET, SERVICE_NONE, 405, POST_ONLY},
    {ROUTE_SSE_PUBLISH, METHOD_OPTIONS, SERVICE_NONE, 204, POST_ONLY},
    {ROUTE_SSE_STATS, METHOD_POST, SERVICE_NONE, 405, GET_ONLY},
    {ROUTE_SSE_STATS, METHOD_GET, SERVICE_NONE, 405, GET_ONLY},
    {ROUTE_SUBSCRIBE, METHOD_POST, SERVICE_SUBSCRIBE, 0, NULL},
    {ROUTE_SUBSCRIBE, METHOD_GET, SERVICE_NONE, 405, POST_ONLY},
    {ROUTE_UNSUBSCRIBE, METHOD_POST, SERVICE_UNSUBSCRIBE, 0, NULL},
    {ROUTE_UNSUBSCRIBE, METHOD_OTHER, SERVICE_NONE, 405, POST_ONLY},
    {ROUTE_CHANNELS, METHOD_GET, SERVICE_CHANNELS, 0, NULL},
    {ROUTE_CHANNELS, METHOD_HEAD, SERVICE_CHANNELS, 0, NULL},
    {ROUTE_CHANNELS, METHOD_POST, SERVICE_NONE, 405, GET_ONLY},
    {ROUTE_CHANNELS, METHOD_OPTIONS, SERVICE_NONE, 204, GET_ONLY},
    {ROUTE_HISTORY, METHOD_GET, SERVICE_HISTORY, 0, NULL},
    {ROUTE_HISTORY, METHOD_HEAD, SERVICE_HISTORY, 0, NULL},
    {ROUTE_HISTORY, METHOD_OTHER, SERVICE_NONE, 405, GET_ONLY},
    {ROUTE_USER_STREAM, METHOD_POST, SERVICE_NONE, 405, GET_ONLY},
    {ROUTE_USER_STREAM, METHOD_GET, SERVICE_NONE, 405, GET_ONLY},
    {ROUTE_USER_STREAM, METHOD_OPTIONS, SERVICE_NONE, 405, GET_ONLY},
    {ROUTE_USER_STREAMS, METHOD_POST, SERVICE_NONE, 405, GET_ONLY},
    {ROUTE_SHORT_HEALTH, METHOD_POST, SERVICE_NONE, 405, GET_ONLY},
};

static void test_cases(void **state) {
    for (size_t i = 0; i < length_of(cases); i++) {
        const struct case_ *one = &cases[i];
        struct request request = {.method = one->method,
                                  .route = {.kind = one->route},
                                  .identity = {.user = "", .is_known = true}};
        struct refusal refusal = {0};
        enum service service = service_of(&request, &refusal);
        if (service != one->service || refusal.status != one->status) {
            fail_msg("case %zu: service %d, status %u", i, (int)service, refusal.status);
        }
        if (one->allow == NULL) {
            assert_null(refusal.allow);
        } else {
            assert_string_equal(refusal.allow, one->allow);
        }
        assert_true(service != SERVICE_NONE || refusal.reason != NULL);
    }
}

/* Whatever it wants. */
static void test_of_no_tenant(void **state) {
    for (size_t i = 0; i < length_of(cases); i++) {
        struct request request = {.method = cases[i].method,
                                  .route = {.kind = cases[i].route},
                                  .identity = {.user = "", .is_known = false}};
        struct refusal refusal = {0};
        assert_int_equal(service_of(&request, &refusal), SERVICE_NONE);
        assert_int_equal(refusal.status, 500);
    }
}

RUN_TESTS(TEST(test_of_no_tenant), TEST(test_cases))
