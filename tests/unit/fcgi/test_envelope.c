/* From a publisher's body to the NOTIFY payload and the answer. */
#include "envelope.h"
#include "json.h"
#include "reply.h"
#include "support.h"

#define NONCE      UINT64_C(0x123456789abcdef)
#define NONCE_TEXT "0123456789abcdef"

static unsigned build(struct envelope *envelope, struct slice body, const char **reason) {
    char *memory;
    *envelope = (struct envelope){0};
    *reason = NULL;
    unsigned status = envelope_build(envelope, "alpha", exact(body, &memory), NONCE, reason);
    free(memory);
    return status;
}

/* The payload, whose last member is the nonce. */
static void expect_payload(const struct envelope *envelope, const char *wanted) {
    struct buf whole = {0};
    buf_printf(&whole, "%s,\"nonce\":\"%s\"}", wanted, NONCE_TEXT);
    expect_slice(buf_slice(&envelope->payload), buf_slice(&whole), "payload");
    buf_release(&whole);
}

struct good_case {
    const char *body;
    const char *payload; /* up to the nonce */
    const char *answer;
};

static const struct good_case good[] = {
    {"{\"data\":{\"n\":1}}", "{\"topic\":\"alpha\",\"data\":{\"n\":1}",
     "{\"topic\":\"alpha\",\"data\":{\"n\":1}}"},
    {" { \"data\" : [ 1 , 2.0 ] } ", "{\"topic\":\"alpha\",\"data\":[1,2.0]",
     "{\"topic\":\"alpha\",\"data\":[1,2.0]}"},
    {"{\"data\":0}", "{\"topic\":\"alpha\",\"data\":0", "{\"topic\":\"alpha\",\"data\":0}"},
    {"{\"data\":false}", "{\"topic\":\"alpha\",\"data\":false",
     "{\"topic\":\"alpha\",\"data\":false}"},
    {"{\"data\":\"\"}", "{\"topic\":\"alpha\",\"data\":\"\"",
     "{\"topic\":\"alpha\",\"data\":\"\"}"},
    {"{\"data\": {\"n\":123456789012345678901234567890, \"x\":1.0, \"s\":\"\xc3\xa9\\u0000<\", "
     "\"k\":1, \"k\":2}}",
     "{\"topic\":\"alpha\",\"data\":{\"n\":123456789012345678901234567890,\"x\":1.0,"
     "\"s\":\"\xc3\xa9\\u0000<\",\"k\":1,\"k\":2}",
     "{\"topic\":\"alpha\",\"data\":{\"n\":123456789012345678901234567890,\"x\":1.0,"
     "\"s\":\"\xc3\xa9\\u0000<\",\"k\":1,\"k\":2}}"},
    {"{\"data\":\" \\\" } \"}", "{\"topic\":\"alpha\",\"data\":\" \\\" } \"",
     "{\"topic\":\"alpha\",\"data\":\" \\\" } \"}"},
    {"{\"event\":\"order\",\"data\":1}", "{\"topic\":\"alpha\",\"data\":1,\"event\":\"order\"",
     "{\"topic\":\"alpha\",\"data\":1}"},
    {"{\"event\":\"a\\\"b\\\\\\u00e9\",\"data\":1}",
     "{\"topic\":\"alpha\",\"data\":1,\"event\":\"a\\\"b\\\\\xc3\xa9\"",
     "{\"topic\":\"alpha\",\"data\":1}"},
    {"{\"event\":\"\",\"data\":1}", "{\"topic\":\"alpha\",\"data\":1",
     "{\"topic\":\"alpha\",\"data\":1}"},
    {"{\"event\":null,\"data\":1}", "{\"topic\":\"alpha\",\"data\":1",
     "{\"topic\":\"alpha\",\"data\":1}"},
    {"{\"event\":\"message\",\"data\":1}", "{\"topic\":\"alpha\",\"data\":1,\"event\":\"message\"",
     "{\"topic\":\"alpha\",\"data\":1}"},
    /* other keys never reach the envelope */
    {"{\"topic\":\"beta\",\"tenant\":\"t\",\"id\":\"x\",\"retry\":1,\"text\":true,\"data\":1}",
     "{\"topic\":\"alpha\",\"data\":1", "{\"topic\":\"alpha\",\"data\":1}"},
    {"{\"data\":1,\"data\":2}", "{\"topic\":\"alpha\",\"data\":2",
     "{\"topic\":\"alpha\",\"data\":2}"},
    {"{\"d\\u0061ta\":1}", "{\"topic\":\"alpha\",\"data\":1", "{\"topic\":\"alpha\",\"data\":1}"},
};

