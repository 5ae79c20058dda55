/* A queue of payloads to be written to one socket. It holds references.
 *
 * Pushing never writes; outq_write writes as much as the socket takes, many payloads in one call.
 * The queue counts its bytes; the owner compares them with its limit. Zero-initialised. */
#pragma once

#include "payload.h"

struct outq {
    struct payload **ring; /* owned; each entry holds a reference */
    size_t size;           /* a power of two, or 0 */
    size_t first; /* rises until the ring grows; the index in the ring is first modulo size */
    size_t count;
    size_t largest;       /* counted as first is: see outq_largest_bytes */
    size_t first_written; /* bytes of the first payload that are written already */
    size_t queued_bytes;
    uint64_t gone; /* how many payloads have left the queue since it exists */
};

void outq_release(struct outq *queue);

/* Takes the caller's reference. */
void outq_queue(struct outq *queue, struct payload *payload);

/* The i-th waiting payload, 0 being the one to be written next; i < count. Borrowed. */
const struct payload *outq_at(const struct outq *queue, size_t i);

/* The unwritten bytes of the largest waiting payload. It may be too low: after the largest one has
 * been written, the first one counts as the largest until one that is at least as large is
 * queued. */
size_t outq_largest_bytes(const struct outq *queue) must_check;

enum outq_result {
    OUTQ_EMPTY,   /* all is written */
    OUTQ_BLOCKED, /* the socket takes no more now: wait until it is writable */
    OUTQ_BROKEN,  /* the peer is gone; see errno */
};

enum outq_result outq_write(struct outq *queue, int fd) must_check;
