/* The source (source.h) that is LISTEN on a connection to Postgres. It listens and hands every
 * notification on. The only other statement on its connection asks whether it still listens, so the
 * connection is never left in a transaction.
 *
 * It is "listening" when the transaction with all LISTENs has committed, and "verified" when
 * Postgres has then said to which channels this session listens, and which server it is. */
#pragma once

#include "source.h"

source_create listener_create;
