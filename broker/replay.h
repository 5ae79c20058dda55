/* A subscription on its way from the client's position to the head of the log.
 *
 *   HELD     cannot be decided yet: Postgres is not listened to, the handler's own RESUME is not
 *            done, or the position names a place that we may be about to hear of (the barrier)
 *   READY    ACCEPTED is out; more is to be sent, and there is credit for it
 *   STARVED  ACCEPTED is out; the credit is used up
 *
 * It ends with SUBSCRIBED, sent in the very turn in which it reaches the head: what comes later is
 * sent by fan-out. It stands at a place, pins nothing in the log, and tells the client when
 * something that it would have sent was dropped before it came there.
 *
 * The barrier: an unknown marker, or a place beyond our count, may be that of a broker that is
 * milliseconds ahead. It is decided when a marker of our own was heard that was sent after the
 * subscription came: everything that the client can have seen lies before that one. */
#pragma once

#include "history.h"
#include "wire.h"

struct handler;

enum replay_state { REPLAY_HELD, REPLAY_READY, REPLAY_STARVED };

struct replay {
    UT_hash_handle hh;        /* in handler.replays, by token */
    TAILQ_ENTRY(replay) link; /* HELD: in handler.held, READY: in handler.ready */
    struct handler *handler;  /* borrowed: the owner */
    uint64_t token;
    enum replay_state state;
    enum position_kind position_kind; /* what the client came with */
    struct position position;         /* what it came with; then, the last id sent to it */
    uint64_t place;                   /* all up to here is sent, or owed a refresh */
    uint64_t barrier;                 /* HELD: the marker that decides; 0: none */
    uint64_t floor_told;              /* the newest drop that a refresh was owed for */
    int64_t credit_bytes;
    bool owes_refresh; /* goes before the next event, or at the head */
    enum sse_refresh_reason reason;
    size_t topic_count;
    struct topic *topics[]; /* borrowed: the handler's subscription keeps them */
};
TAILQ_HEAD(replay_list, replay);

/* Subscribes the handler to the topics and begins; what can be answered, is. False if the token is
 * in use. */
bool replay_create(struct handler *handler, const struct wire_subscribe *message) must_check;

/* NULL if there is none. */
struct replay *replay_find(const struct handler *handler, uint64_t token);

/* It is not needed any more: its client is live, or about to be unsubscribed. */
void replay_end(struct replay **replay);

/* Frees it when the handler, and so its subscriptions, have gone. */
void replay_destroy(struct replay **replay);

/* HELD: decides, if that can be done by now. It may be gone afterwards. */
void replay_decide(struct replay *replay);

/* READY: sends what the handler's queue has room for. It may be gone afterwards. */
void replay_pump(struct replay *replay);

void replay_grant(struct replay *replay, uint32_t bytes);
