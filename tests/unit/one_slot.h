/* Two topic names whose floors share a slot when the topics are freed; found by trial. */
#pragma once

#include "support.h"
#include "topics.h"

static unused void find_names_of_one_slot(const char **one, const char **other) {
    enum { NAMES = 3000 };
    static char names[NAMES][16];
    static const char *by_slot[TOPICS_FLOOR_SLOTS];
    memset(by_slot, 0, sizeof by_slot);
    for (size_t i = 0; i < NAMES; i++) {
        unsigned hash;
        snprintf(names[i], sizeof names[i], "name-%zu", i);
        TOPIC_KEY_HASH(key_of(names[i]), hash);
        const char **slot = &by_slot[hash % TOPICS_FLOOR_SLOTS];
        if (*slot != NULL) {
            *one = *slot;
            *other = names[i];
            return;
        }
        *slot = names[i];
    }
    fail_msg("no two names have one slot");
}
