#include "outbox.h"

void outbox_init(struct outbox *outbox, struct loop *loop, int fd, size_t bytes_max,
                 void (*on_flush)(struct loop_task *task)) {
    *outbox = (struct outbox){.loop = loop, .fd = fd, .bytes_max = bytes_max, .on_flush = on_flush};
}

void outbox_close(struct outbox *outbox) {
    outbox->is_closed = true;
    loop_flush_cancel(outbox->loop, &outbox->flush);
}

void outbox_release(struct outbox *outbox) {
    outq_release(&outbox->queue);
}

void outbox_flush_soon(struct outbox *outbox) {
    loop_flush_soon(outbox->loop, &outbox->flush, outbox->on_flush);
}

bool outbox_wants_more(const struct outbox *outbox) {
    size_t half = outbox->bytes_max / 2;
    return !outbox->is_closed &&
           outbox->queue.queued_bytes <
               (half < OUTBOX_REFILL_BYTES ? half : (size_t)OUTBOX_REFILL_BYTES);
}

bool outbox_has_room_for(const struct outbox *outbox, size_t bytes) {
    size_t largest = outq_largest_bytes(&outbox->queue);
    return outbox->queue.queued_bytes + bytes - (largest > bytes ? largest : bytes) <=
           outbox->bytes_max;
}

/* A single turn may queue more than the limit. So write to the socket first: the handler is too
 * slow only if its socket does not take enough. */
static bool make_room(struct outbox *outbox, size_t bytes) {
    return outbox_has_room_for(outbox, bytes) ||
           (outq_write(&outbox->queue, outbox->fd) != OUTQ_BROKEN &&
            outbox_has_room_for(outbox, bytes));
}

void outbox_queue(struct outbox *outbox, struct payload *frame) {
    if (outbox->is_closed) {
        payload_unref(&frame);
        return;
    }
    if (make_room(outbox, frame->length)) {
        outq_queue(&outbox->queue, frame);
    } else {
        payload_unref(&frame);
        outbox->is_closed = true;
    }
    outbox_flush_soon(outbox);
}

void outbox_share(struct outbox *outbox, struct payload *frame) {
    outbox_queue(outbox, payload_ref(frame));
}
