#include "page.h"

#include "json.h"
#include "names.h"
#include "reply.h"
#include "url.h"

#include <inttypes.h>
#include <stdio.h>

enum { NUMBER_DIGITS_MAX = 64 };

/* A whole number; more than *number can hold is as much as that holds. */
static bool parse_number(struct slice text, int64_t *number) {
    *number = 0;
    for (size_t i = 0; i < text.length; i++) {
        if (text.at[i] < '0' || text.at[i] > '9') {
            return false;
        }
        if (__builtin_mul_overflow(*number, 10, number) ||
            __builtin_add_overflow(*number, text.at[i] - '0', number)) {
            *number = INT64_MAX; /* and with every further digit again */
        }
    }
    return text.length > 0;
}

/* *number stays what it is when the query does not name it. */
static bool read_number(const char *query, const char *name, int64_t *number) {
    char digits[NUMBER_DIGITS_MAX];
    size_t length = 0;
    switch (url_query_value(query, name, digits, sizeof digits, &length)) {
    case URL_VALUE_ABSENT:
        return true;
    case URL_VALUE_FOUND:
        return parse_number((struct slice){digits, length}, number);
    case URL_VALUE_BROKEN:
        break;
    }
    return false;
}

static bool read_channel(struct page *page, const char *query, const char **reason) {
    size_t length = 0;
    enum url_value found =
        url_query_value(query, "channel", page->channel, TOPIC_BYTES_MAX, &length);
    page->channel[length] = '\0';
    if (found == URL_VALUE_ABSENT) {
        *reason = "\"channel\" is missing";
        return false;
    }
    *reason = "\"channel\" " NAMES_CHANNEL_TEXT;
    return found == URL_VALUE_FOUND && names_is_channel((struct slice){page->channel, length});
}

unsigned page_parse(struct page *page, const char *query, const char **reason) {
    int64_t after_id = 0;
    int64_t limit = PAGE_EVENTS;
    if (!read_channel(page, query, reason)) {
        return REPLY_BAD_REQUEST;
    }
    if (!read_number(query, "afterId", &after_id)) {
        *reason = "\"afterId\" must be a whole number, 0 or more";
        return REPLY_BAD_REQUEST;
    }
    if (!read_number(query, "limit", &limit) || limit < 1) {
        *reason = "\"limit\" must be a whole number, 1 or more";
        return REPLY_BAD_REQUEST;
    }
    limit = limit < PAGE_EVENTS_MAX ? limit : PAGE_EVENTS_MAX;
    snprintf(page->after_id, sizeof page->after_id, "%" PRId64, after_id);
    snprintf(page->limit, sizeof page->limit, "%" PRId64, limit);
    snprintf(page->bytes, sizeof page->bytes, "%d", PAGE_BYTES_MAX);
    return REPLY_OK;
}

void page_begin(struct buf *out) {
    buf_append_text(out, "{\"events\":[");
}

void page_append_event(const struct page *page, const struct page_event *event, bool is_first,
                       struct buf *out) {
    buf_append_text(out, is_first ? "{\"id\":" : ",{\"id\":");
    buf_append_slice(out, event->id);
    buf_append_text(out, ",\"channel\":");
    json_quote(slice_of(page->channel), out);
    buf_append_text(out, ",\"eventType\":");
    json_quote(event->type, out);
    buf_append_text(out, ",\"payload\":");
    buf_append_slice(out, event->payload);
    buf_append_text(out, ",\"createdAt\":\"");
    buf_append_slice(out, event->created_at);
    buf_append_text(out, "\"}");
}

void page_end(struct buf *out) {
    buf_append_text(out, "]}");
}
