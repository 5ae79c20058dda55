/* A replay brings one subscription from the client's position to the head of the log.
 *
 *   HELD       cannot be decided yet: LISTEN is not in force, the handler's own RESUME is not done,
 *              or the position names a place that the broker may be about to hear of (the barrier)
 *   CHECKING   a user stream: the database is asked which of the topics its user has subscribed to
 *   READY      accepted; there is more to send, and credit for it
 *   STARVED    accepted; the credit is used up
 *   PAGING     accepted; the next events are only in the table, and it waits for a page of them
 *   LIVE       at the head. Only a user stream's replay is kept then: it has the list of the
 *              stream's topics, which the handler may not know yet when it unsubscribes
 *
 * A replay ends with SUBSCRIBED, sent in the same turn in which it reaches the head: fan-out sends
 * all later events. A replay has a cursor and keeps nothing in the log. If the log drops ephemeral
 * events before the replay comes to them, the client gets a refresh. Durable events that the log
 * has dropped are read from the table.
 *
 * The barrier: a client may come from a broker that is milliseconds ahead of this one. Then its
 * marker is unknown here, or its place or id is beyond the head. So before the broker calls such a
 * position unknown, it sends a marker of its own and waits until it hears that marker; for an id it
 * then also reads the table again. All that the client can have seen comes before that marker. */
#pragma once

#include "delivery.h"

enum replay_state {
    REPLAY_HELD,
    REPLAY_CHECKING,
    REPLAY_READY,
    REPLAY_STARVED,
    REPLAY_PAGING,
    REPLAY_LIVE,
};

struct replay {
    UT_hash_handle hh;         /* in delivery.replays, by token */
    TAILQ_ENTRY(replay) link;  /* HELD, READY: in the list of its state */
    struct delivery *delivery; /* borrowed: the owner */
    uint64_t token;
    enum replay_state state;
    enum wire_form form;
    char *user;                       /* owned; of a user stream, else NULL */
    enum position_kind position_kind; /* what the client came with */
    struct position position;         /* what it came with; then, the last one sent to it */
    struct cursor cursor;             /* all up to here is sent, or covered by a refresh */
    uint64_t barrier;                 /* HELD: the marker that it waits for; 0: none */
    uint64_t reading;          /* HELD: the reading of the table that it waits for; 0: none */
    struct check check;        /* CHECKING */
    struct page_waiter waiter; /* PAGING */
    int64_t credit_bytes;
    bool has_no_id;    /* its position is from before the table existed (D is 0) */
    uint64_t probed;   /* has_no_id: up to this id the table has no event of its topics */
    uint64_t unproved; /* an id that may be another table's: the page after it tells; 0: none */
    bool has_pattern;  /* among its topics */
    bool owes_refresh; /* a refresh goes out before the next event, or at the head */
    enum sse_refresh_reason reason;
    size_t topic_count;
    uint64_t *gaps_told;    /* owned; for each topic the newest gap that a refresh was owed for */
    uint64_t *losses_told;  /* owned; for each topic, see history_losses */
    struct topic *topics[]; /* borrowed: the handler's interest keeps them */
};

/* Subscribes the handler to the topics and begins; answers at once if that is possible. False if
 * the token is in use. */
bool replay_create(struct delivery *delivery, const struct wire_subscribe *message) must_check;

/* NULL if there is none. */
struct replay *replay_find(const struct delivery *delivery, uint64_t token);

/* Its client has gone: unsubscribes it, in whatever state, and frees the replay. */
void replay_leave(struct replay **replay);

/* The handler is closing and its interests have ended: takes the replay out of all lists that
 * others walk, until it is destroyed. */
void replay_set_aside(struct replay *replay);

/* Frees it without unsubscribing: the handler's interests must have ended before. */
void replay_destroy(struct replay **replay);

/* HELD: accepts or refuses the subscription, if that is possible by now. May free the replay. */
void replay_decide(struct replay *replay);

/* READY: sends what the handler's queue has room for. May free the replay. */
void replay_pump(struct replay *replay);

/* Adds credit, and sends. May free the replay. */
void replay_grant(struct replay *replay, uint32_t bytes);

/* The reading under way has met that gap. */
void replay_on_gap(struct replay *replay, const struct gap *gap);

/* The table has appeared, has gone, or is another one. */
void replay_on_table_changed(struct replay *replay);
