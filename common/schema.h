/* What the programs agree on with sql/pgsse.sql, the schema for durable events. */
#pragma once

enum { SCHEMA_VERSION = 4 }; /* what pgsse.version() has to answer */

/* pgsse._leap leaves out at least so many ids. */
#define SCHEMA_LEAP_IDS UINT64_C(1000000000)

/* How to install the schema; for messages that say it is missing. */
#define SCHEMA_COMMAND "psql -f sql/pgsse.sql \"$DATABASE_URL\""

/* The channel on which the schema's functions send hints, and the channel of version 2: a
 * transaction that began before an upgrade may still send there. */
#define SCHEMA_HINT_CHANNEL     "pgsse_hint"
#define SCHEMA_OLD_HINT_CHANNEL "forge_events"

/* Asks if the schema's owners can be trusted: a role that owns the schema, or a function or table
 * in it, can have its own code run by all callers. The query reads the catalog only and runs no
 * code of the schema. No row: there is no schema. Else one row, with one column: stranger, an owner
 * that is neither the current role nor a superuser, or NULL. */
#define SCHEMA_OWNER_QUERY                                                                         \
    "SELECT (SELECT pg_catalog.pg_get_userbyid(o.owner) FROM (SELECT n.nspowner UNION ALL "        \
    "SELECT p.proowner FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_proc AS p "               \
    "ON p.oid OPERATOR(pg_catalog.=) d.objid WHERE d.classid OPERATOR(pg_catalog.=) "              \
    "'pg_catalog.pg_proc'::pg_catalog.regclass AND d.refclassid OPERATOR(pg_catalog.=) "           \
    "'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.refobjid OPERATOR(pg_catalog.=) n.oid "  \
    "UNION ALL SELECT c.relowner FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_class AS c "    \
    "ON c.oid OPERATOR(pg_catalog.=) d.objid WHERE d.classid OPERATOR(pg_catalog.=) "              \
    "'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid OPERATOR(pg_catalog.=) "          \
    "'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.refobjid OPERATOR(pg_catalog.=) n.oid) " \
    "AS o(owner) WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r "                          \
    "WHERE r.oid OPERATOR(pg_catalog.=) o.owner "                                                  \
    "AND (r.rolsuper OR r.rolname OPERATOR(pg_catalog.=) CURRENT_USER)) LIMIT 1) AS stranger "     \
    "FROM pg_catalog.pg_namespace AS n WHERE n.nspname OPERATOR(pg_catalog.=) 'pgsse'"

/* The message about a schema with a stranger; the stranger's name follows. */
#define SCHEMA_STRANGER                                                                         \
    "the schema pgsse is not used, since it would run code of a role that is neither this one " \
    "nor "                                                                                      \
    "a superuser"
