/* From the body of a publish in the topics API or the events API to the text of a notification.
 * Pure.
 *
 * The tenant is given by the caller, which knows it from the web server (identity.h); it is valid.
 * A body with a "tenant" is refused: it is not for the publisher to say whose topics they are.
 *
 * The text is an object with the members "topic", "data", and those of "event" and of fields.h that
 * were given, "tenant" unless that is "", and a nonce, which keeps Postgres from merging equal
 * notifications of a transaction. data keeps every byte but the white space between tokens. */
#pragma once

#include "fields.h"
#include "topic.h"

struct envelope {
    char channel[TOPIC_CHANNEL_BYTES];
    struct buf topic;
    struct buf data; /* JSON, compacted */
    struct buf type; /* empty: none */
    struct fields fields;
    struct buf text;  /* of the notification; the caller checks whether it is too large for one */
    const char *unit; /* "line" or "event", of a body of many; NULL: of a body of its own */
    size_t number;    /* of that unit, from 1 on */
};

/* The functions below begin with a zero-initialised envelope, which is released after, whatever the
 * outcome. They return false with *reason, good until the next call. The nonce is never the same in
 * two envelopes. */
void envelope_release(struct envelope *envelope);

/* What the publisher does not say itself. */
struct envelope_stamp {
    struct slice tenant;
    uint64_t nonce;
};

/* The topics API: {"data":<any JSON but null>[,"event":"type"]}, and what fields.h has. topic is
 * valid. */
bool envelope_of_topic(struct envelope *envelope, const char *topic, struct slice body,
                       const struct envelope_stamp *stamp, const char **reason) must_check;

/* One of many: the same and "topic", which may be TOPIC_BROADCAST. */
bool envelope_of_one(struct envelope *envelope, struct json_value value,
                     const struct envelope_stamp *stamp, const char **reason) must_check;

/* SSE/publish: the same with "topic"; or with "user", a string or a whole number, for that user's
 * own topic; or with neither of them, for everybody. If "text" is absent, a string is sent as its
 * text. */
bool envelope_of_sse(struct envelope *envelope, struct slice body,
                     const struct envelope_stamp *stamp, const char **reason) must_check;
