/* Many events in one body: an array or lines, all of them or none. */
#include "envelopes.h"
#include "http.h"
#include "support.h"

#define NONCE UINT64_C(100)

#define EVENT(topic) "{\"topic\":\"" topic "\",\"data\":1}"

static struct envelopes parsed; /* by the last parse() */

static unsigned parse(struct slice body, const char **reason) {
    char *memory;
    struct envelope_stamp stamp = {.nonce = NONCE};
    envelopes_release(&parsed);
    *reason = "";
    unsigned status = envelopes_parse(&parsed, exact(body, &memory), &stamp, reason);
    free(memory);
    assert_true(stamp.nonce - NONCE == parsed.count);
    return status;
}

/* Their topics, in order, each ended by a space. */
static void expect_topics(struct slice body, const char *wanted) {
    struct buf topics = {0};
    const char *reason;
    unsigned status = parse(body, &reason);
    if (status != HTTP_OK) {
        fail_msg("%.*s: %u %s", (int)body.length, body.at, status, reason);
    }
    for (size_t i = 0; i < parsed.count; i++) {
        buf_append_slice(&topics, buf_slice(&parsed.list[i].topic));
        buf_append_text(&topics, " ");
    }
    expect_buf(&topics, wanted);
    envelopes_release(&parsed);
}

static void expect_refusal(struct slice body, unsigned wanted, const char *wanted_reason) {
    const char *reason;
    unsigned status = parse(body, &reason);
    if (status != wanted || strncmp(reason, wanted_reason, strlen(wanted_reason)) != 0) {
        fail_msg("%.*s: %u %s", (int)body.length, body.at, status, reason);
    }
    envelopes_release(&parsed);
}

static void test_good(void **state) {
    static const struct {
        struct slice body;
        const char *topics;
    } cases[] = {
        {LITERAL(EVENT("a")), "a "},
        {LITERAL(EVENT("a") "\n"), "a "},
        {LITERAL(EVENT("a") "\n" EVENT("b") "\n" EVENT("a")), "a b a "},
        {LITERAL(EVENT("a") "\r\n" EVENT("b") "\r\n"), "a b "},
        {LITERAL("\n\r\n \t\n" EVENT("a") "\n\n\n  " EVENT("b") "  \n \n\t"), "a b "},
        {LITERAL("[" EVENT("a") "]"), "a "},
        {LITERAL(" \r\n\t[\n" EVENT("a") " ,\n\n" EVENT("b") "\n]\n\n"), "a b "},
        {LITERAL("[" EVENT("a") "," EVENT("*") "," EVENT("user:1") "]"), "a * user:1 "},
        /* an end of line within a string is escaped, so it ends no line */
        {LITERAL("{\"topic\":\"a\",\"data\":\"x\\ny\"}\n" EVENT("b")), "a b "},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        expect_topics(cases[i].body, cases[i].topics);
    }
}

/* Each has a nonce of its own, or Postgres would merge equal ones. */
static void test_nonces(void **state) {
    const char *reason;
    assert_int_equal(parse(LITERAL(EVENT("a") "\n" EVENT("a") "\n" EVENT("a")), &reason), HTTP_OK);
    assert_int_equal(parsed.count, 3);
    for (size_t i = 0; i < parsed.count; i++) {
        struct buf wanted = {0};
        buf_printf(&wanted, "{\"topic\":\"a\",\"data\":1,\"nonce\":\"%016x\"}",
                   (unsigned)(NONCE + i));
        expect_slice(buf_slice(&parsed.list[i].text), buf_slice(&wanted), "text");
        buf_release(&wanted);
    }
    envelopes_release(&parsed);
}

static void test_nothing(void **state) {
    static const struct slice bodies[] = {LITERAL(""),   LITERAL(" "),      LITERAL("\n"),
                                          LITERAL("[]"), LITERAL("\r\n\t"), LITERAL(" [ \n] ")};
    for (size_t i = 0; i < length_of(bodies); i++) {
        expect_refusal(bodies[i], HTTP_BAD_REQUEST, "there is no event in the body");
    }
}

