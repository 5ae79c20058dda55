/* One connected handler process: reads its frames and writes what is delivered to it (delivery.h).
 * What goes to all of them is in handlers.h.
 *
 * The life of a connection, changed in handler.c only:
 *
 *   GREETING    waits for its HELLO
 *   INTRODUCED  waits for the last part of its RESUME
 *   RESUMING    its live clients are brought to the head (resume.h); new subscriptions wait
 *   SERVED      fan-out sends to it
 *   CLOSED      freed at the end of this turn
 *
 * A handler that does not keep up, breaks the protocol or goes away is closed with a reason. That
 * happens only when its own socket is read, when its own timer is due, or in the flush phase: so no
 * handler is closed while code walks the list of handlers or a handler's interests. */
#pragma once

#include "frame_socket.h"
#include "health.h"
#include "resume.h"

enum handler_state {
    HANDLER_GREETING,
    HANDLER_INTRODUCED,
    HANDLER_RESUMING,
    HANDLER_SERVED,
    HANDLER_CLOSED,
};

/* All handlers, and what they share. */
struct handlers {
    struct loop *loop; /* borrowed, as is all but the list */
    const struct config *config;
    struct journal *journal;
    struct condition *condition; /* errors that end a connection are counted there */
    struct health *health;
    struct delivery_list list; /* each one is part of a handler */
};

/* An ASK_POSITION that cannot be answered yet. */
struct position_question {
    TAILQ_ENTRY(position_question) link;
    uint64_t token;
};
TAILQ_HEAD(question_list, position_question);

/* A question of the handler for a document. */
struct document_question {
    struct health_request request;
    struct handler *handler; /* borrowed: the owner */
    uint64_t token;
};

struct handler {
    struct handlers *handlers; /* borrowed */
    struct delivery delivery;
    enum handler_state state;
    pid_t pid; /* of the peer, as the kernel reports it */
    struct frame_socket socket;
    struct loop_timer deadline; /* for HELLO and RESUME, or for the rest of a frame */
    struct loop_task reap;
    struct resume resume;
    struct question_list questions;
    size_t question_count;
    struct document_question documents[WIRE_DOCUMENT_KINDS];
};

/* A process with that pid has connected; takes fd over. */
void handler_create(struct handlers *handlers, int fd, pid_t pid);

/* Closes it at once; it is freed at the end of this turn. */
void handler_close(struct handler *handler, const char *reason);

static inline struct handler *handler_of(struct delivery *delivery) {
    return container_of(delivery, struct handler, delivery);
}

/* Decides held subscriptions and answers waiting questions, where that is possible now. */
void handler_serve_held(struct handler *handler);

/* The table is another one; frame is the refresh for live clients. Borrowed. */
void handler_on_table_changed(struct handler *handler, struct payload *frame);
