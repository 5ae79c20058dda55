/* From a publisher's body to a durable event. */
#include "durable.h"
#include "http.h"
#include "support.h"

static unsigned parse(struct durable *durable, struct slice body, const char **reason) {
    char *memory;
    *durable = (struct durable){0};
    *reason = "";
    unsigned status = durable_parse(durable, exact(body, &memory), reason);
    free(memory);
    return status;
}

struct good_case {
    const char *body;
    const char *channel;
    const char *type;
    const char *text;
};

static const struct good_case good[] = {
    {"{\"channel\":\"c\",\"eventType\":\"t\",\"payload\":{\"n\":1}}", "c", "t", "{\"n\":1}"},
    {"{\"payload\":0,\"eventType\":\"t\",\"channel\":\"c\"}", "c", "t", "0"},
    {"{\"channel\":\"c\",\"eventType\":\"t\",\"payload\":false}", "c", "t", "false"},
    {"{\"channel\":\"c\",\"eventType\":\"t\",\"payload\":\"\"}", "c", "t", "\"\""},
    {"{\"channel\":\"c\",\"eventType\":\"t\",\"payload\": [ 1.0 , -0, 1e400 ]}", "c", "t",
     "[1.0,-0,1e400]"},
    {"{\"channel\":\"c\",\"eventType\":\"t\",\"payload\":123456789012345678901234567890}", "c", "t",
     "123456789012345678901234567890"},
    {"{\"channel\":\"\\u00e9 \\\"x\\\"\",\"eventType\":\"\\u00e9\",\"payload\":\"\\u0000\"}",
     "\xc3\xa9 \"x\"", "\xc3\xa9", "\"\\u0000\""},
    {"{\"channel\":\"a\",\"channel\":\"b\",\"eventType\":\"t\",\"payload\":1,\"payload\":2,\"x\":"
     "3}",
     "b", "t", "2"},
};

static void test_good_bodies(void **state) {
    for (size_t i = 0; i < length_of(good); i++) {
        struct durable durable;
        const char *reason;
        if (parse(&durable, slice_of(good[i].body), &reason) != HTTP_OK) {
            fail_msg("%s: %s", good[i].body, reason);
        }
        expect_text(buf_slice(&durable.channel), good[i].channel);
        expect_text(buf_slice(&durable.type), good[i].type);
        expect_text(buf_slice(&durable.data), good[i].text);
        durable_release(&durable);
    }
}

static void test_fields(void **state) {
    struct durable durable;
    const char *reason;
    static const char body[] =
        "{\"channel\":\"c\",\"eventType\":\"t\",\"payload\":\"p\",\"id\":\"own\","
        "\"retry\":7,\"comment\":\"why\",\"text\":true}";
    assert_int_equal(parse(&durable, slice_of(body), &reason), HTTP_OK);
    expect_text(buf_slice(&durable.fields.id), "own");
    expect_text(buf_slice(&durable.fields.retry), "7");
    expect_text(buf_slice(&durable.fields.comment), "why");
    assert_true(durable.fields.is_text);
    durable_release(&durable);
}

#define WITH_CHANNEL(value) LITERAL("{\"channel\":" value ",\"eventType\":\"t\",\"payload\":1}")
#define WITH_TYPE(value)    LITERAL("{\"channel\":\"c\",\"eventType\":" value ",\"payload\":1}")

struct bad_case {
    struct slice body;
    const char *part; /* of the reason */
};

static const struct bad_case bad[] = {
    {LITERAL(""), "empty"},
    {LITERAL("{"), "JSON"},
    {LITERAL("[]"), "object"},
    {LITERAL("{}"), "\"channel\""},
    {LITERAL("{\"channel\":\"c\",\"eventType\":\"t\"}"), "\"payload\""},
    {LITERAL("{\"channel\":\"c\",\"eventType\":\"t\",\"Payload\":1}"), "\"payload\""},
    {LITERAL("{\"channel\":\"c\",\"payload\":1}"), "\"eventType\""},
    {LITERAL("{\"eventType\":\"t\",\"payload\":1}"), "\"channel\""},
    {WITH_CHANNEL("1"), "\"channel\""},
    {WITH_CHANNEL("null"), "\"channel\""},
    {WITH_CHANNEL("\"\""), "\"channel\""},
    {WITH_CHANNEL("\"a,b\""), "\"channel\""},
    {WITH_CHANNEL("\"a\\nb\""), "\"channel\""},
    {WITH_CHANNEL("\"\\u0000\""), "\"channel\""},
    {WITH_CHANNEL("\"\\u0085\""), "\"channel\""},
    {WITH_CHANNEL("\"\xff\""), "JSON"},
    {LITERAL("{\"channel\":\"c\",\"eventType\":\"t\",\"payload\":null}"), "\"payload\""},
    {LITERAL("{\"channel\":\"c\",\"eventType\":\"t\",\"payload\":1,\"event\":\"e\"}"),
     "\"event\" is \"eventType\""},
    {LITERAL("{\"channel\":\"c\",\"eventType\":\"t\",\"payload\":1,\"id\":\"a b\"}"), "\"id\""},
    {WITH_TYPE("\"\""), "\"eventType\""},
    {WITH_TYPE("1"), "\"eventType\""},
    {WITH_TYPE("null"), "\"eventType\""},
    {WITH_TYPE("[\"t\"]"), "\"eventType\""},
    {WITH_TYPE("\"a\\tb\""), "\"eventType\""},
    {WITH_TYPE("\"refresh\""), "\"eventType\""},
    {WITH_TYPE("\"close\""), "\"eventType\""},
    {WITH_TYPE("\"error\""), "\"eventType\""},
    {WITH_TYPE("\"\\u006fpen\""), "\"eventType\""},
};

static void test_bad_bodies(void **state) {
    for (size_t i = 0; i < length_of(bad); i++) {
        struct durable durable;
        const char *reason;
        unsigned status = parse(&durable, bad[i].body, &reason);
        if (status != HTTP_BAD_REQUEST || strstr(reason, bad[i].part) == NULL) {
            fail_msg("%.*s: %u %s", (int)bad[i].body.length, bad[i].body.at, status, reason);
        }
        durable_release(&durable);
    }
}

static void test_lengths(void **state) {
    for (size_t form = 0; form < 2; form++) {
        for (size_t length = 255; length <= 256; length++) {
            struct durable durable;
            struct buf body = {0};
            const char *reason;
            char *name = repeated('n', length);
            buf_printf(&body,
                       form == 0 ? "{\"channel\":\"%s\",\"eventType\":\"t\",\"payload\":1}"
                                 : "{\"channel\":\"c\",\"eventType\":\"%s\",\"payload\":1}",
                       name);
            assert_int_equal(parse(&durable, buf_slice(&body), &reason),
                             length == 255 ? HTTP_OK : HTTP_BAD_REQUEST);
            durable_release(&durable);
            buf_release(&body);
            free(name);
        }
    }
}

static void test_truncated_at_every_byte(void **state) {
    static const char whole[] =
        "{\"channel\":\"c\",\"eventType\":\"t\",\"payload\":[1,\"\\u00e9\"]}";
    for (size_t length = 0; length < sizeof whole; length++) {
        struct durable durable;
        const char *reason;
        assert_int_equal(parse(&durable, (struct slice){whole, length}, &reason),
                         length == sizeof whole - 1 ? HTTP_OK : HTTP_BAD_REQUEST);
        durable_release(&durable);
    }
}

RUN_TESTS(TEST(test_good_bodies), TEST(test_bad_bodies), TEST(test_fields), TEST(test_lengths),
          TEST(test_truncated_at_every_byte))
