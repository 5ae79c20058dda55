#include "uplink.h"

#include "log.h"
#include "sock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    UPLINK_READ_BYTES = 128 * 1024,
    UPLINK_FIRST_RETRY_MS = 50,
    UPLINK_LAST_RETRY_MS = 1000,
    UPLINK_GREETING_MS = 5000,
    UPLINK_QUEUE_BYTES_MAX = 16 * 1024 * 1024,
    UPLINK_DEAF_MS = 5000,
};

static void on_attempt_due(struct loop_timer *timer);

/* --- loss ---------------------------------------------------------------------------------- */

static void on_reap(struct loop_task *task) {
    struct uplink *uplink = container_of(task, struct uplink, reap);
    close(uplink->closing_fd);
    uplink->closing_fd = -1;
}

static void disconnect(struct uplink *uplink) {
    loop_io_stop(uplink->loop, &uplink->io);
    loop_timer_stop(uplink->loop, &uplink->timer);
    loop_flush_cancel(uplink->loop, &uplink->flush);
    outq_release(&uplink->output);
    buf_release(&uplink->input);
    if (uplink->fd >= 0) {
        uplink->closing_fd = uplink->fd;
        uplink->fd = -1;
        loop_reap_soon(uplink->loop, &uplink->reap, on_reap);
    }
}

static int64_t retry_ms(const struct uplink *uplink) {
    unsigned doublings = uplink->failures < 8 ? uplink->failures : 8;
    int64_t delay_ms = (int64_t)UPLINK_FIRST_RETRY_MS << doublings;
    return jittered(delay_ms < UPLINK_LAST_RETRY_MS ? delay_ms : UPLINK_LAST_RETRY_MS);
}

static void lose(struct uplink *uplink, const char *reason) {
    bool was_up = uplink->state == UPLINK_UP;
    if (uplink->failures == 0) {
        log_warning("the broker is away: %s", reason);
    }
    disconnect(uplink);
    uplink->state = UPLINK_WAITING;
    loop_timer_start(uplink->loop, &uplink->timer, retry_ms(uplink), on_attempt_due);
    uplink->failures++;
    if (was_up) {
        uplink->owner.on_down(uplink->owner.self);
    }
}

/* --- output -------------------------------------------------------------------------------- */

/* A turn may bring more than the socket takes, when all clients ask at once: that is no fault as
 * long as it is read. */
static bool is_deaf(const struct uplink *uplink) {
    return uplink->output.queued_bytes > UPLINK_QUEUE_BYTES_MAX &&
           loop_now_ms(uplink->loop) - uplink->written_ms > UPLINK_DEAF_MS;
}

static void on_flush(struct loop_task *task) {
    struct uplink *uplink = container_of(task, struct uplink, flush);
    size_t before = uplink->output.queued_bytes;
    enum outq_result result = outq_write(&uplink->output, uplink->fd);
    if (uplink->output.queued_bytes < before) {
        uplink->written_ms = loop_now_ms(uplink->loop);
    }
    switch (result) {
    case OUTQ_EMPTY:
        loop_io_change(uplink->loop, &uplink->io, LOOP_READ);
        return;
    case OUTQ_BLOCKED:
        if (is_deaf(uplink)) {
            lose(uplink, "it does not read");
            return;
        }
        loop_io_change(uplink->loop, &uplink->io, LOOP_READ | LOOP_WRITE);
        return;
    case OUTQ_BROKEN:
        lose(uplink, strerror(errno));
        return;
    }
}

static void queue(struct uplink *uplink, struct payload *frame) {
    outq_take(&uplink->output, frame);
    loop_flush_soon(uplink->loop, &uplink->flush, on_flush);
}

void uplink_take(struct uplink *uplink, struct payload *frame) {
    if (uplink->state != UPLINK_UP) {
        payload_unref(&frame);
        return;
    }
    queue(uplink, frame);
}

bool uplink_is_up(const struct uplink *uplink) {
    return uplink->state == UPLINK_UP;
}

bool uplink_is_away(const struct uplink *uplink) {
    return uplink->failures > 0;
}

/* --- input --------------------------------------------------------------------------------- */

