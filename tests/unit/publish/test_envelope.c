/* From a publisher's body to the text of a notification. */
#include "envelope.h"
#include "json.h"
#include "support.h"

#define NONCE      UINT64_C(0x123456789abcdef)
#define NONCE_TEXT "0123456789abcdef"

static const struct envelope_stamp stamp = {.nonce = NONCE};

static bool build(struct envelope *envelope, struct slice body, const char **reason) {
    char *memory;
    *envelope = (struct envelope){0};
    *reason = NULL;
    bool is_good = envelope_of_topic(envelope, "alpha", exact(body, &memory), &stamp, reason);
    free(memory);
    return is_good;
}

/* The text, whose last member is the nonce. */
static void expect_text_of(const struct envelope *envelope, const char *wanted) {
    struct buf whole = {0};
    buf_printf(&whole, "%s,\"nonce\":\"%s\"}", wanted, NONCE_TEXT);
    expect_slice(buf_slice(&envelope->text), buf_slice(&whole), "text");
    buf_release(&whole);
}

struct good_case {
    const char *body;
    const char *text; /* up to the nonce */
};

static const struct good_case good[] = {
    {"{\"data\":{\"n\":1}}", "{\"topic\":\"alpha\",\"data\":{\"n\":1}"},
    {" { \"data\" : [ 1 , 2.0 ] } ", "{\"topic\":\"alpha\",\"data\":[1,2.0]"},
    {"{\"data\":0}", "{\"topic\":\"alpha\",\"data\":0"},
    {"{\"data\":false}", "{\"topic\":\"alpha\",\"data\":false"},
    {"{\"data\":\"\"}", "{\"topic\":\"alpha\",\"data\":\"\""},
    {"{\"data\": {\"n\":123456789012345678901234567890, \"x\":1.0, \"s\":\"\xc3\xa9\\u0000<\", "
     "\"k\":1, \"k\":2}}",
     "{\"topic\":\"alpha\",\"data\":{\"n\":123456789012345678901234567890,\"x\":1.0,"
     "\"s\":\"\xc3\xa9\\u0000<\",\"k\":1,\"k\":2}"},
    {"{\"data\":\" \\\" } \"}", "{\"topic\":\"alpha\",\"data\":\" \\\" } \""},
    {"{\"event\":\"order\",\"data\":1}", "{\"topic\":\"alpha\",\"data\":1,\"event\":\"order\""},
    {"{\"event\":\"a\\\"b\\\\\\u00e9\",\"data\":1}",
     "{\"topic\":\"alpha\",\"data\":1,\"event\":\"a\\\"b\\\\\xc3\xa9\""},
    {"{\"event\":\"\",\"data\":1}", "{\"topic\":\"alpha\",\"data\":1"},
    {"{\"event\":null,\"data\":1}", "{\"topic\":\"alpha\",\"data\":1"},
    {"{\"event\":\"message\",\"data\":1}", "{\"topic\":\"alpha\",\"data\":1,\"event\":\"message\""},
    /* other keys never reach the envelope */
    {"{\"topic\":\"beta\",\"tenant\":null,\"nonce\":\"x\",\"data\":1}",
     "{\"topic\":\"alpha\",\"data\":1"},
    {"{\"text\":true,\"comment\":\"a\\nb\",\"retry\":0,\"id\":\"x.1\",\"event\":\"e\",\"data\":"
     "\"d\"}",
     "{\"topic\":\"alpha\",\"data\":\"d\",\"event\":\"e\",\"id\":\"x.1\",\"retry\":0,"
     "\"comment\":\"a\\u000ab\",\"text\":true"},
    {"{\"text\":false,\"comment\":\"\",\"retry\":null,\"id\":null,\"data\":1}",
     "{\"topic\":\"alpha\",\"data\":1"},
    {"{\"data\":1,\"data\":2}", "{\"topic\":\"alpha\",\"data\":2"},
    {"{\"d\\u0061ta\":1}", "{\"topic\":\"alpha\",\"data\":1"},
};

