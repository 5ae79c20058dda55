/* Who is subscribed to what. */
#include "http.h"
#include "support.h"
#include "user_channel.h"

struct good_case {
    const char *body;
    const char *user;
    const char *answer;
};

static const struct good_case good[] = {
    {"{\"userId\":1,\"channel\":\"c\"}", "1",
     "{\"status\":\"subscribed\",\"userId\":1,\"channel\":\"c\"}"},
    {"{\"userId\":\"1\",\"channel\":\"c\"}", "1",
     "{\"status\":\"subscribed\",\"userId\":\"1\",\"channel\":\"c\"}"},
    {"{\"channel\":\"c\",\"userId\":-7,\"x\":0}", "-7",
     "{\"status\":\"subscribed\",\"userId\":-7,\"channel\":\"c\"}"},
    {"{\"userId\":123456789012345678901234567890,\"channel\":\"c\"}",
     "123456789012345678901234567890",
     "{\"status\":\"subscribed\",\"userId\":123456789012345678901234567890,\"channel\":\"c\"}"},
    {"{\"userId\":\"a\\u00e9,\\\"\",\"channel\":\"\\u00e9\\\\\"}", "a\xc3\xa9,\"",
     "{\"status\":\"subscribed\",\"userId\":\"a\xc3\xa9,\\\"\",\"channel\":\"\xc3\xa9\\\\\"}"},
};

static void test_good_bodies(void **state) {
    for (size_t i = 0; i < length_of(good); i++) {
        struct user_channel user_channel = {0};
        struct buf answer = {0};
        const char *reason;
        char *memory;
        struct slice body = exact(slice_of(good[i].body), &memory);
        assert_int_equal(user_channel_parse(&user_channel, body, &reason), HTTP_OK);
        free(memory);
        assert_string_equal(user_channel.user.bytes, good[i].user);
        user_channel_append_status(&user_channel, "subscribed", &answer);
        expect_buf(&answer, good[i].answer);
        user_channel_release(&user_channel);
    }
}

#define WITH_USER(value) LITERAL("{\"userId\":" value ",\"channel\":\"c\"}")

static const struct {
    struct slice body;
    const char *part; /* of the reason */
} bad[] = {
    {LITERAL(""), "empty"},
    {LITERAL("[1,\"c\"]"), "object"},
    {LITERAL("{\"channel\":\"c\"}"), "\"userId\""},
    {LITERAL("{\"userId\":1}"), "\"channel\""},
    {LITERAL("{\"userId\":1,\"channel\":2}"), "\"channel\""},
    {LITERAL("{\"userId\":1,\"channel\":\"a,b\"}"), "\"channel\""},
    {WITH_USER("null"), "\"userId\""},
    {WITH_USER("true"), "\"userId\""},
    {WITH_USER("1.0"), "\"userId\""},
    {WITH_USER("1e3"), "\"userId\""},
    {WITH_USER("-0"), "\"userId\""},
    {WITH_USER("[1]"), "\"userId\""},
    {WITH_USER("{}"), "\"userId\""},
    {WITH_USER("\"\""), "\"userId\""},
    {WITH_USER("\"a\\nb\""), "\"userId\""},
    {WITH_USER("\"a\\u0000\""), "\"userId\""},
};

static void test_bad_bodies(void **state) {
    for (size_t i = 0; i < length_of(bad); i++) {
        struct user_channel user_channel = {0};
        const char *reason = "";
        unsigned status = user_channel_parse(&user_channel, bad[i].body, &reason);
        if (status != HTTP_BAD_REQUEST || strstr(reason, bad[i].part) == NULL) {
            fail_msg("%.*s: %u %s", (int)bad[i].body.length, bad[i].body.at, status, reason);
        }
        user_channel_release(&user_channel);
    }
}

static const struct {
    const char *query;
    const char *answer; /* NULL: refused */
} queries[] = {
    {"userId=1", "{\"userId\":1,\"channels\":[\"a\",\"b\\\"\"]}"},
    {"x=2&userId=%31", "{\"userId\":1,\"channels\":[\"a\",\"b\\\"\"]}"},
    {"userId=-12", "{\"userId\":-12,\"channels\":[\"a\",\"b\\\"\"]}"},
    {"userId=01", "{\"userId\":\"01\",\"channels\":[\"a\",\"b\\\"\"]}"},
    {"userId=anna", "{\"userId\":\"anna\",\"channels\":[\"a\",\"b\\\"\"]}"},
    {"userId=%27%20OR%201=1--", "{\"userId\":\"' OR 1=1--\",\"channels\":[\"a\",\"b\\\"\"]}"},
    {"", NULL},
    {"userId", NULL},
    {"userid=1", NULL},
    {"userId=", NULL},
    {"userId=%", NULL},
    {"userId=%00", NULL},
    {"userId=a%0Ab", NULL},
    {"userId=%ff", NULL},
};

static void test_queries(void **state) {
    for (size_t i = 0; i < length_of(queries); i++) {
        struct user_channel user_channel = {0};
        struct buf answer = {0};
        const char *reason = "";
        unsigned status = user_channel_parse_query(&user_channel, queries[i].query, &reason);
        if (status != (queries[i].answer == NULL ? HTTP_BAD_REQUEST : HTTP_OK)) {
            fail_msg("'%s': %u", queries[i].query, status);
        }
        if (status == HTTP_OK) {
            user_channel_begin_list(&user_channel, &answer);
            user_channel_append_channel(LITERAL("a"), true, &answer);
            user_channel_append_channel(LITERAL("b\""), false, &answer);
            user_channel_end_list(&answer);
            expect_buf(&answer, queries[i].answer);
        } else {
            assert_non_null(strstr(reason, "\"userId\""));
        }
        user_channel_release(&user_channel);
    }
}

static void test_lengths(void **state) {
    for (size_t length = 255; length <= 256; length++) {
        struct user_channel user_channel = {0};
        struct buf query = {0};
        const char *reason;
        char *user = repeated('u', length);
        buf_printf(&query, "userId=%s", user);
        buf_append(&query, "", 1);
        assert_int_equal(user_channel_parse_query(&user_channel, query.bytes, &reason),
                         length == 255 ? HTTP_OK : HTTP_BAD_REQUEST);
        user_channel_release(&user_channel);
        buf_release(&query);
        free(user);
    }
}

static void test_empty_list(void **state) {
    struct user_channel user_channel = {0};
    struct buf answer = {0};
    const char *reason;
    assert_int_equal(user_channel_parse_query(&user_channel, "userId=0", &reason), HTTP_OK);
    user_channel_begin_list(&user_channel, &answer);
    user_channel_end_list(&answer);
    expect_buf(&answer, "{\"userId\":0,\"channels\":[]}");
    user_channel_release(&user_channel);
}

RUN_TESTS(TEST(test_good_bodies), TEST(test_bad_bodies), TEST(test_queries), TEST(test_lengths),
          TEST(test_empty_list))
