/* Gaps already told: to live clients during the reading under way (table.h), or by one walk
 * (walk.h), of a client that comes back or of a resuming handler. Pages repeat a gap until it is
 * passed; clients must be told once. */
#pragma once

#include "gap.h"

struct known_gap;

/* Zero-initialised: empty. */
struct gap_memory {
    struct known_gap *by_topic; /* owned */
};

void gap_memory_clear(struct gap_memory *memory);

static inline bool gap_memory_is_empty(const struct gap_memory *memory) {
    return memory->by_topic == NULL;
}

/* False if it was told already. */
bool gap_memory_add(struct gap_memory *memory, const struct gap *gap) must_check;

/* True if the gap was told: by itself, or with a gap of all topics. */
bool gap_memory_knows(const struct gap_memory *memory, const struct gap *gap) must_check;

/* An event of the topic is sent. A gap after this event must be told again: its earlier refresh
 * stood before the event. */
void gap_memory_pass(struct gap_memory *memory, struct topic_key topic, uint64_t id);

/* The highest of the gaps' ids and the given id. */
uint64_t gap_memory_end(const struct gap_memory *memory, uint64_t id) must_check;

/* All gaps, one after another: the one after gap, NULL for the first. NULL after the last. */
const struct gap *gap_memory_next(const struct gap_memory *memory,
                                  const struct gap *gap) must_check;

size_t gap_memory_count(const struct gap_memory *memory) must_check;
