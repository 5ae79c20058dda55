/* The log's entries of one topic, or all breaks, in the order in which they came. Pure: a ring that
 * grows, searched by cursor. It borrows its entries.
 *
 * A reader has a cursor, not a pointer to an entry: so entries can be dropped without telling the
 * readers, and any number of them can read the same trail. */
#pragma once

#include "entry.h"

/* Zero-initialised: empty. */
struct trail {
    struct entry **ring; /* owned */
    uint32_t size;       /* a power of two, or 0 */
    uint32_t first;
    uint32_t count;
};

/* The entry is newer than all others. */
void trail_push(struct trail *trail, struct entry *entry);

/* The oldest entry, or NULL. */
struct entry *trail_first(const struct trail *trail);

/* Takes the oldest entry out. An empty trail uses no memory. */
void trail_drop_first(struct trail *trail);

/* The oldest entry that is new to the cursor, or NULL. This costs a binary search, and one step for
 * each later entry that the cursor covers. There are few of them if the reader moves its cursor
 * past each entry that it gets. */
struct entry *trail_after(const struct trail *trail, const struct cursor *cursor);

/* The memory that it uses, without the struct itself. */
size_t trail_bytes(const struct trail *trail);
