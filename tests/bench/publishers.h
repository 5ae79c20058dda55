#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stats.h"

/* One publisher: a thread with a libpq connection of its own that sends NOTIFY, or publishes
 * durable events, as planned. */
struct publisher;

struct publisher_plan {
    const char *channel; /* borrowed until the publisher has finished, as is the topic; NULL:
                          * durable events */
    const char *topic;
    unsigned topics; /* 0: that one; else so many in turn, "topic" and 0, 1, ...; many events in a
                      * transaction, and not durable */
    uint64_t first_number;
    uint64_t count;
    unsigned per_transaction; /* 1: each event is a commit of its own */
    unsigned per_second;      /* 0: as fast as commits go; else single commits, paced */
    bool is_long;             /* some 190 bytes more, as events of applications have; single
                               * commits only */
    bool is_stamped;          /* with the clock's time in each event; single commits only */
    struct stats *commits_us; /* borrowed; how long each single commit took; may be NULL */
};

/* Connects, or ends the program. The caller owns it. */
struct publisher *publisher_create(const char *database_url);
void publisher_destroy(struct publisher **publisher);

/* Something else to be done there, while it does not publish. Ends the program if it fails. */
void publisher_execute(struct publisher *publisher, const char *statement);

/* Begins to publish; one plan at a time. */
void publisher_start(struct publisher *publisher, const struct publisher_plan *plan);

/* Waits for the end of the plan. Returns when its first statement was sent. */
int64_t publisher_finish(struct publisher *publisher);
