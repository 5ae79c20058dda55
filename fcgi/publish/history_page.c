#include "history_page.h"

#include "decimal.h"
#include "http.h"
#include "json.h"
#include "names.h"
#include "url.h"

#include <inttypes.h>
#include <stdio.h>

enum { NUMBER_DIGITS_MAX = 64 };

/* *number does not change if the query has no such name. */
static bool read_number(const char *query, const char *name, uint64_t *number) {
    char digits[NUMBER_DIGITS_MAX];
    size_t length = 0;
    switch (url_query_value(query, name, digits, sizeof digits, &length)) {
    case URL_VALUE_ABSENT:
        return true;
    case URL_VALUE_FOUND:
        return decimal_parse((struct slice){digits, length}, sizeof digits, INT64_MAX, number);
    case URL_VALUE_BROKEN:
        break;
    }
    return false;
}

static bool read_channel(struct history_page *page, const char *query, const char **reason) {
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

unsigned history_page_parse(struct history_page *page, const char *query, const char **reason) {
    uint64_t after_id = 0;
    uint64_t limit = HISTORY_PAGE_EVENTS;
    if (!read_channel(page, query, reason)) {
        return HTTP_BAD_REQUEST;
    }
    if (!read_number(query, "afterId", &after_id)) {
        *reason = "\"afterId\" must be a whole number, 0 or more";
        return HTTP_BAD_REQUEST;
    }
    if (!read_number(query, "limit", &limit) || limit < 1) {
        *reason = "\"limit\" must be a whole number, 1 or more";
        return HTTP_BAD_REQUEST;
    }
    limit = limit < HISTORY_PAGE_EVENTS_MAX ? limit : HISTORY_PAGE_EVENTS_MAX;
    snprintf(page->after_id, sizeof page->after_id, "%" PRIu64, after_id);
    snprintf(page->limit, sizeof page->limit, "%" PRIu64, limit);
    snprintf(page->bytes, sizeof page->bytes, "%d", HISTORY_PAGE_BYTES_MAX);
    return HTTP_OK;
}

void history_page_begin(struct buf *out) {
    buf_append_text(out, "{\"events\":[");
}

void history_page_append_event(const struct history_page *page,
                               const struct history_page_event *event, bool is_first,
                               struct buf *out) {
    buf_append_text(out, is_first ? "{\"id\":" : ",{\"id\":");
    buf_append_slice(out, event->id);
    buf_append_text(out, ",\"channel\":");
    json_quote(slice_of(page->channel), out);
    buf_append_text(out, ",\"eventType\":");
    json_quote(event->type, out);
    buf_append_text(out, ",\"payload\":");
    buf_append_slice(out, event->data);
    buf_append_text(out, ",\"createdAt\":\"");
    buf_append_slice(out, event->created_at);
    buf_append_text(out, "\"}");
}

void history_page_end(struct buf *out) {
    buf_append_text(out, "]}");
}
