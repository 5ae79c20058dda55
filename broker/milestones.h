/* Every MILESTONE_ENTRIES-th entry of the log, so that a reader of all topics finds its place in
 * the log by a binary search and a short walk. It borrows its entries. Pure. */
#pragma once

#include "entry.h"

enum { MILESTONE_ENTRIES = 256 };

/* Zero-initialised: the log is empty. */
struct milestones {
    struct entry **list; /* owned; oldest first, from `first` on */
    size_t first;
    size_t count;
    size_t size;
    size_t since_last; /* entries that were added since the last one */
};

void milestones_release(struct milestones *milestones);

/* The entry is the newest of the log. */
void milestones_add(struct milestones *milestones, struct entry *entry);

/* The entry leaves the log; it is still linked there. */
void milestones_drop(struct milestones *milestones, struct entry *entry);

/* The last milestone that the cursor covers: no entry before it is new to the cursor. NULL: there
 * is none, so the reader starts at the log's first entry. */
struct entry *milestones_before(const struct milestones *milestones,
                                const struct cursor *cursor) must_check;
