/* Reads the answers of the schema's functions. Pure. The functions may have been replaced, and the
 * server may not even be Postgres: nothing here trusts an answer. */
#pragma once

#include "event.h"
#include "pg.h"

/* --- the schema ------------------------------------------------------------------------------ */

enum { TABLE_REASON_BYTES = 256 };

/* Asks who owns the schema's functions, before any of them is called. */
#define TABLE_TRUST_COLUMNS "o.stranger FROM (" SCHEMA_OWNER_QUERY ") AS o"
/* Calls every function that is called later, so that a missing privilege shows at once. */
#define TABLE_LOOK_COLUMNS                                                                         \
    "pgsse.version(), pgsse.head(), 'pgsse.events'::pg_catalog.regclass::pg_catalog.oid, "         \
    "(SELECT pg_catalog.count(*) FROM pgsse.page(0::bigint, 0::bigint, "                           \
    "NULL::pg_catalog.text[], 1::integer, 1::bigint, NULL::pg_catalog.text[])), "                  \
    "(SELECT pg_catalog.count(*) FROM pgsse.subscribed('{}'::integer[], '{}'::pg_catalog.text[], " \
    "'{}'::pg_catalog.text[], NULL::pg_catalog.text[]))"

/* The answer to TABLE_TRUST_COLUMNS: true if the schema may be used. Else reason says why not. */
bool table_result_is_trusted(const struct pg_result *result,
                             char reason[TABLE_REASON_BYTES]) must_check;

/* The answer to TABLE_LOOK_COLUMNS: true if the schema is there; sets its newest id, and the
 * identity that distinguishes this table from another. Else reason says why not. */
bool table_result_is_schema(const struct pg_result *result, uint64_t *head, uint64_t *identity,
                            char reason[TABLE_REASON_BYTES]) must_check;

/* --- pages ----------------------------------------------------------------------------------- */

#define TABLE_PAGE_COLUMNS                                                                       \
    "r.id, r.topic, r.is_floor, r.type, r.data, r.publisher_id, r.retry, r.comment, r.is_text, " \
    "r.tenant"

/* True if event ids rise strictly from `after` on, and the end is after `after` and not before the
 * last event. So a reader that goes on from the end makes progress. The order of the gaps' ids is
 * not checked. */
bool table_result_is_page(const struct pg_result *result, uint64_t after) must_check;

/* The number of gaps and events. */
int table_result_rows(const struct pg_result *result) must_check;

uint64_t table_result_id(const struct pg_result *result, int row) must_check;
bool table_result_is_gap(const struct pg_result *result, int row) must_check;

/* The row's texts are borrowed from the result. */
void table_result_row(const struct pg_result *result, int row, struct event_row *event);

/* True if there is more after the page's end. */
bool table_result_has_more(const struct pg_result *result) must_check;

/* has_more: the page has everything up to that id. */
uint64_t table_result_end(const struct pg_result *result) must_check;
