#include "pg.h"

#include "log.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

#define PG_CONNECT_TIMEOUT_S 10
enum {
    PG_CONNECT_TIMEOUT_MS = PG_CONNECT_TIMEOUT_S * 1000,
    PG_REASON_BYTES = 256,
    PG_ENCODING_BYTES = 32
};

enum pg_state {
    PG_STOPPED,
    PG_WAITING,    /* waits for the next attempt */
    PG_CONNECTING, /* libpq's handshake */
    PG_SETTING_UP, /* client_encoding, search_path */
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
    struct loop_timer timer; /* WAITING: next attempt; CONNECTING, SETTING_UP, BUSY: give up */
    unsigned failures;       /* failed attempts since pg_settled */
    bool has_failed;         /* of the statement under way: the outcome is its first failure */
    PGresult *outcome;       /* of the statement under way: owned, the result to report */
    void (*on_result)(void *self, const struct pg_result *result);
};

static void on_io(struct loop_io *io, unsigned ready);
static void on_attempt_due(struct loop_timer *timer);

/* --- connection strings ------------------------------------------------------------------ */

#define PG_DSN_HINT "in a URI, write ':', '/', '@', '%', '?' and '#' of a password as %XX"

/* libpq's own messages about a DSN quote it, and so a password. These do not. */
static const char *dsn_complaint(const char *dsn) {
    bool is_uri = strncmp(dsn, "postgres://", 11) == 0 || strncmp(dsn, "postgresql://", 13) == 0;
    return is_uri ? "it is not a URI that libpq understands (" PG_DSN_HINT ")"
                  : "it is neither a URI, postgresql://..., nor key=value pairs that libpq knows";
}

/* hosts is a list. '@' may only begin a host: it names an abstract socket. Elsewhere it comes from
 * a URI with a password in the wrong place. */
static bool hosts_are_plausible(const char *hosts) {
    for (const char *at = hosts; (at = strchr(at, '@')) != NULL; at++) {
        if (at != hosts && at[-1] != ',') {
            return false;
        }
    }
    return true;
}

static bool option_is_plausible(const PQconninfoOption *option) {
    if (option->val == NULL) {
        return true;
    }
    if (strcmp(option->keyword, "port") == 0) {
        return option->val[strspn(option->val, "0123456789, ")] == '\0';
    }
    return strcmp(option->keyword, "host") != 0 || hosts_are_plausible(option->val);
}

