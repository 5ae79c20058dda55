/* One connection to Postgres that keeps itself up: non-blocking, driven by the loop, one statement
 * at a time. This is the one file that knows libpq.
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
 * that, and so on up to reconnect_max_ms, jittered; pg_settled starts that anew, so a server that
 * accepts and then fails is not hammered. Host names are resolved by libpq, which waits meanwhile:
 * give an address (hostaddr) where DNS is slow. All callbacks come from the loop; in them any
 * function but pg_destroy may be called. */
#pragma once

#include "loop.h"

struct pg;

/* The outcome of one statement; good during the callback. */
struct pg_result {
    bool is_ok;
    const char *sqlstate; /* five characters, "" if unknown; when not is_ok */
    const char *message;  /* one line; when not is_ok */
    int rows;
    const void *handle;
};

/* The text of a field, borrowed from the result; "" for NULL. */
const char *pg_value(const struct pg_result *result, int row, int column);

struct pg_settings {
    const char *name; /* for the log: "listen", "query" */
    const char *dsn;  /* URI or keywords; "": libpq's own environment. Borrowed. */
    int64_t reconnect_min_ms;
    int64_t reconnect_max_ms;
};

struct pg_owner {
    void *self;
    /* The session is up and client_encoding is the database's own. */
    void (*on_connected)(void *self);
    /* Also for an attempt that failed. A statement under way has no outcome any more: its on_result
     * is not called. */
    void (*on_lost)(void *self, const char *reason);
    /* May be NULL. payload has length bytes; both texts are good during the call. */
    void (*on_notification)(void *self, const char *channel, struct slice payload, int sender_pid);
    /* May be NULL. An attempt begins, the first one included. */
    void (*on_attempt)(void *self);
};

/* Checks the syntax of a DSN; *reason is static or good until the next call. */
bool pg_dsn_is_valid(const char *dsn, const char **reason) must_check;

struct pg *pg_create(struct loop *loop, const struct pg_settings *settings,
                     const struct pg_owner *owner) must_check;
void pg_destroy(struct pg **pg);

void pg_start(struct pg *pg);

/* Closes the connection, if there is one; no callback and no attempt follows. */
void pg_stop(struct pg *pg);

/* Gives the connection up as broken; on_lost follows before this returns, then a new attempt. */
void pg_drop(struct pg *pg, const char *reason);

/* The connection has proved itself: the next loss is answered by an attempt at once. */
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

const char *pg_encoding(const struct pg *pg); /* the database's; when connected */

/* Whether events can be taken from and given to a database of that encoding byte for byte. */
bool pg_encoding_is_served(const char *encoding);
