/* What waits to be written to one socket: references to payloads, in order.
 *
 * Pushing never writes; outq_write writes as much as the socket takes, many payloads in one call.
 * The queue counts its bytes; the owner compares them with its limit. Zero-initialised. */
#pragma once

#include "payload.h"

struct outq {
    struct payload **ring; /* owned; each entry holds a reference */
    size_t size;           /* a power of two, or 0 */
    size_t first;          /* grows for ever; the place is first modulo size */
    size_t count;
    size_t first_written; /* bytes of the first payload that are out already */
    size_t queued_bytes;
};

void outq_release(struct outq *queue);

/* The queue takes the caller's reference over. */
void outq_take(struct outq *queue, struct payload *payload);

/* The i-th waiting payload, 0 being the one to be written next; i < count. Borrowed. */
const struct payload *outq_at(const struct outq *queue, size_t i);

enum outq_result {
    OUTQ_EMPTY,   /* all is out */
    OUTQ_BLOCKED, /* the socket takes no more now: wait until it is writable */
    OUTQ_BROKEN,  /* the peer is gone; errno tells */
};

enum outq_result outq_write(struct outq *queue, int fd) must_check;
