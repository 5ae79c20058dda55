/* What a publisher of the third door sent. Pure.
 *
 * The body is {"channel","eventType","payload"}, all three of them; other keys are ignored. Any
 * JSON is a payload, also 0, false, "" and null; it keeps every byte but the white space between
 * tokens. eventType "" is none. */
#pragma once

#include "buf.h"

struct durable {
    struct buf channel;
    struct buf type; /* empty: none */
    struct buf payload;
};

/* Zero-initialised before, released after, whatever the outcome. */
void durable_release(struct durable *durable);

/* Returns REPLY_OK, or the status of the refusal with *reason, good until the next call. */
unsigned durable_parse(struct durable *durable, struct slice body, const char **reason) must_check;
