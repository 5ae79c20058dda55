/* A request of the third door that asks Postgres something, or changes who is subscribed: from the
 * request to the query, and from the result to the answer. */
#pragma once

#include "publisher.h"
#include "service.h"

/* Begins one: SERVICE_SUBSCRIBE, _UNSUBSCRIBE, _CHANNELS or _HISTORY. Returns REPLY_OK, and then it
 * answers when Postgres has; or the status of the refusal with *reason, good until the next call.
 */
unsigned lookup_begin(struct publisher *publisher, const struct visit *visit, enum service service,
                      const struct request *request, struct slice body,
                      const char **reason) must_check;
