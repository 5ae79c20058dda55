/* The source (source.h) that is LISTEN on a connection to Postgres. It listens and hands every
 * notification on. The only other statement on its connection asks whether it still listens, so the
 * connection is never left in a transaction.
 *
 * It is "listening" when the transaction with all LISTENs has committed, and "verified" when
 * Postgres has then said to which channels this session listens, and which server it is.
 *
 * When the channels change, one transaction on the same connection replaces all LISTENs. Postgres
 * applies it between two notifications, so none on a channel of both sets is missed or comes
 * twice. */
#pragma once

#include "source.h"

source_create listener_create;
