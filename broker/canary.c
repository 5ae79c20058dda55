#include "canary.h"

#include "broker.h"

#include <stdlib.h>

static const char marker_statement[] =
    "SELECT pg_notification_queue_usage(), "
    "pg_notify('" MARKER_CHANNEL "', $1 || ',\"pid\":' || pg_backend_pid() || '}')";

static void send_marker(struct canary *canary);

static void on_due(struct loop_timer *timer) {
    send_marker(container_of(timer, struct canary, due));
}

/* The marker's statement asks for the queue's usage, too. */
static int64_t interval_ms(const struct canary *canary) {
    const struct config *config = canary->broker->config;
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
    int64_t left_ms = (next_ms > spent_ms ? next_ms : spent_ms) - loop_now_ms(canary->broker->loop);
    return canary->sent == 0 || left_ms < 0 ? 0 : left_ms;
}

static void spend_barrier(struct canary *canary) {
    int64_t now_ms = loop_now_ms(canary->broker->loop);
    int64_t from_ms = canary->barriers_ms > now_ms ? canary->barriers_ms : now_ms;
    canary->barriers_ms = from_ms + CANARY_BARRIER_COST_MS;
}

static void rest(struct canary *canary) {
    canary->state = CANARY_RESTING;
    loop_timer_stop(canary->broker->loop, &canary->timeout);
    loop_timer_start(canary->broker->loop, &canary->due, due_in_ms(canary), on_due);
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

/* As long as notifications come in, the marker may just stand behind them. */
static void on_not_heard(struct loop_timer *timer) {
    struct canary *canary = container_of(timer, struct canary, timeout);
    struct broker *broker = canary->broker;
    int64_t since_ms = canary->completed_ms > broker->last_notification_ms
                           ? canary->completed_ms
                           : broker->last_notification_ms;
    int64_t left_ms = since_ms + broker->config->canary_timeout - loop_now_ms(broker->loop);
    if (left_ms > 0) {
        loop_timer_start(broker->loop, timer, left_ms, on_not_heard);
        return;
    }
    rest(canary);
    listener_give_up(&broker->listener,
                     "a marker sent to Postgres was not heard (is it the same server?)");
}

static void fly(struct canary *canary) {
    struct loop *loop = canary->broker->loop;
    canary->state = CANARY_FLYING;
    canary->completed_ms = loop_now_ms(loop);
    loop_timer_start(loop, &canary->timeout, canary->broker->config->canary_timeout, on_not_heard);
}

void canary_on_heard(struct canary *canary) {
    canary->heard = canary->sent;
    canary->round_trip_ms = (double)(clock_us() - canary->sent_us) / 1000.0;
    listener_verify(&canary->broker->listener);
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

static void on_sent(void *self, const struct pg_result *result) {
    struct canary *canary = self;
    if (!result->is_ok) {
        pg_drop(canary->pg, result->message);
        return;
    }
    pg_settled(canary->pg);
    canary->queue_usage = strtod(pg_value(result, 0, 0), NULL);
    broker_on_queue_usage(canary->broker, canary->queue_usage);
    broker_on_query_completed(canary->broker);
    if (canary->was_heard || !broker_is_listening(canary->broker)) {
        rest(canary);
    } else if (canary->is_stale) {
        send_marker(canary);
    } else {
        fly(canary);
    }
}

static void on_not_sent(struct loop_timer *timer) {
    struct canary *canary = container_of(timer, struct canary, timeout);
    pg_drop(canary->pg, "Postgres does not complete statements");
}

static void send_marker(struct canary *canary) {
    struct loop *loop = canary->broker->loop;
    if (!broker_is_listening(canary->broker) || !pg_is_ready(canary->pg)) {
        return; /* canary_on_listening or on_connected sends it */
    }
    char head[MARKER_HEAD_BYTES];
    const char *const parameters[] = {head};
    markers_draw(&canary->broker->markers, head);
    loop_timer_stop(loop, &canary->due);
    canary->state = CANARY_SENDING;
    canary->was_heard = false;
    canary->is_stale = false;
    if (is_asked(canary)) {
        spend_barrier(canary);
    }
    canary->sent++;
    canary->sent_ms = loop_now_ms(loop);
    canary->sent_us = clock_us();
    loop_timer_start(loop, &canary->timeout, canary->broker->config->canary_timeout, on_not_sent);
    pg_query(canary->pg, marker_statement, 1, parameters, on_sent);
}

static void on_connected(void *self) {
    struct canary *canary = self;
    broker_judge(canary->broker);
    send_marker(canary);
}

static void on_lost(void *self, const char *reason) {
    struct canary *canary = self;
    canary->state = CANARY_RESTING;
    loop_timer_stop(canary->broker->loop, &canary->due);
    loop_timer_stop(canary->broker->loop, &canary->timeout);
    broker_on_query_lost(canary->broker, reason);
}

/* --- life -------------------------------------------------------------------------------- */

/* A statement still under way carries a marker from before: only the next one counts. */
void canary_on_listening(struct canary *canary) {
    if (canary->state == CANARY_SENDING) {
        canary->is_stale = true;
        canary->was_heard = false; /* it was, by the LISTEN before */
        return;
    }
    loop_timer_stop(canary->broker->loop, &canary->timeout);
    canary->state = CANARY_RESTING;
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

void canary_init(struct canary *canary, struct broker *broker) {
    *canary = (struct canary){.broker = broker, .round_trip_ms = -1, .queue_usage = -1};
    struct pg_settings settings = {
        .name = "query",
        .dsn = broker->config->database_url,
        .reconnect_min_ms = broker->config->reconnect_min,
        .reconnect_max_ms = broker->config->reconnect_max,
    };
    struct pg_owner owner = {canary, on_connected, on_lost, NULL, NULL};
    canary->pg = pg_create(broker->loop, &settings, &owner);
}

void canary_start(struct canary *canary) {
    pg_start(canary->pg);
}

void canary_release(struct canary *canary) {
    loop_timer_stop(canary->broker->loop, &canary->due);
    loop_timer_stop(canary->broker->loop, &canary->timeout);
    pg_destroy(&canary->pg);
}
