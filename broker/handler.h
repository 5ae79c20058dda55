/* One connected handler process: its frames in, its queue out.
 *
 * The life of a connection is enum handler_state, changed in handler.c only. What a handler asks
 * for is answered when the broker can: subscriptions wait here while Postgres is not listened to.
 * Sending pushes a reference and marks the handler dirty; the flush phase writes. A handler that
 * does not keep up, breaks the protocol or goes away is closed with a reason. */
#pragma once

#include "loop.h"
#include "outq.h"
#include "topics.h"
#include "wire.h"

struct broker;

enum handler_state {
    HANDLER_GREETING, /* its HELLO has not come yet */
    HANDLER_SERVED,
    HANDLER_CLOSED, /* freed at the end of this turn */
};

/* What a handler asked for and cannot be told yet. */
struct held_request {
    TAILQ_ENTRY(held_request) link;
    enum wire_type type; /* WIRE_SUBSCRIBE or WIRE_ASK_POSITION */
    uint64_t token;
    enum position_kind position_kind; /* of a subscription */
};
TAILQ_HEAD(held_list, held_request);

struct handler {
    struct broker *broker; /* borrowed */
    TAILQ_ENTRY(handler) link;
    enum handler_state state;
    pid_t pid; /* as the kernel says */
    int fd;
    struct loop_io io;
    struct loop_timer deadline; /* for the HELLO, or for the rest of a frame begun */
    struct loop_task flush;
    struct loop_task reap;
    struct buf input;
    struct outq output;
    struct subscription_list subscriptions;
    struct held_list held;
    size_t held_count;
    struct position position_sent; /* the last that it knows of */
    int64_t position_sent_ms;
    uint32_t report_asked; /* serial of the last ASK_REPORT */
    uint32_t report_given; /* serial of the last REPORT that was complete */
};
TAILQ_HEAD(handler_list, handler);

/* Takes fd over and links itself into the broker's list. */
void handler_create(struct broker *broker, int fd, pid_t pid);

/* Queues a frame; the caller's reference is taken over. */
void handler_take(struct handler *handler, struct payload *frame);

/* The same, sharing the caller's frame. */
void handler_send(struct handler *handler, struct payload *frame);

/* Whether a frame of that size can be queued without closing it. */
bool handler_has_room(const struct handler *handler, size_t bytes) must_check;

/* Answers what is held and can be answered now. */
void handler_serve_held(struct handler *handler);

/* Tells it the broker's position, if it has moved since it was last told. */
void handler_tell_position(struct handler *handler);

/* Closes at once; the reason is logged and counted. Freed at the end of the turn. */
void handler_close(struct handler *handler, const char *reason);
