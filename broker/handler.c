#include "handler.h"

#include "broker.h"
#include "document.h"
#include "log.h"
#include "topic.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    HANDLER_READ_BYTES = 64 * 1024,
    HANDLER_DEADLINE_MS = 10000, /* for HELLO and RESUME, and for a frame that was begun */
    HANDLER_POSITION_MS = 1000,
    HANDLER_WAITING_MAX = 65536, /* subscriptions on their way, and questions */
    HTTP_OK = 200,
    HTTP_UNAVAILABLE = 503,
    HANDLER_REFILL_BYTES = 1024 * 1024, /* so much at most is made for it in one turn */
};

/* --- end --------------------------------------------------------------------------------- */

static void on_reap(struct loop_task *task) {
    struct handler *handler = container_of(task, struct handler, reap);
    close(handler->fd);
    buf_release(&handler->input);
    outq_release(&handler->output);
    struct replay *replay;
    while ((replay = handler->replays) != NULL) {
        replay_destroy(&replay);
    }
    struct position_question *question;
    while ((question = TAILQ_FIRST(&handler->questions)) != NULL) {
        TAILQ_REMOVE(&handler->questions, question, link);
        free(question);
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
    struct replay *replay;
    struct replay *next;
    HASH_ITER(hh, handler->replays, replay, next) {
        replay_set_aside(replay);
    }
    TAILQ_REMOVE(&broker->handlers, handler, link);
    broker->handler_count--;
    loop_io_stop(broker->loop, &handler->io);
    loop_timer_stop(broker->loop, &handler->deadline);
    loop_timer_stop(broker->loop, &handler->refill);
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

static void on_refill(struct loop_timer *timer) {
    struct handler *handler = container_of(timer, struct handler, refill);
    if (handler->state == HANDLER_RESUMING) {
        resume_pump(handler);
    }
    struct replay *replay = TAILQ_FIRST(&handler->ready);
    while (replay != NULL && handler->state == HANDLER_SERVED && handler_wants_more(handler)) {
        struct replay *next = TAILQ_NEXT(replay, link);
        replay_pump(replay);
        replay = next;
    }
}

void handler_refill_soon(struct handler *handler) {
    bool has_more = (handler->state == HANDLER_RESUMING && handler->resume.is_decided) ||
                    !TAILQ_EMPTY(&handler->ready);
    if (has_more && handler_wants_more(handler)) {
        loop_timer_start(handler->broker->loop, &handler->refill, 0, on_refill);
    }
}

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
        handler_refill_soon(handler);
        return;
    case OUTQ_BLOCKED:
        loop_io_change(handler->broker->loop, &handler->io, LOOP_READ | LOOP_WRITE);
        handler_refill_soon(handler);
        return;
    case OUTQ_BROKEN:
        handler_close(handler, strerror(errno));
        return;
    }
}

bool handler_wants_more(const struct handler *handler) {
    size_t half = (size_t)handler->broker->config->handler_queue_bytes / 2;
    return handler->output.queued_bytes <
           (half < HANDLER_REFILL_BYTES ? half : (size_t)HANDLER_REFILL_BYTES);
}

/* Whether a frame of that size can be queued without closing it. */
static bool has_room_for(const struct handler *handler, size_t bytes) {
    size_t limit = (size_t)handler->broker->config->handler_queue_bytes;
    return handler->output.count == 0 || handler->output.queued_bytes + bytes <= limit;
}

/* What a whole turn brings may be more than the limit: it is too slow only if its socket does not
 * take it either. */
