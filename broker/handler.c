#include "handler.h"

#include "http.h"
#include "log.h"
#include "replay.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    HANDLER_DEADLINE_MS = 10000, /* for HELLO and RESUME, and for the rest of a frame */
    HANDLER_POSITION_MS = 1000,
    HANDLER_WAITING_MAX = 65536, /* replays and questions of one handler */
};

static struct journal *journal_of(const struct handler *handler) {
    return handler->delivery.journal;
}

static void send_frame(struct handler *handler, struct payload *frame) {
    outbox_queue(&handler->delivery.outbox, frame);
}

/* --- end --------------------------------------------------------------------------------- */

static void on_reap(struct loop_task *task) {
    struct handler *handler = container_of(task, struct handler, reap);
    outbox_release(&handler->delivery.outbox);
    struct replay *replay;
    while ((replay = handler->delivery.replays) != NULL) {
        replay_destroy(&replay);
    }
    struct position_question *question;
    while ((question = TAILQ_FIRST(&handler->questions)) != NULL) {
        TAILQ_REMOVE(&handler->questions, question, link);
        free(question);
    }
    free(handler);
}

static void leave_topics(struct delivery *delivery) {
    struct interest *interest;
    while ((interest = LIST_FIRST(&delivery->interests)) != NULL) {
        topics_end(&delivery->journal->topics, interest);
    }
    struct replay *replay;
    struct replay *next;
    HASH_ITER(hh, delivery->replays, replay, next) {
        replay_set_aside(replay);
    }
}

void handler_close(struct handler *handler, const char *reason) {
    struct handlers *handlers = handler->handlers;
    struct delivery *delivery = &handler->delivery;
    if (handler->state == HANDLER_CLOSED) {
        return;
    }
    log_info("handler %d: closed: %s", (int)handler->pid, reason);
    handler->state = HANDLER_CLOSED;
    delivery->is_served = false;
    leave_topics(delivery);
    resume_end(&handler->resume);
    for (size_t kind = 0; kind < WIRE_DOCUMENT_KINDS; kind++) {
        health_cancel(handlers->health, &handler->documents[kind].request);
    }
    health_on_handler_closing(handlers->health, delivery);
    TAILQ_REMOVE(&handlers->list, delivery, link);
    frame_socket_close(&handler->socket);
    loop_timer_stop(handlers->loop, &handler->deadline);
    loop_timer_stop(handlers->loop, &delivery->refill);
    outbox_close(&delivery->outbox);
    loop_reap_soon(handlers->loop, &handler->reap, on_reap);
}

/* Closes the connection because of an error of the handler. GOODBYE tells the handler why, if the
 * socket takes it. */
static void part_with(struct handler *handler, const char *reason) {
    send_frame(handler, wire_encode_goodbye(reason));
    condition_count_error(handler->handlers->condition);
    enum outq_result result = outq_write(&handler->delivery.outbox.queue, handler->socket.fd);
    (void)result; /* it is closed in any case */
    handler_close(handler, reason);
}

/* --- what waits until it can be answered -------------------------------------------------- */

static void answer_question(struct handler *handler, struct position_question *question) {
    struct wire_position message = {.token = question->token};
    journal_position(journal_of(handler), &message.position);
    TAILQ_REMOVE(&handler->questions, question, link);
    handler->question_count--;
    free(question);
    send_frame(handler, wire_encode_position(WIRE_POSITION, &message));
}

/* A position is answered only when it is written with a public marker, so that other brokers know
 * it. */
static void answer_questions(struct handler *handler) {
    const struct journal *journal = journal_of(handler);
    struct position_question *question;
    while (delivery_is_served(&handler->delivery) && journal->is_listening &&
           table_serves(&journal->table, 0) && journal->markers.is_public &&
           (question = TAILQ_FIRST(&handler->questions)) != NULL) {
        answer_question(handler, question);
    }
}

static void go_on_resuming(struct handler *handler);

void handler_serve_held(struct handler *handler) {
    struct delivery *delivery = &handler->delivery;
    if (handler->state == HANDLER_RESUMING) {
        go_on_resuming(handler); /* it may wait for LISTEN */
        return;
    }
    struct replay *replay = TAILQ_FIRST(&delivery->held);
    while (replay != NULL && delivery_is_served(delivery)) {
        struct replay *next = TAILQ_NEXT(replay, link);
        replay_decide(replay);
        replay = next;
    }
    answer_questions(handler);
}

