#include "gap_memory.h"

#include <stdlib.h>

struct known_gap {
    UT_hash_handle hh;
    struct gap gap;
};

void gap_memory_clear(struct gap_memory *memory) {
    struct known_gap *known;
    struct known_gap *next;
    HASH_ITER(hh, memory->by_topic, known, next) {
        HASH_DEL(memory->by_topic, known);
        free(known);
    }
}

/* The id up to which the topic has a gap; 0: none is known. */
static uint64_t end_of(const struct gap_memory *memory, struct topic_key topic) {
    const struct known_gap *known;
    TOPIC_KEY_FIND(memory->by_topic, topic, known);
    return known == NULL ? 0 : known->gap.id;
}

bool gap_memory_knows(const struct gap_memory *memory, const struct gap *gap) {
    return end_of(memory, gap_topic(gap)) >= gap->id || end_of(memory, TOPIC_KEY_NONE) >= gap->id;
}

static void forget_after(struct gap_memory *memory, struct topic_key topic, uint64_t id) {
    struct known_gap *known;
    TOPIC_KEY_FIND(memory->by_topic, topic, known);
    if (known != NULL && known->gap.id > id) {
        HASH_DEL(memory->by_topic, known);
        free(known);
    }
}

void gap_memory_pass(struct gap_memory *memory, struct topic_key topic, uint64_t id) {
    forget_after(memory, topic, id);
    forget_after(memory, TOPIC_KEY_NONE, id);
}

bool gap_memory_add(struct gap_memory *memory, const struct gap *gap) {
    struct known_gap *known;
    TOPIC_KEY_FIND(memory->by_topic, gap_topic(gap), known);
    if (known != NULL && known->gap.id >= gap->id) {
        return false;
    }
    if (known == NULL) {
        known = must_zalloc(sizeof *known);
        known->gap = *gap;
        TOPIC_KEY_ADD(memory->by_topic, gap_topic(&known->gap), known);
    }
    known->gap.id = gap->id;
    return true;
}

uint64_t gap_memory_end(const struct gap_memory *memory, uint64_t id) {
    for (const struct known_gap *known = memory->by_topic; known != NULL; known = known->hh.next) {
        id = known->gap.id > id ? known->gap.id : id;
    }
    return id;
}

const struct gap *gap_memory_next(const struct gap_memory *memory, const struct gap *gap) {
    const struct known_gap *known =
        gap == NULL ? memory->by_topic : container_of(gap, const struct known_gap, gap)->hh.next;
    return known == NULL ? NULL : &known->gap;
}

size_t gap_memory_count(const struct gap_memory *memory) {
    return HASH_COUNT(memory->by_topic);
}
