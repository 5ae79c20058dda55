/* Statements that read from Postgres, or change a subscription: one after the other on a connection
 * of their own, which is opened when the first one comes. So a slow page of history delays no
 * publish. */
#pragma once

#include "config.h"
#include "outcome.h"
#include "pg.h"

struct queries;

enum { QUERY_PARAMETERS_MAX = 5 };

/* One statement, embedded in its owner. */
struct query {
    TAILQ_ENTRY(query) link;
    const char *sql;
    const char *parameters[QUERY_PARAMETERS_MAX]; /* all borrowed until on_done */
    int parameter_count;
    int64_t deadline_ms;
    /* Called once, from the loop; the query is its owner's again. result is good during the call,
     * and NULL unless the outcome is DONE. */
    void (*on_done)(struct query *query, struct outcome outcome, const struct pg_result *result);
};

struct queries *queries_create(struct loop *loop, const struct config *config) must_check;
/* on_done of those that wait or are under way is not called. */
void queries_destroy(struct queries **queries);

/* The outcome comes after at most publish_timeout; order is kept. sql, parameters and on_done are
 * set, the rest is zero. Only what was not sent, or was reported as rolled back, is sent again. */
void queries_add(struct queries *queries, struct query *query);
