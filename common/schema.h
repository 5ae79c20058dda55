/* What the programs agree on with sql/pgsse.sql, the schema for durable events. */
#pragma once

enum { SCHEMA_VERSION = 1 }; /* what pgsse.version() has to answer */

/* How to install it, for those who are told that it is missing. */
#define SCHEMA_COMMAND "psql -f sql/pgsse.sql \"$DATABASE_URL\""

/* Where its functions hint at what is new. */
#define SCHEMA_CHANNEL "forge_events"
