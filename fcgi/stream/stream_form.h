/* How a stream looks to its client: it depends on the API, and on what the client asked for.
 * Pure. */
#pragma once

#include "wire.h"

enum stream_form {
    STREAM_FORM_TOPIC,    /* topics API */
    STREAM_FORM_EVENTS,   /* events API */
    STREAM_FORM_LABELLED, /* events API, with_topic=1: data says which topic the event was of */
    STREAM_FORM_USER,     /* durable API: a user stream */
};
enum { STREAM_FORMS = STREAM_FORM_USER + 1 };

/* What the broker has to know of it. */
static inline enum wire_form stream_form_wire(enum stream_form form) {
    return form == STREAM_FORM_USER ? WIRE_FORM_USER : WIRE_FORM_TOPICS;
}

/* The position as clients of that form have it. */
struct position stream_form_position(enum stream_form form,
                                     const struct position *position) must_check;

/* Appends an event as clients of that form get it: its body with the id line, see
 * sse_event_body. */
void stream_form_event(enum stream_form form, const struct wire_event *event, struct buf *out);
