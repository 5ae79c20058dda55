#include "stream.h"

#include "fanout_report.h"
#include "log.h"

#include <stdlib.h>

enum {
    STREAM_REPORT_MS = 1000,
    STREAM_BODY_BYTES_KEPT = 1, /* bodies are read to their end: nothing unread is closed */
};

/* --- frames of the broker: each returns false if the frame breaks the protocol ---------------- */

static bool on_accepted(struct stream *stream, struct slice body) {
    struct wire_accepted message;
    if (!wire_decode_accepted(body, &message)) {
        return false;
    }
    struct subscriber *subscriber = subscribe_find(&stream->subscribers, message.token);
    return subscriber == NULL || subscribe_on_accepted(subscriber, &message);
}

static bool on_refused(struct stream *stream, struct slice body) {
    struct wire_refused message;
    if (!wire_decode_refused(body, &message)) {
        return false;
    }
    struct subscriber *subscriber = subscribe_find(&stream->subscribers, message.token);
    if (subscriber != NULL) {
        subscribe_on_refused(subscriber, &message);
    }
    return true;
}

static bool on_refresh(struct stream *stream, struct slice body) {
    struct wire_refresh message;
    if (!wire_decode_refresh(body, &message)) {
        return false;
    }
    if (message.token == 0) {
        fanout_refresh(&stream->subscribers.fanout, &message, &stream->subscribers.position);
        subscribers_reach(&stream->subscribers, &message.position);
        return true;
    }
    struct subscriber *subscriber = subscribe_find(&stream->subscribers, message.token);
    if (subscriber != NULL) {
        subscribe_on_refresh(subscriber, &message);
    }
    return true;
}

static bool on_replay(struct stream *stream, struct slice body) {
    struct wire_replay message;
    if (!wire_decode_replay(body, &message)) {
        return false;
    }
    struct subscriber *subscriber = subscribe_find(&stream->subscribers, message.token);
    if (subscriber != NULL) {
        subscribe_on_replay(subscriber, &message.event, body.length);
    }
    return true;
}

static bool on_subscribed(struct stream *stream, struct slice body) {
    struct wire_position message;
    if (!wire_decode_position(body, &message)) {
        return false;
    }
    subscribers_reach(&stream->subscribers, &message.position);
    struct subscriber *subscriber = subscribe_find(&stream->subscribers, message.token);
    if (subscriber != NULL) {
        subscribe_on_subscribed(subscriber);
    }
    return true;
}

static bool on_event(struct stream *stream, struct slice body) {
    struct wire_event event;
    if (!wire_decode_event(body, &event) || !topic_key_parse(event.topic.bytes, &event.topic) ||
        topic_key_is_pattern(event.topic)) {
        return false;
    }
    fanout_publish(&stream->subscribers.fanout, &event, &stream->subscribers.position);
    subscribers_reach(&stream->subscribers, &event.position);
    return true;
}

static bool on_position(struct stream *stream, struct slice body) {
    struct wire_position message;
    if (!wire_decode_position(body, &message)) {
        return false;
    }
    subscribers_reach(&stream->subscribers, &message.position);
    shared_questions_on_position(stream->answers.questions, &message);
    return true;
}

static bool on_document(struct stream *stream, struct slice body) {
    struct wire_document message;
    if (!wire_decode_document(body, &message)) {
        return false;
    }
    shared_questions_on_document(stream->answers.questions, &message);
    return true;
}

static bool on_recheck(struct stream *stream, struct slice body) {
    struct wire_recheck message;
    if (!wire_decode_recheck(body, &message)) {
        return false;
    }
    subscribe_on_recheck(&stream->subscribers, &message);
    return true;
}

static void send_to_broker(void *owner, struct payload *frame) {
    struct stream *stream = owner;
    uplink_queue(&stream->uplink, frame);
}

static bool on_ask_report(struct stream *stream, struct slice body) {
    uint32_t serial;
    if (!wire_decode_ask_report(body, &serial)) {
        return false;
    }
    fanout_report(&stream->subscribers.fanout, serial, stream->subscribers.count, stream,
                  send_to_broker);
    return true;
}

static bool on_frame(void *self, const struct wire_frame *frame) {
    struct stream *stream = self;
    switch (frame->type) {
    case WIRE_ACCEPTED:
        return on_accepted(stream, frame->body);
    case WIRE_REFUSED:
        return on_refused(stream, frame->body);
    case WIRE_REFRESH:
        return on_refresh(stream, frame->body);
    case WIRE_REPLAY:
        return on_replay(stream, frame->body);
    case WIRE_SUBSCRIBED:
        return on_subscribed(stream, frame->body);
    case WIRE_EVENT:
        return on_event(stream, frame->body);
    case WIRE_POSITION:
        return on_position(stream, frame->body);
    case WIRE_DOCUMENT:
        return on_document(stream, frame->body);
    case WIRE_ASK_REPORT:
        return on_ask_report(stream, frame->body);
    case WIRE_RECHECK:
        return on_recheck(stream, frame->body);
    case WIRE_HELLO:
    case WIRE_SUBSCRIBE:
    case WIRE_UNSUBSCRIBE:
    case WIRE_ASK_POSITION:
    case WIRE_ASK_DOCUMENT:
    case WIRE_REPORT:
    case WIRE_RESUME:
    case WIRE_CREDIT:
    case WIRE_WELCOME:
    case WIRE_GOODBYE:
        break;
    }
    return false;
}