static void go_on_resuming(struct handler *handler) {
    switch (resume_pump(&handler->resume)) {
    case RESUME_WAITS:
        return;
    case RESUME_HAS_MORE:
        delivery_refill_soon(&handler->delivery);
        return;
    case RESUME_IS_DONE:
        handler->state = HANDLER_SERVED;
        handler->delivery.is_served = true;
        resume_end(&handler->resume);
        delivery_tell_position(&handler->delivery);
        handler_serve_held(handler);
        return;
    }
}

/* --- output ------------------------------------------------------------------------------ */

/* Replays of patterns may look at many entries and send nothing. */
static bool may_go_on(const struct delivery *delivery) {
    return delivery_is_served(delivery) && outbox_wants_more(&delivery->outbox) &&
           delivery->searches < DELIVERY_SEARCHES_MAX;
}

static void on_refill(struct loop_timer *timer) {
    struct delivery *delivery = container_of(timer, struct delivery, refill);
    struct handler *handler = handler_of(delivery);
    if (handler->state == HANDLER_RESUMING) {
        go_on_resuming(handler);
    }
    delivery->searches = 0;
    struct replay *replay = TAILQ_FIRST(&delivery->ready);
    while (replay != NULL && may_go_on(delivery)) {
        struct replay *next = TAILQ_NEXT(replay, link);
        replay_pump(replay);
        replay = next;
    }
}

/* The socket has taken bytes, so replays may queue more. */
static void refill_if_wanted(struct handler *handler) {
    bool has_more = (handler->state == HANDLER_RESUMING && handler->resume.is_decided) ||
                    !TAILQ_EMPTY(&handler->delivery.ready);
    if (has_more) {
        delivery_refill_soon(&handler->delivery);
    }
}

/* Its clients lose nothing that the log still has: the handler connects again and resumes. */
static void give_up_slow(struct handler *handler) {
    static struct log_limit limit;
    log_limited(&limit, LOG_LEVEL_WARNING,
                "handler %d is too slow: more than handler_queue_bytes wait for it",
                (int)handler->pid);
    condition_count_error(handler->handlers->condition);
    handler_close(handler, "too slow");
}

static void on_flush(struct loop_task *task) {
    struct delivery *delivery = container_of(task, struct delivery, outbox.flush);
    struct handler *handler = handler_of(delivery);
    if (loop_now_ms(handler->handlers->loop) - delivery->position_told_ms >= HANDLER_POSITION_MS) {
        delivery_tell_position(delivery);
    }
    if (delivery->outbox.is_closed) {
        give_up_slow(handler);
        return;
    }
    if (frame_socket_write(&handler->socket, &delivery->outbox.queue) == OUTQ_BROKEN) {
        handler_close(handler, strerror(errno));
    } else {
        refill_if_wanted(handler);
    }
}

void handler_on_table_changed(struct handler *handler, struct payload *frame) {
    struct delivery *delivery = &handler->delivery;
    struct replay *replay;
    struct replay *next;
    if (handler->state == HANDLER_RESUMING) {
        resume_on_table_changed(&handler->resume);
    } else if (delivery_is_served(delivery)) {
        outbox_share(&delivery->outbox, frame);
    }
    HASH_ITER(hh, delivery->replays, replay, next) {
        replay_on_table_changed(replay);
    }
    refill_if_wanted(handler);
}

/* --- frames in: each returns false if the frame breaks the protocol ----------------------- */

static bool on_hello(struct handler *handler, struct slice body) {
    struct wire_hello hello;
    if (!wire_decode_hello(body, &hello)) {
        return false;
    }
    if (hello.version != WIRE_VERSION) {
        send_frame(handler, wire_encode_hello(WIRE_WELCOME, (uint32_t)getpid()));
        part_with(handler, "speaks another version of the protocol");
        return true;
    }
    handler->state = HANDLER_INTRODUCED;
    /* It need not answer an ASK_REPORT that was sent before it connected. */
    handler->delivery.report_asked = handler->handlers->health->last_serial;
    handler->delivery.report_given = handler->delivery.report_asked;
    send_frame(handler, wire_encode_hello(WIRE_WELCOME, (uint32_t)getpid()));
    log_info("handler %d: connected", (int)handler->pid);
    return true;
}

static bool are_valid(const struct names *topics) {
    struct topic_key key;
    for (size_t i = 0; i < topics->count; i++) {
        if (!topic_key_parse(topics->keys[i].bytes, &key)) {
            return false;
        }
    }
    return true;
}

static bool are_for_user_stream(const struct names *topics) {
    return topics->count <= NAMES_ASKED_MAX && !names_have_pattern(topics);
}