static void test_good_bodies(void **state) {
    for (size_t i = 0; i < length_of(good); i++) {
        struct envelope envelope;
        const char *reason;
        struct json_value value;
        struct json_error error;
        if (!build(&envelope, slice_of(good[i].body), &reason)) {
            fail_msg("%s: %s", good[i].body, reason);
        }
        expect_text_of(&envelope, good[i].text);
        expect_text(buf_slice(&envelope.topic), "alpha");
        assert_true(json_parse(buf_slice(&envelope.text), &value, &error));
        assert_true(json_parse(buf_slice(&envelope.data), &value, &error));
        envelope_release(&envelope);
    }
}

struct bad_case {
    struct slice body;
    const char *part; /* of the reason */
};

static const struct bad_case bad[] = {
    {LITERAL(""), "empty"},
    {LITERAL(" "), "JSON"},
    {LITERAL("x"), "JSON"},
    {LITERAL("{\"data\":1}x"), "JSON"},
    {LITERAL("{\"data\":1,}"), "JSON"},
    {LITERAL("{\"data\":NaN}"), "JSON"},
    {LITERAL("{\"data\":\"\x01\"}"), "JSON"},
    {LITERAL("{\"data\":\"\xff\"}"), "JSON"},
    {LITERAL("{\"data\":\"\xc0\xaf\"}"), "JSON"},
    {LITERAL("{\"data\":\"\xed\xa0\x80\"}"), "JSON"},
    {LITERAL("\xef\xbb\xbf{\"data\":1}"), "JSON"},
    {LITERAL("{\"data\":1}\0"), "JSON"},
    {LITERAL("null"), "object"},
    {LITERAL("[1]"), "object"},
    {LITERAL("\"data\""), "object"},
    {LITERAL("{}"), "data"},
    {LITERAL("{\"data\":null}"), "data"},
    {LITERAL("{\"Data\":1}"), "data"},
    {LITERAL("{\"data\":1,\"data\":null}"), "data"},
    {LITERAL("{\"data\":1,\"event\":5}"), "event"},
    {LITERAL("{\"data\":1,\"event\":false}"), "event"},
    {LITERAL("{\"data\":1,\"event\":{}}"), "event"},
    {LITERAL("{\"data\":1,\"event\":\"a\\nb\"}"), "event"},
    {LITERAL("{\"data\":1,\"event\":\"\\u0000\"}"), "event"},
    {LITERAL("{\"data\":1,\"event\":\"\\u0085\"}"), "event"},
    {LITERAL("{\"data\":1,\"event\":\"refresh\"}"), "event"},
    {LITERAL("{\"data\":1,\"event\":\"close\"}"), "event"},
    {LITERAL("{\"data\":1,\"event\":\"error\"}"), "event"},
    {LITERAL("{\"data\":1,\"event\":\"open\"}"), "event"},
    {LITERAL("{\"data\":1,\"event\":\"clos\\u0065\"}"), "event"},
};

static void test_bad_bodies(void **state) {
    for (size_t i = 0; i < length_of(bad); i++) {
        struct envelope envelope;
        const char *reason;
        bool is_good = build(&envelope, bad[i].body, &reason);
        if (is_good || reason == NULL || strstr(reason, bad[i].part) == NULL) {
            fail_msg("%.*s: %s", (int)bad[i].body.length, bad[i].body.at, reason);
        }
        envelope_release(&envelope);
    }
}

static void test_depth(void **state) {
    for (int levels = 127; levels <= 130; levels++) { /* the body is one of them */
        struct envelope envelope;
        struct buf body = {0};
        const char *reason;
        buf_append_text(&body, "{\"data\":");
        for (int i = 1; i < levels; i++) {
            buf_append_text(&body, "[");
        }
        for (int i = 1; i < levels; i++) {
            buf_append_text(&body, "]");
        }
        buf_append_text(&body, "}");
        assert_int_equal(build(&envelope, buf_slice(&body), &reason), levels <= 128);
        envelope_release(&envelope);
        buf_release(&body);
    }
}

static void test_lengths_of_types(void **state) {
    for (size_t length = 254; length <= 257; length++) {
        struct envelope envelope;
        struct buf body = {0};
        const char *reason;
        char *type = repeated('t', length);
        buf_printf(&body, "{\"data\":1,\"event\":\"%s\"}", type);
        assert_int_equal(build(&envelope, buf_slice(&body), &reason), length <= 255);
        envelope_release(&envelope);
        buf_release(&body);
        free(type);
    }
}

