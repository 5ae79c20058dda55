#include "trail.h"

#include "history.h"

#include <stdlib.h>

static struct history_entry **slot(const struct trail *trail, uint32_t i) {
    return &trail->ring[(trail->first + i) & (trail->size - 1)];
}

void trail_release(struct trail *trail) {
    free(trail->ring);
    *trail = (struct trail){0};
}

static void resize(struct trail *trail, uint32_t size) {
    struct history_entry **ring = must_alloc(size * sizeof(struct history_entry *));
    for (uint32_t i = 0; i < trail->count; i++) {
        ring[i] = *slot(trail, i);
    }
    free(trail->ring);
    trail->ring = ring;
    trail->size = size;
    trail->first = 0;
}

void trail_push(struct trail *trail, struct history_entry *entry) {
    check(trail->count == 0 || history_is_new(entry, &(*slot(trail, trail->count - 1))->at));
    if (trail->count == trail->size) {
        check(trail->size <= UINT32_MAX / 4);
        resize(trail, trail->size == 0 ? 1 : 2 * trail->size);
    }
    *slot(trail, trail->count) = entry;
    trail->count++;
}

struct history_entry *trail_first(const struct trail *trail) {
    return trail->count == 0 ? NULL : *slot(trail, 0);
}

/* A quarter full, it shrinks by half: it neither keeps what a burst took, nor moves to and fro. */
void trail_drop_first(struct trail *trail) {
    check(trail->count > 0);
    trail->first++;
    trail->count--;
    if (trail->count == 0) {
        trail_release(trail);
    } else if (trail->size > 4 && trail->count <= trail->size / 4) {
        resize(trail, trail->size / 2);
    }
}

/* Before the first entry behind either part of the cursor nothing is new; from there on what moves
 * only the other part is not. */
struct history_entry *trail_after(const struct trail *trail, const struct cursor *cursor) {
    uint32_t low = 0;
    uint32_t high = trail->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct cursor *at = &(*slot(trail, middle))->at;
        if (at->place > cursor->place || at->durable > cursor->durable) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    while (low < trail->count && !history_is_new(*slot(trail, low), cursor)) {
        low++;
    }
    return low == trail->count ? NULL : *slot(trail, low);
}

size_t trail_bytes(const struct trail *trail) {
    return trail->size * sizeof(struct history_entry *);
}
