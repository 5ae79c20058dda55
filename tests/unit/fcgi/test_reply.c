/* Answers that are no stream: CGI headers and a body. */
#include "reply.h"
#include "support.h"

#define ALWAYS "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n"

static void test_json(void **state) {
    struct buf out = {0};
    struct reply reply = {.status = 200, .type = "application/json", .body = LITERAL("{}")};
    reply_append(&out, &reply);
    expect_buf(&out, "Status: 200 OK\r\n" ALWAYS
                     "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
}

static void test_head_has_the_length_and_no_body(void **state) {
    struct buf out = {0};
    struct reply reply = {
        .status = 200, .type = "application/json", .body = LITERAL("{}"), .without_body = true};
    reply_append(&out, &reply);
    expect_buf(&out, "Status: 200 OK\r\n" ALWAYS
                     "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n");
}

static void test_text(void **state) {
    struct buf out = {0};
    reply_text(&out, 404, "nothing here", NULL, false);
    expect_buf(&out,
               "Status: 404 Not Found\r\n" ALWAYS "Content-Type: text/plain; charset=utf-8\r\n"
               "Content-Length: 13\r\n\r\nnothing here\n");
}

static void test_method_not_allowed(void **state) {
    struct buf out = {0};
    reply_text(&out, 405, "no", "GET, HEAD", false);
    expect_buf(&out, "Status: 405 Method Not Allowed\r\n" ALWAYS "Allow: GET, HEAD\r\n"
                     "Content-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n\r\nno\n");
}

static void test_unavailable_says_when_to_come_back(void **state) {
    struct buf out = {0};
    reply_text(&out, 503, "away", NULL, false);
    buf_append(&out, "", 1);
    assert_non_null(strstr(out.bytes, "Status: 503 Service Unavailable\r\n"));
    assert_non_null(strstr(out.bytes, "\r\nRetry-After: 2\r\n"));
    buf_release(&out);
}

static void test_no_content_has_none(void **state) {
    struct buf out = {0};
    reply_text(&out, 204, "ignored", "GET", false);
    expect_buf(&out, "Status: 204 No Content\r\n" ALWAYS "Allow: GET\r\n\r\n");
}

/* What a client has sent may stand in it, cut anywhere. */
static void test_text_that_is_no_utf8(void **state) {
    struct buf out = {0};
    reply_refusal(&out, true, 403, "a page of http://\xc3", NULL, false);
    buf_append(&out, "", 1);
    assert_non_null(strstr(out.bytes, "{\"error\":\"a page of http://\xef\xbf\xbd\"}"));
    buf_release(&out);
    reply_text(&out, 403, "\xff", NULL, false);
    buf_append(&out, "", 1);
    assert_non_null(strstr(out.bytes, "Content-Length: 4\r\n\r\n\xef\xbf\xbd\n"));
    buf_release(&out);
}

static void test_error(void **state) {
    struct buf out = {0};
    reply_refusal(&out, true, 405, "say \"GET\"", "GET, HEAD", false);
    expect_buf(&out, "Status: 405 Method Not Allowed\r\n" ALWAYS "Allow: GET, HEAD\r\n"
                     "Content-Type: application/json\r\nContent-Length: 23\r\n\r\n"
                     "{\"error\":\"say \\\"GET\\\"\"}");
    reply_refusal(&out, true, 400, "no", NULL, true);
    expect_buf(&out, "Status: 400 Bad Request\r\n" ALWAYS
                     "Content-Type: application/json\r\nContent-Length: 14\r\n\r\n");
    reply_refusal(&out, true, 204, "ignored", "GET", false);
    expect_buf(&out, "Status: 204 No Content\r\n" ALWAYS "Allow: GET\r\n\r\n");
}

static void test_empty_body(void **state) {
    struct buf out = {0};
    reply_append(&out, &(struct reply){.status = 202});
    expect_buf(&out, "Status: 202 Accepted\r\n" ALWAYS "Content-Length: 0\r\n\r\n");
}

static void test_phrases(void **state) {
    static const char *const lines[] = {
        "Status: 200 OK\r\n",
        "Status: 201 Created\r\n",
        "Status: 202 Accepted\r\n",
        "Status: 400 Bad Request\r\n",
        "Status: 403 Forbidden\r\n",
        "Status: 404 Not Found\r\n",
        "Status: 405 Method Not Allowed\r\n",
        "Status: 413 Content Too Large\r\n",
        "Status: 415 Unsupported Media Type\r\n",
        "Status: 501 Not Implemented\r\n",
        "Status: 503 Service Unavailable\r\n",
    };
    for (size_t i = 0; i < length_of(lines); i++) {
        struct buf out = {0};
        unsigned status = (unsigned)strtoul(lines[i] + strlen("Status: "), NULL, 10);
        reply_text(&out, status, "x", NULL, false);
        expect_slice((struct slice){out.bytes, strlen(lines[i])}, slice_of(lines[i]), lines[i]);
        buf_release(&out);
    }
}

/* A status without phrase of its own is a whole status line all the same. */
static void test_other_statuses(void **state) {
    static const unsigned statuses[] = {401, 429, 500, 502};
    for (size_t i = 0; i < length_of(statuses); i++) {
        char start[32];
        struct buf out = {0};
        reply_text(&out, statuses[i], "x", NULL, false);
        snprintf(start, sizeof start, "Status: %u ", statuses[i]);
        assert_memory_equal(out.bytes, start, strlen(start));
        assert_true(out.bytes[strlen(start)] != '\r');
        buf_release(&out);
    }
}

static void test_bodies_of_any_bytes(void **state) {
    struct buf out = {0};
    struct reply reply = {.status = 200, .type = "text/plain", .body = LITERAL("a\0b\r\n\r\nc")};
    reply_append(&out, &reply);
    expect_slice((struct slice){out.bytes + out.length - 8, 8}, LITERAL("a\0b\r\n\r\nc"), "body");
    buf_release(&out);
}

RUN_TESTS(TEST(test_json), TEST(test_head_has_the_length_and_no_body), TEST(test_text),
          TEST(test_method_not_allowed), TEST(test_unavailable_says_when_to_come_back),
          TEST(test_no_content_has_none), TEST(test_error), TEST(test_text_that_is_no_utf8),
          TEST(test_empty_body), TEST(test_phrases), TEST(test_other_statuses),
          TEST(test_bodies_of_any_bytes))
