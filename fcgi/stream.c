#include "stream.h"

#include "admission.h"
#include "answer.h"
#include "log.h"

#include <stdlib.h>

enum {
    STREAM_REPORT_MS = 1000,
    STREAM_BODY_BYTES_KEPT = 1, /* bodies are waited for, so that nothing unread is closed on */
};

/* --- frames of the broker: each returns false if the frame breaks the protocol ---------------- */

/* NULL if the token is not known any more: its client has gone. */
static struct client *client_of(const struct stream *stream, uint64_t token) {
    struct inquiry *inquiry;
    HASH_FIND(hh, stream->inquiries, &token, sizeof token, inquiry);
    return inquiry == NULL ? NULL : inquiry->client;
}

static bool on_accepted(struct stream *stream, struct slice body) {
    struct wire_accepted message;
    if (!wire_decode_accepted(body, &message)) {
        return false;
    }
    struct client *client = client_of(stream, message.token);
    return client == NULL || admission_on_accepted(client, &message);
}

static bool on_refused(struct stream *stream, struct slice body) {
    struct wire_refused message;
    if (!wire_decode_refused(body, &message)) {
        return false;
    }
    struct client *client = client_of(stream, message.token);
    if (client != NULL) {
        admission_on_refused(client, &message);
    }
    return true;
}

static bool on_refresh(struct stream *stream, struct slice body) {
    struct wire_refresh message;
    if (!wire_decode_refresh(body, &message)) {
        return false;
    }
    if (message.token == 0) {
        fanout_refresh(&stream->fanout, &message, stream->position.durable);
        stream->position = message.position;
        return true;
    }
    struct client *client = client_of(stream, message.token);
    if (client != NULL) {
        admission_on_refresh(client, &message);
    }
    return true;
}

static bool on_replay(struct stream *stream, struct slice body) {
    struct wire_replay message;
    if (!wire_decode_replay(body, &message)) {
        return false;
    }
    struct client *client = client_of(stream, message.token);
    if (client != NULL) {
        admission_on_replay(client, &message.event, body.length);
    }
    return true;
}

static bool on_subscribed(struct stream *stream, struct slice body) {
    struct wire_position message;
    if (!wire_decode_position(body, &message)) {
        return false;
    }
    stream->position = message.position;
    struct client *client = client_of(stream, message.token);
    if (client != NULL) {
        admission_on_subscribed(client, &message);
    }
    return true;
}

static bool on_event(struct stream *stream, struct slice body) {
    struct wire_event event;
    if (!wire_decode_event(body, &event)) {
        return false;
    }
    fanout_publish(&stream->fanout, &event, stream->position.durable);
    stream->position = event.position;
    return true;
}

static bool on_position(struct stream *stream, struct slice body) {
    struct wire_position message;
    if (!wire_decode_position(body, &message)) {
        return false;
    }
    stream->position = message.position;
    struct client *client = client_of(stream, message.token);
    if (client != NULL) {
        answer_on_position(client, &message.position);
    }
    return true;
}

static bool on_document(struct stream *stream, struct slice body) {
    struct wire_document message;
    if (!wire_decode_document(body, &message)) {
        return false;
    }
    struct client *client = client_of(stream, message.token);
    if (client != NULL) {
        answer_on_document(client, &message);
    }
    return true;
}

/* Whose user is meant, with "" everybody's: of connections alone. */
static bool is_meant(const struct client *client, struct slice user) {
    return client->user != NULL && (user.length == 0 || slice_is(user, client->user));
}

static bool on_recheck(struct stream *stream, struct slice body) {
    struct slice user;
    struct client *client;
    if (!wire_decode_recheck(body, &user)) {
        return false;
    }
    LIST_FOREACH(client, &stream->clients, link) {
        if (is_meant(client, user)) {
            admission_recheck(client);
        }
    }
    return true;
}

static void send_to_broker(void *owner, struct payload *frame) {
    struct stream *stream = owner;
    uplink_take(&stream->uplink, frame);
}

static bool on_ask_report(struct stream *stream, struct slice body) {
    uint32_t serial;
    if (!wire_decode_ask_report(body, &serial)) {
        return false;
    }
    fanout_report(&stream->fanout, serial, stream, send_to_broker);
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
    case WIRE_ASK_HEALTH:
    case WIRE_REPORT:
    case WIRE_RESUME:
    case WIRE_CREDIT:
    case WIRE_ASK_CONNECTIONS:
    case WIRE_ASK_STATUS:
    case WIRE_WELCOME:
    case WIRE_GOODBYE:
        break;
    }
    return false;
}

/* --- the broker comes and goes ---------------------------------------------------------------- */

