/* Names of topics and event types, and the Postgres channels that carry topics. Pure.
 *
 * There is one name space of topics. The paths of the topics API can name fewer topics than NOTIFY
 * can. */
#pragma once

#include "base.h"

#define EVENT_RETRY_MAX_MS 3600000 /* a macro, for texts: see text_of */

enum {
    TOPIC_BYTES_MAX = 255,
    TOPIC_PATH_BYTES_MAX = 128, /* in a path of the topics API */
    TENANT_BYTES_MAX = 64,
    PUBLISHER_ID_BYTES_MAX = 64,
    EVENT_TYPE_BYTES_MAX = 255,
    /* How many channels topics are spread over. A constant of the protocol: where publishers and
     * brokers disagree, events are silently lost. */
    TOPIC_CHANNELS = 8,
    TOPIC_CHANNEL_BYTES = sizeof "topic_broadcast_0",
};

/* 1 to 255 bytes of UTF-8 without control characters. */
bool topic_is_valid(struct slice name) must_check;

/* A name that ends in '*' is a pattern, and no topic: it matches all topics that begin with the
 * part before the '*'. TOPIC_BROADCAST alone is a topic all the same. */
bool topic_is_pattern(struct slice name) must_check;

/* Events on this topic go to every stream of the events API, whatever its topics. */
#define TOPIC_BROADCAST "*"

/* Topics that begin with this are one user's, and no pattern matches them. */
#define TOPIC_USER_PREFIX "user:"
bool topic_is_of_user(struct slice name) must_check;

/* The rule of the topics API's paths: lower-cased, 1 to 128 of [a-z0-9_-]. False if name does not
 * fit; else lowered holds the name, which has name.length bytes, and a NUL. */
bool topic_parse_path(struct slice name, char lowered[TOPIC_PATH_BYTES_MAX + 1]) must_check;

/* "", or 1 to 64 of [A-Za-z0-9_.-]. */
bool tenant_is_valid(struct slice tenant) must_check;

/* Writes the channel that a publisher of the topic picks: topic_broadcast_N, N being FNV-1a-32
 * of the name in ASCII lower case, modulo TOPIC_CHANNELS. */
void topic_channel(struct slice name, char channel[TOPIC_CHANNEL_BYTES]);

/* The i-th channel's name, 0 <= i < TOPIC_CHANNELS. */
void topic_channel_at(unsigned i, char channel[TOPIC_CHANNEL_BYTES]);

/* 1 to 255 bytes of UTF-8 without control characters. */
bool event_type_is_valid(struct slice type) must_check;

/* 1 to 64 of [A-Za-z0-9_.-]: an event's own id, given by its publisher. */
bool publisher_id_is_valid(struct slice id) must_check;

/* The types that only the stream itself may use, not publishers. */
#define EVENT_TYPES_RESERVED_TEXT "refresh, close, error, open, position, end, state"
bool event_type_is_reserved(struct slice type) must_check;
