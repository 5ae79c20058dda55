/* Many events in one body, which are published together or not at all. Pure.
 *
 * The body is a JSON array of what envelope_of_one takes, or NDJSON: one of them on each line.
 * Empty lines are left out. */
#pragma once

#include "envelope.h"

enum { ENVELOPES_MAX = 1000 };

struct envelopes {
    size_t count;
    size_t room;           /* of the list */
    struct envelope *list; /* owned */
};

/* Returns HTTP_OK, or the status of the refusal with *reason, good until the next call. The reason
 * names the line, or the event's number in the array, both from 1 on. *stamp is that of the first
 * event; its nonce is moved past those that were used. Zero-initialised before, released after,
 * whatever the outcome. */
unsigned envelopes_parse(struct envelopes *envelopes, struct slice body,
                         struct envelope_stamp *stamp, const char **reason) must_check;
void envelopes_release(struct envelopes *envelopes);
