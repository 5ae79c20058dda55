#include "handler.h"

#include "broker.h"
#include "log.h"
#include "topic.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    HANDLER_READ_BYTES = 64 * 1024,
    HANDLER_DEADLINE_MS = 10000, /* for a HELLO, and for a frame that was begun */
    HANDLER_POSITION_MS = 1000,
    HANDLER_HELD_MAX = 65536,
};

/* --- end --------------------------------------------------------------------------------- */

static void on_reap(struct loop_task *task) {
    struct handler *handler = container_of(task, struct handler, reap);
    close(handler->fd);
    buf_release(&handler->input);
    outq_release(&handler->output);
    struct held_request *held;
    while ((held = TAILQ_FIRST(&handler->held)) != NULL) {
        TAILQ_REMOVE(&handler->held, held, link);
        free(held);
    }
    free(handler);
}

void handler_close(struct handler *handler, const char *reason) {
    if (handler->state == HANDLER_CLOSED) {
        return;
    }
    struct broker *broker = handler->broker;
    log_info("handler %d: closed: %s", (int)handler->pid, reason);
    handler->state = HANDLER_CLOSED;
    struct subscription *subscription;
    while ((subscription = LIST_FIRST(&handler->subscriptions)) != NULL) {
        topics_end(&broker->topics, subscription);
    }
    TAILQ_REMOVE(&broker->handlers, handler, link);
    broker->handler_count--;
    loop_io_stop(broker->loop, &handler->io);
    loop_timer_stop(broker->loop, &handler->deadline);
    loop_flush_cancel(broker->loop, &handler->flush);
    loop_reap_soon(broker->loop, &handler->reap, on_reap);
    broker_on_handler_closed(broker, handler);
}

/* The peer did something that ends the connection: it is told why, as far as that gets. */
static void part_with(struct handler *handler, const char *reason) {
    handler_take(handler, wire_encode_goodbye(reason));
    if (handler->state == HANDLER_CLOSED) {
        return;
    }
    handler->broker->totals.errors++;
    handler->broker->last_error_ms = wall_ms();
    enum outq_result result = outq_write(&handler->output, handler->fd);
    (void)result; /* it is closed in any case */
    handler_close(handler, reason);
}

/* --- output ------------------------------------------------------------------------------ */

static void on_flush(struct loop_task *task) {
    struct handler *handler = container_of(task, struct handler, flush);
    if (handler->state == HANDLER_SERVED &&
        loop_now_ms(handler->broker->loop) - handler->position_sent_ms >= HANDLER_POSITION_MS) {
        handler_tell_position(handler);
    }
    if (handler->state == HANDLER_CLOSED) {
        return; /* that was one frame too many for it */
    }
    switch (outq_write(&handler->output, handler->fd)) {
    case OUTQ_EMPTY:
        loop_io_change(handler->broker->loop, &handler->io, LOOP_READ);
        return;
    case OUTQ_BLOCKED:
        loop_io_change(handler->broker->loop, &handler->io, LOOP_READ | LOOP_WRITE);
        return;
    case OUTQ_BROKEN:
        handler_close(handler, strerror(errno));
        return;
    }
}

bool handler_has_room(const struct handler *handler, size_t bytes) {
    size_t limit = (size_t)handler->broker->config->handler_queue_bytes;
    return handler->output.count == 0 || handler->output.queued_bytes + bytes <= limit;
}

/* What a whole turn brings may be more than the limit: it is too slow only if its socket does not
 * take it either. */
static bool make_room(struct handler *handler, size_t bytes) {
    if (handler_has_room(handler, bytes)) {
        return true;
    }
    return outq_write(&handler->output, handler->fd) != OUTQ_BROKEN &&
           handler_has_room(handler, bytes);
}

void handler_take(struct handler *handler, struct payload *frame) {
    if (handler->state == HANDLER_CLOSED || !make_room(handler, frame->length)) {
        payload_unref(&frame);
        handler_close(handler, "too slow: more than handler_queue_bytes wait for it");
        return;
    }
    outq_take(&handler->output, frame);
    loop_flush_soon(handler->broker->loop, &handler->flush, on_flush);
}

