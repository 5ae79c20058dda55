#include "uplink.h"

#include "log.h"
#include "sock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    UPLINK_FIRST_RETRY_MS = 50,
    UPLINK_LAST_RETRY_MS = 1000,
    UPLINK_GREETING_MS = 5000,
    UPLINK_QUEUE_BYTES_MAX = 16 * 1024 * 1024,
    UPLINK_DEAF_MS = 5000,
};

static void on_attempt_due(struct loop_timer *timer);

/* --- loss ---------------------------------------------------------------------------------- */

static void disconnect(struct uplink *uplink) {
    frame_socket_close(&uplink->socket);
    loop_timer_stop(uplink->loop, &uplink->timer);
    loop_flush_cancel(uplink->loop, &uplink->flush);
    outq_release(&uplink->output);
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
    enum outq_result result = frame_socket_write(&uplink->socket, &uplink->output);
    if (uplink->output.queued_bytes < before) {
        uplink->written_ms = loop_now_ms(uplink->loop);
    }
    if (result == OUTQ_BROKEN) {
        lose(uplink, strerror(errno));
    } else if (result == OUTQ_BLOCKED && is_deaf(uplink)) {
        lose(uplink, "it does not read");
    }
}

static void append(struct uplink *uplink, struct payload *frame) {
    outq_queue(&uplink->output, frame);
    loop_flush_soon(uplink->loop, &uplink->flush, on_flush);
}

void uplink_queue(struct uplink *uplink, struct payload *frame) {
    if (uplink->state != UPLINK_UP) {
        payload_unref(&frame);
        return;
    }
    append(uplink, frame);
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

static bool on_frame(void *self, const struct wire_frame *frame) {
    struct uplink *uplink = self;
    if (frame->type == WIRE_GOODBYE) {
        on_goodbye(uplink, frame->body);
        return true;
    }
    return frame->type == WIRE_WELCOME
               ? on_welcome(uplink, frame->body)
               : uplink->state == UPLINK_UP && uplink->owner.on_frame(uplink->owner.self, frame);
}

static void receive(struct uplink *uplink) {
    char reason[64];
    const char *offence;
    if (frame_socket_read(&uplink->socket, uplink, on_frame, &offence)) {
        return;
    }
    if (offence != NULL) {
        snprintf(reason, sizeof reason, "it %s", offence);
        lose(uplink, reason);
    } else {
        lose(uplink, errno == 0 ? "it closed the connection" : strerror(errno));
    }
}

static void on_ready(struct loop_io *io, unsigned ready) {
    struct uplink *uplink = container_of(io, struct uplink, socket.io);
    if ((ready & LOOP_WRITE) != 0) {
        loop_flush_soon(uplink->loop, &uplink->flush, on_flush);
    }
    if ((ready & (LOOP_READ | LOOP_CLOSED)) != 0) {
        receive(uplink);
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
    uplink->written_ms = loop_now_ms(uplink->loop);
    uplink->state = UPLINK_GREETING;
    frame_socket_open(&uplink->socket, uplink->loop, fd, WIRE_ANSWER_BYTES_MAX, on_ready);
    loop_timer_start(uplink->loop, &uplink->timer, UPLINK_GREETING_MS, on_no_welcome);
    append(uplink, wire_encode_hello(WIRE_HELLO, (uint32_t)getpid()));
}

void uplink_start(struct uplink *uplink, struct loop *loop, const char *socket_dir,
                  const struct uplink_owner *owner) {
    size_t size = strlen(socket_dir) + sizeof "/broker.sock";
    *uplink = (struct uplink){.loop = loop,
                              .owner = *owner,
                              .path = must_alloc(size),
                              .state = UPLINK_WAITING,
                              .socket.io = LOOP_IO_INIT};
    snprintf(uplink->path, size, "%s/broker.sock", socket_dir);
    loop_timer_start(loop, &uplink->timer, 0, on_attempt_due);
}

void uplink_stop(struct uplink *uplink) {
    disconnect(uplink);
    uplink->state = UPLINK_STOPPED;
    free(uplink->path);
    uplink->path = NULL;
}
