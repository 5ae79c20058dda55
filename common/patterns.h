/* Finds the patterns that match a topic, among any number of patterns. Pure.
 *
 * The patterns themselves are in a table of the owner, by their keys. This file counts how many
 * there are of each length. The owner looks a topic's beginning up once for each length that
 * occurs. So the cost of a topic depends on the number of lengths, and not on that of patterns. */
#pragma once

#include "topic_key.h"

/* Zero-initialised: no patterns. */
struct patterns {
    uint32_t counts[TOPIC_KEY_BYTES_MAX]; /* by the length of what stands between both '*' */
    uint32_t count;
};

/* Each pattern is added once, and removed once. */
void patterns_add(struct patterns *patterns, struct topic_key pattern);
void patterns_remove(struct patterns *patterns, struct topic_key pattern);

struct pattern_search {
    const struct patterns *patterns; /* borrowed */
    size_t topic_length;
    size_t length;  /* of the next patterns to be looked for */
    size_t star_at; /* in room: where the last pattern's second '*' stands; 0: none yet */
    char replaced;  /* what stood there */
    char room[TOPIC_KEY_BYTES_MAX + 1];
};

/* topic: a topic's key, and no pattern's. It is copied. */
void patterns_search(const struct patterns *patterns, struct topic_key topic,
                     struct pattern_search *search);

/* The key of a pattern that matches the topic, if there is one of that key: the owner looks it up.
 * It points into the search, until the next call. False at the end. */
bool patterns_next(struct pattern_search *search, struct topic_key *pattern) must_check;
