/* The query connection: sends the broker's markers, and checks that they are heard.
 *
 * Every canary_interval or queue_poll, whichever is shorter, and at once when LISTEN is verified, a
 * marker is sent on this connection and comes back on the LISTEN connection. That proves that both
 * connections reach the same server, that the server commits, and that it still delivers:
 *
 *   statement does not complete in canary_timeout  ->  this connection is replaced
 *   statement completed, at another server than
 *   LISTEN's                                       ->  LISTEN is given up at once
 *   statement completed, marker not heard, and no
 *   other notification either, in canary_timeout;
 *   or not in CANARY_PATIENCE times as long        ->  LISTEN is deaf and is given up
 *
 * The owner makes sure that LISTEN, this connection and the table's connection reach the same
 * server:
 *
 *   LISTEN comes back           ->  the other two connect again: the address may have changed
 *   this connection is at       ->  LISTEN is given up. This connection is the younger one, so the
 *   another server                  address has changed since LISTEN connected
 *   the table's connection is   ->  it is given up, and this one connects again: its server shows
 *   at another server               which of LISTEN and the table is right
 *
 * LISTEN itself never sends: a commit that waits would make it deaf. */
#pragma once

#include "config.h"
#include "loop.h"
#include "markers.h"
#include "pg.h"
#include "server.h"

enum {
    CANARY_PATIENCE = 6, /* other notifications may delay a marker by so many canary_timeouts */
    CANARY_BARRIER_MS = 100,
    CANARY_BARRIERS_AT_ONCE = 100,
    CANARY_BARRIER_COST_MS = 1000,
};

enum canary_state {
    CANARY_RESTING, /* until the next marker is due */
    CANARY_SENDING, /* the statement is under way */
    CANARY_FLYING,  /* the statement has completed, the marker was not heard yet */
};

struct canary_owner {
    void *self;
    void (*on_connected)(void *self);
    void (*on_lost)(void *self, const char *reason);
    /* A statement has completed; usage: of Postgres' NOTIFY queue, 0 to 1. */
    void (*on_completed)(void *self, double usage);
    /* LISTEN does not hear what is sent here: why. */
    void (*on_not_heard)(void *self, const char *reason);
};

struct canary {
    struct canary_owner owner;
    struct loop *loop; /* borrowed, as are the next three */
    const struct config *config;
    struct markers *markers;     /* the next marker is drawn there */
    const struct server *server; /* LISTEN's; while it is not known, nothing is sent */
    struct pg *pg;               /* owned */
    struct loop_timer due;       /* RESTING: the next marker */
    struct loop_timer timeout;   /* FLYING */
    enum canary_state state;
    uint64_t sent;   /* markers, since the start */
    uint64_t heard;  /* the number of the newest of them that came back */
    uint64_t asked;  /* the newest number that a subscription waits for */
    int64_t sent_ms; /* the last one */
    /* The token bucket of canary_ask_barrier: barriers sent are paid for up to this time. */
    int64_t barriers_ms;
    bool is_held;   /* no further marker is sent, until LISTEN is verified again */
    bool was_heard; /* SENDING: the marker came back before the statement's own answer */
    int64_t sent_us;
    int64_t completed_ms; /* FLYING: since when the marker should have been heard */
    int64_t heard_ms;     /* the last notification of any kind; 0: none yet */
    double round_trip_ms; /* of the last marker heard; -1: none yet */
    double queue_usage; /* of Postgres' NOTIFY queue, 0 to 1, asked with each marker; -1: not yet */
};

void canary_init(struct canary *canary, struct loop *loop, const struct config *config,
                 struct markers *markers, const struct server *server,
                 const struct canary_owner *owner);
void canary_start(struct canary *canary);
void canary_release(struct canary *canary);

/* No further marker is sent until canary_on_verified is called: LISTEN changes its channels, and a
 * marker must not be taken for one that was sent after that. One may still be on its way:
 * canary_is_resting. */
void canary_hold(struct canary *canary);

/* True if none of our markers is on its way. */
static inline bool canary_is_resting(const struct canary *canary) {
    return canary->state == CANARY_RESTING;
}

/* LISTEN is verified: a marker is due now. */
void canary_on_verified(struct canary *canary);

/* Connects again, perhaps to another server. A marker that is still on its way is ignored. */
void canary_renew(struct canary *canary);

/* LISTEN was lost: nothing can be heard. */
void canary_on_deaf(struct canary *canary);

/* A notification was heard, of whatever kind: LISTEN is not deaf yet. */
static inline void canary_note_notification(struct canary *canary) {
    canary->heard_ms = loop_now_ms(canary->loop);
}

/* Our marker was heard. */
void canary_on_heard(struct canary *canary);

/* Asks for a barrier (see origin.h): a marker that is sent after this call, soon, without waiting
 * for canary_interval. Returns its number. However many clients ask, at most one barrier is sent in
 * CANARY_BARRIER_MS. After CANARY_BARRIERS_AT_ONCE in a row it is one in CANARY_BARRIER_COST_MS:
 * every broker remembers every marker, so clients with invented positions must not push out the
 * markers that others need. */
uint64_t canary_ask_barrier(struct canary *canary) must_check;

/* The marker with that number, or a later one, was heard. */
bool canary_has_passed(const struct canary *canary, uint64_t barrier) must_check;

bool canary_is_connected(const struct canary *canary);
