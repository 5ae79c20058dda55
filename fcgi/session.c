#include "session.h"

#include "log.h"

#include <stdlib.h>

enum session_state { SESSION_CLOSED, SESSION_AWAY, SESSION_CHECKING, SESSION_FIT, SESSION_UNFIT };

struct session {
    struct loop *loop;
    struct session_owner owner;
    const char *name;
    int64_t timeout_ms;
    bool needs_schema;
    enum session_state state;
    struct pg *pg;
    struct loop_timer patience; /* with the statement under way */
    void (*on_result)(void *self, const struct pg_result *result);
    struct log_limit limit;
};

/* --- statements ------------------------------------------------------------------------------- */

static void on_out_of_patience(struct loop_timer *timer) {
    struct session *session = container_of(timer, struct session, patience);
    pg_drop(session->pg, "a statement took longer than publish_timeout");
}

static void be_patient(struct session *session) {
    loop_timer_start(session->loop, &session->patience, session->timeout_ms, on_out_of_patience);
}

static void on_result(void *self, const struct pg_result *result) {
    struct session *session = self;
    loop_timer_stop(session->loop, &session->patience);
    session->on_result(session->owner.self, result);
}

void session_query(struct session *session, const char *sql, int parameter_count,
                   const char *const *parameters,
                   void (*then)(void *self, const struct pg_result *result)) {
    check(session->state == SESSION_FIT);
    session->on_result = then;
    be_patient(session);
    pg_query(session->pg, sql, parameter_count, parameters, on_result);
}

void session_execute(struct session *session, const char *prepared, int parameter_count,
                     const char *const *parameters,
                     void (*then)(void *self, const struct pg_result *result)) {
    check(session->state == SESSION_FIT);
    session->on_result = then;
    be_patient(session);
    pg_execute(session->pg, prepared, parameter_count, parameters, on_result);
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

static void on_version(void *self, const struct pg_result *result) {
    struct session *session = self;
    loop_timer_stop(session->loop, &session->patience);
    if (!result->is_ok && outcome_is_passing(result->sqlstate)) {
        pg_drop(session->pg, result->message);
        return;
    }
    struct outcome outcome = {.kind = OUTCOME_DONE};
    if (!result->is_ok) {
        outcome = outcome_of(result->sqlstate);
    } else if ((outcome.schema_version = (int)strtol(pg_value(result, 0, 0), NULL, 10)) !=
               SCHEMA_VERSION) {
        outcome.kind = OUTCOME_OTHER_SCHEMA;
    }
    if (outcome.kind == OUTCOME_DONE) {
        become_fit(session);
    } else if (outcome.kind != OUTCOME_UNKNOWN) { /* that is a loss, which follows */
        become_unfit(session, outcome);
    }
}

static void ask_version(struct session *session) {
    session->state = SESSION_CHECKING;
    be_patient(session);
    pg_query(session->pg, "SELECT pgsse.version()", 0, NULL, on_version);
}

/* --- the connection --------------------------------------------------------------------------- */

static void on_connected(void *self) {
    struct session *session = self;
    const char *encoding = pg_encoding(session->pg);
    if (!pg_encoding_is_served(encoding)) {
        log_error("the database's encoding is %s: pgsse serves UTF8 and SQL_ASCII", encoding);
        pg_drop(session->pg, "its encoding is not served");
    } else if (session->needs_schema) {
        ask_version(session);
    } else {
        become_fit(session);
    }
}

static void on_lost(void *self, const char *reason) {
    struct session *session = self;
    loop_timer_stop(session->loop, &session->patience);
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
            ask_version(session);
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
    session->loop = loop;
    session->owner = *owner;
    session->name = name;
    session->timeout_ms = config->publish_timeout;
    session->needs_schema = needs_schema;
    struct pg_settings settings = {
        .name = name,
        .dsn = config->database_url,
        .reconnect_min_ms = config->reconnect_min,
        .reconnect_max_ms = config->reconnect_max,
    };
    struct pg_owner pg_owner = {session, on_connected, on_lost, NULL, NULL};
    session->pg = pg_create(loop, &settings, &pg_owner);
    return session;
}

void session_destroy(struct session **place) {
    struct session *session = *place;
    *place = NULL;
    loop_timer_stop(session->loop, &session->patience);
    pg_destroy(&session->pg);
    free(session);
}
