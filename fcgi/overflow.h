/* What becomes of a client that reads more slowly than its topics speak: it goes on from the head
 * of its feed, and one refresh tells it, in the place of what it missed, how many events that were.
 *
 * The refresh stands at the end of the client's own bytes. Until something of it is out, the next
 * overflow adds to it; a refresh that was to come through the feed and was dropped with the rest is
 * told of in it, too, by its own reason. */
#pragma once

#include "fanout.h"

struct overflow; /* a refresh that waits */

/* More than limit_bytes wait, and something of it can be dropped. An empty queue takes one event of
 * any size. */
bool overflow_is_due(const struct outlet *outlet, uint64_t limit_bytes) must_check;

/* Drops what can be dropped, counts it, and writes the refresh. *overflow: NULL, or what the last
 * call left there. */
void overflow_skip(struct overflow **overflow, struct outlet *outlet, struct audience *audience);

/* All is out. Harmless when it is NULL, which it becomes. */
void overflow_destroy(struct overflow **overflow);
