/* A page of a channel's history: what is asked for, and how it is answered. Pure.
 *
 * channel=c&afterId=0&limit=50: up to limit events behind an id, in order. A client goes on behind
 * the last id that it got, so a page may be shorter than was asked for: it ends at
 * PAGE_BYTES_MAX of payloads, but holds an event if there is one. */
#pragma once

#include "buf.h"
#include "topic.h"

enum { PAGE_EVENTS = 50, PAGE_EVENTS_MAX = 500, PAGE_BYTES_MAX = 4 * 1024 * 1024 };

/* Numbers as text, for Postgres. */
enum { PAGE_NUMBER_BYTES = sizeof "9223372036854775807" };

struct page {
    char channel[TOPIC_BYTES_MAX + 1];
    char after_id[PAGE_NUMBER_BYTES];
    char limit[PAGE_NUMBER_BYTES];
    char bytes[PAGE_NUMBER_BYTES]; /* PAGE_BYTES_MAX */
};

/* Returns REPLY_OK, or the status of the refusal with *reason, which is static. */
unsigned page_parse(struct page *page, const char *query, const char **reason) must_check;

/* {"events":[, then each event, then ]}. The texts of an event are those that Postgres answers;
 * payload is JSON and stays as it is. */
struct page_event {
    struct slice id;
    struct slice type;
    struct slice payload;
    struct slice created_at; /* as it is answered */
};
void page_begin(struct buf *out);
void page_append_event(const struct page *page, const struct page_event *event, bool is_first,
                       struct buf *out);
void page_end(struct buf *out);