/* --- the broker comes and goes ---------------------------------------------------------------- */

/* Live clients go on from where the last connection ended, all others ask again. */
static void on_up(void *self) {
    struct stream *stream = self;
    struct subscribers *subscribers = &stream->subscribers;
    fanout_resume(&subscribers->fanout, &subscribers->position, stream, send_to_broker);
    subscribe_on_up(subscribers);
    shared_questions_on_up(stream->answers.questions);
}

static void on_down(void *self) {
    struct stream *stream = self;
    subscribe_on_down(&stream->subscribers);
    answers_on_down(&stream->answers);
}

static void on_foreign_version(void *self) {
    struct stream *stream = self;
    log_error("the broker speaks another version of the protocol: this handler makes room");
    stream->exit_status = EXIT_FAILURE;
    stream_drain(stream);
}

static void stop_when_empty(struct stream *stream) {
    if (stream->is_draining && LIST_EMPTY(&stream->clients.list) &&
        incoming_requests_are_empty(&stream->incoming_requests)) {
        loop_stop(stream->loop);
    }
}

static void on_report_due(struct loop_timer *timer) {
    struct stream *stream = container_of(timer, struct stream, report);
    if (uplink_is_up(&stream->uplink)) {
        fanout_report(&stream->subscribers.fanout, 0, stream->subscribers.count, stream,
                      send_to_broker);
    }
    loop_timer_start(stream->loop, timer, STREAM_REPORT_MS, on_report_due);
    /* the last one may have been a connection that never became a request */
    stop_when_empty(stream);
}

/* --- requests --------------------------------------------------------------------------------- */

static void on_request(void *self, int fd, int source) {
    struct stream *stream = self;
    struct request request;
    if (!handover_receive(stream->handover, fd, source)) {
        return; /* the web server went away in between */
    }
    struct parameters parameters = handover_parameters(stream->handover);
    struct route_paths paths = route_paths_of(stream->config);
    request_parse(&parameters, &paths, &request);
    struct client *client =
        answer_request(&stream->answers, fd, handover_request_id(stream->handover), &request);
    handover_release(stream->handover); /* the texts of request end with it */
    if (stream->is_draining) {
        client_end(client, jittered(stream->config->retry));
    }
}

/* --- life ------------------------------------------------------------------------------------- */

static void on_client_closed(void *owner) {
    stop_when_empty(owner);
}

struct stream *stream_create(struct loop *loop, const struct config *config, int listen_fd) {
    struct stream *stream = must_zalloc(sizeof *stream);
    struct uplink_owner owner = {stream, on_up, on_down, on_frame, on_foreign_version};
    struct incoming_requests_owner door = {stream, on_request};
    stream->loop = loop;
    stream->config = config;
    stream->handover = handover_create();
    stream->questions.uplink = &stream->uplink;
    stream->clients = (struct clients){
        .loop = loop, .config = config, .owner = stream, .on_closed = on_client_closed};
    LIST_INIT(&stream->clients.list);
    subscribe_init(&stream->subscribers, &stream->clients, &stream->questions);
    answers_init(&stream->answers, &stream->clients, &stream->subscribers);
    uplink_start(&stream->uplink, loop, config->socket_dir, &owner);
    stream->budget.bytes_max = (size_t)config->request_bytes;
    incoming_requests_start(&stream->incoming_requests, loop, listen_fd, STREAM_BODY_BYTES_KEPT,
                            &stream->budget, &door);
    loop_timer_start(loop, &stream->report, STREAM_REPORT_MS, on_report_due);
    return stream;
}

void stream_destroy(struct stream **slot) {
    struct stream *stream = *slot;
    *slot = NULL;
    struct client *client;
    LIST_FOREACH(client, &stream->clients.list, link) {
        client_close(client, "the handler stops");
    }
    loop_reap(stream->loop);
    incoming_requests_stop(&stream->incoming_requests);
    loop_timer_stop(stream->loop, &stream->report);
    loop_timer_stop(stream->loop, &stream->drain);
    uplink_stop(&stream->uplink);
    answers_release(&stream->answers);
    subscribe_release(&stream->subscribers);
    handover_destroy(&stream->handover);
    loop_reap(stream->loop);
    free(stream);
}

static void on_drain_over(struct loop_timer *timer) {
    struct stream *stream = container_of(timer, struct stream, drain);
    log_warning("%zu clients did not take their end in time", stream->clients.count);
    loop_stop(stream->loop);
}

/* Each client is told another time to come back, so that they do not all come at once. */
void stream_drain(struct stream *stream) {
    if (stream->is_draining) {
        return;
    }
    log_info("told to stop: ending %zu requests", stream->clients.count);
    stream->is_draining = true;
    incoming_requests_close_door(&stream->incoming_requests);
    loop_timer_start(stream->loop, &stream->drain, stream->config->graceful_drain, on_drain_over);
    int64_t ordinal = 0;
    struct client *client;
    LIST_FOREACH(client, &stream->clients.list, link) {
        int64_t wait_ms = ordinal++ * 1000 / stream->config->reconnect_rate;
        client_end(client, jittered(stream->config->retry) + wait_ms);
    }
    stop_when_empty(stream);
}