/* Live clients go on from where the last connection ended, all others ask anew. */
static void on_up(void *self) {
    struct stream *stream = self;
    struct client *client;
    fanout_resume(&stream->fanout, &stream->position, stream, send_to_broker);
    LIST_FOREACH(client, &stream->clients, link) {
        client_ask(client);
    }
}

static void on_down(void *self) {
    struct stream *stream = self;
    struct client *client;
    LIST_FOREACH(client, &stream->clients, link) {
        admission_on_broker_lost(client);
        answer_on_broker_lost(client);
    }
}

static void on_foreign_version(void *self) {
    struct stream *stream = self;
    log_error("the broker speaks another version of the protocol: this handler makes room");
    stream->exit_status = EXIT_FAILURE;
    stream_drain(stream);
}

static void stop_when_empty(struct stream *stream) {
    if (stream->is_draining && LIST_EMPTY(&stream->clients) &&
        arrivals_are_empty(&stream->arrivals)) {
        loop_stop(stream->loop);
    }
}

static void on_report_due(struct loop_timer *timer) {
    struct stream *stream = container_of(timer, struct stream, report);
    if (uplink_is_up(&stream->uplink)) {
        fanout_report(&stream->fanout, 0, stream, send_to_broker);
    }
    loop_timer_start(stream->loop, timer, STREAM_REPORT_MS, on_report_due);
    stop_when_empty(stream); /* an arrival that never became a request may have been the last */
}

/* --- requests --------------------------------------------------------------------------------- */

static const char *get_parameter(const void *source, const char *name) {
    return handover_parameter(source, name);
}

static void on_request(void *self, int fd, int source) {
    struct stream *stream = self;
    struct request request;
    if (!handover_receive(stream->handover, fd, source)) {
        return; /* the web server went away in between */
    }
    struct parameters parameters = {stream->handover, get_parameter};
    struct route_paths paths = route_paths_of(stream->config);
    request_parse(&parameters, &paths, &request);
    client_create(stream, fd, handover_request_id(stream->handover), &request);
    handover_release(stream->handover); /* and with it the request's texts */
}

/* --- life ------------------------------------------------------------------------------------- */

struct stream *stream_create(struct loop *loop, const struct config *config, int listen_fd) {
    struct stream *stream = must_zalloc(sizeof *stream);
    struct uplink_owner owner = {stream, on_up, on_down, on_frame, on_foreign_version};
    struct arrivals_owner door = {stream, on_request};
    stream->loop = loop;
    stream->config = config;
    stream->handover = handover_create();
    LIST_INIT(&stream->clients);
    fanout_init(&stream->fanout, loop);
    uplink_start(&stream->uplink, loop, config->socket_dir, &owner);
    arrivals_start(&stream->arrivals, loop, listen_fd, STREAM_BODY_BYTES_KEPT, &door);
    loop_timer_start(loop, &stream->report, STREAM_REPORT_MS, on_report_due);
    return stream;
}

void stream_destroy(struct stream **place) {
    struct stream *stream = *place;
    *place = NULL;
    struct client *client;
    while ((client = LIST_FIRST(&stream->clients)) != NULL) {
        client_close(client, "the handler stops");
    }
    arrivals_stop(&stream->arrivals);
    loop_timer_stop(stream->loop, &stream->report);
    loop_timer_stop(stream->loop, &stream->drain);
    uplink_stop(&stream->uplink);
    fanout_release(&stream->fanout);
    handover_destroy(&stream->handover);
    loop_reap(stream->loop);
    free(stream);
}

void stream_on_client_closed(struct stream *stream) {
    stop_when_empty(stream);
}

static void on_drain_over(struct loop_timer *timer) {
    struct stream *stream = container_of(timer, struct stream, drain);
    log_warning("%zu clients did not take their end in time", stream->client_count);
    loop_stop(stream->loop);
}

/* Clients come back as a flat line and not as a storm: each has its own place in time. */
void stream_drain(struct stream *stream) {
    if (stream->is_draining) {
        return;
    }
    log_info("told to stop: ending %zu requests", stream->client_count);
    stream->is_draining = true;
    arrivals_close_door(&stream->arrivals);
    loop_timer_start(stream->loop, &stream->drain, stream->config->graceful_drain, on_drain_over);
    int64_t place = 0;
    struct client *client = LIST_FIRST(&stream->clients);
    while (client != NULL) {
        struct client *next = LIST_NEXT(client, link);
        int64_t wait_ms = place++ * 1000 / stream->config->reconnect_rate;
        client_end(client, jittered(stream->config->retry) + wait_ms);
        client = next;
    }
    stop_when_empty(stream);
}
