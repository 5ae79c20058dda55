/* The log: what was heard, event by event, for those who come back. Bounded; never silently short.
 *
 * Entries stand in the order in which they came: events of both kinds; and breaks, which stand
 * where LISTEN had been lost. The oldest leave first when all together need more than
 * history_bytes, nodes and the topics' own state counted, and when a topic has more than
 * ring_capacity.
 *
 * A cursor says what somebody has: ephemeral events up to a place (broker.h: the count of
 * notifications and breaks) and durable ones up to an id. Each entry moves one of the two: it is
 * new to those whose cursor lies before that.
 *
 * What left is remembered as floors: the newest one dropped, of either kind, in one of 65,536 slots
 * by a hash of its topic. Who stands before the floor of one of its topics may have missed
 * something (ephemeral), or has to read the table (durable); a topic that shares a slot with
 * another may seem to have lost something, and never hides that it has. A break that leaves is a
 * floor for all. */
#pragma once

#include "payload.h"
#include "topics.h"

enum { HISTORY_FLOORS = 65536 };

struct cursor {
    uint64_t place;   /* of ephemeral events */
    uint64_t durable; /* an id of the table */
};

enum history_kind {
    HISTORY_EPHEMERAL, /* moves the place, as a break does */
    HISTORY_DURABLE,   /* moves the id */
    HISTORY_BREAK,
};

struct history_entry {
    TAILQ_ENTRY(history_entry) link;
    enum history_kind kind;
    struct cursor at;      /* of who has it, and all before it */
    struct topic *topic;   /* borrowed: it stays while it has entries; NULL: a break */
    struct payload *frame; /* a reference: the EVENT; of a break, the REFRESH for everybody */
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
    uint64_t durable_start;          /* all durable events up to here were never in the log */
    uint64_t floors[HISTORY_FLOORS]; /* places */
    uint64_t durable_floors[HISTORY_FLOORS];
};

/* history: zero-initialised. */
void history_init(struct history *history, struct topics *topics, size_t bytes_max,
                  size_t ring_capacity);
void history_release(struct history *history);

/* Durable events are read from the table from that id on. */
void history_start_durable(struct history *history, uint64_t id);

/* They come from another table from now on, which may give the same ids to other events: what the
 * log has leaves. */
void history_forget(struct history *history);

/* Takes a reference of its own to the frame. What it displaces leaves at once; if that is the event
 * itself, a topic without subscriber is forgotten here. */
void history_add(struct history *history, enum history_kind kind, struct topic *topic,
                 const struct cursor *at, struct payload *frame);

/* Durable events of the topic ("": of any) up to that id were pruned before they were read:
 * whoever stands before it is told by the table. */
void history_note_pruned(struct history *history, struct slice topic, uint64_t id);

/* The newest place at which something left that was about the topic, or about all. */
uint64_t history_floor(const struct history *history, const struct topic *topic) must_check;

/* Whose cursor lies before that id finds some of the topic's durable events in the table only. */
uint64_t history_durable_floor(const struct history *history, const struct topic *topic) must_check;

/* Whether somebody with that cursor does not have it. */
bool history_is_new(const struct history_entry *entry, const struct cursor *cursor) must_check;

/* The first new entry that is about one of the topics, or a break; NULL at the head. */
const struct history_entry *history_next(const struct history *history, struct topic *const *topics,
                                         size_t topic_count,
                                         const struct cursor *cursor) must_check;

/* The first entry from which on some are new, whatever they are about; others follow by its link.
 * Costs as much as there are entries behind it. */
const struct history_entry *history_after(const struct history *history,
                                          const struct cursor *cursor) must_check;
