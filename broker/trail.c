#include "trail.h"

#include <stdlib.h>

static struct entry **slot(const struct trail *trail, uint32_t i) {
    return &trail->ring[(trail->first + i) & (trail->size - 1)];
}

static void resize(struct trail *trail, uint32_t size) {
    struct entry **ring = must_alloc(size * sizeof(struct entry *));
    for (uint32_t i = 0; i < trail->count; i++) {
        ring[i] = *slot(trail, i);
    }
    free(trail->ring);
    trail->ring = ring;
    trail->size = size;
    trail->first = 0;
}

void trail_push(struct trail *trail, struct entry *entry) {
    check(trail->count == 0 || entry_is_new(entry, &(*slot(trail, trail->count - 1))->at));
    if (trail->count == trail->size) {
        check(trail->size <= UINT32_MAX / 4);
        resize(trail, trail->size == 0 ? 1 : 2 * trail->size);
    }
    *slot(trail, trail->count) = entry;
    trail->count++;
}

struct entry *trail_first(const struct trail *trail) {
    return trail->count == 0 ? NULL : *slot(trail, 0);
}

/* Shrinks by half when it is a quarter full: so the memory of a burst is given back, and a trail
 * that grows and shrinks a little is not resized each time. */
void trail_drop_first(struct trail *trail) {
    check(trail->count > 0);
    trail->first++;
    trail->count--;
    if (trail->count == 0) {
        free(trail->ring);
        *trail = (struct trail){0};
    } else if (trail->size > 4 && trail->count <= trail->size / 4) {
        resize(trail, trail->size / 2);
    }
}

/* The binary search finds the first entry that is after the cursor's place or id. From there on
 * entries may be new; those of the kind in which the cursor is ahead are not, and are skipped. */
struct entry *trail_after(const struct trail *trail, const struct cursor *cursor) {
    uint32_t low = 0;
    uint32_t high = trail->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (cursor_has(cursor, &(*slot(trail, middle))->at)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    while (low < trail->count && !entry_is_new(*slot(trail, low), cursor)) {
        low++;
    }
    return low == trail->count ? NULL : *slot(trail, low);
}

size_t trail_bytes(const struct trail *trail) {
    return trail->size * sizeof(struct entry *);
}
