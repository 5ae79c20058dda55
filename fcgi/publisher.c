#include "publisher.h"

#include "envelope.h"
#include "log.h"
#include "record.h"
#include "reply.h"
#include "request.h"

#include <errno.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DRAIN_LOOK_MS = 20 };

/* One publish that waits for Postgres. */
struct post {
    LIST_ENTRY(post) link;
    struct publisher *publisher; /* borrowed */
    struct batch_item item;
    struct envelope envelope;
    int fd;
    uint16_t request_id;
};

/* --- answers ---------------------------------------------------------------------------------- */

/* One record, its end, and all in one write: an answer is not longer than a notification, and an
 * unused socket takes that at once. */
static void answer_and_close(int fd, uint16_t request_id, const struct buf *answer) {
    static struct log_limit limit;
    struct buf out = {0};
    char header[RECORD_HEADER_BYTES];
    char trailer[RECORD_TRAILER_BYTES];
    record_header(header, request_id, answer->length);
    record_trailer(trailer, request_id);
    buf_append(&out, header, sizeof header);
    buf_append_slice(&out, buf_slice(answer));
    buf_append(&out, trailer, sizeof trailer);
    ssize_t sent = send(fd, out.bytes, out.length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent != (ssize_t)out.length) {
        log_limited(&limit, LOG_LEVEL_WARNING, "an answer did not reach the web server: %s",
                    sent < 0 ? strerror(errno) : "it was cut");
    }
    close(fd);
    buf_release(&out);
}

static void append_json(struct buf *answer, unsigned status, struct slice document) {
    struct reply reply = {.status = status, .type = "application/json", .body = document};
    reply_append(answer, &reply);
}

static void append_outcome(struct buf *answer, enum batch_outcome outcome,
                           const struct envelope *envelope) {
    static const char unknown[] = "{\"error\":\"Postgres did not say whether it was published\","
                                  "\"outcome\":\"unknown\"}";
    switch (outcome) {
    case BATCH_COMMITTED:
        append_json(answer, REPLY_OK, buf_slice(&envelope->answer));
        return;
    case BATCH_REFUSED:
        reply_text(answer, REPLY_BAD_REQUEST, "Postgres does not take this event", NULL, false);
        return;
    case BATCH_UNAVAILABLE:
        reply_text(answer, REPLY_UNAVAILABLE, "Postgres is away: nothing was published", NULL,
                   false);
        return;
    case BATCH_UNKNOWN:
        append_json(answer, REPLY_UNAVAILABLE, slice_of(unknown));
        return;
    }
}

/* --- posts ------------------------------------------------------------------------------------ */

static void on_done(struct batch_item *item, enum batch_outcome outcome) {
    struct post *post = container_of(item, struct post, item);
    struct publisher *publisher = post->publisher;
    struct buf answer = {0};
    append_outcome(&answer, outcome, &post->envelope);
    answer_and_close(post->fd, post->request_id, &answer);
    buf_release(&answer);
    LIST_REMOVE(post, link);
    if (publisher->post_count-- == PUBLISHER_POSTS_MAX) {
        arrivals_resume(&publisher->arrivals);
    }
    envelope_release(&post->envelope);
    free(post);
}

static void post_create(struct publisher *publisher, int fd, uint16_t request_id,
                        const struct envelope *envelope) {
    struct post *post = must_zalloc(sizeof *post);
    post->publisher = publisher;
    post->fd = fd;
    post->request_id = request_id;
    post->envelope = *envelope;
    post->item.channel = post->envelope.channel;
    post->item.payload = buf_slice(&post->envelope.payload);
    post->item.on_done = on_done;
    LIST_INSERT_HEAD(&publisher->posts, post, link);
    if (++publisher->post_count == PUBLISHER_POSTS_MAX) {
        arrivals_pause(&publisher->arrivals);
    }
    batch_add(publisher->batch, &post->item);
}

/* --- requests: each returns REPLY_OK, or the status of the refusal with *reason
 * ------------------- */

static unsigned read_body(struct publisher *publisher, const struct request *request,
                          struct buf *body, const char **reason) {
    size_t most = (size_t)publisher->config->max_body;
    if (request->content_length == REQUEST_LENGTH_BAD) {
        *reason = "Content-Length is not a number";
        return REPLY_BAD_REQUEST;
    }
    bool is_known = request->content_length != REQUEST_LENGTH_NONE;
    if (!is_known || request->content_length <= (int64_t)most) {
        size_t wanted = is_known ? (size_t)request->content_length : most + 1;
        body->length = handover_read_body(publisher->handover, buf_reserve(body, wanted), wanted);
        if (is_known && body->length < wanted) {
            *reason = "the body ended early";
            return REPLY_BAD_REQUEST;
        }
        if (body->length <= most) {
            return REPLY_OK;
        }
    }
    *reason = "the body is larger than max_body";
    return REPLY_TOO_LARGE;
}

/* Against forms of other sites, which cannot send this type: only where the browser's own
 * credentials decide. */
static bool type_is_wrong(const struct request *request) {
    static const char json[] = "application/json";
    size_t length = strcspn(request->content_type, "; ");
    return request->user[0] != '\0' &&
           (length != sizeof json - 1 || strncasecmp(request->content_type, json, length) != 0);
}