void handler_send(struct handler *handler, struct payload *frame) {
    handler_take(handler, payload_ref(frame));
}

void handler_tell_position(struct handler *handler) {
    struct wire_position message = {0};
    markers_position(&handler->broker->markers, &message.position);
    if (handler->state == HANDLER_SERVED &&
        !position_equals(&message.position, &handler->position_sent)) {
        handler->position_sent = message.position;
        handler->position_sent_ms = loop_now_ms(handler->broker->loop);
        handler_take(handler, wire_encode_position(WIRE_POSITION, &message));
    }
}

/* --- requests ---------------------------------------------------------------------------- */

static void answer_subscription(struct handler *handler, const struct held_request *request) {
    bool was_elsewhere = request->position_kind != POSITION_NONE;
    struct wire_accepted accepted = {.token = request->token, .follows = was_elsewhere};
    markers_position(&handler->broker->markers, &accepted.position);
    handler_take(handler, wire_encode_accepted(&accepted));
    if (was_elsewhere) { /* nothing is kept yet that could be replayed */
        struct wire_refresh refresh = {.token = request->token,
                                       .position = accepted.position,
                                       .reason = SSE_REFRESH_UNKNOWN_POSITION,
                                       .dropped = SSE_DROPPED_UNKNOWN};
        handler_take(handler, wire_encode_refresh(&refresh));
    }
    struct wire_position subscribed = {request->token, accepted.position};
    handler_take(handler, wire_encode_position(WIRE_SUBSCRIBED, &subscribed));
    handler->position_sent = accepted.position;
    handler->position_sent_ms = loop_now_ms(handler->broker->loop);
}

static void answer_position(struct handler *handler, const struct held_request *request) {
    struct wire_position message = {.token = request->token};
    markers_position(&handler->broker->markers, &message.position);
    handler_take(handler, wire_encode_position(WIRE_POSITION, &message));
}

/* A position is handed out only if other brokers can know it. */
static bool can_answer(const struct handler *handler, const struct held_request *request) {
    const struct broker *broker = handler->broker;
    return request->type == WIRE_SUBSCRIBE
               ? broker_is_listening(broker)
               : broker_is_listening(broker) && broker->markers.is_public;
}

static void answer(struct handler *handler, const struct held_request *request) {
    if (request->type == WIRE_SUBSCRIBE) {
        answer_subscription(handler, request);
    } else {
        answer_position(handler, request);
    }
}

static void held_remove(struct handler *handler, struct held_request *held) {
    TAILQ_REMOVE(&handler->held, held, link);
    handler->held_count--;
    free(held);
}

void handler_serve_held(struct handler *handler) {
    struct held_request *held = TAILQ_FIRST(&handler->held);
    while (held != NULL && handler->state == HANDLER_SERVED) {
        struct held_request *next = TAILQ_NEXT(held, link);
        if (can_answer(handler, held)) {
            answer(handler, held);
            held_remove(handler, held);
        }
        held = next;
    }
}

static void hold(struct handler *handler, const struct held_request *request) {
    if (handler->held_count == HANDLER_HELD_MAX) {
        part_with(handler, "too many requests wait for Postgres");
        return;
    }
    struct held_request *held = must_alloc(sizeof *held);
    *held = *request;
    TAILQ_INSERT_TAIL(&handler->held, held, link);
    handler->held_count++;
}

static void answer_or_hold(struct handler *handler, const struct held_request *request) {
    if (can_answer(handler, request)) {
        answer(handler, request);
    } else {
        hold(handler, request);
    }
}

/* --- frames in: each returns false if the frame breaks the protocol ----------------------- */

static bool on_hello(struct handler *handler, struct slice body) {
    struct wire_hello hello;
    if (!wire_decode_hello(body, &hello)) {
        return false;
    }
    if (hello.version != WIRE_VERSION) {
        handler_take(handler, wire_encode_hello(WIRE_WELCOME, (uint32_t)getpid()));
        part_with(handler, "speaks another version of the protocol");
        return true;
    }
    handler->state = HANDLER_SERVED;
    handler->report_asked = handler->broker->health.last_serial; /* what was asked before it came */
    handler->report_given = handler->report_asked;               /* is not its to answer */
    handler_take(handler, wire_encode_hello(WIRE_WELCOME, (uint32_t)getpid()));
    log_info("handler %d: connected", (int)handler->pid);
    return true;
}