static bool on_welcome(struct uplink *uplink, struct slice body) {
    struct wire_hello welcome;
    if (uplink->state != UPLINK_GREETING || !wire_decode_hello(body, &welcome)) {
        return false;
    }
    if (welcome.version != WIRE_VERSION) {
        uplink->owner.on_foreign_version(uplink->owner.self);
        return true;
    }
    log_info("connected to the broker, process %u", welcome.pid);
    loop_timer_stop(uplink->loop, &uplink->timer);
    uplink->state = UPLINK_UP;
    uplink->failures = 0;
    uplink->owner.on_up(uplink->owner.self);
    return true;
}

static void on_goodbye(struct uplink *uplink, struct slice body) {
    struct slice reason;
    char text[256] = "it said goodbye";
    if (wire_decode_goodbye(body, &reason)) {
        snprintf(text, sizeof text, "it said goodbye: %.*s", (int)reason.length, reason.at);
    }
    lose(uplink, text);
}

static void take_frame(struct uplink *uplink, const struct wire_frame *frame) {
    if (frame->type == WIRE_GOODBYE) {
        on_goodbye(uplink, frame->body);
        return;
    }
    bool is_sound =
        frame->type == WIRE_WELCOME
            ? on_welcome(uplink, frame->body)
            : uplink->state == UPLINK_UP && uplink->owner.on_frame(uplink->owner.self, frame);
    if (!is_sound) {
        lose(uplink, "it sent a frame that breaks the protocol");
    }
}

static void take_frames(struct uplink *uplink) {
    struct slice left = buf_slice(&uplink->input);
    size_t length = left.length;
    struct wire_frame frame;
    enum wire_next next;
    while ((next = wire_next(&left, WIRE_ANSWER_BYTES_MAX, &frame)) == WIRE_NEXT_FRAME) {
        take_frame(uplink, &frame);
        if (uplink->fd < 0) {
            return; /* lost, and the input with it */
        }
    }
    if (next == WIRE_NEXT_TOO_LONG) {
        lose(uplink, "it sent a frame that is too long");
        return;
    }
    buf_consume(&uplink->input, length - left.length);
}

static void on_ready(struct loop_io *io, unsigned ready) {
    struct uplink *uplink = container_of(io, struct uplink, io);
    if ((ready & LOOP_WRITE) != 0) {
        loop_flush_soon(uplink->loop, &uplink->flush, on_flush);
    }
    if ((ready & (LOOP_READ | LOOP_CLOSED)) == 0) {
        return;
    }
    char *room = buf_reserve(&uplink->input, UPLINK_READ_BYTES);
    ssize_t got = recv(uplink->fd, room, UPLINK_READ_BYTES, MSG_DONTWAIT);
    if (got > 0) {
        uplink->input.length += (size_t)got;
        take_frames(uplink);
    } else if (got == 0) {
        lose(uplink, "it closed the connection");
    } else if (errno != EAGAIN && errno != EINTR) {
        lose(uplink, strerror(errno));
    }
}

/* --- connecting ---------------------------------------------------------------------------- */

static void on_no_welcome(struct loop_timer *timer) {
    lose(container_of(timer, struct uplink, timer), "it does not answer");
}

static void on_attempt_due(struct loop_timer *timer) {
    struct uplink *uplink = container_of(timer, struct uplink, timer);
    int fd = sock_connect(uplink->path);
    if (fd < 0) {
        lose(uplink, strerror(errno));
        return;
    }
    uplink->fd = fd;
    uplink->written_ms = loop_now_ms(uplink->loop);
    uplink->state = UPLINK_GREETING;
    loop_io_start(uplink->loop, &uplink->io, fd, LOOP_READ, on_ready);
    loop_timer_start(uplink->loop, &uplink->timer, UPLINK_GREETING_MS, on_no_welcome);
    queue(uplink, wire_encode_hello(WIRE_HELLO, (uint32_t)getpid()));
}

void uplink_start(struct uplink *uplink, struct loop *loop, const char *socket_dir,
                  const struct uplink_owner *owner) {
    size_t size = strlen(socket_dir) + sizeof "/broker.sock";
    *uplink = (struct uplink){.loop = loop,
                              .owner = *owner,
                              .path = must_alloc(size),
                              .state = UPLINK_WAITING,
                              .fd = -1,
                              .closing_fd = -1,
                              .io = LOOP_IO_INIT};
    snprintf(uplink->path, size, "%s/broker.sock", socket_dir);
    loop_timer_start(loop, &uplink->timer, 0, on_attempt_due);
}

void uplink_stop(struct uplink *uplink) {
    disconnect(uplink);
    uplink->state = UPLINK_STOPPED;
    free(uplink->path);
    uplink->path = NULL;
}