static unsigned take_event(struct publisher *publisher, const struct request *request,
                           struct envelope *envelope, const char **reason) {
    if (publisher->is_draining) {
        *reason = "server draining";
        return REPLY_UNAVAILABLE;
    }
    if (type_is_wrong(request)) {
        *reason = "an authenticated publisher sends application/json";
        return REPLY_BAD_TYPE;
    }
    struct buf body = {0};
    unsigned status = read_body(publisher, request, &body, reason);
    if (status == REPLY_OK) {
        status = envelope_build(envelope, request->route.topic, buf_slice(&body),
                                publisher->next_nonce++,
                                (size_t)publisher->config->max_notify_bytes, reason);
    }
    buf_release(&body);
    return status;
}

static unsigned take_request(struct publisher *publisher, const struct request *request,
                             struct envelope *envelope, const char **reason, const char **allow) {
    switch (request->route.kind) {
    case ROUTE_TOPIC_EVENTS:
        if (request->method == METHOD_POST) {
            return take_event(publisher, request, envelope, reason);
        }
        *reason = "all but POST is pgsse-stream's: the web server's routes are wrong";
        *allow = REPLY_TOPIC_METHODS;
        return REPLY_METHOD_NOT_ALLOWED;
    case ROUTE_HEALTH:
        *reason = "this method is not served here";
        *allow = REPLY_HEALTH_METHODS;
        return REPLY_METHOD_NOT_ALLOWED;
    case ROUTE_BAD_TOPIC:
        *reason = REPLY_BAD_TOPIC_TEXT;
        return REPLY_BAD_REQUEST;
    case ROUTE_NONE:
        break;
    }
    *reason = REPLY_NO_ROUTE_TEXT;
    return REPLY_NOT_FOUND;
}

static const char *get_parameter(const void *source, const char *name) {
    return handover_parameter(source, name);
}

static void on_request(void *self, int fd, int source) {
    struct publisher *publisher = self;
    struct parameters parameters = {publisher->handover, get_parameter};
    struct request request;
    struct envelope envelope = {0};
    const char *reason;
    const char *allow = NULL;
    if (!handover_receive(publisher->handover, fd, source)) {
        return; /* the web server went away in between */
    }
    request_parse(&parameters, publisher->config->base_path, publisher->config->healthz_path,
                  &request);
    unsigned status = take_request(publisher, &request, &envelope, &reason, &allow);
    bool is_head = request.method == METHOD_HEAD;
    uint16_t request_id = handover_request_id(publisher->handover);
    handover_release(publisher->handover);
    if (status == REPLY_OK) {
        post_create(publisher, fd, request_id, &envelope);
        return;
    }
    struct buf answer = {0};
    reply_text(&answer, status, reason, allow, is_head);
    answer_and_close(fd, request_id, &answer);
    buf_release(&answer);
    envelope_release(&envelope);
}

/* --- life ------------------------------------------------------------------------------------- */

struct publisher *publisher_create(struct loop *loop, const struct config *config, int listen_fd) {
    struct publisher *publisher = must_zalloc(sizeof *publisher);
    struct arrivals_owner owner = {publisher, on_request};
    publisher->loop = loop;
    publisher->config = config;
    publisher->handover = handover_create();
    random_bytes(&publisher->next_nonce, sizeof publisher->next_nonce);
    publisher->batch = batch_create(loop, config);
    LIST_INIT(&publisher->posts);
    arrivals_start(&publisher->arrivals, loop, listen_fd, (size_t)config->max_body, &owner);
    return publisher;
}

void publisher_destroy(struct publisher **place) {
    struct publisher *publisher = *place;
    *place = NULL;
    loop_timer_stop(publisher->loop, &publisher->drain_look);
    batch_destroy(&publisher->batch);
    struct post *post;
    while ((post = LIST_FIRST(&publisher->posts)) != NULL) {
        on_done(&post->item, BATCH_UNKNOWN);
    }
    arrivals_stop(&publisher->arrivals);
    handover_destroy(&publisher->handover);
    loop_reap(publisher->loop);
    free(publisher);
}

static void on_drain_look(struct loop_timer *timer) {
    struct publisher *publisher = container_of(timer, struct publisher, drain_look);
    bool is_idle = publisher->post_count == 0 && arrivals_are_empty(&publisher->arrivals);
    if (is_idle || loop_now_ms(publisher->loop) >= publisher->drain_until_ms) {
        loop_stop(publisher->loop);
    } else {
        loop_timer_start(publisher->loop, timer, DRAIN_LOOK_MS, on_drain_look);
    }
}

void publisher_drain(struct publisher *publisher) {
    if (publisher->is_draining) {
        return;
    }
    log_info("told to stop: finishing %zu publishes", publisher->post_count);
    publisher->is_draining = true;
    publisher->drain_until_ms = loop_now_ms(publisher->loop) + publisher->config->graceful_drain;
    loop_timer_start(publisher->loop, &publisher->drain_look, DRAIN_LOOK_MS, on_drain_look);
}