static bool has_waiting_room(struct handler *handler) {
    size_t replays = HASH_COUNT(handler->delivery.replays) - handler->delivery.live_user_streams;
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
        if (!topic_key_parse(entry.topic.bytes, &entry.topic)) {
            return false;
        }
        (void)topics_subscribe(&journal_of(handler)->topics, entry.topic, &handler->delivery,
                               &handler->delivery.interests, entry.clients);
    }
    if (message.count > 0 || message.entries.length > 0) {
        return false;
    }
    if (message.is_last) {
        handler->state = HANDLER_RESUMING;
        resume_begin(&handler->resume, &handler->delivery, message.position_kind,
                     &message.position);
        go_on_resuming(handler);
    }
    return true;
}

static bool on_subscribe(struct handler *handler, struct slice body) {
    struct wire_subscribe message;
    if (!wire_decode_subscribe(body, &message) || !are_valid(&message.topics) ||
        (message.form == WIRE_FORM_USER && !are_for_user_stream(&message.topics))) {
        return false;
    }
    return !has_waiting_room(handler) || replay_create(&handler->delivery, &message);
}

static bool on_credit(struct handler *handler, struct slice body) {
    struct wire_credit message;
    if (!wire_decode_credit(body, &message)) {
        return false;
    }
    struct replay *replay = replay_find(&handler->delivery, message.token);
    if (replay != NULL) { /* NULL: the replay has just ended */
        replay_grant(replay, message.bytes);
    }
    return true;
}

static bool on_unsubscribe(struct handler *handler, struct slice body) {
    struct wire_unsubscribe message;
    if (!wire_decode_unsubscribe(body, &message)) {
        return false;
    }
    struct replay *replay = replay_find(&handler->delivery, message.token);
    if (replay != NULL) {
        replay_leave(&replay);
        return true;
    }
    if (message.form == WIRE_FORM_USER) {
        return message.token != 0; /* no replay: the stream has just been refused */
    }
    for (size_t i = 0; i < message.topics.count; i++) {
        if (!topics_unsubscribe(&journal_of(handler)->topics, message.topics.keys[i],
                                &handler->delivery, &handler->delivery.interests)) {
            return false;
        }
    }
    return true;
}

