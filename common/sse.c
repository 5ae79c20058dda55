#include "sse.h"

#include "json.h"

#include <inttypes.h>

/* The end of the line that starts at text[from]; *next is the start of the next line. A text that
 * ends with a line end has an empty last line. */
static size_t line_end(struct slice text, size_t from, size_t *next) {
    size_t end = from;
    while (end < text.length && text.at[end] != '\n' && text.at[end] != '\r') {
        end++;
    }
    bool is_crlf = end + 1 < text.length && text.at[end] == '\r' && text.at[end + 1] == '\n';
    *next = end + (is_crlf ? 2 : 1);
    return end;
}

/* One "field: line" for each line of text; an empty line has no space after the colon. */
static void append_lines(struct buf *out, const char *field, struct slice text) {
    size_t from = 0;
    text.at = text.at == NULL ? "" : text.at;
    do {
        size_t next;
        size_t end = line_end(text, from, &next);
        buf_append_text(out, field);
        buf_append_text(out, end > from ? ": " : ":");
        buf_append(out, text.at + from, end - from);
        buf_append_text(out, "\n");
        from = next;
    } while (from <= text.length);
}

size_t sse_event_body(struct buf *out, const struct sse_event *event) {
    size_t start = out->length;
    if (event->comment.length > 0) {
        append_lines(out, "", event->comment);
    }
    size_t id_at = out->length - start;
    buf_append_text(out, "event: ");
    buf_append_slice(out, event->type.length > 0 ? event->type : slice_of("message"));
    buf_append_text(out, "\n");
    if (event->has_retry) {
        sse_retry(out, event->retry_ms);
    }
    append_lines(out, "data", event->data);
    buf_append_text(out, "\n");
    return id_at;
}

void sse_id(struct buf *out, const struct position *position, struct slice publisher_id) {
    char text[POSITION_TEXT_BYTES];
    size_t length = position_print(position, text);
    buf_append(out, "id: ", 4);
    buf_append(out, text, length);
    if (publisher_id.length > 0) {
        buf_append(out, "~", 1);
        buf_append_slice(out, publisher_id);
    }
    buf_append(out, "\n", 1);
}

void sse_comment(struct buf *out, const char *text) {
    buf_printf(out, ": %s\n", text);
}

void sse_retry(struct buf *out, int64_t retry_ms) {
    buf_printf(out, "retry: %" PRId64 "\n", retry_ms);
}

static const char *const refresh_reasons[SSE_REFRESH_REASONS] = {
    [SSE_REFRESH_UNKNOWN_POSITION] = "unknown_position",
    [SSE_REFRESH_RESTART] = "restart",
    [SSE_REFRESH_GAP] = "gap",
    [SSE_REFRESH_OVERFLOW] = "overflow",
};

void sse_refresh(struct buf *out, enum sse_refresh_reason reason, uint64_t dropped,
                 const struct slice *topics, size_t topic_count) {
    buf_printf(out,
               "event: refresh\ndata: {\"reason\":\"%s\",\"dropped\":", refresh_reasons[reason]);
    if (dropped == SSE_DROPPED_UNKNOWN) {
        buf_append_text(out, "null");
    } else {
        buf_printf(out, "%" PRIu64, dropped);
    }
    buf_append_text(out, ",\"topics\":[");
    for (size_t i = 0; i < topic_count; i++) {
        buf_append_text(out, i > 0 ? "," : "");
        json_quote(topics[i], out);
    }
    buf_append_text(out, "]}\n\n");
}

void sse_position(struct buf *out, const struct position *position) {
    char text[POSITION_TEXT_BYTES];
    (void)position_print(position, text);
    buf_printf(out, "event: position\nid: %s\ndata: {\"position\":\"%s\"}\n\n", text, text);
}

void sse_close(struct buf *out) {
    buf_append_text(out, "event: close\ndata: {}\n\n");
}
