/* The entries of the log that are about one thing (a topic, or breaks), in the order in which they
 * came. Pure: a ring that grows, searched by cursor. It borrows its entries.
 *
 * Whoever replays has a cursor, not an entry: nothing has to be told to it when entries leave, and
 * any number of clients read the same trail. */
#pragma once

#include "base.h"

struct cursor;
struct history_entry;

/* Zero-initialised: empty. */
struct trail {
    struct history_entry **ring; /* owned */
    uint32_t size;               /* a power of two, or 0 */
    uint32_t first;
    uint32_t count;
};

void trail_release(struct trail *trail);

/* The entry is newer than all others. */
void trail_push(struct trail *trail, struct history_entry *entry);

/* The oldest one, NULL if there is none. */
struct history_entry *trail_first(const struct trail *trail);

/* Takes the oldest one out; an empty trail holds no memory. */
void trail_drop_first(struct trail *trail);

/* The oldest one that is new to who stands there; NULL if there is none. Cheap as long as the
 * cursor moves on with what it is given. */
struct history_entry *trail_after(const struct trail *trail, const struct cursor *cursor);

/* Memory that it holds, besides itself. */
size_t trail_bytes(const struct trail *trail);
