/* The text of Server-Sent Events, byte for byte. */
#include "sse.h"
#include "support.h"

static void expect_body(struct sse_event event, const char *wanted, size_t wanted_id_at) {
    struct buf out = {0};
    buf_append_text(&out, "before");
    size_t id_at = sse_event_body(&out, &event);
    buf_consume(&out, strlen("before"));
    assert_int_equal(id_at, wanted_id_at);
    expect_buf(&out, wanted);
}

static void test_data_lines(void **state) {
    static const struct {
        const char *data;
        const char *lines;
    } cases[] = {
        {"{\"n\":1}", "data: {\"n\":1}\n"},
        {"", "data:\n"},
        {"a", "data: a\n"},
        {" a", "data:  a\n"},
        {":", "data: :\n"},
        {"a\nb", "data: a\ndata: b\n"},
        {"a\rb", "data: a\ndata: b\n"},
        {"a\r\nb", "data: a\ndata: b\n"},
        {"a\n\nb", "data: a\ndata:\ndata: b\n"},
        {"a\r\rb", "data: a\ndata:\ndata: b\n"},
        {"a\n\rb", "data: a\ndata:\ndata: b\n"},
        {"a\r\n\r\nb", "data: a\ndata:\ndata: b\n"},
        {"a\r\r\nb", "data: a\ndata:\ndata: b\n"},
        {"\n", "data:\ndata:\n"},
        {"\r", "data:\ndata:\n"},
        {"\r\n", "data:\ndata:\n"},
        {"a\n", "data: a\ndata:\n"},
        {"a\r", "data: a\ndata:\n"},
        {"a\r\n", "data: a\ndata:\n"},
        {"a\n\n", "data: a\ndata:\ndata:\n"},
        {"\na", "data:\ndata: a\n"},
        {"id: 5\nevent: close\n\ndata: x",
         "data: id: 5\ndata: event: close\ndata:\ndata: data: x\n"},
        {"a\xe2\x80\xa8"
         "b\xc2\x85"
         "c\x0b",
         "data: a\xe2\x80\xa8"
         "b\xc2\x85"
         "c\x0b\n"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        char *memory;
        char wanted[256];
        snprintf(wanted, sizeof wanted, "event: message\n%s\n", cases[i].lines);
        struct sse_event event = {.data = exact(slice_of(cases[i].data), &memory)};
        expect_body(event, wanted, 0);
        free(memory);
    }
}

static void test_no_data_at_all(void **state) {
    expect_body((struct sse_event){0}, "event: message\ndata:\n\n", 0);
}

static void test_nul_in_data(void **state) {
    struct buf out = {0};
    struct sse_event event = {.data = LITERAL("a\0b")};
    assert_int_equal(sse_event_body(&out, &event), 0);
    expect_slice(buf_slice(&out), LITERAL("event: message\ndata: a\0b\n\n"), "NUL");
    buf_release(&out);
}

static void test_type(void **state) {
    expect_body((struct sse_event){.type = LITERAL("order"), .data = LITERAL("1")},
                "event: order\ndata: 1\n\n", 0);
}

static void test_retry(void **state) {
    expect_body((struct sse_event){.has_retry = true, .retry_ms = 3600000, .data = LITERAL("1")},
                "event: message\nretry: 3600000\ndata: 1\n\n", 0);
    expect_body((struct sse_event){.has_retry = true, .retry_ms = 0, .data = LITERAL("1")},
                "event: message\nretry: 0\ndata: 1\n\n", 0);
    expect_body((struct sse_event){.has_retry = false, .retry_ms = 7, .data = LITERAL("1")},
                "event: message\ndata: 1\n\n", 0);
}

/* The comment comes first, the id between it and the rest. */
static void test_comment(void **state) {
    static const struct {
        const char *comment;
        const char *lines;
    } cases[] = {
        {"hello", ": hello\n"},   {"a\nb", ": a\n: b\n"},
        {"a\r\nb", ": a\n: b\n"}, {"a\rb\r", ": a\n: b\n:\n"},
        {"\n", ":\n:\n"},         {"x\ndata: forged\n\nid: 9", ": x\n: data: forged\n:\n: id: 9\n"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        char wanted[256];
        snprintf(wanted, sizeof wanted, "%sevent: message\ndata: 1\n\n", cases[i].lines);
        expect_body((struct sse_event){.comment = slice_of(cases[i].comment), .data = LITERAL("1")},
                    wanted, strlen(cases[i].lines));
    }
}

static void test_id(void **state) {
    struct position position = {3, "abcdefghijklm", 17};
    struct position plain = {.durable = 9};
    struct buf out = {0};
    sse_id(&out, &position, (struct slice){0});
    expect_buf(&out, "id: 3.abcdefghijklm.17\n");
    sse_id(&out, &position, slice_of("order-1"));
    expect_buf(&out, "id: 3.abcdefghijklm.17~order-1\n");
    sse_id(&out, &plain, (struct slice){0});
    expect_buf(&out, "id: 9\n");
}

static void test_comment_and_retry_lines(void **state) {
    struct buf out = {0};
    sse_comment(&out, "listening alpha");
    expect_buf(&out, ": listening alpha\n");
    sse_retry(&out, 5000);
    expect_buf(&out, "retry: 5000\n");
    sse_retry(&out, 0);
    expect_buf(&out, "retry: 0\n");
}

static void test_refresh_reasons(void **state) {
    static const char *const names[] = {
        [SSE_REFRESH_UNKNOWN_POSITION] = "unknown_position",
        [SSE_REFRESH_RESTART] = "restart",
        [SSE_REFRESH_GAP] = "gap",
        [SSE_REFRESH_OVERFLOW] = "overflow",
    };
    struct slice topics[] = {LITERAL("alpha")};
    for (int reason = 0; reason < SSE_REFRESH_REASONS; reason++) {
        char wanted[256];
        struct buf out = {0};
        snprintf(
            wanted, sizeof wanted,
            "event: refresh\ndata: {\"reason\":\"%s\",\"dropped\":12,\"topics\":[\"alpha\"]}\n\n",
            names[reason]);
        sse_refresh(&out, (enum sse_refresh_reason)reason, 12, topics, 1);
        expect_buf(&out, wanted);
    }
}

static void test_refresh_dropped(void **state) {
    struct buf out = {0};
    sse_refresh(&out, SSE_REFRESH_GAP, SSE_DROPPED_UNKNOWN, NULL, 0);
    expect_buf(&out,
               "event: refresh\ndata: {\"reason\":\"gap\",\"dropped\":null,\"topics\":[]}\n\n");
    sse_refresh(&out, SSE_REFRESH_GAP, 0, NULL, 0);
    expect_buf(&out, "event: refresh\ndata: {\"reason\":\"gap\",\"dropped\":0,\"topics\":[]}\n\n");
    sse_refresh(&out, SSE_REFRESH_GAP, UINT64_MAX - 1, NULL, 0);
    expect_buf(&out, "event: refresh\ndata: {\"reason\":\"gap\",\"dropped\":18446744073709551614,"
                     "\"topics\":[]}\n\n");
}

static void test_refresh_escapes_topics(void **state) {
    struct slice topics[] = {LITERAL("a\"b"), LITERAL("c\\d"), LITERAL("e\nf\r"),
                             LITERAL("caf\xc3\xa9"), LITERAL("")};
    struct buf out = {0};
    sse_refresh(&out, SSE_REFRESH_OVERFLOW, 1, topics, length_of(topics));
    expect_buf(&out, "event: refresh\ndata: {\"reason\":\"overflow\",\"dropped\":1,\"topics\":"
                     "[\"a\\\"b\",\"c\\\\d\",\"e\\u000af\\u000d\",\"caf\xc3\xa9\",\"\"]}\n\n");
}

static void test_close(void **state) {
    struct buf out = {0};
    sse_close(&out);
    expect_buf(&out, "event: close\ndata: {}\n\n");
}

static void test_position_event(void **state) {
    struct buf out = {0};
    struct position position = {7, "abcdefghijklm", 12};
    sse_position(&out, &position);
    expect_buf(&out, "event: position\nid: 7.abcdefghijklm.12\n"
                     "data: {\"position\":\"7.abcdefghijklm.12\"}\n\n");
    position = (struct position){.durable = 7};
    sse_position(&out, &position);
    expect_buf(&out, "event: position\nid: 7\ndata: {\"position\":\"7\"}\n\n");
}

RUN_TESTS(TEST(test_data_lines), TEST(test_no_data_at_all), TEST(test_nul_in_data), TEST(test_type),
          TEST(test_retry), TEST(test_comment), TEST(test_id), TEST(test_comment_and_retry_lines),
          TEST(test_refresh_reasons), TEST(test_refresh_dropped), TEST(test_refresh_escapes_topics),
          TEST(test_close), TEST(test_position_event))
