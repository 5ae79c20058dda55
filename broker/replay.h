/* A subscription on its way from the client's position to the head of the log.
 *
 *   HELD       cannot be decided yet: Postgres is not listened to, the handler's own RESUME is not
 *              done, or the position names a place that we may be about to hear of (the barrier)
 *   UNCHECKED  a connection's user has to be looked up in the database first
 *   CHECKING   that is under way
 *   READY      ACCEPTED is out; more is to be sent, and there is credit for it
 *   STARVED    ACCEPTED is out; the credit is used up
 *   PAGING     ACCEPTED is out; what is next stands in the table only, a page of it is awaited
 *   LIVE       it has ended; kept for a connection only, whose topics the handler may not know yet
 *              when it unsubscribes
 *
 * It ends with SUBSCRIBED, sent in the very turn in which it reaches the head: what comes later is
 * sent by fan-out. It has a cursor, pins nothing in the log, and tells the client when something
 * that it would have sent was dropped before it came there: ephemeral events; durable ones are read
 * from the table, as long as the log does not reach back to the cursor.
 *
 * The barrier: an unknown marker, a place beyond our count, an id beyond the head may be those of a
 * broker that is milliseconds ahead. It is decided when a marker of our own was heard that was sent
 * after the subscription came, and, for an id, the table has been read since: everything that the
 * client can have seen lies before that. */
#pragma once

#include "history.h"
#include "wire.h"

struct handler;
struct page;
struct page_gap;

enum replay_state {
    REPLAY_HELD,
    REPLAY_UNCHECKED,
    REPLAY_CHECKING,
    REPLAY_READY,
    REPLAY_STARVED,
    REPLAY_PAGING,
    REPLAY_LIVE,
};

struct replay {
    UT_hash_handle hh;        /* in handler.replays, by token */
    TAILQ_ENTRY(replay) link; /* in the list of its state */
    struct handler *handler;  /* borrowed: the owner */
    uint64_t token;
    enum replay_state state;
    enum wire_form form;
    char *user;                       /* owned; a connection's, else NULL */
    enum position_kind position_kind; /* what the client came with */
    struct position position;         /* what it came with; then, the last id sent to it */
    struct cursor cursor;             /* all up to here is sent, or owed a refresh */
    uint64_t barrier;                 /* HELD: the marker that decides; 0: none */
    uint64_t reading;                 /* HELD: the reading of the table that does; 0: none */
    uint64_t check_number;            /* CHECKING: in the statement */
    uint64_t granted;                 /* CHECKING: bit i: topics[i] */
    struct page *page;                /* PAGING; borrowed: a wanted one stays */
    uint64_t floor_told;              /* the newest drop that a refresh was owed for */
    int64_t credit_bytes;
    bool has_no_id;    /* its position is from before there was a table; up to probed there is */
    uint64_t probed;   /* nothing of its topics there */
    bool owes_refresh; /* goes before the next event, or at the head */
    enum sse_refresh_reason reason;
    size_t topic_count;
    uint64_t *gaps_told;    /* owned; for each topic the newest that a refresh was owed for */
    struct topic *topics[]; /* borrowed: the handler's subscription keeps them */
};
TAILQ_HEAD(replay_list, replay);

/* Subscribes the handler to the topics and begins; what can be answered, is. False if the token is
 * in use. */
bool replay_create(struct handler *handler, const struct wire_subscribe *message) must_check;

/* NULL if there is none. */
struct replay *replay_find(const struct handler *handler, uint64_t token);

/* Its client has gone: unsubscribes it, whatever it has come to. */
void replay_leave(struct replay **replay);

/* The handler is going, and its subscriptions have gone: nobody else shall meet it. */
void replay_set_aside(struct replay *replay);

/* Frees it when the handler, and so its subscriptions, have gone. */
void replay_destroy(struct replay **replay);

/* HELD: decides, if that can be done by now. It may be gone afterwards. */
void replay_decide(struct replay *replay);

/* READY: sends what the handler's queue has room for. It may be gone afterwards. */
void replay_pump(struct replay *replay);

void replay_grant(struct replay *replay, uint32_t bytes);

/* --- what the table says; it may be gone afterwards ------------------------------------------- */

/* CHECKING again, or not yet. */
void replay_begin_check(struct replay *replay);
void replay_await_check(struct replay *replay);

/* CHECKING: granted is complete. */
void replay_on_checked(struct replay *replay);

/* PAGING: the page is there. */
void replay_on_page(struct replay *replay);

/* Durable events of the topic up to that id were pruned before the broker read them; "": of any. */
void replay_on_gap(struct replay *replay, const struct page_gap *gap);

/* The table has come, has gone, or is another one. */
void replay_on_table_changed(struct replay *replay);
