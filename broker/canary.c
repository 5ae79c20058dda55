#include "canary.h"

#include "channels.h"

#include <stdlib.h>

enum canary_column { COLUMN_QUEUE_USAGE, COLUMN_SERVER };

static const char marker_statement[] =
    "SELECT pg_catalog.pg_notification_queue_usage(), " SERVER_QUERY ", "
    "pg_catalog.pg_notify('" CHANNEL_OF_MARKERS "', "
    "pg_catalog.concat($1::pg_catalog.text, ',\"pid\":', pg_catalog.pg_backend_pid(), "
    "',\"at\":', " SERVER_CLOCK ", '}'))";

static void send_marker(struct canary *canary);

static void on_due(struct loop_timer *timer) {
    send_marker(container_of(timer, struct canary, due));
}

/* The marker's statement asks for the queue's usage, too. */
static int64_t interval_ms(const struct canary *canary) {
    const struct config *config = canary->config;
    return config->queue_poll < config->canary_interval ? config->queue_poll
                                                        : config->canary_interval;
}

static bool is_asked(const struct canary *canary) {
    return canary->asked > canary->sent;
}

static int64_t due_in_ms(const struct canary *canary) {
    if (!is_asked(canary)) {
        return interval_ms(canary);
    }
    int64_t spent_ms =
        canary->barriers_ms - (int64_t)CANARY_BARRIERS_AT_ONCE * CANARY_BARRIER_COST_MS;
    int64_t next_ms = canary->sent_ms + CANARY_BARRIER_MS;
    int64_t left_ms = (next_ms > spent_ms ? next_ms : spent_ms) - loop_now_ms(canary->loop);
    return canary->sent == 0 || left_ms < 0 ? 0 : left_ms;
}

static void spend_barrier(struct canary *canary) {
    int64_t now_ms = loop_now_ms(canary->loop);
    int64_t from_ms = canary->barriers_ms > now_ms ? canary->barriers_ms : now_ms;
    canary->barriers_ms = from_ms + CANARY_BARRIER_COST_MS;
}

static void rest(struct canary *canary) {
    canary->state = CANARY_RESTING;
    loop_timer_stop(canary->loop, &canary->timeout);
    loop_timer_start(canary->loop, &canary->due, due_in_ms(canary), on_due);
}

uint64_t canary_ask_barrier(struct canary *canary) {
    canary->asked = canary->sent + 1;
    if (canary->state == CANARY_RESTING) {
        rest(canary);
    }
    return canary->asked;
}

bool canary_has_passed(const struct canary *canary, uint64_t barrier) {
    return canary->heard >= barrier;
}

/* --- flying ------------------------------------------------------------------------------ */

/* While notifications come in, the marker may come after others that are still on their way, so
 * LISTEN gets more time. That time is limited: else a busy server that does not deliver our markers
 * would never be given up. */
static int64_t patience_ms(const struct canary *canary) {
    int64_t timeout_ms = canary->config->canary_timeout;
    int64_t max_ms = canary->completed_ms + CANARY_PATIENCE * timeout_ms;
    int64_t since_ms =
        canary->completed_ms > canary->heard_ms ? canary->completed_ms : canary->heard_ms;
    int64_t until_ms = since_ms + timeout_ms < max_ms ? since_ms + timeout_ms : max_ms;
    return until_ms - loop_now_ms(canary->loop);
}

static void on_not_heard(struct loop_timer *timer) {
    struct canary *canary = container_of(timer, struct canary, timeout);
    int64_t left_ms = patience_ms(canary);
    if (left_ms > 0) {
        loop_timer_start(canary->loop, timer, left_ms, on_not_heard);
        return;
    }
    rest(canary);
    canary->owner.on_not_heard(canary->owner.self, "a marker sent to Postgres was not heard");
}

static void fly(struct canary *canary) {
    struct loop *loop = canary->loop;
    canary->state = CANARY_FLYING;
    canary->completed_ms = loop_now_ms(loop);
    loop_timer_start(loop, &canary->timeout, canary->config->canary_timeout, on_not_heard);
}

