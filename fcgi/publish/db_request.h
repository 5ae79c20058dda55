/* A request of the durable API that reads from Postgres, or changes a subscription: from the
 * request to the query, and from the result to the answer. */
#pragma once

#include "pending_request.h"
#include "queries.h"
#include "service.h"

/* Begins one: SERVICE_SUBSCRIBE, _UNSUBSCRIBE, _CHANNELS or _HISTORY. Returns HTTP_OK, and the
 * request is answered when Postgres has answered; or the status of the refusal with *reason, good
 * until the next call.
 */
unsigned db_request_begin(struct queries *queries, const struct pending_request *pending,
                          enum service service, const struct request *request, struct slice body,
                          const char **reason) must_check;
