#include "worker.h"

#include "envelope.h"
#include "record.h"
#include "reply.h"
#include "request.h"
#include "sock.h"

#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { WORKER_SOCKET_TIMEOUT_S = 5, WORKER_DISCARD_BYTES_MAX = 64 * 1024 * 1024 };

/* --- answering ----------------------------------------------------------------------------------- */

/* One record, its end, and all in one write: an answer is never longer than a notification. */
static void send_answer(int fd, uint16_t request_id, const struct buf *answer) {
    struct buf out = {0};
    char header[RECORD_HEADER_BYTES];
    char trailer[RECORD_TRAILER_BYTES];
    record_header(header, request_id, answer->length);
    record_trailer(trailer, request_id);
    buf_append(&out, header, sizeof header);
    buf_append_slice(&out, buf_slice(answer));
    buf_append(&out, trailer, sizeof trailer);
    size_t sent = 0;
    while (sent < out.length) {
        ssize_t written = send(fd, out.bytes + sent, out.length - sent, MSG_NOSIGNAL);
        if (written <= 0) {
            break; /* the web server is gone: nobody is left to be told */
        }
        sent += (size_t)written;
    }
    buf_release(&out);
}

static void answer_json(struct buf *answer, unsigned status, struct slice document) {
    struct reply reply = {.status = status, .type = "application/json", .body = document};
    reply_append(answer, &reply);
}

static void answer_outcome(struct buf *answer, enum batch_outcome outcome,
                           const struct envelope *envelope) {
    static const char unknown[] = "{\"error\":\"Postgres did not say whether it was published\","
                                  "\"outcome\":\"unknown\"}";
    switch (outcome) {
    case BATCH_COMMITTED:
        answer_json(answer, REPLY_OK, buf_slice(&envelope->answer));
        return;
    case BATCH_REFUSED:
        reply_text(answer, REPLY_BAD_REQUEST, "Postgres does not take this event", NULL, false);
        return;
    case BATCH_UNAVAILABLE:
        reply_text(answer, REPLY_UNAVAILABLE, "Postgres is away: nothing was published", NULL,
                   false);
        return;
    case BATCH_UNKNOWN:
        answer_json(answer, REPLY_UNAVAILABLE, slice_of(unknown));
        return;
    }
}

/* --- the body ------------------------------------------------------------------------------------ */

/* A web server that is still sending would take our answer for a broken connection. */
static void discard_body(struct handover *handover) {
    char waste[16 * 1024];
    size_t discarded = 0;
    size_t got;
    do {
        got = handover_read_body(handover, waste, sizeof waste);
        discarded += got;
    } while (got == sizeof waste && discarded < WORKER_DISCARD_BYTES_MAX);
}

/* Returns REPLY_OK or the status of the refusal, with *reason. */
static unsigned read_body(const struct worker *worker, const struct request *request,
                          struct buf *body, const char **reason) {
    size_t most = (size_t)worker->config->max_body;
    if (request->content_length == -2) {
        *reason = "Content-Length is not a number";
        return REPLY_BAD_REQUEST;
    }
    bool is_known = request->content_length >= 0;
    if (!is_known || request->content_length <= (int64_t)most) {
        size_t wanted = is_known ? (size_t)request->content_length : most + 1;
        body->length = handover_read_body(worker->handover, buf_reserve(body, wanted), wanted);
        if (is_known && body->length < wanted) {
            *reason = "the body ended early";
            return REPLY_BAD_REQUEST;
        }
        if (body->length <= most) {
            return REPLY_OK;
        }
    }
    discard_body(worker->handover);
    *reason = "the body is larger than max_body";
    return REPLY_TOO_LARGE;
}

/* --- publishing ---------------------------------------------------------------------------------- */

static void publish(const struct worker *worker, const struct request *request,
                    struct buf *answer) {
    struct buf body = {0};
    struct envelope envelope = {0};
    const char *reason;
    unsigned status = read_body(worker, request, &body, &reason);
    if (status == REPLY_OK) {
        status = envelope_build(&envelope, request->route.topic, buf_slice(&body),
                                (size_t)worker->config->max_notify_bytes, &reason);
    }
    if (status == REPLY_OK) {
        answer_outcome(answer,
                       batch_publish(worker->batch, envelope.channel, buf_slice(&envelope.payload)),
                       &envelope);
    } else {
        reply_text(answer, status, reason, NULL, false);
    }
    envelope_release(&envelope);
    buf_release(&body);
}

/* Against forms of other sites, which cannot send this type: only where the browser's own
 * credentials decide. */
static bool type_is_wrong(const struct request *request) {
    static const char json[] = "application/json";
    size_t length = strcspn(request->content_type, "; ");
    return request->user[0] != '\0' &&
           (length != sizeof json - 1 || strncasecmp(request->content_type, json, length) != 0);
}

static void answer_post(const struct worker *worker, const struct request *request,
                        bool is_draining, struct buf *answer) {
    if (is_draining) {
        reply_text(answer, REPLY_UNAVAILABLE, "server draining", NULL, false);
    } else if (type_is_wrong(request)) {
        reply_text(answer, REPLY_BAD_TYPE, "an authenticated publisher sends application/json",
                   NULL, false);
    } else {
        publish(worker, request, answer);
    }
}

static void answer_request(const struct worker *worker, const struct request *request,
                           bool is_draining, struct buf *answer) {
    bool is_head = request->method == METHOD_HEAD;
    switch (request->route.kind) {
    case ROUTE_TOPIC_EVENTS:
        if (request->method == METHOD_POST) {
            answer_post(worker, request, is_draining, answer);
        } else {
            reply_text(answer, REPLY_METHOD_NOT_ALLOWED,
                       "all but POST is pgsse-stream's: the web server's routes are wrong",
                       "GET, HEAD, POST, OPTIONS", is_head);
        }
        return;
    case ROUTE_HEALTH:
        reply_text(answer, REPLY_METHOD_NOT_ALLOWED, "this method is not served here",
                   "GET, HEAD, OPTIONS", is_head);
        return;
    case ROUTE_BAD_TOPIC:
        reply_text(answer, REPLY_BAD_REQUEST, "a topic is 1 to 128 of [a-z0-9_-]", NULL, is_head);
        return;
    case ROUTE_NONE:
        reply_text(answer, REPLY_NOT_FOUND, "there is nothing here", NULL, is_head);
        return;
    }
}

static const char *get_parameter(const void *source, const char *name) {
    return handover_parameter(source, name);
}

void worker_serve(struct worker *worker, int fd, bool is_draining) {
    const struct timeval timeout = {.tv_sec = WORKER_SOCKET_TIMEOUT_S};
    sock_set_blocking(fd);
    check(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == 0);
    check(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) == 0);
    if (!handover_receive(worker->handover, fd)) {
        return;
    }
    struct request request;
    struct buf answer = {0};
    struct parameters parameters = {worker->handover, get_parameter};
    request_parse(&parameters, worker->config->base_path, worker->config->healthz_path, &request);
    answer_request(worker, &request, is_draining, &answer);
    uint16_t request_id = handover_request_id(worker->handover);
    int taken = handover_take(worker->handover);
    send_answer(taken, request_id, &answer);
    close(taken);
    buf_release(&answer);
}