static bool on_ask_position(struct handler *handler, struct slice body) {
    uint64_t token;
    if (!wire_decode_ask_position(body, &token)) {
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

/* Sent with 503 instead of a document for which the handler's queue has no room. */
static const char *const too_large[WIRE_DOCUMENT_KINDS] = {
    [WIRE_FULL_HEALTH] = "{\"status\":\"degraded\",\"reason\":\"the handler does not keep up\"}",
    [WIRE_SHORT_HEALTH] = "{\"status\":\"degraded\",\"message\":\"the handler does not keep up\"}",
    [WIRE_USER_STREAMS] = "{\"error\":\"the handler does not keep up\"}",
    [WIRE_STREAM_STATS] = "{\"error\":\"the handler does not keep up\"}",
};

static void on_document(struct health_request *request, uint16_t status, struct slice document) {
    const struct document_question *question =
        container_of(request, struct document_question, request);
    struct handler *handler = question->handler;
    size_t bytes = document.length + WIRE_HEADER_BYTES + 64;
    struct wire_document message = {question->token, status, document};
    if (bytes >= WIRE_ANSWER_BYTES_MAX || !outbox_has_room_for(&handler->delivery.outbox, bytes)) {
        message.status = HTTP_UNAVAILABLE;
        message.document = slice_of(too_large[request->question.kind]);
    }
    send_frame(handler, wire_encode_document(&message));
}

static bool on_ask_document(struct handler *handler, struct slice body) {
    struct wire_ask_document message;
    if (!wire_decode_ask_document(body, &message)) {
        return false;
    }
    struct document_question *asked = &handler->documents[message.kind];
    struct health_question question = {message.kind, DOCUMENT_PUBLIC, message.limit, ""};
    snprintf(question.tenant, sizeof question.tenant, "%.*s", (int)message.tenant.length,
             message.tenant.at);
    asked->handler = handler;
    asked->token = message.token;
    health_ask(handler->handlers->health, &asked->request, &question, on_document);
    return true;
}

static void add_to(struct traffic *traffic, const struct wire_report_entry *entry) {
    traffic->delivered += entry->delivered;
    traffic->dropped_events += entry->dropped_events;
    traffic->dropped_clients += entry->dropped_clients;
}

static void apply_entry(struct handler *handler, const struct wire_report_entry *entry) {
    struct topics *topics = &journal_of(handler)->topics;
    struct topic *topic = topics_find(topics, entry->topic);
    add_to(&topics->total, entry);
    if (topic != NULL) {
        add_to(&topic->traffic, entry);
    }
    struct interest *interest = delivery_interest(&handler->delivery, entry->topic);
    if (interest != NULL) {
        interest->pending_events = entry->pending_events;
        interest->queued_bytes = entry->queued_bytes;
        interest->streams = entry->streams;
    }
}

static bool on_report(struct handler *handler, struct slice body) {
    struct wire_report report;
    struct wire_report_entry entry;
    if (!wire_decode_report(body, &report)) {
        return false;
    }
    handler->delivery.streams = report.streams;
    journal_of(handler)->topics.plain_bytes += report.plain_bytes;
    journal_of(handler)->topics.gzip_bytes += report.gzip_bytes;
    while (wire_next_report_entry(&report, &entry)) {
        apply_entry(handler, &entry);
    }
    if (report.count > 0 || report.entries.length > 0) {
        return false;
    }
    if (report.is_last && report.serial > handler->delivery.report_given) {
        uint32_t before = handler->delivery.report_given;
        handler->delivery.report_given = report.serial;
        health_on_report(handler->handlers->health, &handler->delivery, before);
    }
    return true;
}

/* HELLO comes first, then RESUME, then anything else. */
static bool is_in_order(const struct handler *handler, enum wire_type type) {
    return (type == WIRE_HELLO) == (handler->state == HANDLER_GREETING) &&
           (type == WIRE_RESUME) == (handler->state == HANDLER_INTRODUCED);
}

static bool dispatch(struct handler *handler, const struct wire_frame *frame) {
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
    case WIRE_ASK_DOCUMENT:
        return on_ask_document(handler, frame->body);
    case WIRE_REPORT:
        return on_report(handler, frame->body);
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

/* The rest of a frame must come in time; between frames any silence is allowed. */
static void watch_half_frame(struct handler *handler) {
    struct loop *loop = handler->handlers->loop;
    if (!is_introduced(handler)) {
        return;
    }
    if (handler->socket.input.length == 0) {
        loop_timer_stop(loop, &handler->deadline);
    } else if (!loop_timer_is_started(&handler->deadline)) {
        loop_timer_start(loop, &handler->deadline, HANDLER_DEADLINE_MS, on_deadline);
    }
}

static bool on_frame(void *self, const struct wire_frame *frame) {
    struct handler *handler = self;
    if (handler->delivery.outbox.is_closed) {
        return true; /* overfull: it will be closed in the flush phase */
    }
    if (!is_in_order(handler, frame->type) || !dispatch(handler, frame)) {
        return false;
    }
    if (is_introduced(handler)) {
        loop_timer_stop(handler->handlers->loop, &handler->deadline);
    }
    return true;
}

static void receive(struct handler *handler) {
    const char *offence;
    if (frame_socket_read(&handler->socket, handler, on_frame, &offence)) {
        watch_half_frame(handler);
    } else if (offence != NULL) {
        part_with(handler, offence);
    } else {
        handler_close(handler, errno == 0 ? "it went away" : strerror(errno));
    }
}

static void on_ready(struct loop_io *io, unsigned ready) {
    struct handler *handler = container_of(io, struct handler, socket.io);
    if ((ready & LOOP_WRITE) != 0) {
        outbox_flush_soon(&handler->delivery.outbox);
    }
    if ((ready & (LOOP_READ | LOOP_CLOSED)) != 0) {
        receive(handler);
    }
}

/* --- life -------------------------------------------------------------------------------- */

void handler_create(struct handlers *handlers, int fd, pid_t pid) {
    struct handler *handler = must_zalloc(sizeof *handler);
    struct delivery *delivery = &handler->delivery;
    handler->handlers = handlers;
    handler->pid = pid;
    handler->state = HANDLER_GREETING;
    TAILQ_INIT(&handler->questions);
    delivery_init(delivery, handlers->journal, on_refill);
    outbox_init(&delivery->outbox, handlers->loop, fd,
                (size_t)handlers->config->handler_queue_bytes, on_flush);
    TAILQ_INSERT_TAIL(&handlers->list, delivery, link);
    frame_socket_open(&handler->socket, handlers->loop, fd, WIRE_REQUEST_BYTES_MAX, on_ready);
    loop_timer_start(handlers->loop, &handler->deadline, HANDLER_DEADLINE_MS, on_deadline);
}