/* What is too large for a notification goes to the table: topic, data and type by themselves. */
static void test_parts(void **state) {
    struct envelope envelope;
    const char *reason;
    assert_true(
        build(&envelope, LITERAL("{\"data\":{ \"n\" : 1.0 },\"event\":\"a\\\"b\"}"), &reason));
    expect_text(buf_slice(&envelope.topic), "alpha");
    expect_text(buf_slice(&envelope.data), "{\"n\":1.0}");
    expect_text(buf_slice(&envelope.type), "a\"b");
    envelope_release(&envelope);
    assert_true(build(&envelope, LITERAL("{\"data\":0}"), &reason));
    expect_text(buf_slice(&envelope.data), "0");
    assert_int_equal(envelope.type.length, 0);
    envelope_release(&envelope);
}

static void test_any_size(void **state) {
    struct envelope envelope;
    struct buf body = {0};
    const char *reason;
    char *filler = repeated('x', 200000);
    buf_printf(&body, "{\"data\":\"%s\"}", filler);
    assert_true(build(&envelope, buf_slice(&body), &reason));
    assert_int_equal(envelope.data.length, 200002);
    assert_true(envelope.text.length > 200002);
    envelope_release(&envelope);
    buf_release(&body);
    free(filler);
}

/* It is the web server's word, and part of the notification. */
static void test_tenant(void **state) {
    static const struct envelope_stamp acme = {LITERAL("acme"), NONCE};
    struct envelope envelope = {0};
    struct json_value value;
    struct json_error error;
    const char *reason;
    assert_true(envelope_of_topic(&envelope, "alpha", LITERAL("{\"data\":1}"), &acme, &reason));
    expect_text_of(&envelope, "{\"topic\":\"alpha\",\"data\":1,\"tenant\":\"acme\"");
    envelope_release(&envelope);
    envelope = (struct envelope){0};
    assert_true(json_parse(LITERAL("{\"data\":1,\"topic\":\"b\"}"), &value, &error));
    assert_true(envelope_of_one(&envelope, value, &acme, &reason));
    expect_text_of(&envelope, "{\"topic\":\"b\",\"data\":1,\"tenant\":\"acme\"");
    envelope_release(&envelope);
    envelope = (struct envelope){0};
    assert_true(envelope_of_sse(&envelope, LITERAL("{\"data\":1,\"user\":7}"), &acme, &reason));
    expect_text_of(&envelope, "{\"topic\":\"user:7\",\"data\":1,\"tenant\":\"acme\"");
    envelope_release(&envelope);
}

static void test_tenant_in_the_body(void **state) {
    static const char *const bodies[] = {
        "{\"data\":1,\"tenant\":\"t\"}", "{\"data\":1,\"tenant\":\"\"}",
        "{\"data\":1,\"ten\\u0061nt\":\"t\"}", "{\"data\":1,\"tenant\":5}"};
    for (size_t i = 0; i < length_of(bodies); i++) {
        struct envelope envelope;
        const char *reason;
        assert_false(build(&envelope, slice_of(bodies[i]), &reason));
        assert_non_null(strstr(reason, "\"tenant\" must not be given"));
        envelope_release(&envelope);
    }
}

static void test_nonces_are_of_one_length(void **state) {
    static const struct {
        uint64_t nonce;
        const char *text;
    } nonces[] = {
        {0, "0000000000000000"}, {1, "0000000000000001"}, {UINT64_MAX, "ffffffffffffffff"}};
    for (size_t i = 0; i < length_of(nonces); i++) {
        struct envelope envelope = {0};
        const char *reason;
        struct envelope_stamp other = {.nonce = nonces[i].nonce};
        assert_true(envelope_of_topic(&envelope, "a", LITERAL("{\"data\":1}"), &other, &reason));
        buf_append(&envelope.text, "", 1);
        assert_non_null(strstr(envelope.text.bytes, nonces[i].text));
        envelope_release(&envelope);
    }
}