void canary_on_heard(struct canary *canary) {
    canary->heard = canary->sent;
    canary->round_trip_ms = (double)(clock_us() - canary->sent_us) / 1000.0;
    switch (canary->state) {
    case CANARY_SENDING:
        canary->was_heard = true;
        return;
    case CANARY_FLYING:
        rest(canary);
        return;
    case CANARY_RESTING:
        return;
    }
}

/* --- sending ----------------------------------------------------------------------------- */

/* The statement has completed. If LISTEN is at the same server, it has to hear the marker now. */
static void await_hearing(struct canary *canary, const char *server) {
    if (canary->was_heard || !server_is_known(canary->server)) {
        rest(canary);
    } else if (server_is(canary->server, server)) {
        fly(canary);
    } else {
        rest(canary);
        canary->owner.on_not_heard(canary->owner.self,
                                   "markers go to another server, or database, than LISTEN");
    }
}

static void on_sent(void *self, const struct pg_result *result) {
    struct canary *canary = self;
    if (!result->is_ok || result->rows != 1) {
        pg_drop(canary->pg, result->is_ok ? "Postgres answers nonsense" : result->message);
        return;
    }
    pg_settled(canary->pg);
    canary->queue_usage = strtod(pg_value(result, 0, COLUMN_QUEUE_USAGE), NULL);
    canary->owner.on_completed(canary->owner.self, canary->queue_usage);
    await_hearing(canary, pg_value(result, 0, COLUMN_SERVER));
}

static void send_marker(struct canary *canary) {
    struct loop *loop = canary->loop;
    if (!server_is_known(canary->server) || !pg_is_ready(canary->pg) || canary->is_held) {
        return; /* canary_on_verified or on_connected sends it */
    }
    char head[MARKER_HEAD_BYTES];
    const char *const parameters[] = {head};
    markers_draw(canary->markers, head);
    loop_timer_stop(loop, &canary->due);
    canary->state = CANARY_SENDING;
    canary->was_heard = false;
    if (is_asked(canary)) {
        spend_barrier(canary);
    }
    canary->sent++;
    canary->sent_ms = loop_now_ms(loop);
    canary->sent_us = clock_us();
    pg_query(canary->pg, marker_statement, 1, parameters, on_sent);
}

static void on_connected(void *self) {
    struct canary *canary = self;
    canary->owner.on_connected(canary->owner.self);
    send_marker(canary);
}

static void forget_marker(struct canary *canary) {
    canary->state = CANARY_RESTING;
    loop_timer_stop(canary->loop, &canary->due);
    loop_timer_stop(canary->loop, &canary->timeout);
}

static void on_lost(void *self, const char *reason) {
    struct canary *canary = self;
    forget_marker(canary);
    canary->owner.on_lost(canary->owner.self, reason);
}

void canary_renew(struct canary *canary) {
    forget_marker(canary);
    pg_renew(canary->pg);
}

/* --- life -------------------------------------------------------------------------------- */

void canary_hold(struct canary *canary) {
    canary->is_held = true;
}

/* A marker of before may still be on its way, if LISTEN was not lost meanwhile. */
void canary_on_verified(struct canary *canary) {
    canary->is_held = false;
    send_marker(canary);
}

void canary_on_deaf(struct canary *canary) {
    if (canary->state == CANARY_FLYING) {
        rest(canary);
    }
}

bool canary_is_connected(const struct canary *canary) {
    return pg_is_connected(canary->pg);
}

void canary_init(struct canary *canary, struct loop *loop, const struct config *config,
                 struct markers *markers, const struct server *server,
                 const struct canary_owner *owner) {
    *canary = (struct canary){
        .owner = *owner,
        .loop = loop,
        .config = config,
        .markers = markers,
        .server = server,
        .round_trip_ms = -1,
        .queue_usage = -1,
    };
    struct pg_settings settings = pg_settings_of(config, "query", config->canary_timeout,
                                                 "Postgres does not complete statements");
    struct pg_owner pg_owner = {canary, on_connected, on_lost, NULL, NULL};
    canary->pg = pg_create(loop, &settings, &pg_owner);
}

void canary_start(struct canary *canary) {
    pg_start(canary->pg);
}

void canary_release(struct canary *canary) {
    loop_timer_stop(canary->loop, &canary->due);
    loop_timer_stop(canary->loop, &canary->timeout);
    pg_destroy(&canary->pg);
}