bool pg_dsn_is_valid(const char *dsn, const char **reason) {
    PQconninfoOption *options = PQconninfoParse(dsn, NULL);
    bool is_valid = options != NULL;
    if (options == NULL) {
        *reason = dsn_complaint(dsn);
    }
    for (const PQconninfoOption *option = options; is_valid && option->keyword != NULL; option++) {
        is_valid = option_is_plausible(option);
        *reason = "its host or port cannot be one (" PG_DSN_HINT ")";
    }
    PQconninfoFree(options);
    return is_valid;
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

/* The limit is five sixths of most_ms, because jitter adds up to a fifth. */
int64_t pg_backoff_ms(unsigned failures, int64_t least_ms, int64_t most_ms) {
    if (failures <= 1) {
        return 0;
    }
    unsigned doublings = failures - 2 < 20 ? failures - 2 : 20;
    int64_t delay_ms = least_ms << doublings;
    int64_t limit_ms = most_ms * 5 / 6;
    return jittered(delay_ms < limit_ms ? delay_ms : limit_ms);
}

static void lose(struct pg *pg, const char *reason) {
    char copy[PG_REASON_BYTES]; /* the text may belong to the connection that is closed here */
    snprintf(copy, sizeof copy, "%s", reason);
    copy[strcspn(copy, "\n")] = '\0';
    connection_close(pg);
    pg->state = PG_WAITING;
    pg->failures++;
    loop_timer_start(
        pg->loop, &pg->timer,
        pg_backoff_ms(pg->failures, pg->settings.reconnect_min_ms, pg->settings.reconnect_max_ms),
        on_attempt_due);
    pg->owner.on_lost(pg->owner.self, copy);
}

void pg_drop(struct pg *pg, const char *reason) {
    check(pg->connection != NULL);
    lose(pg, reason);
}

void pg_renew(struct pg *pg) {
    if (pg->state != PG_STOPPED) {
        connection_close(pg);
        pg->state = PG_WAITING;
        loop_timer_start(pg->loop, &pg->timer, 0, on_attempt_due);
    }
}

void pg_settled(struct pg *pg) {
    pg->failures = 0;
}

/* --- connecting -------------------------------------------------------------------------- */

/* When a write fails, libpq may have closed its socket: then there is nothing to watch. */
static void watch_session(struct pg *pg) {
    int unsent = PQflush(pg->connection);
    if (unsent < 0 || PQsocket(pg->connection) < 0) {
        lose(pg, PQerrorMessage(pg->connection));
    } else {
        loop_io_change(pg->loop, &pg->io, unsent > 0 ? LOOP_READ | LOOP_WRITE : LOOP_READ);
    }
}

/* libpq may use another socket after every step, even one with the same number, so the descriptor
 * is added to the loop again each time. False: there is no socket, and the connection is lost. */
static bool watch_socket(struct pg *pg, unsigned interest) {
    int fd = PQsocket(pg->connection);
    loop_io_stop(pg->loop, &pg->io);
    if (fd < 0) {
        lose(pg, PQerrorMessage(pg->connection));
        return false;
    }
    loop_io_start(pg->loop, &pg->io, fd, interest, on_io);
    return true;
}

static void statement_begin(struct pg *pg, enum pg_state state, int was_sent) {
    if (was_sent != 1) {
        lose(pg, PQerrorMessage(pg->connection));
        return;
    }
    pg->state = state;
    pg->has_failed = false;
    watch_session(pg);
}

static void on_handshake_done(struct pg *pg) {
    char encoding[2 * PG_ENCODING_BYTES + 1];
    char sql[sizeof encoding + 96];
    PQsetnonblocking(pg->connection, 1);
    if (!watch_socket(pg, LOOP_READ)) {
        return;
    }
    PQescapeStringConn(pg->connection, encoding, pg_encoding(pg),
                       strnlen(pg_encoding(pg), PG_ENCODING_BYTES), NULL);
    snprintf(sql, sizeof sql, "SET client_encoding = '%s'; SET search_path = pg_catalog, pg_temp",
             encoding);
    statement_begin(pg, PG_SETTING_UP, PQsendQuery(pg->connection, sql));
}

static void connect_step(struct pg *pg) {
    PostgresPollingStatusType status = PQconnectPoll(pg->connection);
    if (status == PGRES_POLLING_OK) {
        on_handshake_done(pg);
    } else if (status == PGRES_POLLING_FAILED) {
        lose(pg, PQerrorMessage(pg->connection));
    } else {
        (void)watch_socket(pg, status == PGRES_POLLING_READING ? LOOP_READ : LOOP_WRITE);
    }
}

static void on_connect_timeout(struct loop_timer *timer) {
    lose(container_of(timer, struct pg, timer),
         "no connection within " text_of(PG_CONNECT_TIMEOUT_S) " s");
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
    (void)watch_socket(pg, LOOP_WRITE);
}

void pg_start(struct pg *pg) {
    check(pg->state == PG_STOPPED);
    pg->state = PG_WAITING;
    loop_timer_start(pg->loop, &pg->timer, 0, on_attempt_due);
}

/* --- statements and notifications -------------------------------------------------------- */

/* Keeps the first result that failed; if none failed, the last one. */
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

enum { MESSAGE_BYTES = 256 };

/* The server's message; if there is none, the first line of libpq's. */
static const char *message_of(const PGresult *outcome, char line[MESSAGE_BYTES]) {
    const char *message = PQresultErrorField(outcome, PG_DIAG_MESSAGE_PRIMARY);
    if (message != NULL) {
        return message;
    }
    snprintf(line, MESSAGE_BYTES, "%s", PQresultErrorMessage(outcome));
    line[strcspn(line, "\n")] = '\0';
    return line[0] == '\0' ? "no message" : line;
}

static void statement_end(struct pg *pg) {
    PGresult *outcome = pg->outcome;
    pg->outcome = NULL;
    const char *sqlstate = PQresultErrorField(outcome, PG_DIAG_SQLSTATE);
    char line[MESSAGE_BYTES];
    struct pg_result result = {
        .is_ok = !pg->has_failed,
        .sqlstate = sqlstate == NULL ? "" : sqlstate,
        .message = message_of(outcome, line),
        .rows = PQntuples(outcome),
        .columns = PQnfields(outcome),
        .handle = outcome,
    };
    bool was_setting_up = pg->state == PG_SETTING_UP;
    pg->state = PG_READY;
    loop_timer_stop(pg->loop, &pg->timer);
    if (!was_setting_up) {
        pg->on_result(pg->owner.self, &result);
    } else if (!result.is_ok) {
        lose(pg, result.message);
    } else {
        pg->owner.on_connected(pg->owner.self);
    }
    PQclear(outcome);
}

const char *pg_value(const struct pg_result *result, int row, int column) {
    bool is_there = row >= 0 && row < result->rows && column >= 0 && column < result->columns;
    return is_there ? PQgetvalue(result->handle, row, column) : "";
}

/* Callbacks may drop the connection, or lose it by starting a statement. Then the results that
 * libpq had read are gone, and the caller must stop. */
static bool is_same_connection(const struct pg *pg, const PGconn *connection) {
    return pg->connection == connection && pg->state >= PG_SETTING_UP;
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

/* libpq would return such a result again and again, so the connection has to be dropped. */
static bool is_copy(const PGresult *result) {
    ExecStatusType status = PQresultStatus(result);
    return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

static void take_results(struct pg *pg) {
    const PGconn *connection = pg->connection;
    while (is_same_connection(pg, connection) && pg->state != PG_READY &&
           PQisBusy(pg->connection) == 0) {
        PGresult *result = PQgetResult(pg->connection);
        if (result == NULL) {
            statement_end(pg);
        } else if (is_copy(result)) {
            PQclear(result);
            lose(pg, "Postgres began a COPY that nobody asked for");
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
    take_notifications(pg); /* the ones that came after a result */
    if (!is_same_connection(pg, connection)) {
        return;
    }
    if (!is_alive || PQstatus(pg->connection) == CONNECTION_BAD) {
        lose(pg, PQerrorMessage(pg->connection));
        return;
    }
    watch_session(pg);
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

static void on_statement_timeout(struct loop_timer *timer) {
    struct pg *pg = container_of(timer, struct pg, timer);
    lose(pg, pg->settings.timeout_reason);
}

void pg_set_timeout(struct pg *pg, int64_t timeout_ms) {
    if (pg->state != PG_BUSY) {
        return;
    }
    if (timeout_ms > 0) {
        loop_timer_start(pg->loop, &pg->timer, timeout_ms, on_statement_timeout);
    } else {
        loop_timer_stop(pg->loop, &pg->timer);
    }
}

/* A statement is sent, if was_sent is 1; else libpq says why not. */
static void query_begin(struct pg *pg, int was_sent,
                        void (*on_result)(void *self, const struct pg_result *result)) {
    pg->on_result = on_result;
    statement_begin(pg, PG_BUSY, was_sent);
    pg_set_timeout(pg, pg->settings.statement_timeout_ms);
}

void pg_query(struct pg *pg, const char *sql, int parameter_count, const char *const *parameters,
              void (*on_result)(void *self, const struct pg_result *result)) {
    check(pg->state == PG_READY);
    int was_sent = parameter_count == 0 ? PQsendQuery(pg->connection, sql)
                                        : PQsendQueryParams(pg->connection, sql, parameter_count,
                                                            NULL, parameters, NULL, NULL, 0);
    query_begin(pg, was_sent, on_result);
}

void pg_execute(struct pg *pg, const char *name, int parameter_count, const char *const *parameters,
                void (*on_result)(void *self, const struct pg_result *result)) {
    check(pg->state == PG_READY);
    int was_sent =
        PQsendQueryPrepared(pg->connection, name, parameter_count, parameters, NULL, NULL, 0);
    query_begin(pg, was_sent, on_result);
}

const char *pg_encoding(const struct pg *pg) {
    const char *encoding = PQparameterStatus(pg->connection, "server_encoding");
    return encoding == NULL ? "" : encoding;
}

int pg_session_pid(const struct pg *pg) {
    return PQbackendPID(pg->connection);
}
