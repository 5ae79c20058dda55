/* A gap: durable events that are missing from the table, because they were pruned or cannot be
 * sent. Clients with the gap's topic are told. Pure. */
#pragma once

#include "topics.h"

struct gap {
    uint64_t id; /* the topic's events up to this id are not complete */
    size_t key_length;
    char key[TOPIC_KEY_BYTES_MAX]; /* of its topic; none: any topic may be concerned */
};

/* topic: none if any topic may be concerned. */
struct gap gap_of(uint64_t id, struct topic_key topic) must_check;

/* Points into the gap; none if any topic may be concerned. */
struct topic_key gap_topic(const struct gap *gap) must_check;

bool gap_is_about(const struct gap *gap, const struct topic *topic) must_check;
