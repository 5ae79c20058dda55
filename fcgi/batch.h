/* Publishing: what arrives together goes to Postgres in one statement and one commit.
 *
 * Worker threads hand in notifications and wait; the loop's thread owns the connection. While a
 * commit is under way the queue fills, and the next statement takes all of it: the slower commits
 * are, the larger the groups become.
 *
 * What is sent again: only what was not sent, or was reported as rolled back. A group that fails
 * is run again one by one, so that one bad payload harms no other. */
#pragma once

#include "config.h"
#include "loop.h"

struct batch;

enum batch_outcome {
    BATCH_COMMITTED,
    BATCH_REFUSED,     /* Postgres does not take this payload */
    BATCH_UNAVAILABLE, /* not published: Postgres was away, or too slow to begin with it */
    BATCH_UNKNOWN,     /* sent, but nobody can say whether it was committed */
};

struct batch *batch_create(struct loop *loop, const struct config *config) must_check;

/* No thread may be within batch_publish any more. */
void batch_destroy(struct batch **batch);

/* Called by worker threads: returns after at most publish_timeout. payload is ended by NUL, borrowed
 * for the call. */
enum batch_outcome batch_publish(struct batch *batch, const char *channel,
                                 struct slice payload) must_check;