static void test_channel(void **state) {
    struct envelope envelope = {0};
    const char *reason;
    assert_true(envelope_of_topic(&envelope, "foobar", LITERAL("{\"data\":1}"), &stamp, &reason));
    assert_string_equal(envelope.channel, "topic_broadcast_0"); /* FNV-1a 0xbf9cf968 */
    envelope_release(&envelope);
}

static void test_truncated_at_every_byte(void **state) {
    static const char whole[] = "{\"event\":\"e\",\"data\":{\"a\":[1,\"\\u00e9\",null]},\"x\":0}";
    for (size_t length = 0; length < sizeof whole; length++) {
        struct envelope envelope;
        const char *reason;
        bool is_good = build(&envelope, (struct slice){whole, length}, &reason);
        assert_int_equal(is_good, length == sizeof whole - 1);
        envelope_release(&envelope);
    }
}

/* --- the events API --------------------------------------------------------------------------- */

static bool build_one(struct envelope *envelope, struct slice body, const char **reason) {
    char *memory;
    struct json_value value;
    struct json_error error;
    *envelope = (struct envelope){0};
    assert_true(json_parse(exact(body, &memory), &value, &error));
    bool is_good = envelope_of_one(envelope, value, &stamp, reason);
    free(memory);
    return is_good;
}

static bool build_sse(struct envelope *envelope, struct slice body, const char **reason) {
    char *memory;
    *envelope = (struct envelope){0};
    bool is_good = envelope_of_sse(envelope, exact(body, &memory), &stamp, reason);
    free(memory);
    return is_good;
}

typedef bool build_function(struct envelope *envelope, struct slice body, const char **reason);

static void expect_good(build_function *build_it, const struct good_case *expected, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct envelope envelope;
        const char *reason = "";
        char channel[TOPIC_CHANNEL_BYTES];
        if (!build_it(&envelope, slice_of(expected[i].body), &reason)) {
            fail_msg("%s: %s", expected[i].body, reason);
        }
        expect_text_of(&envelope, expected[i].text);
        topic_channel(buf_slice(&envelope.topic), channel);
        assert_string_equal(envelope.channel, channel);
        envelope_release(&envelope);
    }
}

static void expect_bad(build_function *build_it, const struct bad_case *expected, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct envelope envelope;
        const char *reason = "";
        bool is_good = build_it(&envelope, expected[i].body, &reason);
        if (is_good || strstr(reason, expected[i].part) == NULL) {
            fail_msg("%.*s: %s", (int)expected[i].body.length, expected[i].body.at, reason);
        }
        envelope_release(&envelope);
    }
}

