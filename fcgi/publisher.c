#include "publisher.h"

#include "durable.h"
#include "envelope.h"
#include "log.h"
#include "lookup.h"
#include "reply.h"
#include "service.h"

#include <stdlib.h>
#include <strings.h>

enum { DRAIN_LOOK_MS = 20 };

/* One publish that waits for Postgres. */
struct post {
    struct visit visit;
    struct batch_item item;
    struct envelope envelope; /* first door */
    struct durable durable;   /* third door */
};

/* --- who waits -------------------------------------------------------------------------------- */

static void update_door(struct publisher *publisher) {
    bool is_full = publisher->visit_count >= PUBLISHER_VISITS_MAX ||
                   publisher->held_bytes >= PUBLISHER_HELD_BYTES_MAX;
    if (is_full == publisher->is_full) {
        return;
    }
    publisher->is_full = is_full;
    if (is_full) {
        arrivals_pause(&publisher->arrivals);
    } else {
        arrivals_resume(&publisher->arrivals);
    }
}

void publisher_admit(struct publisher *publisher, struct visit *visit, size_t held_bytes) {
    visit->publisher = publisher;
    visit->held_bytes = held_bytes;
    LIST_INSERT_HEAD(&publisher->visits, visit, link);
    publisher->visit_count++;
    publisher->held_bytes += held_bytes;
    update_door(publisher);
}

void publisher_dismiss(struct visit *visit, struct slice answer) {
    struct publisher *publisher = visit->publisher;
    responses_send(&publisher->responses, visit->fd, visit->request_id, answer);
    LIST_REMOVE(visit, link);
    publisher->visit_count--;
    publisher->held_bytes -= visit->held_bytes;
    update_door(publisher);
}

/* --- posts: what is answered ------------------------------------------------------------------ */

/* The first door: an event that is too large for a notification, and cannot be a durable one. */
static void append_too_large(struct outcome outcome, struct buf *answer) {
    struct buf text = {0};
    buf_append_text(&text,
                    "the event is larger than a notification may be (max_notify_bytes); as a "
                    "durable event it would be taken, but ");
    outcome_describe(outcome, &text);
    reply_text(answer, REPLY_TOO_LARGE, text.bytes, NULL, false);
    buf_release(&text);
}

static void append_first_door(const struct post *post, struct outcome outcome, struct buf *answer) {
    struct reply done = {
        .status = REPLY_OK, .type = "application/json", .body = buf_slice(&post->envelope.answer)};
    switch (outcome.kind) {
    case OUTCOME_DONE:
        reply_append(answer, &done);
        return;
    case OUTCOME_NO_SCHEMA:
    case OUTCOME_OTHER_SCHEMA:
    case OUTCOME_FORBIDDEN:
        append_too_large(outcome, answer);
        return;
    case OUTCOME_REFUSED:
        reply_text(answer, REPLY_BAD_REQUEST, "Postgres does not take this event", NULL, false);
        return;
    case OUTCOME_UNAVAILABLE:
        reply_text(answer, REPLY_UNAVAILABLE, "Postgres is away: nothing was published", NULL,
                   false);
        return;
    case OUTCOME_UNKNOWN:
        outcome_append_answer(outcome, false, answer);
        return;
    }
}

static void append_third_door(struct outcome outcome, struct buf *answer) {
    struct reply done = {.status = REPLY_ACCEPTED};
    if (outcome.kind == OUTCOME_DONE) {
        reply_append(answer, &done);
    } else {
        outcome_append_answer(outcome, false, answer);
    }
}

/* --- posts: their way ------------------------------------------------------------------------- */

static void post_destroy(struct post *post) {
    envelope_release(&post->envelope);
    durable_release(&post->durable);
    free(post);
}

static void on_done(struct batch_item *item, struct outcome outcome) {
    struct post *post = container_of(item, struct post, item);
    struct buf answer = {0};
    if (post->visit.is_third_door) {
        append_third_door(outcome, &answer);
    } else {
        append_first_door(post, outcome, &answer);
    }
    publisher_dismiss(&post->visit, buf_slice(&answer));
    buf_release(&answer);
    post_destroy(post);
}

static void abandon(struct visit *visit) {
    struct post *post = container_of(visit, struct post, visit);
    on_done(&post->item, (struct outcome){OUTCOME_UNKNOWN, 0});
}

