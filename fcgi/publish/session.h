/* A connection to Postgres as the publish handler uses it: one statement at a time, none of them
 * for longer than publish_timeout, and none before it is known what the database is.
 *
 *   CLOSED  ->  AWAY  ->  CHECKING  ->  FIT         statements may be sent
 *                 ^          ^   |        |
 *                 |          |   v        v session_doubt
 *              a loss       UNFIT        UNFIT      until session_wake has it looked at again
 *
 * CHECKING: for durable events, which role owns the schema (see schema.h), and whether
 * pgsse.version() is the one that this program works with. A missing schema is looked for again
 * with the next request, so that nothing has to be restarted after it is installed. */
#pragma once

#include "config.h"
#include "log.h"
#include "outcome.h"
#include "pg.h"

struct session;

struct session_owner {
    void *self;
    void (*on_fit)(void *self); /* it has become FIT: session_is_ready holds */
    /* The check has failed, with that outcome for all that wait. */
    void (*on_unfit)(void *self, struct outcome outcome);
    /* The connection is gone; the statement under way has no outcome any more. */
    void (*on_lost)(void *self);
};

/* name is for the log; needs_schema: its statements use the schema. It is CLOSED. */
struct session *session_create(struct loop *loop, const struct config *config, const char *name,
                               bool needs_schema, const struct session_owner *owner) must_check;
void session_destroy(struct session **session);

/* A statement waits: opens a session that is CLOSED, checks one that is UNFIT again. */
void session_wake(struct session *session);

/* The outcome of a statement whose deadline passed before it could be sent. */
struct outcome session_outcome_of_waiting(const struct session *session) must_check;
bool session_is_ready(const struct session *session); /* FIT, and no statement under way */

/* Both need session_is_ready. on_result gets the owner's self; sqlstate "": the connection breaks,
 * and on_lost follows. */
void session_query(struct session *session, const char *sql, int parameter_count,
                   const char *const *parameters,
                   void (*on_result)(void *self, const struct pg_result *result));
void session_execute(struct session *session, const char *prepared, int parameter_count,
                     const char *const *parameters,
                     void (*on_result)(void *self, const struct pg_result *result));

/* A statement has succeeded: after the next loss, the first attempt is made at once. */
void session_settled(struct session *session);

/* A statement has failed for want of the schema: it becomes UNFIT, and on_unfit is not called. */
void session_doubt(struct session *session);

/* One line about a statement that failed. what: "a publish", for instance. */
void session_log_failure(struct log_limit *limit, const char *what, const struct pg_result *result);

/* Gives the connection up; on_lost follows before this returns. */
void session_drop(struct session *session, const char *reason);
