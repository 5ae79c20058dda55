/* A replay brings one subscription from the client's position to the head of the log.
 *
 *   HELD       cannot be decided yet: LISTEN is not in force, the handler's own RESUME is not done,
 *              or the position names a place that the broker may be about to hear of (origin.h)
 *   CHECKING   a user stream: the database is asked which of the topics its user has subscribed to
 *   READY      accepted; there is more to send, and credit for it
 *   STARVED    accepted; the credit is used up
 *   PAGING     accepted; the next events are only in the table, and it waits for a page of them
 *   LIVE       at the head. Only a user stream's replay is kept then. The broker has cut its list
 *              of topics to what the user may have, and an UNSUBSCRIBE that the handler sent before
 *              it knew that would name the wrong ones
 *
 * Its origin says from where the client goes on (origin.h), and its walk reads what comes after
 * that (walk.h). A replay ends with SUBSCRIBED, sent in the same turn in which it reaches the head:
 * fan-out sends all later events. */
#pragma once

#include "origin.h"
#include "walk.h"

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
    char *user; /* owned; of a user stream, else NULL */
    struct origin origin;
    struct walk walk;   /* has begun once it is accepted */
    struct check check; /* CHECKING */
    int64_t credit_bytes;
    struct owed_refresh owed; /* goes out before the next event, or at the head */
    size_t topic_count;
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
