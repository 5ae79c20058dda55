#include "outq.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { OUTQ_VECTORS = 256, OUTQ_FIRST_SIZE = 16, OUTQ_KEPT_SIZE = 1024 };

static struct payload **place_of(const struct outq *queue, size_t i) {
    return &queue->ring[(queue->first + i) & (queue->size - 1)];
}

static void drop_first(struct outq *queue) {
    payload_unref(place_of(queue, 0));
    queue->largest += queue->largest == queue->first ? 1 : 0;
    queue->first++;
    queue->count--;
    queue->gone++;
    queue->first_written = 0;
}

void outq_release(struct outq *queue) {
    while (queue->count > 0) {
        drop_first(queue);
    }
    free(queue->ring);
    *queue = (struct outq){.gone = queue->gone};
}

static void outq_grow(struct outq *queue) {
    size_t size = queue->size == 0 ? OUTQ_FIRST_SIZE : 2 * queue->size;
    struct payload **ring = must_alloc(size * sizeof(struct payload *));
    for (size_t i = 0; i < queue->count; i++) {
        ring[i] = *place_of(queue, i);
    }
    free(queue->ring);
    queue->ring = ring;
    queue->size = size;
    queue->largest -= queue->first;
    queue->first = 0;
}

static const struct payload *largest_of(const struct outq *queue) {
    return *place_of(queue, queue->largest - queue->first);
}

size_t outq_largest_bytes(const struct outq *queue) {
    if (queue->count == 0) {
        return 0;
    }
    return largest_of(queue)->length - (queue->largest == queue->first ? queue->first_written : 0);
}

void outq_queue(struct outq *queue, struct payload *payload) {
    check(payload->length > 0);
    if (queue->count == queue->size) {
        outq_grow(queue);
    }
    if (queue->count == 0 || payload->length >= outq_largest_bytes(queue)) {
        queue->largest = queue->first + queue->count;
    }
    *place_of(queue, queue->count) = payload;
    queue->count++;
    queue->queued_bytes += payload->length;
}

const struct payload *outq_at(const struct outq *queue, size_t i) {
    check(i < queue->count);
    return *place_of(queue, i);
}

static int vectors_fill(const struct outq *queue, struct iovec *vectors) {
    int used = 0;
    size_t skip = queue->first_written;
    for (size_t i = 0; i < queue->count && used < OUTQ_VECTORS; i++) {
        struct payload *payload = *place_of(queue, i);
        vectors[used++] = (struct iovec){payload->bytes + skip, payload->length - skip};
        skip = 0;
    }
    return used;
}

static void outq_account(struct outq *queue, size_t written) {
    queue->queued_bytes -= written;
    while (written > 0) {
        size_t left = (*place_of(queue, 0))->length - queue->first_written;
        if (written < left) {
            queue->first_written += written;
            return;
        }
        written -= left;
        drop_first(queue);
    }
}

enum outq_result outq_write(struct outq *queue, int fd) {
    while (queue->count > 0) {
        struct iovec vectors[OUTQ_VECTORS];
        int used = vectors_fill(queue, vectors);
        struct msghdr message = {.msg_iov = vectors, .msg_iovlen = (size_t)used};
        ssize_t written = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (written < 0) {
            if (errno == EINTR) {
                continue;
            }
            return errno == EAGAIN || errno == EWOULDBLOCK ? OUTQ_BLOCKED : OUTQ_BROKEN;
        }
        outq_account(queue, (size_t)written);
    }
    if (queue->size > OUTQ_KEPT_SIZE) {
        outq_release(queue); /* give back the memory of a burst */
    }
    return OUTQ_EMPTY;
}
