/* One entry of the log (history.h), an event or a break, and the cursor of a reader of the log.
 * Pure.
 *
 * A cursor says what a reader has: ephemeral events up to a place (the broker's count of
 * notifications and breaks), and durable events up to an id. An ephemeral entry or a break advances
 * `place`, a durable one `durable`. An entry is new if the part it advances is after the cursor. */
#pragma once

#include "payload.h"

#include <sys/queue.h>

struct topic;

struct cursor {
    uint64_t place;   /* of ephemeral events */
    uint64_t durable; /* an id of the table */
};

enum entry_kind {
    ENTRY_EPHEMERAL, /* takes a place, as a break does */
    ENTRY_DURABLE,   /* takes no place: it has an id */
    ENTRY_BREAK,     /* LISTEN was lost before this place */
};

struct entry {
    TAILQ_ENTRY(entry) link; /* in the log: oldest first */
    enum entry_kind kind;
    bool is_milestone;     /* see milestones.h */
    struct cursor at;      /* the cursor of a reader that has this entry and all before it */
    struct topic *topic;   /* borrowed: a topic stays while it has entries; NULL: a break */
    struct payload *frame; /* a reference: an EVENT; of a break, the REFRESH for all clients */
};
TAILQ_HEAD(entry_list, entry);

/* True if a reader with that cursor has everything that a reader at `at` has. */
static inline bool cursor_has(const struct cursor *cursor, const struct cursor *at) {
    return at->place <= cursor->place && at->durable <= cursor->durable;
}

/* The reader gets everything that a reader at `at` has. */
static inline void cursor_pass(struct cursor *cursor, const struct cursor *at) {
    cursor->place = cursor->place > at->place ? cursor->place : at->place;
    cursor->durable = cursor->durable > at->durable ? cursor->durable : at->durable;
}

/* True if a reader with that cursor does not have the entry. */
static inline bool entry_is_new(const struct entry *entry, const struct cursor *cursor) {
    return entry->kind == ENTRY_DURABLE ? entry->at.durable > cursor->durable
                                        : entry->at.place > cursor->place;
}