static bool topics_are_valid(const struct wire_topics *topics) {
    for (size_t i = 0; i < topics->count; i++) {
        if (!topic_is_valid(topics->names[i])) {
            return false;
        }
    }
    return true;
}

static bool on_subscribe(struct handler *handler, struct slice body) {
    struct wire_subscribe message;
    if (!wire_decode_subscribe(body, &message) || !topics_are_valid(&message.topics)) {
        return false;
    }
    for (size_t i = 0; i < message.topics.count; i++) {
        topics_subscribe(&handler->broker->topics, message.topics.names[i], handler,
                         &handler->subscriptions);
    }
    struct held_request request = {
        .type = WIRE_SUBSCRIBE, .token = message.token, .position_kind = message.position_kind};
    answer_or_hold(handler, &request);
    return true;
}

static bool on_unsubscribe(struct handler *handler, struct slice body) {
    struct wire_unsubscribe message;
    if (!wire_decode_unsubscribe(body, &message)) {
        return false;
    }
    for (size_t i = 0; i < message.topics.count; i++) {
        if (!topics_unsubscribe(&handler->broker->topics, message.topics.names[i], handler,
                                &handler->subscriptions)) {
            return false;
        }
    }
    struct held_request *held;
    TAILQ_FOREACH(held, &handler->held, link) {
        if (held->token == message.token) {
            held_remove(handler, held);
            break;
        }
    }
    return true;
}

static bool on_ask_position(struct handler *handler, struct slice body) {
    struct held_request request = {.type = WIRE_ASK_POSITION};
    if (!wire_decode_ask_position(body, &request.token)) {
        return false;
    }
    answer_or_hold(handler, &request);
    return true;
}

static bool on_ask_health(struct handler *handler, struct slice body) {
    struct wire_ask_health message;
    if (!wire_decode_ask_health(body, &message)) {
        return false;
    }
    broker_ask_health(handler->broker, handler, message.token, message.limit);
    return true;
}

static void apply_entry(struct handler *handler, const struct wire_report_entry *entry) {
    struct broker *broker = handler->broker;
    broker->totals.delivered += entry->delivered;
    broker->totals.dropped_events += entry->dropped_events;
    broker->totals.dropped_clients += entry->dropped_clients;
    struct topic *topic = topics_find(&broker->topics, entry->topic);
    if (topic != NULL) {
        topic->delivered += entry->delivered;
        topic->dropped_events += entry->dropped_events;
        topic->dropped_clients += entry->dropped_clients;
    }
    struct subscription *subscription =
        topics_subscription(&broker->topics, entry->topic, handler, &handler->subscriptions);
    if (subscription != NULL) {
        subscription->pending_events = entry->pending_events;
        subscription->queued_bytes = entry->queued_bytes;
    }
}

static bool on_report(struct handler *handler, struct slice body) {
    struct wire_report report;
    struct wire_report_entry entry;
    if (!wire_decode_report(body, &report)) {
        return false;
    }
    while (wire_next_report_entry(&report, &entry)) {
        apply_entry(handler, &entry);
    }
    if (report.count > 0 || report.entries.length > 0) {
        return false;
    }
    if (report.is_last && report.serial > handler->report_given) {
        uint32_t before = handler->report_given;
        handler->report_given = report.serial;
        broker_on_report(handler->broker, before, report.serial);
    }
    return true;
}