static void test_one_of_many(void **state) {
    static const struct good_case expected[] = {
        {"{\"topic\":\"a\",\"data\":1}", "{\"topic\":\"a\",\"data\":1"},
        {"{\"topic\":\"Orders:42\",\"data\":1}", "{\"topic\":\"Orders:42\",\"data\":1"},
        {"{\"topic\":\"gr\xc3\xb6\xc3\x9f\\u0065 *x\",\"data\":1}",
         "{\"topic\":\"gr\xc3\xb6\xc3\x9f"
         "e *x\",\"data\":1"},
        {"{\"topic\":\"a\\\"\\\\b\",\"data\":1}", "{\"topic\":\"a\\\"\\\\b\",\"data\":1"},
        {"{\"topic\":\"user:7\",\"data\":1}", "{\"topic\":\"user:7\",\"data\":1"},
        {"{\"topic\":\"*\",\"data\":1}", "{\"topic\":\"*\",\"data\":1"},
        {"{\"topic\":\"a\",\"tenant\":null,\"data\":1}", "{\"topic\":\"a\",\"data\":1"},
        {"{\"nonce\":\"x\",\"other\":[],\"data\":1,\"topic\":\"a\"}",
         "{\"topic\":\"a\",\"data\":1"},
        /* here a string is JSON, as in a notification */
        {"{\"topic\":\"a\",\"data\":\"x\"}", "{\"topic\":\"a\",\"data\":\"x\""},
        {"{\"topic\":\"a\",\"data\":\"x\",\"text\":true,\"event\":\"e\",\"id\":\"i\",\"retry\":5,"
         "\"comment\":\"c\"}",
         "{\"topic\":\"a\",\"data\":\"x\",\"event\":\"e\",\"id\":\"i\",\"retry\":5,\"comment\":"
         "\"c\","
         "\"text\":true"},
    };
    static const struct bad_case refused[] = {
        {LITERAL("1"), "object"},
        {LITERAL("[]"), "object"},
        {LITERAL("null"), "object"},
        {LITERAL("{}"), "\"topic\" is missing"},
        {LITERAL("{\"data\":1}"), "\"topic\" is missing"},
        {LITERAL("{\"data\":1,\"topic\":null}"), "\"topic\" must be a string"},
        {LITERAL("{\"data\":1,\"topic\":1}"), "\"topic\" must be a string"},
        {LITERAL("{\"data\":1,\"topic\":\"\"}"), "\"topic\" must be 1 to 255"},
        {LITERAL("{\"data\":1,\"topic\":\"a,b\"}"), "\"topic\" must be 1 to 255"},
        {LITERAL("{\"data\":1,\"topic\":\"a\\u0000\"}"), "\"topic\" must be 1 to 255"},
        {LITERAL("{\"data\":1,\"topic\":\"a*\"}"), "\"topic\" must not end in"},
        {LITERAL("{\"data\":1,\"topic\":\"**\"}"), "\"topic\" must not end in"},
        {LITERAL("{\"data\":1,\"topic\":\"a\",\"tenant\":\"\"}"), "\"tenant\" must not be given"},
        {LITERAL("{\"data\":1,\"topic\":\"a\",\"tenant\":\"t\"}"), "\"tenant\" must not be given"},
        {LITERAL("{\"topic\":\"a\"}"), "\"data\""},
        {LITERAL("{\"topic\":\"a\",\"data\":null}"), "\"data\""},
        {LITERAL("{\"topic\":\"a\",\"data\":1,\"event\":\"close\"}"), "\"event\""},
        {LITERAL("{\"topic\":\"a\",\"data\":1,\"id\":\"\"}"), "\"id\""},
        {LITERAL("{\"topic\":\"a\",\"data\":1,\"retry\":-1}"), "\"retry\""},
        {LITERAL("{\"topic\":\"a\",\"data\":1,\"comment\":1}"), "\"comment\""},
        {LITERAL("{\"topic\":\"a\",\"data\":1,\"text\":1}"), "\"text\""},
    };
    expect_good(build_one, expected, length_of(expected));
    expect_bad(build_one, refused, length_of(refused));
}

