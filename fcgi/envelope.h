/* What a publisher of the first door sent -> what goes to Postgres, and what is answered. Pure.
 *
 * The body is {"data":<any JSON but null>[,"event":"type"]}; other keys are ignored. The envelope
 * is the NOTIFY payload {"topic","data"[,"event"],"nonce"}: data keeps every byte but the white
 * space between tokens, and the nonce keeps Postgres from folding equal notifications of a
 * transaction. */
#pragma once

#include "buf.h"
#include "topic.h"

struct envelope {
    char channel[TOPIC_CHANNEL_BYTES];
    struct buf payload; /* of the NOTIFY */
    struct buf type;    /* empty: none */
    struct buf answer;  /* {"topic":"alpha","data":{...}} */
    struct slice topic; /* within answer, like the next */
    struct slice data;
};

/* Zero-initialised before, released after, whatever the outcome. */
void envelope_release(struct envelope *envelope);

/* Returns REPLY_OK, or the status of the refusal with *reason, good until the next call. topic is
 * valid; nonce is never the same in two envelopes. The payload has any size: whether a
 * notification holds it is for the caller to see. */
unsigned envelope_build(struct envelope *envelope, const char *topic, struct slice body,
                        uint64_t nonce, const char **reason) must_check;
