#include "session.h"

#include <stdlib.h>

enum session_state { SESSION_CLOSED, SESSION_AWAY, SESSION_CHECKING, SESSION_FIT, SESSION_UNFIT };

struct session {
    struct session_owner owner;
    const char *name;
    bool needs_schema;
    enum session_state state;
    struct pg *pg;
    void (*on_result)(void *self, const struct pg_result *result);
    struct log_limit limit;
};

/* --- statements ------------------------------------------------------------------------------- */

static void on_result(void *self, const struct pg_result *result) {
    const struct session *session = self;
    session->on_result(session->owner.self, result);
}

void session_query(struct session *session, const char *sql, int parameter_count,
                   const char *const *parameters,
                   void (*then)(void *self, const struct pg_result *result)) {
    check(session->state == SESSION_FIT);
    session->on_result = then;
    pg_query(session->pg, sql, parameter_count, parameters, on_result);
}

void session_execute(struct session *session, const char *prepared, int parameter_count,
                     const char *const *parameters,
                     void (*then)(void *self, const struct pg_result *result)) {
    check(session->state == SESSION_FIT);
    session->on_result = then;
    pg_execute(session->pg, prepared, parameter_count, parameters, on_result);
}

struct outcome session_outcome_of_waiting(const struct session *session) {
    return (struct outcome){.kind =
                                session->state == SESSION_FIT ? OUTCOME_BUSY : OUTCOME_UNAVAILABLE};
}

void session_log_failure(struct log_limit *limit, const char *what,
                         const struct pg_result *result) {
    bool has_state = result->sqlstate[0] != '\0'; /* else libpq says it, not the server */
    log_limited(limit, LOG_LEVEL_WARNING, "%s failed: %s%s%s%s", what, result->message,
                has_state ? " (" : "", result->sqlstate, has_state ? ")" : "");
}

bool session_is_ready(const struct session *session) {
    return session->state == SESSION_FIT && pg_is_ready(session->pg);
}

void session_settled(struct session *session) {
    pg_settled(session->pg);
}

void session_doubt(struct session *session) {
    check(session->state == SESSION_FIT);
    session->state = SESSION_UNFIT;
}

void session_drop(struct session *session, const char *reason) {
    pg_drop(session->pg, reason);
}

/* --- the check -------------------------------------------------------------------------------- */

static void become_fit(struct session *session) {
    session->state = SESSION_FIT;
    session->owner.on_fit(session->owner.self);
}

static void become_unfit(struct session *session, struct outcome outcome) {
    struct buf text = {0};
    outcome_describe(outcome, &text);
    log_limited(&session->limit, LOG_LEVEL_WARNING, "Postgres (%s): %s", session->name, text.bytes);
    buf_release(&text);
    session->state = SESSION_UNFIT;
    session->owner.on_unfit(session->owner.self, outcome);
}

static struct outcome outcome_of_version(const struct pg_result *result) {
    struct outcome outcome = {.kind = OUTCOME_DONE};
    if (!result->is_ok) {
        return outcome_of(result->sqlstate);
    }
    outcome.schema_version = (int)pg_number(result, 0, 0);
    if (outcome.schema_version != SCHEMA_VERSION) {
        outcome.kind = OUTCOME_OTHER_SCHEMA;
    }
    return outcome;
}

static void on_version(void *self, const struct pg_result *result) {
    struct session *session = self;
    struct outcome outcome = outcome_of_version(result);
    if (outcome.kind == OUTCOME_DONE) {
        become_fit(session);
    } else if (outcome.kind == OUTCOME_UNKNOWN || outcome_is_passing(result->sqlstate)) {
        pg_drop(session->pg, result->message); /* a pooler may keep the connection open */
    } else {
        become_unfit(session, outcome);
    }
}

static void on_owner(void *self, const struct pg_result *result) {
    struct session *session = self;
    bool is_known = result->is_ok && result->rows == 1;
    if (!result->is_ok) {
        on_version(self, result);
    } else if (is_known && pg_value(result, 0, 0)[0] == '\0') {
        pg_query(session->pg, "SELECT pgsse.version()", 0, NULL, on_version);
    } else {
        become_unfit(session, (struct outcome){.kind = is_known ? OUTCOME_FOREIGN_SCHEMA
                                                                : OUTCOME_NO_SCHEMA});
    }
}

/* Asks who owns the schema, before any code of it runs. */
static void ask_owner(struct session *session) {
    session->state = SESSION_CHECKING;
    pg_query(session->pg, SCHEMA_OWNER_QUERY, 0, NULL, on_owner);
}

/* --- the connection --------------------------------------------------------------------------- */

static void on_connected(void *self) {
    struct session *session = self;
    const char *encoding = pg_encoding(session->pg);
    if (!pg_encoding_is_served(encoding)) {
        log_error("the database's encoding is %s: pgsse serves UTF8 and SQL_ASCII", encoding);
        pg_drop(session->pg, "its encoding is not served");
    } else if (session->needs_schema) {
        ask_owner(session);
    } else {
        become_fit(session);
    }
}

static void on_lost(void *self, const char *reason) {
    struct session *session = self;
    session->state = SESSION_AWAY;
    log_limited(&session->limit, LOG_LEVEL_WARNING, "Postgres is away: %s", reason);
    session->owner.on_lost(session->owner.self);
}

void session_wake(struct session *session) {
    switch (session->state) {
    case SESSION_CLOSED:
        session->state = SESSION_AWAY;
        pg_start(session->pg);
        return;
    case SESSION_UNFIT:
        if (pg_is_ready(session->pg)) {
            ask_owner(session);
        }
        return;
    case SESSION_AWAY:
    case SESSION_CHECKING:
    case SESSION_FIT:
        return;
    }
}

struct session *session_create(struct loop *loop, const struct config *config, const char *name,
                               bool needs_schema, const struct session_owner *owner) {
    struct session *session = must_zalloc(sizeof *session);
    session->owner = *owner;
    session->name = name;
    session->needs_schema = needs_schema;
    struct pg_settings settings = pg_settings_of(config, name, config->publish_timeout,
                                                 "a statement took longer than publish_timeout");
    struct pg_owner pg_owner = {session, on_connected, on_lost, NULL, NULL};
    session->pg = pg_create(loop, &settings, &pg_owner);
    return session;
}

void session_destroy(struct session **slot) {
    struct session *session = *slot;
    *slot = NULL;
    pg_destroy(&session->pg);
    free(session);
}