static bool make_room(struct handler *handler, size_t bytes) {
    if (has_room_for(handler, bytes)) {
        return true;
    }
    return outq_write(&handler->output, handler->fd) != OUTQ_BROKEN && has_room_for(handler, bytes);
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

void handler_take_document(struct handler *handler, const struct wire_document *message,
                           struct slice busy) {
    struct wire_document short_one = {message->token, HTTP_UNAVAILABLE, busy};
    bool has_room = has_room_for(handler, message->document.length + WIRE_HEADER_BYTES + 64);
    handler_take(handler, wire_encode_document(has_room ? message : &short_one));
}

void handler_tell_position(struct handler *handler) {
    struct wire_position message = {0};
    broker_position(handler->broker, &message.position);
    if (handler->state == HANDLER_SERVED &&
        !position_equals(&message.position, &handler->position_sent)) {
        handler->position_sent = message.position;
        handler->position_sent_ms = loop_now_ms(handler->broker->loop);
        handler_take(handler, wire_encode_position(WIRE_POSITION, &message));
    }
}

/* --- what can be told, and when ------------------------------------------------------------ */

void handler_tell_subscribed(struct handler *handler, const struct wire_position *message) {
    handler->position_sent = message->position;
    handler->position_sent_ms = loop_now_ms(handler->broker->loop);
    handler_take(handler, wire_encode_position(WIRE_SUBSCRIBED, message));
}

static void answer_question(struct handler *handler, struct position_question *question) {
    struct wire_position message = {.token = question->token};
    broker_position(handler->broker, &message.position);
    TAILQ_REMOVE(&handler->questions, question, link);
    handler->question_count--;
    free(question);
    handler_take(handler, wire_encode_position(WIRE_POSITION, &message));
}

/* A position is handed out only if other brokers can know it. */
static void answer_questions(struct handler *handler) {
    const struct broker *broker = handler->broker;
    struct position_question *question;
    while (handler->state == HANDLER_SERVED && broker_is_listening(broker) &&
           table_serves(&broker->table, 0) && broker->markers.is_public &&
           (question = TAILQ_FIRST(&handler->questions)) != NULL) {
        answer_question(handler, question);
    }
}

void handler_serve_held(struct handler *handler) {
    if (handler->state == HANDLER_RESUMING) {
        resume_pump(handler); /* it may have waited for LISTEN */
        return;
    }
    struct replay *replay = TAILQ_FIRST(&handler->held);
    while (replay != NULL && handler->state == HANDLER_SERVED) {
        struct replay *next = TAILQ_NEXT(replay, link);
        replay_decide(replay);
        replay = next;
    }
    answer_questions(handler);
}

void handler_on_gap(struct handler *handler, const struct page_gap *gap, struct payload *frame) {
    struct replay *replay;
    struct replay *next;
    struct slice topic = {gap->topic, gap->topic_length};
    if (handler->state == HANDLER_RESUMING) {
        resume_on_gap(handler, gap);
    } else if (handler->state == HANDLER_SERVED &&
               (topic.length == 0 || topics_subscription(&handler->broker->topics, topic, handler,
                                                         &handler->subscriptions) != NULL)) {
        handler_send(handler, frame);
    }
    if (handler->state != HANDLER_CLOSED) {
        HASH_ITER(hh, handler->replays, replay, next) {
            replay_on_gap(replay, gap);
        }
    }
}

void handler_on_table_changed(struct handler *handler, struct payload *frame) {
    struct replay *replay;
    struct replay *next;
    if (handler->state == HANDLER_RESUMING) {
        resume_on_table_changed(handler);
    } else if (handler->state == HANDLER_SERVED) {
        handler_send(handler, frame);
    }
    if (handler->state != HANDLER_CLOSED) {
        HASH_ITER(hh, handler->replays, replay, next) {
            replay_on_table_changed(replay);
        }
        handler_refill_soon(handler);
    }
}

void handler_on_resumed(struct handler *handler) {
    if (handler->state == HANDLER_RESUMING) {
        handler->state = HANDLER_SERVED;
        handler_tell_position(handler);
        handler_serve_held(handler);
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
    handler->state = HANDLER_INTRODUCED;
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

static bool has_waiting_room(struct handler *handler) {
    size_t replays = HASH_COUNT(handler->replays) - handler->live_connections;
    if (replays + handler->question_count < HANDLER_WAITING_MAX) {
        return true;
    }
    part_with(handler, "too many of its requests wait");
    return false;
}

static bool on_resume(struct handler *handler, struct slice body) {
    struct wire_resume message;
    struct wire_resume_entry entry;
    if (!wire_decode_resume(body, &message)) {
        return false;
    }
    while (wire_next_resume_entry(&message, &entry)) {
        if (!topic_is_valid(entry.topic)) {
            return false;
        }
        (void)topics_subscribe(&handler->broker->topics, entry.topic, handler,
                               &handler->subscriptions, entry.clients);
    }
    if (message.count > 0 || message.entries.length > 0) {
        return false;
    }
    if (message.is_last) {
        handler->state = HANDLER_RESUMING;
        resume_begin(handler, message.position_kind, &message.position);
    }
    return true;
}

static bool on_subscribe(struct handler *handler, struct slice body) {
    struct wire_subscribe message;
    if (!wire_decode_subscribe(body, &message) || !topics_are_valid(&message.topics)) {
        return false;
    }
    return !has_waiting_room(handler) || replay_create(handler, &message);
}

static bool on_credit(struct handler *handler, struct slice body) {
    struct wire_credit message;
    if (!wire_decode_credit(body, &message)) {
        return false;
    }
    struct replay *replay = replay_find(handler, message.token);
    if (replay != NULL) { /* it may just have ended */
        replay_grant(replay, message.bytes);
    }
    return true;
}

static bool on_unsubscribe(struct handler *handler, struct slice body) {
    struct wire_unsubscribe message;
    if (!wire_decode_unsubscribe(body, &message)) {
        return false;
    }
    struct replay *replay = replay_find(handler, message.token);
    if (replay != NULL) {
        replay_leave(&replay);
        return true;
    }
    if (message.form == WIRE_FORM_CONNECTIONS) {
        return message.token != 0; /* it has just been refused */
    }
    for (size_t i = 0; i < message.topics.count; i++) {
        if (!topics_unsubscribe(&handler->broker->topics, message.topics.names[i], handler,
                                &handler->subscriptions)) {
            return false;
        }
    }
    return true;
}

static bool on_ask_position(struct handler *handler, struct slice body) {
    uint64_t token;
    if (!wire_decode_ask(body, &token)) {
        return false;
    }
    if (has_waiting_room(handler)) {
        struct position_question *question = must_zalloc(sizeof *question);
        question->token = token;
        TAILQ_INSERT_TAIL(&handler->questions, question, link);
        handler->question_count++;
        answer_questions(handler);
    }
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

static bool answer_at_once(struct handler *handler, struct slice body, uint16_t status,
                           void (*write)(const struct broker *broker, struct buf *out)) {
    static const char busy[] = "{\"error\":\"the handler does not keep up\"}";
    struct wire_document message = {.status = status};
    struct buf document = {0};
    if (!wire_decode_ask(body, &message.token)) {
        return false;
    }
    write(handler->broker, &document);
    message.document = buf_slice(&document);
    handler_take_document(handler, &message, slice_of(busy));
    buf_release(&document);
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

/* HELLO comes first, then RESUME, then anything else. */
static bool is_in_order(const struct handler *handler, enum wire_type type) {
    return (type == WIRE_HELLO) == (handler->state == HANDLER_GREETING) &&
           (type == WIRE_RESUME) == (handler->state == HANDLER_INTRODUCED);
}

static bool on_frame(struct handler *handler, const struct wire_frame *frame) {
    if (!is_in_order(handler, frame->type)) {
        return false;
    }
    switch (frame->type) {
    case WIRE_HELLO:
        return on_hello(handler, frame->body);
    case WIRE_RESUME:
        return on_resume(handler, frame->body);
    case WIRE_CREDIT:
        return on_credit(handler, frame->body);
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
    case WIRE_ASK_CONNECTIONS:
        return answer_at_once(handler, frame->body, HTTP_OK, document_connections);
    case WIRE_ASK_STATUS:
        return answer_at_once(handler, frame->body, document_health_status(handler->broker),
                              document_short_health);
    case WIRE_WELCOME:
    case WIRE_ACCEPTED:
    case WIRE_REFUSED:
    case WIRE_REFRESH:
    case WIRE_SUBSCRIBED:
    case WIRE_REPLAY:
    case WIRE_EVENT:
    case WIRE_POSITION:
    case WIRE_DOCUMENT:
    case WIRE_RECHECK:
    case WIRE_ASK_REPORT:
    case WIRE_GOODBYE:
        break;
    }
    return false;
}

/* --- input ------------------------------------------------------------------------------- */

static bool is_introduced(const struct handler *handler) {
    return handler->state == HANDLER_RESUMING || handler->state == HANDLER_SERVED;
}

static void on_deadline(struct loop_timer *timer) {
    struct handler *handler = container_of(timer, struct handler, deadline);
    part_with(handler,
              is_introduced(handler) ? "did not finish a frame" : "did not introduce itself");
}

/* A frame that was begun must end in time; between frames there may be any silence. */
static void watch_half_frame(struct handler *handler) {
    struct loop *loop = handler->broker->loop;
    if (!is_introduced(handler)) {
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
        if (is_introduced(handler)) {
            loop_timer_stop(handler->broker->loop, &handler->deadline);
        }
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
    TAILQ_INIT(&handler->ready);
    TAILQ_INIT(&handler->questions);
    TAILQ_INSERT_TAIL(&broker->handlers, handler, link);
    broker->handler_count++;
    loop_io_start(broker->loop, &handler->io, fd, LOOP_READ, on_ready);
    loop_timer_start(broker->loop, &handler->deadline, HANDLER_DEADLINE_MS, on_deadline);
}
