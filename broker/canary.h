/* The second connection: sends the broker's markers, and watches that they are heard.
 *
 * Every canary_interval, and at once when LISTEN has come into force, a marker goes to Postgres
 * here and comes back on the LISTEN connection. That proves in one stroke that both connections
 * reach the same server, that it commits, and that it still delivers:
 *
 *   statement does not complete in canary_timeout  ->  this connection is replaced
 *   statement completed, marker not heard, and no
 *   other notification either, in canary_timeout   ->  LISTEN is deaf and is given up
 *
 * LISTEN itself never sends: a commit that waits would make it deaf. */
#pragma once

#include "pg.h"

struct broker;

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
    bool was_heard; /* SENDING: the marker came back before the statement's own answer */
    bool is_stale;  /* SENDING: the marker is from before the LISTEN that is in force */
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

bool canary_is_connected(const struct canary *canary);
