#include "stream_text.h"
#include "support.h"

static void expect_stream_headers(enum stream_form form, bool is_gzip,
                                  const struct position *position, const char *wanted) {
    struct buf out = {0};
    stream_text_headers(&out, form, is_gzip, position);
    expect_slice(buf_slice(&out), slice_of(wanted), "headers");
    buf_release(&out);
}

static void test_stream_headers(void **state) {
    expect_stream_headers(STREAM_FORM_TOPIC, false, NULL,
                          "Status: 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                          "Cache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n"
                          "Incremental: ?1\r\n\r\n");
    expect_stream_headers(STREAM_FORM_USER, false, NULL,
                          "Status: 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                          "Cache-Control: no-cache\r\nConnection: keep-alive\r\n"
                          "X-Accel-Buffering: no\r\nIncremental: ?1\r\n\r\n");
    expect_stream_headers(STREAM_FORM_TOPIC, false, &(struct position){0, "abcdefghijklm", 1},
                          "Status: 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                          "Cache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n"
                          "Incremental: ?1\r\nPgsse-Position: 0.abcdefghijklm.1\r\n\r\n");
}

static void test_gzip_headers(void **state) {
    expect_stream_headers(STREAM_FORM_USER, true, NULL,
                          "Status: 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                          "Cache-Control: no-cache\r\nConnection: keep-alive\r\n"
                          "X-Accel-Buffering: no\r\nIncremental: ?1\r\n"
                          "Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n\r\n");
    expect_stream_headers(STREAM_FORM_TOPIC, true, &(struct position){0, "abcdefghijklm", 1},
                          "Status: 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                          "Cache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n"
                          "Incremental: ?1\r\nContent-Encoding: gzip\r\n"
                          "Vary: Accept-Encoding\r\nPgsse-Position: 0.abcdefghijklm.1\r\n\r\n");
}

/* Without an id: the client resumes from what it has. */
static void test_goodbye(void **state) {
    struct buf out = {0};
    stream_text_goodbye(&out, 5, "why");
    expect_buf(&out, "retry: 5\n: why\nevent: close\ndata: {}\n\n");
}

RUN_TESTS(TEST(test_stream_headers), TEST(test_gzip_headers), TEST(test_goodbye))
