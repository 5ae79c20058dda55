/* A batch is a queue of events on their way to Postgres: the events that arrive together go out in
 * one statement and one commit.
 *
 * While a commit is under way the queue fills, and the next statement takes all of it: the slower
 * commits are, the larger the groups become. One slow commit delays the next, not a hundred.
 *
 * An event is sent again only if Postgres has reported that it was rolled back. A group that fails
 * is sent again one by one, so that one bad event harms no other.
 *
 * There is a batch for each kind of event, with a connection of its own: ephemeral and durable
 * events never share a commit, and neither waits for the other's. */
#pragma once

#include "config.h"
#include "loop.h"
#include "outcome.h"

struct batch;

enum { BATCH_COLUMNS_MAX = 8 };

/* What a batch does with a group: one statement, whose parameters are arrays. */
struct batch_kind {
    const char *name; /* of the prepared statement; in the log without "pgsse_" */
    const char *types;
    const char *statement;
    size_t columns;
    bool needs_schema; /* then the connection is opened when the first item comes */
};

extern const struct batch_kind
    batch_ephemeral; /* columns: Postgres channel, text of a notification */
extern const struct batch_kind batch_durable; /* columns: topic, JSON, type ("": none), and of
                                                 fields.h: id, retry, comment, "t" or none;
                                                 and the tenant */

/* One event. */
struct batch_row {
    struct slice columns[BATCH_COLUMNS_MAX]; /* no NUL in them; at NULL: SQL's NULL */
};

/* Events that are published together or not at all, embedded in what publishes them. */
struct batch_item {
    TAILQ_ENTRY(batch_item) link;
    const struct batch_row *rows; /* borrowed until on_done, as are their columns */
    size_t row_count;
    int64_t deadline_ms;
    bool is_alone; /* its group has failed: it is sent alone */
    /* Called once, from the loop; the item is its owner's again. */
    void (*on_done)(struct batch_item *item, struct outcome outcome);
};

/* The kind is borrowed for ever. */
struct batch *batch_create(struct loop *loop, const struct config *config,
                           const struct batch_kind *kind) must_check;
/* on_done of items that wait or are under way is not called. */
void batch_destroy(struct batch **batch);

/* The outcome comes after at most publish_timeout; order is kept. rows, row_count and on_done are
 * set, the rest is zero. */
void batch_add(struct batch *batch, struct batch_item *item);
