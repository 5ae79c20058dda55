/* From where a subscription goes on: places the position that a client came with in this broker's
 * own count and table, and owes it a refresh if something after that position may be missing.
 *
 *   none         from the head: live events only
 *   malformed    from the head, with a refresh
 *   "0"          from the start: everything that is kept
 *   D.M.S, D     durable events after the id D, ephemeral ones after the place M.S. A part that is
 *                not known goes on from the head, with a refresh. D alone says nothing about
 *                ephemeral events: they start at the head, without a refresh
 *
 * The barrier: a client may come from a broker that is milliseconds ahead of this one. Then its
 * marker is unknown here, or its place or id is beyond the head. So before such a position is
 * called unknown, the broker sends a marker of its own and waits until it hears that marker; for an
 * id it then also reads the table again. All that the client can have seen comes before that
 * marker.
 *
 * Whether an id is this table's, and whether a client without any id has missed something, is in
 * the table only: after the position is placed, the origin may want pages. */
#pragma once

#include "journal.h"
#include "sse.h"

/* A refresh that a client has to get before the next event. Causes without an event between them
 * make one refresh, with the first reason in the order of the enum. Zero-initialised: none. */
struct owed_refresh {
    bool is_owed;
    enum sse_refresh_reason reason;
};
void owed_refresh_add(struct owed_refresh *owed, enum sse_refresh_reason reason);

struct origin {
    struct journal *journal; /* borrowed */
    bool is_user_stream;     /* it gets no ephemeral events: its cursor is after all of them */
    enum position_kind kind;
    struct position position; /* what the client came with; once placed, where it goes on */
    struct cursor cursor;     /* placed: the same place here */
    uint64_t barrier;         /* the marker that it waits for; 0: none */
    uint64_t reading;         /* the reading of the table that it waits for; 0: none */
    /* The client's id, until the page after it has shown whether this table gave it. 0: none. */
    uint64_t unproved;
    bool has_no_id;  /* its position is from before the table existed (D is 0) */
    uint64_t probed; /* has_no_id: the table was searched up to here, and had nothing for it */
};

void origin_init(struct origin *origin, struct journal *journal, bool is_user_stream,
                 enum position_kind kind, const struct position *position);

/* False: LISTEN is not in force, the table is not known yet, or the barrier has not passed. */
bool origin_is_decidable(const struct origin *origin) must_check;

/* It is decidable: places the position. topics: of the client. False: the position is unknown now
 * and may become known soon; call this again when it is decidable again. */
bool origin_place(struct origin *origin, struct topic *const *topics, size_t topic_count,
                  struct owed_refresh *owed) must_check;

/* Placed: true if a page of its topics after the id *after has to be read before any event is
 * sent. */
bool origin_wants_page(const struct origin *origin, uint64_t *after) must_check;

/* The page that it wants. */
void origin_read_page(struct origin *origin, const struct table_page *page,
                      struct owed_refresh *owed);

/* The table has appeared, has gone, or is another one; before the position is placed, or after. */
void origin_on_table_changed(struct origin *origin, bool is_placed);
