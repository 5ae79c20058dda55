/* The log: what was heard, event by event, for those who come back. Bounded; never silently short.
 *
 * Entries stand in the order of their places (broker.h: the count of notifications and breaks):
 * events, and breaks, which stand where LISTEN had been lost. The oldest leave first when all
 * together need more than history_bytes, nodes and the topics' own state counted, and when a topic
 * has more than ring_capacity.
 *
 * What left is remembered as floors: the place of the newest event dropped, in one of 65,536 slots
 * by a hash of its topic. Who stands before the floor of one of its topics may have missed
 * something; a topic that shares a slot with another may seem to have lost something, and never
 * hides that it has. A break that leaves is a floor for all. */
#pragma once

#include "payload.h"
#include "topics.h"

enum { HISTORY_FLOORS = 65536 };

struct history_entry {
    TAILQ_ENTRY(history_entry) link;
    uint64_t place;
    struct topic *topic;   /* borrowed: it stays while it has entries; NULL: a break */
    struct payload *frame; /* a reference: the EVENT or, for a break, the REFRESH for everybody */
};
TAILQ_HEAD(history_list, history_entry);

struct history {
    struct topics *topics;       /* borrowed */
    struct history_list entries; /* oldest first */
    struct trail breaks;
    uint64_t count;
    size_t bytes;
    size_t bytes_max;
    size_t ring_capacity;
    uint64_t dropped; /* entries that left since the start */
    uint64_t break_floor;
    uint64_t floors[HISTORY_FLOORS];
};

/* history: zero-initialised. */
void history_init(struct history *history, struct topics *topics, size_t bytes_max,
                  size_t ring_capacity);
void history_release(struct history *history);

/* Takes a reference of its own to the frame. What it displaces leaves at once; if that is the event
 * itself, a topic without subscriber is forgotten here. */
void history_add(struct history *history, struct topic *topic, uint64_t place,
                 struct payload *frame);
void history_add_break(struct history *history, uint64_t place, struct payload *frame);

/* The newest place at which something left that was about the topic, or about all. */
uint64_t history_floor(const struct history *history, const struct topic *topic) must_check;

/* The first entry behind the place that is about one of the topics, or a break; NULL at the head.
 */
const struct history_entry *history_next(const struct history *history, struct topic *const *topics,
                                         size_t topic_count, uint64_t place) must_check;

/* The first entry behind the place, whatever it is about; others follow by its link. Costs as much
 * as there are entries behind it. */
const struct history_entry *history_after(const struct history *history, uint64_t place) must_check;
