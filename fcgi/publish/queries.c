#include "queries.h"

#include "log.h"
#include "session.h"

#include <stdlib.h>

TAILQ_HEAD(query_list, query);

struct queries {
    struct loop *loop;
    int64_t timeout_ms;
    struct session *session;
    struct query_list waiting; /* the earliest deadline first */
    struct query *sent;        /* under way; NULL: none, or nobody waits for it any more */
    struct loop_timer expiry;  /* of the query with the earliest deadline */
    struct loop_task send;
    struct log_limit limit;
};

static void on_send(struct loop_task *task);

/* --- outcomes --------------------------------------------------------------------------------- */

static void finish_sent(struct queries *queries, struct outcome outcome,
                        const struct pg_result *result) {
    struct query *query = queries->sent;
    queries->sent = NULL;
    if (query != NULL) {
        query->on_done(query, outcome, result);
    }
}

static void finish_first(struct queries *queries, struct outcome outcome) {
    struct query *query = TAILQ_FIRST(&queries->waiting);
    TAILQ_REMOVE(&queries->waiting, query, link);
    query->on_done(query, outcome, NULL);
}

/* The earliest deadline of all; -1: nobody waits. */
static int64_t next_deadline_ms(const struct queries *queries) {
    const struct query *first =
        queries->sent != NULL ? queries->sent : TAILQ_FIRST(&queries->waiting);
    return first == NULL ? -1 : first->deadline_ms;
}

static void on_expiry(struct loop_timer *timer) {
    struct queries *queries = container_of(timer, struct queries, expiry);
    int64_t now_ms = loop_now_ms(queries->loop);
    if (queries->sent != NULL && queries->sent->deadline_ms <= now_ms) {
        finish_sent(queries, (struct outcome){OUTCOME_UNKNOWN, 0}, NULL);
    }
    while (!TAILQ_EMPTY(&queries->waiting) &&
           TAILQ_FIRST(&queries->waiting)->deadline_ms <= now_ms) {
        finish_first(queries, session_outcome_of_waiting(queries->session));
    }
    int64_t next_ms = next_deadline_ms(queries);
    if (next_ms >= 0) {
        loop_timer_start(queries->loop, timer, next_ms - now_ms, on_expiry);
    }
}

/* --- one after the other ---------------------------------------------------------------------- */

static void on_failure(struct queries *queries, const struct pg_result *result) {
    struct outcome outcome = outcome_of(result->sqlstate);
    session_log_failure(&queries->limit, "a query", result);
    if (outcome_is_passing(result->sqlstate)) {
        if (queries->sent != NULL) {
            TAILQ_INSERT_HEAD(&queries->waiting, queries->sent, link);
            queries->sent = NULL;
        }
        session_drop(queries->session, result->message);
        return;
    }
    if (outcome.kind == OUTCOME_NO_SCHEMA) {
        session_doubt(queries->session);
    }
    finish_sent(queries, outcome, NULL);
}

static void on_result(void *self, const struct pg_result *result) {
    struct queries *queries = self;
    if (result->is_ok) {
        session_settled(queries->session);
        finish_sent(queries, (struct outcome){OUTCOME_DONE, 0}, result);
    } else {
        on_failure(queries, result);
    }
    loop_flush_soon(queries->loop, &queries->send, on_send);
}

static void on_send(struct loop_task *task) {
    struct queries *queries = container_of(task, struct queries, send);
    struct query *query = TAILQ_FIRST(&queries->waiting);
    if (query == NULL) {
        return;
    }
    if (!session_is_ready(queries->session)) {
        session_wake(
            queries->session); /* its outcome, or that of the statement under way, calls again */
        return;
    }
    TAILQ_REMOVE(&queries->waiting, query, link);
    queries->sent = query;
    session_query(queries->session, query->sql, query->parameter_count, query->parameters,
                  on_result);
}

void queries_add(struct queries *queries, struct query *query) {
    query->deadline_ms = loop_now_ms(queries->loop) + queries->timeout_ms;
    TAILQ_INSERT_TAIL(&queries->waiting, query, link);
    if (!loop_timer_is_started(&queries->expiry)) {
        loop_timer_start(queries->loop, &queries->expiry, queries->timeout_ms, on_expiry);
    }
    loop_flush_soon(queries->loop, &queries->send, on_send);
}

/* --- the session ------------------------------------------------------------------------------ */

static void on_fit(void *self) {
    struct queries *queries = self;
    loop_flush_soon(queries->loop, &queries->send, on_send);
}

static void on_unfit(void *self, struct outcome outcome) {
    struct queries *queries = self;
    while (!TAILQ_EMPTY(&queries->waiting)) {
        finish_first(queries, outcome);
    }
}

static void on_lost(void *self) {
    finish_sent(self, (struct outcome){OUTCOME_UNKNOWN, 0}, NULL);
}

struct queries *queries_create(struct loop *loop, const struct config *config) {
    struct queries *queries = must_zalloc(sizeof *queries);
    struct session_owner owner = {queries, on_fit, on_unfit, on_lost};
    queries->loop = loop;
    queries->timeout_ms = config->publish_timeout;
    TAILQ_INIT(&queries->waiting);
    queries->session = session_create(loop, config, "query", true, &owner);
    return queries;
}

void queries_destroy(struct queries **slot) {
    struct queries *queries = *slot;
    *slot = NULL;
    loop_timer_stop(queries->loop, &queries->expiry);
    loop_flush_cancel(queries->loop, &queries->send);
    session_destroy(&queries->session);
    free(queries);
}
