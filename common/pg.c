#include "pg.h"

#include "log.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

enum { PG_CONNECT_TIMEOUT_MS = 10000, PG_REASON_BYTES = 256 };

enum pg_state {
    PG_STOPPED,
    PG_WAITING,    /* for the next attempt */
    PG_CONNECTING, /* libpq's handshake */
    PG_ENCODING,   /* setting client_encoding */
    PG_READY,
    PG_BUSY,
};

struct pg {
    struct loop *loop;
    struct pg_settings settings;
    struct pg_owner owner;
    enum pg_state state;
    PGconn *connection; /* owned; NULL in STOPPED and WAITING */
    struct loop_io io;
    struct loop_timer timer; /* WAITING: next attempt; CONNECTING, ENCODING: give up */
    unsigned failures;       /* attempts since pg_settled */
    bool has_failed;         /* of the statement under way: failure holds the first outcome */
    PGresult *outcome;       /* of the statement under way: owned, the one to report */
    void (*on_result)(void *self, const struct pg_result *result);
};

static void on_io(struct loop_io *io, unsigned ready);
static void on_attempt_due(struct loop_timer *timer);

bool pg_dsn_is_valid(const char *dsn, const char **reason) {
    static char message[PG_REASON_BYTES];
    char *error = NULL;
    PQconninfoOption *options = PQconninfoParse(dsn, &error);
    if (options == NULL) {
        snprintf(message, sizeof message, "%s", error == NULL ? "out of memory" : error);
        message[strcspn(message, "\n")] = '\0';
        *reason = message;
    }
    PQconninfoFree(options);
    PQfreemem(error);
    return options != NULL;
}

bool pg_encoding_is_served(const char *encoding) {
    return strcmp(encoding, "UTF8") == 0 || strcmp(encoding, "SQL_ASCII") == 0;
}

struct pg *pg_create(struct loop *loop, const struct pg_settings *settings,
                     const struct pg_owner *owner) {
    struct pg *pg = must_zalloc(sizeof *pg);
    pg->loop = loop;
    pg->settings = *settings;
    pg->owner = *owner;
    pg->io = LOOP_IO_INIT;
    return pg;
}

static void connection_close(struct pg *pg) {
    loop_io_stop(pg->loop, &pg->io);
    loop_timer_stop(pg->loop, &pg->timer);
    PQclear(pg->outcome);
    pg->outcome = NULL;
    PQfinish(pg->connection);
    pg->connection = NULL;
}

void pg_destroy(struct pg **place) {
    struct pg *pg = *place;
    *place = NULL;
    connection_close(pg);
    free(pg);
}

void pg_stop(struct pg *pg) {
    connection_close(pg);
    pg->state = PG_STOPPED;
}

/* --- loss and back-off ------------------------------------------------------------------- */

static int64_t backoff_ms(const struct pg *pg) {
    if (pg->failures <= 1) {
        return 0;
    }
    unsigned doublings = pg->failures - 2 < 20 ? pg->failures - 2 : 20;
    int64_t delay_ms = pg->settings.reconnect_min_ms << doublings;
    return jittered(delay_ms < pg->settings.reconnect_max_ms ? delay_ms
                                                             : pg->settings.reconnect_max_ms);
}

static void lose(struct pg *pg, const char *reason) {
    char copy[PG_REASON_BYTES]; /* the reason may belong to what is closed here */
    snprintf(copy, sizeof copy, "%s", reason);
    copy[strcspn(copy, "\n")] = '\0';
    connection_close(pg);
    pg->state = PG_WAITING;
    pg->failures++;
    loop_timer_start(pg->loop, &pg->timer, backoff_ms(pg), on_attempt_due);
    pg->owner.on_lost(pg->owner.self, copy);
}

void pg_drop(struct pg *pg, const char *reason) {
    check(pg->connection != NULL);
    lose(pg, reason);
}

void pg_settled(struct pg *pg) {
    pg->failures = 0;
}

/* --- connecting -------------------------------------------------------------------------- */

