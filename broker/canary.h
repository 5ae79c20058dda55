/* The second connection: sends the broker's markers, and watches that they are heard.
 *
 * Every canary_interval or queue_poll, whichever is shorter, and at once when LISTEN has come into
 * force, a marker goes to Postgres here and comes back on the LISTEN connection. That proves in one
 * stroke that both connections reach the same server, that it commits, and that it still delivers:
 *
 *   statement does not complete in canary_timeout  ->  this connection is replaced
 *   statement completed, marker not heard, and no
 *   other notification either, in canary_timeout   ->  LISTEN is deaf and is given up
 *
 * LISTEN itself never sends: a commit that waits would make it deaf. */
#pragma once

#include "pg.h"

struct broker;

enum {
    CANARY_BARRIER_MS = 100,
    CANARY_BARRIERS_AT_ONCE = 100,
    CANARY_BARRIER_COST_MS = 1000,
};

enum canary_state {
    CANARY_RESTING, /* until the next marker is due */
    CANARY_SENDING, /* the statement is under way */
    CANARY_FLYING,  /* the statement has completed, the marker was not heard yet */
};

struct canary {
    struct broker *broker; /* borrowed */
    struct pg *pg;         /* owned */
    struct loop_timer due; /* RESTING: the next marker */
    struct loop_timer timeout;
    enum canary_state state;
    uint64_t sent;       /* markers, since the start */
    uint64_t heard;      /* the number of the newest of them that came back */
    uint64_t asked;      /* a subscription waits for that one */
    int64_t sent_ms;     /* the last one */
    int64_t barriers_ms; /* until when barriers are spent: see canary_ask_barrier */
    bool was_heard;      /* SENDING: the marker came back before the statement's own answer */
    bool is_stale;       /* SENDING: the marker is from before the LISTEN that is in force */
    int64_t sent_us;
    int64_t completed_ms; /* FLYING: since when the marker should have been heard */
    double round_trip_ms; /* of the last marker heard; -1: none yet */
    double queue_usage; /* of Postgres' NOTIFY queue, 0 to 1, asked with each marker; -1: not yet */
};

void canary_init(struct canary *canary, struct broker *broker);
void canary_start(struct canary *canary);
void canary_release(struct canary *canary);

/* LISTEN has come into force: a marker is due now, and what flies does not count any more. */
void canary_on_listening(struct canary *canary);

/* LISTEN was lost: nothing can be heard. */
void canary_on_deaf(struct canary *canary);

/* Our marker was heard. */
void canary_on_heard(struct canary *canary);

/* Sends a marker soon, not only when it is due, and returns its number: it will be sent after now.
 * A barrier: see replay.h. However many ask, there is at most one in CANARY_BARRIER_MS, and after
 * CANARY_BARRIERS_AT_ONCE, for as long as it goes on, one in CANARY_BARRIER_COST_MS: every broker
 * remembers every marker, and strange positions must not push out the others. */
uint64_t canary_ask_barrier(struct canary *canary) must_check;

/* The marker with that number, or a later one, was heard. */
bool canary_has_passed(const struct canary *canary, uint64_t barrier) must_check;

bool canary_is_connected(const struct canary *canary);
