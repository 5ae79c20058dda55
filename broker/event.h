/* The text of a notification, or a row of the table -> an event, ready for the wire. Pure.
 *
 * The envelope is an object: {"topic":"alpha","data":<any JSON>}, and optionally
 *
 *   "event"    the type; null or "" is none; 1 to 255 bytes without control characters, none of the
 *              stream's own (event_type_is_reserved): with these a publisher could send every page
 *              of a topic into a reload loop
 *   "id"       the publisher's own id: up to 64 of [A-Za-z0-9_.-]
 *   "retry"    0 to 3600000 (ms)
 *   "comment"  a text
 *   "text"     true: if data is a string, its text is sent, not JSON; other data are sent as JSON
 *   "tenant"   whose topic it is: 1 to 64 of [A-Za-z0-9_.-]; "" is the tenant ""
 *   "nonce"    anything; it keeps Postgres from folding equal notifications of a transaction
 *
 * Other keys are ignored. Of duplicate keys the last one wins. null means absent, except as
 * data. */
#pragma once

#include "buf.h"
#include "topic_key.h"

enum {
    /* Limit for a notification, and for a row's data and comment; the schema has the same. A body
     * is at most seven times as long, so it fits into a frame. */
    EVENT_BYTES_MAX = 1024 * 1024,
};

/* An event as a row of the table (sql/pgsse.sql). The schema's functions have checked its fields,
 * but a row may have been inserted without them. Empty: none. */
struct event_row {
    struct slice tenant; /* empty: of the tenant "" */
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
    struct topic_key topic;
    struct slice publisher_id; /* empty: none */
    size_t id_at;              /* see sse_event_body */
    bool is_text;              /* its data is a text; else JSON */
    bool is_live_only;         /* it is not kept for clients that come back */
    struct slice body;
};

/* Zero-initialised; keeps its memory from event to event. */
struct event_parser {
    struct buf tenant;
    struct buf topic;
    struct buf type;
    struct buf publisher_id;
    struct buf comment;
    struct buf data;
    struct buf body;
    struct topic_key key; /* of topic, in room */
    char room[TOPIC_KEY_BYTES_MAX];
};

/* False when it is no event: *reason is static and names the field. */
bool event_parse(struct event_parser *parser, struct slice text, struct event *event,
                 const char **reason) must_check;
bool event_from_row(struct event_parser *parser, const struct event_row *row, struct event *event,
                    const char **reason) must_check;

/* The notification of an existing publisher: {"channel":"<topic>","tenant_id":"<tenant>",
 * "payload":<any JSON>}, and optionally "type", which is an event's type. The tenant must be given,
 * and is not "". With takes_control the types "close" and "refresh" are allowed, then also without
 * a payload. A "close" is live only: a client that comes back must not be sent away again. */
bool event_parse_forge(struct event_parser *parser, struct slice text, bool takes_control,
                       struct event *event, const char **reason) must_check;

/* The notification of a raw channel: its text is sent as it is, JSON or not. Returns true if some
 * bytes were no UTF-8, and became U+FFFD. topic is borrowed by the event. */
bool event_of_text(struct event_parser *parser, struct topic_key topic, struct slice text,
                   struct event *event);

/* The key of the row's topic, written into room; none if its name or its tenant is not valid: then
 * no client can have that topic. */
struct topic_key event_row_topic(const struct event_row *row,
                                 char room[TOPIC_KEY_BYTES_MAX]) must_check;

/* A hint that a user's rights to channels have changed: {"recheck":"<user>"}, with "tenant" if that
 * is not "". Sets *tenant and *user; an empty user means all users of all tenants. False if it is
 * no such hint. */
bool event_parse_recheck(struct slice text, struct buf *tenant, struct buf *user) must_check;

void event_parser_release(struct event_parser *parser);
