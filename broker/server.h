/* The Postgres server: which database of which server LISTEN has reached, and whether another
 * connection has reached the same one. Pure.
 *
 * After a fail-over, or a change of the address, some of the broker's connections may still be at
 * the old server, which may be alive. LISTEN does not hear what they write there, and what they
 * read there may have other ids. */
#pragma once

#include "base.h"

enum { SERVER_BYTES = 64 };

/* SQL: which database of which server a session has reached. Any role may run it. Of two servers
 * with the same data, as after a fail-over, each has its own start time. */
#define SERVER_QUERY                                                                         \
    "pg_catalog.concat((SELECT d.oid FROM pg_catalog.pg_database AS d "                      \
    "WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()), '/', "           \
    "pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.pg_postmaster_start_time()), " \
    "'YYYYMMDDHH24MISSUS'))"

/* SQL: the server's clock, in microseconds since 1970. */
#define SERVER_CLOCK                                                                       \
    "(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*) " \
    "1000000::pg_catalog.float8)::pg_catalog.int8"

/* Zero-initialised: the server is not known. */
struct server {
    char answer[SERVER_BYTES]; /* the LISTEN connection's answer to SERVER_QUERY */
};

static inline bool server_is_known(const struct server *server) {
    return server->answer[0] != '\0';
}

/* answer: another session's answer to SERVER_QUERY. */
static inline bool server_is(const struct server *server, const char *answer) {
    return strcmp(server->answer, answer) == 0;
}
