/* Names of topics and event types, and the Postgres channels that carry topics. Pure.
 *
 * Topics are one name space. What HTTP's first door can name is narrower than what NOTIFY can. */
#pragma once

#include "base.h"

enum {
    TOPIC_BYTES_MAX = 255,
    TOPIC_PATH_BYTES_MAX = 128, /* first door */
    EVENT_TYPE_BYTES_MAX = 255,
    /* How many channels topics are spread over. A constant of the protocol: publishers and brokers
     * that disagree would lose events without a word. */
    TOPIC_CHANNELS = 8,
    TOPIC_CHANNEL_BYTES = sizeof "topic_broadcast_0",
};

/* 1 to 255 bytes of UTF-8 without control characters: what NOTIFY may name. */
bool topic_is_valid(struct slice name) must_check;

/* The first door's rule: lower-cased, 1 to 128 of [a-z0-9_-]. False if name does not fit; else
 * lowered holds the name, which has name.length bytes, and a NUL. */
bool topic_parse_path(struct slice name, char lowered[TOPIC_PATH_BYTES_MAX + 1]) must_check;

/* Writes the channel that a publisher of the topic picks: topic_broadcast_N, N being FNV-1a-32
 * of the name in ASCII lower case, modulo TOPIC_CHANNELS. */
void topic_channel(struct slice name, char channel[TOPIC_CHANNEL_BYTES]);

/* The i-th channel's name, 0 <= i < TOPIC_CHANNELS. */
void topic_channel_at(unsigned i, char channel[TOPIC_CHANNEL_BYTES]);

/* 1 to 255 bytes of UTF-8 without control characters. */
bool event_type_is_valid(struct slice type) must_check;

/* The types that the stream itself uses and no HTTP publisher may: refresh, close, error, open. */
bool event_type_is_reserved(struct slice type) must_check;
