#include "milestones.h"

#include <stdlib.h>

void milestones_release(struct milestones *milestones) {
    free(milestones->list);
    *milestones = (struct milestones){0};
}

static struct entry **slot(const struct milestones *milestones, size_t i) {
    return &milestones->list[milestones->first + i];
}

/* At the end of the list: moves all to its beginning, if that makes it half empty. */
static void make_room(struct milestones *milestones) {
    if (milestones->first > milestones->count) {
        memcpy(milestones->list, slot(milestones, 0), milestones->count * sizeof(struct entry *));
        milestones->first = 0;
    } else {
        milestones->size = milestones->size == 0 ? 16 : 2 * milestones->size;
        milestones->list =
            must_realloc(milestones->list, milestones->size * sizeof(struct entry *));
    }
}

static void append(struct milestones *milestones, struct entry *entry) {
    if (milestones->first + milestones->count == milestones->size) {
        make_room(milestones);
    }
    *slot(milestones, milestones->count++) = entry;
    entry->is_milestone = true;
}

void milestones_add(struct milestones *milestones, struct entry *entry) {
    milestones->since_last++;
    if (milestones->since_last >= MILESTONE_ENTRIES || milestones->count == 0) {
        append(milestones, entry);
        milestones->since_last = 0;
    }
}

/* How many milestones the cursor covers. Along the log neither part of a cursor falls, so a binary
 * search finds the last of them. */
static size_t count_known(const struct milestones *milestones, const struct cursor *cursor) {
    size_t low = 0;
    size_t high = milestones->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (cursor_has(cursor, &(*slot(milestones, middle))->at)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The oldest goes without moving the others: the log drops its oldest entries all the time. */
static void remove_at(struct milestones *milestones, size_t i) {
    milestones->count--;
    if (i == 0) {
        milestones->first++;
    } else {
        memmove(slot(milestones, i), slot(milestones, i + 1),
                (milestones->count - i) * sizeof(struct entry *));
    }
    if (milestones->count == 0) {
        milestones_release(milestones);
    }
}

/* The next entry takes its place, unless that is a milestone itself. */
void milestones_drop(struct milestones *milestones, struct entry *entry) {
    struct entry *next = TAILQ_NEXT(entry, link);
    if (!entry->is_milestone) {
        return;
    }
    size_t i = count_known(milestones, &entry->at) - 1;
    check(*slot(milestones, i) == entry);
    if (next == NULL || next->is_milestone) {
        remove_at(milestones, i);
    } else {
        *slot(milestones, i) = next;
        next->is_milestone = true;
    }
}

struct entry *milestones_before(const struct milestones *milestones, const struct cursor *cursor) {
    size_t known = count_known(milestones, cursor);
    return known == 0 ? NULL : *slot(milestones, known - 1);
}