/* Gives the item what it carries; returns the batch that it belongs to. */
static struct batch *load_envelope(struct publisher *publisher, struct post *post) {
    const struct envelope *envelope = &post->envelope;
    struct slice *columns = post->item.columns;
    if (envelope->payload.length <= (size_t)publisher->config->max_notify_bytes) {
        columns[0] = slice_of(envelope->channel);
        columns[1] = buf_slice(&envelope->payload);
        return publisher->ephemeral;
    }
    columns[0] = envelope->topic;
    columns[1] = envelope->data;
    columns[2] = buf_slice(&envelope->type);
    return publisher->durable;
}

static struct batch *load_durable(struct publisher *publisher, struct post *post) {
    const struct durable *durable = &post->durable;
    post->item.columns[0] = buf_slice(&durable->channel);
    post->item.columns[1] = buf_slice(&durable->payload);
    post->item.columns[2] = buf_slice(&durable->type);
    return publisher->durable;
}

/* Returns REPLY_OK, or the status of the refusal with *reason. */
static unsigned post_begin(struct publisher *publisher, const struct visit *visit,
                           const struct request *request, struct slice body, const char **reason) {
    struct post *post = must_zalloc(sizeof *post);
    struct batch *batch;
    unsigned status;
    if (visit->is_third_door) {
        status = durable_parse(&post->durable, body, reason);
        batch = load_durable(publisher, post);
    } else {
        status = envelope_build(&post->envelope, request->route.topic, body,
                                publisher->next_nonce++, reason);
        batch = load_envelope(publisher, post);
    }
    if (status != REPLY_OK) {
        post_destroy(post);
        return status;
    }
    post->visit = *visit;
    post->visit.abandon = abandon;
    post->item.on_done = on_done;
    publisher_admit(publisher, &post->visit,
                    sizeof *post + post->envelope.payload.size + post->envelope.answer.size +
                        post->durable.payload.size);
    batch_add(batch, &post->item);
    return REPLY_OK;
}

/* --- requests: each returns REPLY_OK, or the status of the refusal with *reason --------------- */

static unsigned read_body(struct publisher *publisher, const struct request *request,
                          struct buf *body, const char **reason) {
    const struct config *config = publisher->config;
    size_t most = (size_t)(request->is_third_door ? config->max_durable_body : config->max_body);
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
    *reason = request->is_third_door ? "the body is larger than max_durable_body"
                                     : "the body is larger than max_body";
    return REPLY_TOO_LARGE;
}

/* Against forms of other sites, which cannot send this type: only where the browser's own
 * credentials decide. */
static bool type_is_wrong(const struct request *request) {
    static const char json[] = "application/json";
    size_t length = strcspn(request->content_type, "; ");
    return request->method == METHOD_POST && request->user[0] != '\0' &&
           (length != sizeof json - 1 || strncasecmp(request->content_type, json, length) != 0);
}

static unsigned begin_service(struct publisher *publisher, const struct visit *visit,
                              enum service service, const struct request *request,
                              struct slice body, const char **reason) {
    switch (service) {
    case SERVICE_PUBLISH:
    case SERVICE_PUBLISH_DURABLE:
        return post_begin(publisher, visit, request, body, reason);
    case SERVICE_SUBSCRIBE:
    case SERVICE_UNSUBSCRIBE:
    case SERVICE_CHANNELS:
    case SERVICE_HISTORY:
        return lookup_begin(publisher, visit, service, request, body, reason);
    case SERVICE_NONE:
        break;
    }
    check(false);
    return REPLY_NOT_FOUND;
}

static unsigned take_request(struct publisher *publisher, const struct visit *visit,
                             enum service service, const struct request *request,
                             const char **reason) {
    if (publisher->is_draining) {
        *reason = "server draining";
        return REPLY_UNAVAILABLE;
    }
    if (type_is_wrong(request)) {
        *reason = "an authenticated publisher sends application/json";
        return REPLY_BAD_TYPE;
    }
    struct buf body = {0};
    unsigned status = REPLY_OK;
    if (request->method == METHOD_POST) {
        status = read_body(publisher, request, &body, reason);
    }
    if (status == REPLY_OK) {
        status = begin_service(publisher, visit, service, request, buf_slice(&body), reason);
    }
    buf_release(&body);
    return status;
}