static bool on_frame(struct handler *handler, const struct wire_frame *frame) {
    if ((frame->type == WIRE_HELLO) != (handler->state == HANDLER_GREETING)) {
        return false;
    }
    switch (frame->type) {
    case WIRE_HELLO:
        return on_hello(handler, frame->body);
    case WIRE_SUBSCRIBE:
        return on_subscribe(handler, frame->body);
    case WIRE_UNSUBSCRIBE:
        return on_unsubscribe(handler, frame->body);
    case WIRE_ASK_POSITION:
        return on_ask_position(handler, frame->body);
    case WIRE_ASK_HEALTH:
        return on_ask_health(handler, frame->body);
    case WIRE_REPORT:
        return on_report(handler, frame->body);
    case WIRE_WELCOME:
    case WIRE_ACCEPTED:
    case WIRE_REFUSED:
    case WIRE_REFRESH:
    case WIRE_SUBSCRIBED:
    case WIRE_EVENT:
    case WIRE_POSITION:
    case WIRE_HEALTH:
    case WIRE_ASK_REPORT:
    case WIRE_GOODBYE:
        break;
    }
    return false;
}

/* --- input ------------------------------------------------------------------------------- */

static void on_deadline(struct loop_timer *timer) {
    struct handler *handler = container_of(timer, struct handler, deadline);
    part_with(handler, handler->state == HANDLER_GREETING ? "said nothing that begins with HELLO"
                                                          : "did not finish a frame");
}

/* A frame that was begun must end in time; between frames there may be any silence. */
static void watch_half_frame(struct handler *handler) {
    struct loop *loop = handler->broker->loop;
    if (handler->state != HANDLER_SERVED) {
        return;
    }
    if (handler->input.length == 0) {
        loop_timer_stop(loop, &handler->deadline);
    } else if (!loop_timer_is_started(&handler->deadline)) {
        loop_timer_start(loop, &handler->deadline, HANDLER_DEADLINE_MS, on_deadline);
    }
}

static void take_frames(struct handler *handler) {
    struct slice left = buf_slice(&handler->input);
    struct wire_frame frame;
    size_t length = left.length;
    while (handler->state != HANDLER_CLOSED) {
        enum wire_next next = wire_next(&left, WIRE_REQUEST_BYTES_MAX, &frame);
        if (next == WIRE_NEXT_INCOMPLETE) {
            break;
        }
        if (next == WIRE_NEXT_TOO_LONG) {
            part_with(handler, "sent a frame that is too long");
            return;
        }
        if (!on_frame(handler, &frame)) {
            part_with(handler, "sent a frame that breaks the protocol");
            return;
        }
        loop_timer_stop(handler->broker->loop, &handler->deadline);
    }
    if (handler->state != HANDLER_CLOSED) {
        buf_consume(&handler->input, length - left.length);
        watch_half_frame(handler);
    }
}

static void on_ready(struct loop_io *io, unsigned ready) {
    struct handler *handler = container_of(io, struct handler, io);
    if ((ready & LOOP_WRITE) != 0) {
        loop_flush_soon(handler->broker->loop, &handler->flush, on_flush);
    }
    if ((ready & (LOOP_READ | LOOP_CLOSED)) == 0) {
        return;
    }
    char *room = buf_reserve(&handler->input, HANDLER_READ_BYTES);
    ssize_t got = recv(handler->fd, room, HANDLER_READ_BYTES, MSG_DONTWAIT);
    if (got > 0) {
        handler->input.length += (size_t)got;
        take_frames(handler);
    } else if (got == 0) {
        handler_close(handler, "it went away");
    } else if (errno != EAGAIN && errno != EINTR) {
        handler_close(handler, strerror(errno));
    }
}

void handler_create(struct broker *broker, int fd, pid_t pid) {
    struct handler *handler = must_zalloc(sizeof *handler);
    handler->broker = broker;
    handler->pid = pid;
    handler->fd = fd;
    handler->io = LOOP_IO_INIT;
    handler->state = HANDLER_GREETING;
    LIST_INIT(&handler->subscriptions);
    TAILQ_INIT(&handler->held);
    TAILQ_INSERT_TAIL(&broker->handlers, handler, link);
    broker->handler_count++;
    loop_io_start(broker->loop, &handler->io, fd, LOOP_READ, on_ready);
    loop_timer_start(broker->loop, &handler->deadline, HANDLER_DEADLINE_MS, on_deadline);
}
