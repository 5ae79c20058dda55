/* A page of a channel's history: what is asked for, and how it is answered. Pure.
 *
 * channel=c&afterId=0&limit=50: up to limit events after an id, in order. A client goes on after
 * the last id that it got, so a page may be shorter than was asked for: it ends at
 * HISTORY_PAGE_BYTES_MAX of data, but holds an event if there is one. */
#pragma once

#include "buf.h"
#include "topic.h"

enum {
    HISTORY_PAGE_EVENTS = 50,
    HISTORY_PAGE_EVENTS_MAX = 500,
    HISTORY_PAGE_BYTES_MAX = 4 * 1024 * 1024
};

/* Numbers as text, for Postgres. */
enum { HISTORY_PAGE_NUMBER_BYTES = sizeof "9223372036854775807" };

struct history_page {
    char channel[TOPIC_BYTES_MAX + 1];
    char after_id[HISTORY_PAGE_NUMBER_BYTES];
    char limit[HISTORY_PAGE_NUMBER_BYTES];
    char bytes[HISTORY_PAGE_NUMBER_BYTES]; /* HISTORY_PAGE_BYTES_MAX */
};

/* Returns HTTP_OK, or the status of the refusal with *reason, which is static. */
unsigned history_page_parse(struct history_page *page, const char *query,
                            const char **reason) must_check;

/* {"events":[, then each event, then ]}. The texts of an event are as Postgres has returned them;
 * data is JSON and stays as it is. */
struct history_page_event {
    struct slice id;
    struct slice type;
    struct slice data;
    struct slice created_at; /* as the client gets it */
};
void history_page_begin(struct buf *out);
void history_page_append_event(const struct history_page *page,
                               const struct history_page_event *event, bool is_first,
                               struct buf *out);
void history_page_end(struct buf *out);
