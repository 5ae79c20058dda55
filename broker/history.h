/* The log of the events that were heard, for clients that come back. Bounded; what it drops is
 * remembered, so that a loss is always told.
 *
 * Entries are in the order in which they came: ephemeral and durable events, and a break for each
 * time that LISTEN was lost. The oldest entries are dropped when all together need more than
 * history_bytes (the entries' and topics' own structs included). A topic's oldest event is dropped
 * when the topic has more than ring_capacity.
 *
 * Floors remember what was dropped: for each topic its newest dropped ephemeral event and its
 * newest dropped durable event (topics.h). A client whose cursor is before a floor of one of its
 * topics may have missed an ephemeral event, or has to read durable events from the table. A
 * dropped break is a floor for all topics.
 *
 * A topic's events are dropped in their order, and a break only after all events that came before
 * it. So while a topic exists, each further loss raises its floor: a client that was told of a
 * floor is told again only when the floor has risen. A pattern covers many topics, and a newer
 * event of one may be dropped before an older event of another. So its floor need not rise with
 * each loss, and losses are counted instead. */
#pragma once

#include "milestones.h"
#include "topics.h"

struct history {
    struct topics *topics;     /* borrowed */
    struct entry_list entries; /* oldest first */
    struct milestones milestones;
    struct trail breaks;
    uint64_t count;
    size_t bytes;
    size_t bytes_max;
    size_t ring_capacity;
    uint64_t dropped;       /* entries, since the start */
    uint64_t break_floor;   /* the place of the newest dropped break */
    struct floors newest;   /* of all topics: for patterns */
    uint64_t losses;        /* ephemeral events and breaks that were dropped */
    uint64_t durable_start; /* durable events up to this id were never in the log */
};

/* history: zero-initialised. */
void history_init(struct history *history, struct topics *topics, size_t bytes_max,
                  size_t ring_capacity);
void history_release(struct history *history);

/* Durable events are read from the table from that id on. */
void history_start_durable(struct history *history, uint64_t id);

/* Durable events now come from another table, in which an id may belong to another event. Drops all
 * entries. */
void history_forget(struct history *history);

/* Takes its own reference to the frame. Older entries that have to make room are dropped at once,
 * and so is the new one if it is too large. A topic that has neither subscribers nor entries then
 * is freed here. */
void history_add(struct history *history, enum entry_kind kind, struct topic *topic,
                 const struct cursor *at, struct payload *frame);

/* Durable events of the topic (none: of any topic) up to that id were pruned before the broker read
 * them. Readers before that id go to the table, where they find the gap. */
void history_note_pruned(struct history *history, struct topic_key topic, uint64_t id);

/* The highest place of a dropped entry that was the topic's event or a break. For a pattern, events
 * of any topic count: which of them it matched is not remembered. */
uint64_t history_floor(const struct history *history, const struct topic *topic) must_check;

/* Rises with each loss that history_floor is about: a client that was told at this number is told
 * again only when it has risen, and the floor is still after the client's cursor. */
uint64_t history_losses(const struct history *history, const struct topic *topic) must_check;

/* A reader whose cursor is before this id finds some of the topic's durable events only in the
 * table. For a pattern the same holds. */
uint64_t history_durable_floor(const struct history *history, const struct topic *topic) must_check;

/* The first entry that is new to the cursor and is a break or an event of one of the topics; NULL
 * at the head. */
const struct entry *history_next(const struct history *history, struct topic *const *topics,
                                 size_t topic_count, const struct cursor *cursor) must_check;

/* The same for readers that have a pattern among the topics: it looks at each entry, and moves
 * *cursor past those that do not match. After HISTORY_STEPS of them NULL is returned, and
 * *is_at_head is false. */
enum { HISTORY_STEPS = 1024 };
const struct entry *history_next_match(const struct history *history, struct topic *const *topics,
                                       size_t topic_count, struct cursor *cursor,
                                       bool *is_at_head) must_check;

/* Where a reader of all topics begins: every entry before the returned one is known to the cursor.
 * The others follow by its link, and some of them may be known. NULL if nothing is new. Costs a
 * binary search and a short walk. */
const struct entry *history_after(const struct history *history,
                                  const struct cursor *cursor) must_check;
