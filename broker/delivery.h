/* What is delivered to one handler process: its topics, the replays of its clients, and the frames
 * that wait for its socket. Fan-out, replays (replay.h) and the handler's own RESUME (resume.h) all
 * write here; handler.h is the connection that owns it. */
#pragma once

#include "gap.h"
#include "journal.h"
#include "outbox.h"
#include "wire.h"

struct replay;
TAILQ_HEAD(replay_list, replay);

/* After this many searches (of HISTORY_STEPS entries each) without a match, the handler's replays
 * continue in the next turn. */
enum { DELIVERY_SEARCHES_MAX = 32 };

struct delivery {
    TAILQ_ENTRY(delivery) link; /* in the list of all handlers */
    struct journal *journal;    /* borrowed */
    struct outbox outbox;
    bool is_served;                 /* fan-out sends to it */
    uint64_t fanned_out;            /* the number of the last event that fan-out sent to it */
    struct interest_list interests; /* of its clients, and of its replays */
    struct replay *replays;         /* owned; by token */
    struct replay_list held;
    struct replay_list ready;
    struct loop_timer refill; /* the next turn: replays go on */
    unsigned searches;        /* in this turn: searches of replays that did not reach a match */
    void (*on_refill)(struct loop_timer *timer);
    size_t live_user_streams;      /* of the replays */
    size_t open_user_streams;      /* of the replays: ACCEPTED */
    uint32_t streams;              /* that are open, as the handler reported last */
    uint32_t report_asked;         /* serial of the last ASK_REPORT */
    uint32_t report_given;         /* serial of the last REPORT that was complete */
    struct position position_told; /* the last one that was sent to the handler */
    int64_t position_told_ms;
};
TAILQ_HEAD(delivery_list, delivery);

void delivery_init(struct delivery *delivery, struct journal *journal,
                   void (*on_refill)(struct loop_timer *timer));

/* Fan-out may send events to it. */
static inline bool delivery_is_served(const struct delivery *delivery) {
    return delivery->is_served && !delivery->outbox.is_closed;
}

/* Replays continue in the next turn, so that a long replay never delays the reading of Postgres. */
void delivery_refill_soon(struct delivery *delivery);

/* Sends the head to the handler, if it has moved since the last position sent. */
void delivery_tell_position(struct delivery *delivery);

/* Sends SUBSCRIBED: one of the handler's clients is live from here on. */
void delivery_tell_subscribed(struct delivery *delivery, const struct wire_position *message);

/* Gaps that are told at the same position. */
struct gaps {
    const struct gap *list; /* borrowed */
    size_t count;
    struct position before; /* the position at which they are told */
    struct position after;  /* the position of a client that was told of all of them */
};

/* Tells the handler of those gaps that its clients have to be told of, in their order. Only the
 * last refresh carries the position `after`. If the connection ends before that refresh, the
 * handler resumes from `before` and is told of the gaps again. */
void delivery_tell_gaps(struct delivery *delivery, const struct gaps *gaps);

/* The handler's interest in exactly that topic or pattern, or NULL. */
struct interest *delivery_interest(const struct delivery *delivery,
                                   struct topic_key topic) must_check;

/* True if the gap is about any topic that the handler is interested in. */
bool delivery_misses(const struct delivery *delivery, const struct gap *gap) must_check;

/* True if the handler is interested in that topic, or in a pattern that matches it. */
bool delivery_wants(const struct delivery *delivery, struct topic_key topic) must_check;
