/* From the body of a publish in the topics API or the events API to the text of a notification. Pure.
 *
 * The text is an object with the members "topic", "data", and those of "event" and of fields.h that
 * were given, and a nonce, which keeps Postgres from merging equal notifications of a transaction.
 * data keeps every byte but the white space between tokens. */
#pragma once

#include "fields.h"
#include "topic.h"

struct envelope {
    char channel[TOPIC_CHANNEL_BYTES];
    struct buf topic;
    struct buf data; /* JSON, compacted */
    struct buf type; /* empty: none */
    struct fields fields;
    struct buf text; /* of the notification; the caller checks whether it is too large for one */
};

/* The functions below begin with a zero-initialised envelope, which is released after, whatever the
 * outcome. They return false with *reason, good until the next call. nonce is never the same in two
 * envelopes. */
void envelope_release(struct envelope *envelope);

/* The topics API: {"data":<any JSON but null>[,"event":"type"]}, and what fields.h has. topic is
 * valid. */
bool envelope_of_topic(struct envelope *envelope, const char *topic, struct slice body,
                       uint64_t nonce, const char **reason) must_check;

/* One of many: the same and "topic", which may be TOPIC_BROADCAST. A "tenant" is refused, as it is
 * in a notification. */
bool envelope_of_one(struct envelope *envelope, struct json_value value, uint64_t nonce,
                     const char **reason) must_check;

/* SSE/publish: the same with "topic"; or with "user", a string or a whole number, for that user's
 * own topic; or with neither of them, for everybody. If "text" is absent, a string is sent as its
 * text. */
bool envelope_of_sse(struct envelope *envelope, struct slice body, uint64_t nonce,
                     const char **reason) must_check;
