/* What waits for one handler's socket: frames in order, bounded.
 *
 * Queueing writes to the socket only when the limit is reached, and never closes anything. An
 * outbox over its limit is overfull: it takes no more frames, and its owner closes the connection
 * in the flush phase. So it is safe to queue frames while walking a list of handlers. */
#pragma once

#include "loop.h"
#include "outq.h"

enum { OUTBOX_REFILL_BYTES = 1024 * 1024 }; /* replays stop for this turn when so much waits */

struct outbox {
    struct loop *loop; /* borrowed */
    int fd;            /* the owner's */
    size_t bytes_max;
    struct outq queue;
    bool is_closed; /* takes no more frames: overfull, or its owner is closing */
    void (*on_flush)(struct loop_task *task); /* in the flush phase after frames were queued */
    struct loop_task flush;
};

void outbox_init(struct outbox *outbox, struct loop *loop, int fd, size_t bytes_max,
                 void (*on_flush)(struct loop_task *task));

/* It takes no more frames. The frames that wait are kept until outbox_release. */
void outbox_close(struct outbox *outbox);
void outbox_release(struct outbox *outbox);

/* Queues a frame and takes the caller's reference. */
void outbox_queue(struct outbox *outbox, struct payload *frame);

/* Queues a frame with a reference of its own. */
void outbox_share(struct outbox *outbox, struct payload *frame);

/* on_flush is called at the end of this turn. */
void outbox_flush_soon(struct outbox *outbox);

/* Whether a replay should queue more now. */
bool outbox_wants_more(const struct outbox *outbox) must_check;

/* Whether a frame of that size can be queued. The largest frame, waiting or new, is not counted:
 * one event may be larger than the limit, and must not take the room of the others. */
bool outbox_has_room_for(const struct outbox *outbox, size_t bytes) must_check;