static unsigned busy_interest(struct pg *pg) {
    return PQflush(pg->connection) > 0 ? LOOP_READ | LOOP_WRITE : LOOP_READ;
}

static void statement_begin(struct pg *pg, enum pg_state state, int was_sent) {
    if (was_sent != 1) {
        lose(pg, PQerrorMessage(pg->connection));
        return;
    }
    pg->state = state;
    pg->has_failed = false;
    loop_io_change(pg->loop, &pg->io, busy_interest(pg));
}

static void on_handshake_done(struct pg *pg) {
    char sql[128];
    PQsetnonblocking(pg->connection, 1);
    snprintf(sql, sizeof sql, "SET client_encoding = '%.32s'", pg_encoding(pg));
    loop_io_stop(pg->loop, &pg->io);
    loop_io_start(pg->loop, &pg->io, PQsocket(pg->connection), LOOP_READ, on_io);
    statement_begin(pg, PG_ENCODING, PQsendQuery(pg->connection, sql));
}

/* libpq may use another socket after every step, even one with the same number: the loop learns
 * of it anew each time. */
static void connect_step(struct pg *pg) {
    PostgresPollingStatusType status = PQconnectPoll(pg->connection);
    if (status == PGRES_POLLING_OK) {
        on_handshake_done(pg);
    } else if (status == PGRES_POLLING_FAILED) {
        lose(pg, PQerrorMessage(pg->connection));
    } else {
        unsigned interest = status == PGRES_POLLING_READING ? LOOP_READ : LOOP_WRITE;
        loop_io_stop(pg->loop, &pg->io);
        loop_io_start(pg->loop, &pg->io, PQsocket(pg->connection), interest, on_io);
    }
}

static void on_connect_timeout(struct loop_timer *timer) {
    lose(container_of(timer, struct pg, timer), "no connection within 10 s");
}

static void on_notice(void *self, const char *message) {
    const struct pg *pg = self;
    log_debug("Postgres (%s): %s", pg->settings.name, message);
}

static void on_attempt_due(struct loop_timer *timer) {
    struct pg *pg = container_of(timer, struct pg, timer);
    const char *const names[] = {"dbname", "fallback_application_name", NULL};
    const char *const values[] = {pg->settings.dsn, "pgsse", NULL};
    if (pg->owner.on_attempt != NULL) {
        pg->owner.on_attempt(pg->owner.self);
    }
    pg->state = PG_CONNECTING;
    pg->connection = PQconnectStartParams(names, values, 1);
    check(pg->connection != NULL);
    if (PQstatus(pg->connection) == CONNECTION_BAD) {
        lose(pg, PQerrorMessage(pg->connection));
        return;
    }
    PQsetNoticeProcessor(pg->connection, on_notice, pg);
    loop_timer_start(pg->loop, &pg->timer, PG_CONNECT_TIMEOUT_MS, on_connect_timeout);
    loop_io_start(pg->loop, &pg->io, PQsocket(pg->connection), LOOP_WRITE, on_io);
}

void pg_start(struct pg *pg) {
    check(pg->state == PG_STOPPED);
    pg->state = PG_WAITING;
    loop_timer_start(pg->loop, &pg->timer, 0, on_attempt_due);
}

/* --- statements and notifications -------------------------------------------------------- */

/* Keeps the first failure, or else the last outcome. */
static void keep_outcome(struct pg *pg, PGresult *result) {
    if (pg->has_failed) {
        PQclear(result);
        return;
    }
    PQclear(pg->outcome);
    pg->outcome = result;
    ExecStatusType status = PQresultStatus(result);
    pg->has_failed = status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK;
}

