/* The text of a notification, or a row of the table -> an event, ready for the wire. Pure.
 *
 * The envelope is an object: {"topic":"alpha","data":<any JSON>}, and optionally
 *
 *   "event"    the type; null or "" is none; 1 to 255 bytes without control characters
 *   "id"       the publisher's own id: up to 64 of [A-Za-z0-9_.-]
 *   "retry"    0 to 3600000 (ms)
 *   "comment"  a text
 *   "text"     true: data is a string and is sent as its text, not as JSON
 *   "nonce"    anything; it keeps Postgres from folding equal notifications of a transaction
 *
 * Other keys are ignored, of duplicate keys the last one wins, and null means absent, but for data.
 * An event with a "tenant" is refused: whoever sent it did not mean it for everybody. */
#pragma once

#include "buf.h"

enum { EVENT_RETRY_MAX_MS = 3600000 };

/* The same from a row of the table (sql/pgsse.sql), which its functions have checked; but a row may
 * have been put there around them. Empty: none. */
struct event_row {
    struct slice topic;
    struct slice type;
    struct slice data; /* JSON */
    struct slice publisher_id;
    struct slice retry; /* a decimal */
    struct slice comment;
    bool is_text;
};

/* Slices point into the parser and are good until its next event. */
struct event {
    struct slice topic;
    struct slice publisher_id; /* empty: none */
    size_t id_at;              /* see sse_event_body */
    struct slice body;
};

/* Zero-initialised; keeps its memory from event to event. */
struct event_parser {
    struct buf topic;
    struct buf type;
    struct buf publisher_id;
    struct buf comment;
    struct buf data;
    struct buf body;
};

/* False when it is no event: *reason is static and names the field. */
bool event_parse(struct event_parser *parser, struct slice payload, struct event *event,
                 const char **reason) must_check;
bool event_from_row(struct event_parser *parser, const struct event_row *row, struct event *event,
                    const char **reason) must_check;
/* A hint that a user's rights to channels have changed: {"recheck":"<user>"}. *user is appended to;
 * an empty one is everybody. */
bool event_parse_recheck(struct slice payload, struct buf *user) must_check;

void event_parser_release(struct event_parser *parser);
