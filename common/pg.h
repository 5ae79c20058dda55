/* One connection to Postgres that reconnects by itself: non-blocking, driven by the loop, one
 * statement at a time. This is the one file that knows libpq.
 *
 * The life of a connection:
 *
 *   pg_start  ->  CONNECTING  ->  on_connected: READY  <->  BUSY (a statement is under way)
 *                     ^   |                       |
 *                     |   v                       v
 *                  WAITING  <--  on_lost(reason), once for every on_connected or failed attempt
 *
 * pg_stop ends it.
 *
 * After a loss the first new attempt is made at once, the next ones after reconnect_min_ms, twice
 * that, and so on up to reconnect_max_ms, jittered. Only pg_settled resets this sequence, so a
 * server that accepts connections and then fails is not hammered. A connection whose statement is
 * not answered within statement_timeout_ms is given up. libpq resolves host names and
 * blocks meanwhile: use an address (hostaddr) where DNS is slow. All callbacks come from the loop.
 * A callback may call any function except pg_destroy. */
#pragma once

#include "config.h"
#include "loop.h"

#include <stdlib.h>

struct pg;

/* The outcome of one statement; good during the callback. */
struct pg_result {
    bool is_ok;
    const char *sqlstate; /* five characters, "" if unknown; when not is_ok */
    const char *message;  /* one line; when not is_ok */
    int rows;
    int columns;
    const void *handle;
};

/* The text of a field, borrowed from the result. "" for NULL and for a field that does not exist,
 * since the database decides how many rows and columns there are. */
const char *pg_value(const struct pg_result *result, int row, int column);

/* The number in a field of a type that only has numbers; 0 for NULL. */
static inline uint64_t pg_number(const struct pg_result *result, int row, int column) {
    return strtoull(pg_value(result, row, column), NULL, 10);
}

struct pg_settings {
    const char *name; /* for the log: "listen", "query" */
    const char *dsn;  /* URI or keywords; "": libpq's environment variables. Borrowed. */
    int64_t reconnect_min_ms;
    int64_t reconnect_max_ms;
    int64_t statement_timeout_ms; /* 0: none */
    const char *timeout_reason;   /* for on_lost, when a statement took longer. Static */
};

/* As the configuration has them, to database_url. */
static inline struct pg_settings pg_settings_of(const struct config *config, const char *name,
                                                int64_t statement_timeout_ms,
                                                const char *timeout_reason) {
    return (struct pg_settings){name,
                                config->database_url,
                                config->reconnect_min,
                                config->reconnect_max,
                                statement_timeout_ms,
                                timeout_reason};
}

struct pg_owner {
    void *self;
    /* The session is up, client_encoding is the database's encoding, and search_path is pg_catalog,
     * pg_temp. (A pooler may lose the search_path, so statements qualify every name.) */
    void (*on_connected)(void *self);
    /* Also for an attempt that failed. on_result of a statement under way is not called any
     * more. */
    void (*on_lost)(void *self, const char *reason);
    /* May be NULL. The channel and the text are good during the call. */
    void (*on_notification)(void *self, const char *channel, struct slice text, int sender_pid);
    /* May be NULL. An attempt begins, the first one included. */
    void (*on_attempt)(void *self);
};

/* Checks the syntax of a DSN, and that no part of a password is in a place that libpq shows.
 * *reason is static and contains nothing of the DSN. */
bool pg_dsn_is_valid(const char *dsn, const char **reason) must_check;

struct pg *pg_create(struct loop *loop, const struct pg_settings *settings,
                     const struct pg_owner *owner) must_check;
void pg_destroy(struct pg **pg);

void pg_start(struct pg *pg);

/* Closes the connection, if there is one; no callback and no attempt follows. */
void pg_stop(struct pg *pg);

/* Gives the connection up as broken: calls on_lost before it returns; a new attempt follows. */
void pg_drop(struct pg *pg, const char *reason);

/* Closes the connection and connects again at once, since the address may lead to another server
 * now. on_lost is not called, nor is on_result of a statement under way. Harmless when stopped. */
void pg_renew(struct pg *pg);

/* The connection works: after the next loss, the first attempt is made at once. */
void pg_settled(struct pg *pg);

bool pg_is_connected(const struct pg *pg);
bool pg_is_ready(const struct pg *pg); /* connected, and no statement under way */

/* Starts a statement; pg_is_ready must hold. Without parameters sql may hold several statements,
 * which then are one transaction. on_result gets the last outcome, or the first that failed. */
void pg_query(struct pg *pg, const char *sql, int parameter_count, const char *const *parameters,
              void (*on_result)(void *self, const struct pg_result *result));

/* The same for a statement that was PREPAREd in this session. */
void pg_execute(struct pg *pg, const char *name, int parameter_count, const char *const *parameters,
                void (*on_result)(void *self, const struct pg_result *result));

/* The statement under way, if there is one, may take so long from now on; 0: without limit. */
void pg_set_timeout(struct pg *pg, int64_t timeout_ms);

const char *pg_encoding(const struct pg *pg); /* the database's; when connected */

/* The backend's pid as the server named it when the session began; when connected. A pooler names
 * another pid than that of the real backend. */
int pg_session_pid(const struct pg *pg);

/* True if events pass unchanged, byte for byte, to and from a database with that encoding. */
bool pg_encoding_is_served(const char *encoding);

/* --- for its test ------------------------------------------------------------------------- */

/* The delay before the next attempt, after that many failed ones: jittered, at most most_ms. */
int64_t pg_backoff_ms(unsigned failures, int64_t least_ms, int64_t most_ms) must_check;