static void statement_end(struct pg *pg) {
    PGresult *outcome = pg->outcome;
    pg->outcome = NULL;
    const char *sqlstate = PQresultErrorField(outcome, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(outcome, PG_DIAG_MESSAGE_PRIMARY);
    struct pg_result result = {
        .is_ok = !pg->has_failed,
        .sqlstate = sqlstate == NULL ? "" : sqlstate,
        .message = message == NULL ? "no message" : message,
        .rows = PQntuples(outcome),
        .handle = outcome,
    };
    bool was_encoding = pg->state == PG_ENCODING;
    pg->state = PG_READY;
    if (!was_encoding) {
        pg->on_result(pg->owner.self, &result);
    } else if (!result.is_ok) {
        lose(pg, result.message);
    } else {
        loop_timer_stop(pg->loop, &pg->timer);
        pg->owner.on_connected(pg->owner.self);
    }
    PQclear(outcome);
}

const char *pg_value(const struct pg_result *result, int row, int column) {
    return PQgetvalue(result->handle, row, column);
}

/* The callbacks may drop the connection, or lose it by starting a statement: then the rest of
 * what it had read is gone with it, and the caller must stop. */
static bool is_same_connection(const struct pg *pg, const PGconn *connection) {
    return pg->connection == connection && pg->state >= PG_ENCODING;
}

static void take_notifications(struct pg *pg) {
    const PGconn *connection = pg->connection;
    while (is_same_connection(pg, connection)) {
        PGnotify *notify = PQnotifies(pg->connection);
        if (notify == NULL) {
            return;
        }
        if (pg->owner.on_notification != NULL) {
            pg->owner.on_notification(pg->owner.self, notify->relname, slice_of(notify->extra),
                                      notify->be_pid);
        }
        PQfreemem(notify);
    }
}

static void take_results(struct pg *pg) {
    const PGconn *connection = pg->connection;
    while (is_same_connection(pg, connection) && pg->state != PG_READY &&
           PQisBusy(pg->connection) == 0) {
        PGresult *result = PQgetResult(pg->connection);
        if (result == NULL) {
            statement_end(pg);
        } else {
            keep_outcome(pg, result);
        }
    }
}

static void on_session_io(struct pg *pg) {
    const PGconn *connection = pg->connection;
    bool is_alive = PQconsumeInput(pg->connection) == 1;
    take_notifications(pg);
    take_results(pg);
    take_notifications(pg); /* those that stood behind a result */
    if (!is_same_connection(pg, connection)) {
        return;
    }
    if (!is_alive || PQstatus(pg->connection) == CONNECTION_BAD) {
        lose(pg, PQerrorMessage(pg->connection));
        return;
    }
    loop_io_change(pg->loop, &pg->io, busy_interest(pg));
}

static void on_io(struct loop_io *io, unsigned ready) {
    (void)ready;
    struct pg *pg = container_of(io, struct pg, io);
    if (pg->state == PG_CONNECTING) {
        connect_step(pg);
    } else {
        on_session_io(pg);
    }
}

bool pg_is_connected(const struct pg *pg) {
    return pg->state == PG_READY || pg->state == PG_BUSY;
}

bool pg_is_ready(const struct pg *pg) {
    return pg->state == PG_READY;
}

void pg_query(struct pg *pg, const char *sql, int parameter_count, const char *const *parameters,
              void (*on_result)(void *self, const struct pg_result *result)) {
    check(pg->state == PG_READY);
    pg->on_result = on_result;
    int was_sent = parameter_count == 0 ? PQsendQuery(pg->connection, sql)
                                        : PQsendQueryParams(pg->connection, sql, parameter_count,
                                                            NULL, parameters, NULL, NULL, 0);
    statement_begin(pg, PG_BUSY, was_sent);
}

void pg_execute(struct pg *pg, const char *name, int parameter_count, const char *const *parameters,
                void (*on_result)(void *self, const struct pg_result *result)) {
    check(pg->state == PG_READY);
    pg->on_result = on_result;
    statement_begin(
        pg, PG_BUSY,
        PQsendQueryPrepared(pg->connection, name, parameter_count, parameters, NULL, NULL, 0));
}

const char *pg_encoding(const struct pg *pg) {
    const char *encoding = PQparameterStatus(pg->connection, "server_encoding");
    return encoding == NULL ? "" : encoding;
}
