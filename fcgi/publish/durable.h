/* What a publisher of the durable API sent. Pure.
 *
 * The body is {"channel","eventType","payload"}, all three of them, and what fields.h has; other
 * keys are ignored, but "event" is refused, which means "eventType", and so is "tenant". Any JSON
 * but null is a payload, also 0, false and ""; it keeps every byte but the white space between
 * tokens. eventType is not empty. */
#pragma once

#include "fields.h"

struct durable {
    struct buf channel;
    struct buf type;
    struct buf data;
    struct fields fields;
};

/* Zero-initialised before durable_parse; released after it, also after a refusal. */
void durable_release(struct durable *durable);

/* Returns HTTP_OK, or the status of the refusal with *reason, good until the next call. */
unsigned durable_parse(struct durable *durable, struct slice body, const char **reason) must_check;
