/* Publishing: what arrives together goes to Postgres in one statement and one commit.
 *
 * While a commit is under way the queue fills, and the next statement takes all of it: the slower
 * commits are, the larger the groups become. One slow commit delays the next, not a hundred.
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

/* One notification, embedded in who publishes it. */
struct batch_item {
    TAILQ_ENTRY(batch_item) link;
    const char *channel;  /* borrowed until on_done, like the payload */
    struct slice payload; /* ended by NUL, which does not count */
    int64_t deadline_ms;
    bool is_alone; /* its group failed: the next one is its own */
    /* Called once, from the loop; the item is its owner's again. */
    void (*on_done)(struct batch_item *item, enum batch_outcome outcome);
};

struct batch *batch_create(struct loop *loop, const struct config *config) must_check;
/* Items that still wait or are under way are forgotten without a call. */
void batch_destroy(struct batch **batch);

/* The outcome comes after at most publish_timeout; order is kept. channel, payload and on_done are
 * set, the rest is zero. */
void batch_add(struct batch *batch, struct batch_item *item);
