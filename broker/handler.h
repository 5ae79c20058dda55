/* One connected handler process: its frames in, its queue out.
 *
 * The life of a connection, changed in handler.c only:
 *
 *   GREETING    its HELLO has not come yet
 *   INTRODUCED  its RESUME has not come whole
 *   RESUMING    its live clients are being brought to the head (resume.h); its subscriptions wait
 *   SERVED      fan-out sends to it
 *   CLOSED      freed at the end of this turn
 *
 * Sending pushes a reference and marks the handler dirty; the flush phase writes. Replays fill the
 * queue only to a part, and again when it has drained. A handler that does not keep up, breaks the
 * protocol or goes away is closed with a reason. */
#pragma once

#include "loop.h"
#include "outq.h"
#include "replay.h"
#include "resume.h"

struct broker;

enum handler_state {
    HANDLER_GREETING,
    HANDLER_INTRODUCED,
    HANDLER_RESUMING,
    HANDLER_SERVED,
    HANDLER_CLOSED,
};

/* A question for the position that cannot be answered yet. */
struct position_question {
    TAILQ_ENTRY(position_question) link;
    uint64_t token;
};
TAILQ_HEAD(question_list, position_question);

struct handler {
    struct broker *broker; /* borrowed */
    TAILQ_ENTRY(handler) link;
    enum handler_state state;
    pid_t pid; /* as the kernel says */
    int fd;
    struct loop_io io;
    struct loop_timer deadline; /* for HELLO and RESUME, or for the rest of a frame begun */
    struct loop_task flush;
    struct loop_task reap;
    struct buf input;
    struct outq output;
    struct subscription_list subscriptions;
    struct resume resume;
    struct replay *replays; /* owned; by token */
    struct replay_list held;
    struct replay_list ready;
    struct loop_timer refill; /* the next turn: replays go on */
    struct question_list questions;
    size_t question_count;
    size_t live_connections;       /* of the replays */
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

/* Queues a document, which may be large; where that would close the handler, busy, with 503. */
void handler_take_document(struct handler *handler, const struct wire_document *message,
                           struct slice busy);

/* Replays go on in the next turn, so that a long one never keeps the loop from Postgres. */
void handler_refill_soon(struct handler *handler);

/* Whether a replay should send more now. */
bool handler_wants_more(const struct handler *handler) must_check;

/* Answers what is held and can be answered now. */
void handler_serve_held(struct handler *handler);

/* Durable events were pruned before they were read; the frame tells live clients so. */
void handler_on_gap(struct handler *handler, const struct page_gap *gap, struct payload *frame);

/* The table has come, has gone, or is another one; the frame tells live clients so. */
void handler_on_table_changed(struct handler *handler, struct payload *frame);

/* RESUMING: it has reached the head. */
void handler_on_resumed(struct handler *handler);

/* A client of it is live from here on. */
void handler_tell_subscribed(struct handler *handler, const struct wire_position *message);

/* Tells it the broker's position, if it has moved since it was last told. */
void handler_tell_position(struct handler *handler);

/* Closes at once; the reason is logged and counted. Freed at the end of the turn. */
void handler_close(struct handler *handler, const char *reason);
