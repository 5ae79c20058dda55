/* A client that reads more slowly than events come. It goes on at the head of its feed, and one
 * refresh, in the place of the missed events, tells how many those are.
 *
 * The refresh is at the end of the client's own bytes. Until a byte of it is written, the next
 * overflow adds to it. If a refresh of the feed is among what is dropped, its reason is merged into
 * it.
 *
 * Durable events are not dropped: a client for which some wait subscribes again instead (see
 * subscriber_renew). */
#pragma once

#include "audience.h"

struct overflow; /* a refresh that waits */

/* True if more than limit_bytes wait in the feed after the current event, and some of it can be
 * dropped. The current event, which is being written or is the next one, may have any size. */
bool overflow_is_due(const struct output *output, uint64_t limit_bytes) must_check;

/* True if a durable event is among what can be dropped. */
bool overflow_has_durable(const struct output *output) must_check;

/* Drops what can be dropped, counts it, and appends the refresh. *overflow: NULL, or what the last
 * call left there. */
void overflow_skip(struct overflow **overflow, struct output *output, struct audience *audience);

/* All is written. *overflow becomes NULL. Harmless if it is NULL already. */
void overflow_destroy(struct overflow **overflow);
