/* Pages of history: the question and the answer. */
#include "history_page.h"
#include "http.h"
#include "support.h"

static const struct {
    const char *query;
    const char *after_id; /* NULL: refused */
    const char *limit;    /* or a part of the reason */
} cases[] = {
    {"channel=c", "0", "50"},
    {"channel=c&afterId=7&limit=3", "7", "3"},
    {"limit=3&x=1&afterId=7&channel=c", "7", "3"},
    {"channel=c&afterId=0&limit=1", "0", "1"},
    {"channel=c&limit=500", "0", "500"},
    {"channel=c&limit=501", "0", "500"},
    {"channel=c&limit=100000", "0", "500"},
    {"channel=c&limit=99999999999999999999999999", "0", "500"},
    {"channel=c&limit=%35", "0", "5"},
    {"channel=c&limit=005", "0", "5"},
    {"channel=c&afterId=9223372036854775807", "9223372036854775807", "50"},
    {"channel=c&afterId=9223372036854775808", "9223372036854775807", "50"},
    {"channel=c&afterId=99999999999999999999999999", "9223372036854775807", "50"},
    {"", NULL, "\"channel\""},
    {"channel=", NULL, "\"channel\""},
    {"channel", NULL, "\"channel\""},
    {"Channel=c", NULL, "\"channel\""},
    {"channel=a,b", NULL, "\"channel\""},
    {"channel=a%2Cb", NULL, "\"channel\""},
    {"channel=a%0Ab", NULL, "\"channel\""},
    {"channel=%00", NULL, "\"channel\""},
    {"channel=%ff", NULL, "\"channel\""},
    {"channel=%zz", NULL, "\"channel\""},
    {"channel=c&afterId=", NULL, "\"afterId\""},
    {"channel=c&afterId=-1", NULL, "\"afterId\""},
    {"channel=c&afterId=%2B1", NULL, "\"afterId\""},
    {"channel=c&afterId=abc", NULL, "\"afterId\""},
    {"channel=c&afterId=1x", NULL, "\"afterId\""},
    {"channel=c&afterId=99999999999999999999999999x", NULL, "\"afterId\""},
    {"channel=c&afterId=1.5", NULL, "\"afterId\""},
    {"channel=c&afterId=%zz", NULL, "\"afterId\""},
    {"channel=c&afterId=1%3BDROP", NULL, "\"afterId\""},
    {"channel=c&limit=", NULL, "\"limit\""},
    {"channel=c&limit=0", NULL, "\"limit\""},
    {"channel=c&limit=-1", NULL, "\"limit\""},
    {"channel=c&limit=abc", NULL, "\"limit\""},
    {"channel=c&limit=5%20", NULL, "\"limit\""},
};

static void test_questions(void **state) {
    for (size_t i = 0; i < length_of(cases); i++) {
        struct history_page page;
        const char *reason = "";
        memset(&page, 'x', sizeof page);
        unsigned status = history_page_parse(&page, cases[i].query, &reason);
        if (status != (cases[i].after_id == NULL ? HTTP_BAD_REQUEST : HTTP_OK)) {
            fail_msg("'%s': %u %s", cases[i].query, status, reason);
        }
        if (status == HTTP_OK) {
            assert_string_equal(page.channel, "c");
            assert_string_equal(page.after_id, cases[i].after_id);
            assert_string_equal(page.limit, cases[i].limit);
        } else if (strstr(reason, cases[i].limit) == NULL) {
            fail_msg("'%s': %s", cases[i].query, reason);
        }
    }
}

static void test_lengths(void **state) {
    for (size_t length = 255; length <= 256; length++) {
        struct history_page page;
        struct buf query = {0};
        const char *reason;
        char *channel = repeated('c', length);
        buf_printf(&query, "channel=%s", channel);
        buf_append(&query, "", 1);
        assert_int_equal(history_page_parse(&page, query.bytes, &reason),
                         length == 255 ? HTTP_OK : HTTP_BAD_REQUEST);
        buf_release(&query);
        free(channel);
    }
}

static void test_document(void **state) {
    static const struct history_page_event events[] = {
        {LITERAL("2"), LITERAL("message"), LITERAL("{\"a\": 1.0}"),
         LITERAL("2026-02-20T10:00:00.000Z")},
        {LITERAL("1000000003"), LITERAL("a\"b"), LITERAL("null"),
         LITERAL("2026-02-20T10:00:00.001Z")},
    };
    struct buf out = {0};
    struct history_page page;
    const char *reason;
    assert_int_equal(history_page_parse(&page, "channel=%22", &reason), HTTP_OK);
    history_page_begin(&out);
    history_page_append_event(&page, &events[0], true, &out);
    history_page_append_event(&page, &events[1], false, &out);
    history_page_end(&out);
    expect_buf(&out,
               "{\"events\":["
               "{\"id\":2,\"channel\":\"\\\"\",\"eventType\":\"message\",\"payload\":{\"a\": 1.0},"
               "\"createdAt\":\"2026-02-20T10:00:00.000Z\"},"
               "{\"id\":1000000003,\"channel\":\"\\\"\",\"eventType\":\"a\\\"b\",\"payload\":null,"
               "\"createdAt\":\"2026-02-20T10:00:00.001Z\"}]}");
    history_page_begin(&out);
    history_page_end(&out);
    expect_buf(&out, "{\"events\":[]}");
}

RUN_TESTS(TEST(test_questions), TEST(test_lengths), TEST(test_document))