/* --- from the web server ---------------------------------------------------------------------- */

static void refuse(struct publisher *publisher, const struct visit *visit,
                   const struct refusal *refusal) {
    struct buf answer = {0};
    if (visit->is_third_door) {
        reply_error(&answer, refusal->status, refusal->reason, refusal->allow, visit->is_head);
    } else {
        reply_text(&answer, refusal->status, refusal->reason, refusal->allow, visit->is_head);
    }
    responses_send(&publisher->responses, visit->fd, visit->request_id, buf_slice(&answer));
    buf_release(&answer);
}

static const char *get_parameter(const void *source, const char *name) {
    return handover_parameter(source, name);
}

static void on_request(void *self, int fd, int source) {
    struct publisher *publisher = self;
    struct parameters parameters = {publisher->handover, get_parameter};
    struct route_paths paths = route_paths_of(publisher->config);
    struct request request;
    struct refusal refusal = {.status = REPLY_OK};
    if (!handover_receive(publisher->handover, fd, source)) {
        return; /* the web server went away in between */
    }
    request_parse(&parameters, &paths, &request);
    struct visit visit = {.fd = fd,
                          .request_id = handover_request_id(publisher->handover),
                          .is_head = request.method == METHOD_HEAD,
                          .is_third_door = request.is_third_door};
    enum service service = service_of(&request, &refusal);
    if (service != SERVICE_NONE) {
        refusal.status = take_request(publisher, &visit, service, &request, &refusal.reason);
    }
    handover_release(publisher->handover);
    if (refusal.status != REPLY_OK) {
        refuse(publisher, &visit, &refusal);
    }
}

/* --- life ------------------------------------------------------------------------------------- */

struct publisher *publisher_create(struct loop *loop, const struct config *config, int listen_fd) {
    struct publisher *publisher = must_zalloc(sizeof *publisher);
    struct arrivals_owner owner = {publisher, on_request};
    int64_t body_bytes_max =
        config->max_body > config->max_durable_body ? config->max_body : config->max_durable_body;
    publisher->loop = loop;
    publisher->config = config;
    publisher->handover = handover_create();
    random_bytes(&publisher->next_nonce, sizeof publisher->next_nonce);
    publisher->ephemeral = batch_create(loop, config, &batch_ephemeral);
    publisher->durable = batch_create(loop, config, &batch_durable);
    publisher->queries = queries_create(loop, config);
    responses_start(&publisher->responses, loop, config->stall_timeout);
    LIST_INIT(&publisher->visits);
    arrivals_start(&publisher->arrivals, loop, listen_fd, (size_t)body_bytes_max, &owner);
    return publisher;
}

void publisher_destroy(struct publisher **place) {
    struct publisher *publisher = *place;
    *place = NULL;
    loop_timer_stop(publisher->loop, &publisher->drain_look);
    batch_destroy(&publisher->ephemeral);
    batch_destroy(&publisher->durable);
    queries_destroy(&publisher->queries);
    struct visit *visit;
    while ((visit = LIST_FIRST(&publisher->visits)) != NULL) {
        visit->abandon(visit);
    }
    responses_stop(&publisher->responses);
    arrivals_stop(&publisher->arrivals);
    handover_destroy(&publisher->handover);
    loop_reap(publisher->loop);
    free(publisher);
}

static bool is_idle(const struct publisher *publisher) {
    return publisher->visit_count == 0 && arrivals_are_empty(&publisher->arrivals) &&
           responses_are_empty(&publisher->responses);
}

static void on_drain_look(struct loop_timer *timer) {
    struct publisher *publisher = container_of(timer, struct publisher, drain_look);
    if (is_idle(publisher) || loop_now_ms(publisher->loop) >= publisher->drain_until_ms) {
        loop_stop(publisher->loop);
    } else {
        loop_timer_start(publisher->loop, timer, DRAIN_LOOK_MS, on_drain_look);
    }
}

void publisher_drain(struct publisher *publisher) {
    if (publisher->is_draining) {
        return;
    }
    log_info("told to stop: finishing %zu requests", publisher->visit_count);
    publisher->is_draining = true;
    publisher->drain_until_ms = loop_now_ms(publisher->loop) + publisher->config->graceful_drain;
    loop_timer_start(publisher->loop, &publisher->drain_look, DRAIN_LOOK_MS, on_drain_look);
}