static void test_sse(void **state) {
    static const struct good_case expected[] = {
        {"{\"topic\":\"a\",\"data\":{ }}", "{\"topic\":\"a\",\"data\":{}"},
        {"{\"topic\":\"*\",\"data\":1}", "{\"topic\":\"*\",\"data\":1"},
        {"{\"data\":1}", "{\"topic\":\"*\",\"data\":1"},
        {"{\"data\":1,\"topic\":null,\"user\":null,\"tenant\":null}",
         "{\"topic\":\"*\",\"data\":1"},
        {"{\"data\":1,\"user\":7}", "{\"topic\":\"user:7\",\"data\":1"},
        {"{\"data\":1,\"user\":-7}", "{\"topic\":\"user:-7\",\"data\":1"},
        {"{\"data\":1,\"user\":\"7\"}", "{\"topic\":\"user:7\",\"data\":1"},
        {"{\"data\":1,\"user\":\"Doe, J\\u00f6\"}",
         "{\"topic\":\"user:Doe, J\xc3\xb6\",\"data\":1"},
        {"{\"data\":1,\"user\":\"a\",\"topic\":null}", "{\"topic\":\"user:a\",\"data\":1"},
        /* a string is sent as its text, unless "text" says otherwise */
        {"{\"data\":\"x\",\"topic\":\"a\"}", "{\"topic\":\"a\",\"data\":\"x\",\"text\":true"},
        {"{\"data\":\"x\",\"topic\":\"a\",\"text\":null}",
         "{\"topic\":\"a\",\"data\":\"x\",\"text\":true"},
        {"{\"data\":\"x\",\"topic\":\"a\",\"text\":true}",
         "{\"topic\":\"a\",\"data\":\"x\",\"text\":true"},
        {"{\"data\":\"x\",\"topic\":\"a\",\"text\":false}", "{\"topic\":\"a\",\"data\":\"x\""},
        {"{\"data\":[\"x\"],\"topic\":\"a\"}", "{\"topic\":\"a\",\"data\":[\"x\"]"},
        {"{\"event\":\"e\",\"data\":1,\"topic\":\"a\",\"id\":\"i\",\"retry\":0,\"comment\":\"c\"}",
         "{\"topic\":\"a\",\"data\":1,\"event\":\"e\",\"id\":\"i\",\"retry\":0,\"comment\":\"c\""},
    };
    static const struct bad_case refused[] = {
        {LITERAL(""), "empty"},
        {LITERAL("{"), "JSON"},
        {LITERAL("[]"), "object"},
        {LITERAL("{}"), "\"data\""},
        {LITERAL("{\"data\":null,\"topic\":\"a\"}"), "\"data\""},
        {LITERAL("{\"data\":1,\"topic\":1}"), "\"topic\""},
        {LITERAL("{\"data\":1,\"topic\":\"\"}"), "\"topic\""},
        {LITERAL("{\"data\":1,\"topic\":\"a,b\"}"), "\"topic\""},
        {LITERAL("{\"data\":1,\"topic\":\"a*\"}"), "\"topic\""},
        {LITERAL("{\"data\":1,\"topic\":\"a\",\"user\":1}"), "\"user\" must not be given"},
        {LITERAL("{\"data\":1,\"user\":\"\"}"), "\"user\""},
        {LITERAL("{\"data\":1,\"user\":\"a*\"}"), "\"user\""},
        {LITERAL("{\"data\":1,\"user\":\"a\\n\"}"), "\"user\""},
        {LITERAL("{\"data\":1,\"user\":1.5}"), "\"user\""},
        {LITERAL("{\"data\":1,\"user\":1e3}"), "\"user\""},
        {LITERAL("{\"data\":1,\"user\":true}"), "\"user\""},
        {LITERAL("{\"data\":1,\"user\":[1]}"), "\"user\""},
        {LITERAL("{\"data\":1,\"tenant\":\"t\"}"), "\"tenant\" must not be given"},
        {LITERAL("{\"data\":\"x\",\"text\":\"true\"}"), "\"text\""},
        {LITERAL("{\"data\":1,\"event\":\"end\"}"), "\"event\""},
    };
    expect_good(build_sse, expected, length_of(expected));
    expect_bad(build_sse, refused, length_of(refused));
}

/* The topic of a user has at most 255 bytes, too. */
static void test_lengths_of_topics_and_users(void **state) {
    for (size_t length = 249; length <= 257; length++) {
        struct envelope envelope;
        struct buf body = {0};
        const char *reason;
        char *name = repeated('n', length);
        buf_printf(&body, "{\"data\":1,\"topic\":\"%s\"}", name);
        assert_int_equal(build_sse(&envelope, buf_slice(&body), &reason), length <= 255);
        envelope_release(&envelope);
        assert_int_equal(build_one(&envelope, buf_slice(&body), &reason), length <= 255);
        envelope_release(&envelope);
        body.length = 0;
        buf_printf(&body, "{\"data\":1,\"user\":\"%s\"}", name);
        assert_int_equal(build_sse(&envelope, buf_slice(&body), &reason), length <= 250);
        envelope_release(&envelope);
        buf_release(&body);
        free(name);
    }
}

RUN_TESTS(TEST(test_good_bodies), TEST(test_bad_bodies), TEST(test_depth),
          TEST(test_lengths_of_types), TEST(test_parts), TEST(test_any_size),
          TEST(test_nonces_are_of_one_length), TEST(test_tenant), TEST(test_tenant_in_the_body),
          TEST(test_channel), TEST(test_one_of_many), TEST(test_sse),
          TEST(test_lengths_of_topics_and_users), TEST(test_truncated_at_every_byte))