static void test_which_one_is_bad(void **state) {
    static const struct {
        struct slice body;
        const char *reason;
    } cases[] = {
        {LITERAL("x"), "line 1 is not JSON: "},
        {LITERAL(EVENT("a") "\n{"), "line 2 is not JSON: "},
        {LITERAL(EVENT("a") "\n\n\r\n" EVENT("b") EVENT("c") "\n"), "line 4 is not JSON: "},
        {LITERAL(EVENT("a") "\r" EVENT("b")), "line 1 is not JSON: "}, /* it ends no line */
        {LITERAL(EVENT("a") "\n\0"), "line 2 is not JSON: "},
        {LITERAL(EVENT("a") "\n" EVENT("\xff")), "line 2 is not JSON: not valid UTF-8"},
        {LITERAL("{\"topic\":\"a\",\n\"data\":1}"), "line 1 is not JSON: "},
        {LITERAL(EVENT("a") "\n[" EVENT("b") "]"), "line 2: it is not an object"},
        {LITERAL(EVENT("a") "\nnull\n"), "line 2: it is not an object"},
        {LITERAL(EVENT("a") "\n{\"topic\":\"b\"}\n" EVENT("c")), "line 2: \"data\" is missing"},
        {LITERAL("\n" EVENT("a,b")), "line 2: \"topic\" must be 1 to 255"},
        {LITERAL("\n" EVENT("b.*")), "line 2: \"topic\" must not end in"},
        {LITERAL("[" EVENT("a") ",1]"), "event 2: it is not an object"},
        {LITERAL("[\n\n[" EVENT("a") "]]"), "event 1: it is not an object"},
        {LITERAL("[" EVENT("a") "," EVENT("b") ",{\"data\":1}]"), "event 3: \"topic\" is missing"},
        {LITERAL("[" EVENT("a") ",]"), "the body is not JSON: "},
        {LITERAL("[" EVENT("a") "]x"), "the body is not JSON: "},
        {LITERAL("[" EVENT("a") "]\n[" EVENT("b") "]"), "the body is not JSON: "},
        {LITERAL("[" EVENT("a") "\n" EVENT("b") "]"), "the body is not JSON: "},
        {LITERAL("\xef\xbb\xbf" EVENT("a")), "line 1 is not JSON: "},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        expect_refusal(cases[i].body, HTTP_BAD_REQUEST, cases[i].reason);
    }
}

/* A reason as long as any: it is not cut. */
static void test_long_reason(void **state) {
    expect_refusal(
        LITERAL("[{\"topic\":\"a\",\"data\":1,\"event\":\"close\"}]"), HTTP_BAD_REQUEST,
        "event 1: \"event\" is one of refresh, close, error, open, position, end, state: "
        "the stream's own");
}

/* count events, and between and around them what makes an array or lines. */
static struct buf body_of(size_t count, const char *before, const char *between,
                          const char *after) {
    struct buf body = {0};
    buf_append_text(&body, before);
    for (size_t i = 0; i < count; i++) {
        buf_printf(&body, "%s{\"topic\":\"t%zu\",\"data\":%zu}", i > 0 ? between : "", i, i);
    }
    buf_append_text(&body, after);
    return body;
}

static void test_a_thousand_and_one_more(void **state) {
    static const struct {
        const char *before;
        const char *between;
        const char *after;
        const char *reason;
    } cases[] = {{"[", ",", "]", "event 1001: there are more than 1000 events"},
                 {"", "\n", "\n", "line 1001: there are more than 1000 events"},
                 {"\n", "\r\n\r\n", "", "line 2002: there are more than 1000 events"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        const char *reason;
        struct buf body = body_of(1000, cases[i].before, cases[i].between, cases[i].after);
        assert_int_equal(parse(buf_slice(&body), &reason), HTTP_OK);
        assert_int_equal(parsed.count, 1000);
        expect_text(buf_slice(&parsed.list[999].topic), "t999");
        expect_text(buf_slice(&parsed.list[999].data), "999");
        buf_release(&body);
        body = body_of(1001, cases[i].before, cases[i].between, cases[i].after);
        expect_refusal(buf_slice(&body), HTTP_TOO_LARGE, cases[i].reason);
        buf_release(&body);
    }
}

/* An array is never half of itself; lines are good where one ends. */
static void test_truncated_at_every_byte(void **state) {
    static const char lines[] = EVENT("a") "\r\n\n" EVENT("b") "\n" EVENT("c");
    static const char array[] = "[" EVENT("a") ", " EVENT("b") "]";
    size_t event_bytes = sizeof EVENT("a") - 1;
    for (size_t length = 0; length < sizeof array; length++) {
        const char *reason;
        unsigned status = parse((struct slice){array, length}, &reason);
        assert_int_equal(status, length == sizeof array - 1 ? HTTP_OK : HTTP_BAD_REQUEST);
    }
    for (size_t length = 0; length < sizeof lines; length++) {
        const char *reason;
        unsigned status = parse((struct slice){lines, length}, &reason);
        size_t second = event_bytes + 3; /* where the second event begins */
        size_t third = second + event_bytes + 1;
        bool is_between = (length >= event_bytes && length <= second) ||
                          (length >= third - 1 && length <= third) || length == sizeof lines - 1;
        if ((status == HTTP_OK) != is_between) {
            fail_msg("%zu bytes: %u %s", length, status, reason);
        }
    }
    envelopes_release(&parsed);
}

RUN_TESTS(TEST(test_good), TEST(test_nonces), TEST(test_nothing), TEST(test_which_one_is_bad),
          TEST(test_long_reason), TEST(test_a_thousand_and_one_more),
          TEST(test_truncated_at_every_byte))
