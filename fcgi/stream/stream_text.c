#include "stream_text.h"

#include "sse.h"

void stream_text_headers(struct buf *out, enum stream_form form, bool is_gzip,
                         const struct position *position) {
    buf_printf(out,
               "Status: 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
               "Cache-Control: %s\r\nX-Accel-Buffering: no\r\nIncremental: ?1\r\n",
               form != STREAM_FORM_USER ? "no-cache, no-transform"
                                        : "no-cache\r\nConnection: keep-alive");
    if (is_gzip) {
        buf_append_text(out, "Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n");
    }
    if (position != NULL) {
        char text[POSITION_TEXT_BYTES];
        (void)position_print(position, text);
        buf_printf(out, "Pgsse-Position: %s\r\n", text);
    }
    buf_append_text(out, "\r\n");
}

void stream_text_goodbye(struct buf *out, int64_t retry_ms, const char *why) {
    sse_retry(out, retry_ms);
    sse_comment(out, why);
    sse_close(out);
}