static void test_good_bodies(void **state) {
    (void)state;
    for (size_t i = 0; i < length_of(good); i++) {
        struct envelope envelope;
        const char *reason;
        struct json_value value;
        struct json_error error;
        if (build(&envelope, slice_of(good[i].body), &reason) != REPLY_OK) {
            fail_msg("%s: %s", good[i].body, reason);
        }
        expect_payload(&envelope, good[i].payload);
        expect_text(buf_slice(&envelope.answer), good[i].answer);
        assert_true(json_parse(buf_slice(&envelope.payload), &value, &error));
        assert_true(json_parse(buf_slice(&envelope.answer), &value, &error));
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
    (void)state;
    for (size_t i = 0; i < length_of(bad); i++) {
        struct envelope envelope;
        const char *reason;
        unsigned status = build(&envelope, bad[i].body, &reason);
        if (status != REPLY_BAD_REQUEST || reason == NULL || strstr(reason, bad[i].part) == NULL) {
            fail_msg("%.*s: %u %s", (int)bad[i].body.length, bad[i].body.at, status, reason);
        }
        envelope_release(&envelope);
    }
}

static void test_depth(void **state) {
    (void)state;
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
        assert_int_equal(build(&envelope, buf_slice(&body), &reason),
                         levels <= 128 ? REPLY_OK : REPLY_BAD_REQUEST);
        envelope_release(&envelope);
        buf_release(&body);
    }
}

static void test_lengths_of_types(void **state) {
    (void)state;
    for (size_t length = 254; length <= 257; length++) {
        struct envelope envelope;
        struct buf body = {0};
        const char *reason;
        char *type = repeated('t', length);
        buf_printf(&body, "{\"data\":1,\"event\":\"%s\"}", type);
        assert_int_equal(build(&envelope, buf_slice(&body), &reason),
                         length <= 255 ? REPLY_OK : REPLY_BAD_REQUEST);
        envelope_release(&envelope);
        buf_release(&body);
        free(type);
    }
}

/* What is too large for a notification goes to the table: topic, data and type by themselves. */
static void test_parts(void **state) {
    (void)state;
    struct envelope envelope;
    const char *reason;
    assert_int_equal(
        build(&envelope, LITERAL("{\"data\":{ \"n\" : 1.0 },\"event\":\"a\\\"b\"}"), &reason),
        REPLY_OK);
    expect_text(envelope.topic, "alpha");
    expect_text(envelope.data, "{\"n\":1.0}");
    expect_text(buf_slice(&envelope.type), "a\"b");
    envelope_release(&envelope);
    assert_int_equal(build(&envelope, LITERAL("{\"data\":0}"), &reason), REPLY_OK);
    expect_text(envelope.data, "0");
    assert_int_equal(envelope.type.length, 0);
    envelope_release(&envelope);
}

static void test_any_size(void **state) {
    (void)state;
    struct envelope envelope;
    struct buf body = {0};
    const char *reason;
    char *filler = repeated('x', 200000);
    buf_printf(&body, "{\"data\":\"%s\"}", filler);
    assert_int_equal(build(&envelope, buf_slice(&body), &reason), REPLY_OK);
    assert_int_equal(envelope.data.length, 200002);
    assert_true(envelope.payload.length > 200002);
    envelope_release(&envelope);
    buf_release(&body);
    free(filler);
}

static void test_nonces_are_of_one_length(void **state) {
    (void)state;
    static const struct {
        uint64_t nonce;
        const char *text;
    } nonces[] = {
        {0, "0000000000000000"}, {1, "0000000000000001"}, {UINT64_MAX, "ffffffffffffffff"}};
    for (size_t i = 0; i < length_of(nonces); i++) {
        struct envelope envelope = {0};
        const char *reason;
        assert_int_equal(
            envelope_build(&envelope, "a", LITERAL("{\"data\":1}"), nonces[i].nonce, &reason),
            REPLY_OK);
        buf_append(&envelope.payload, "", 1);
        assert_non_null(strstr(envelope.payload.bytes, nonces[i].text));
        envelope_release(&envelope);
    }
}

static void test_channel(void **state) {
    (void)state;
    struct envelope envelope = {0};
    const char *reason;
    assert_int_equal(envelope_build(&envelope, "foobar", LITERAL("{\"data\":1}"), NONCE, &reason),
                     REPLY_OK);
    assert_string_equal(envelope.channel, "topic_broadcast_0"); /* FNV-1a 0xbf9cf968 */
    envelope_release(&envelope);
}

static void test_truncated_at_every_byte(void **state) {
    (void)state;
    static const char whole[] = "{\"event\":\"e\",\"data\":{\"a\":[1,\"\\u00e9\",null]},\"x\":0}";
    for (size_t length = 0; length < sizeof whole; length++) {
        struct envelope envelope;
        const char *reason;
        unsigned status = build(&envelope, (struct slice){whole, length}, &reason);
        assert_int_equal(status, length == sizeof whole - 1 ? REPLY_OK : REPLY_BAD_REQUEST);
        envelope_release(&envelope);
    }
}

RUN_TESTS(TEST(test_good_bodies), TEST(test_bad_bodies), TEST(test_depth),
          TEST(test_lengths_of_types), TEST(test_parts), TEST(test_any_size),
          TEST(test_nonces_are_of_one_length), TEST(test_channel),
          TEST(test_truncated_at_every_byte))
