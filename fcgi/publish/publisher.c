#include "publisher.h"

#include "db_request.h"
#include "http.h"
#include "log.h"
#include "service.h"

#include <stdlib.h>
#include <strings.h>

enum { DRAIN_LOOK_MS = 20 };

/* --- requests: each returns HTTP_OK, or the status of the refusal with *reason --------------- */

static unsigned refuse_large_body(bool is_large, size_t max, const char **reason) {
    static char text[64];
    snprintf(text, sizeof text, "the body is larger than %s = %zu",
             is_large ? "max_durable_body" : "max_body", max);
    *reason = text;
    return HTTP_TOO_LARGE;
}

static unsigned read_body(struct publisher *publisher, const struct request *request,
                          struct buf *body, const char **reason) {
    const struct config *config = publisher->config;
    bool is_large =
        request->route.api == API_DURABLE || request->route.kind == ROUTE_EVENTS_PUBLISH;
    size_t max = (size_t)(is_large ? config->max_durable_body : config->max_body);
    if (request->content_length == REQUEST_LENGTH_BAD) {
        *reason = "Content-Length is not a number";
        return HTTP_BAD_REQUEST;
    }
    bool is_known = request->content_length != REQUEST_LENGTH_NONE;
    if (is_known && request->content_length > (int64_t)max) {
        return refuse_large_body(is_large, max, reason);
    }
    size_t wanted = is_known ? (size_t)request->content_length : max + 1;
    body->length = handover_read_body(publisher->handover, buf_reserve(body, wanted), wanted);
    if (is_known && body->length < wanted) {
        *reason = "the body ended early";
        return HTTP_BAD_REQUEST;
    }
    return body->length <= max ? HTTP_OK : refuse_large_body(is_large, max, reason);
}

/* A form of another site cannot send application/json. So this type is required where the browser's
 * credentials have authenticated the user. */
static bool type_is_wrong(const struct request *request) {
    static const char json[] = "application/json";
    size_t length = strcspn(request->content_type, "; ");
    return request->method == METHOD_POST && identity_is_authenticated(&request->identity) &&
           (length != sizeof json - 1 || strncasecmp(request->content_type, json, length) != 0);
}

static unsigned begin_service(struct publisher *publisher, const struct pending_request *pending,
                              enum service service, const struct request *request,
                              struct slice body, const char **reason) {
    switch (service) {
    case SERVICE_PUBLISH_TOPIC:
    case SERVICE_PUBLISH_MANY:
    case SERVICE_PUBLISH_SSE:
    case SERVICE_PUBLISH_DURABLE:
        return post_begin(&publisher->posts, pending, service, request, body, reason);
    case SERVICE_SUBSCRIBE:
    case SERVICE_UNSUBSCRIBE:
    case SERVICE_CHANNELS:
    case SERVICE_HISTORY:
        return db_request_begin(publisher->queries, pending, service, request, body, reason);
    case SERVICE_NONE:
        break;
    }
    check(false);
    return HTTP_NOT_FOUND;
}

static unsigned take_request(struct publisher *publisher, const struct pending_request *pending,
                             enum service service, const struct request *request,
                             const char **reason) {
    struct parameters parameters = handover_parameters(publisher->handover);
    if (publisher->is_draining) {
        *reason = "server draining";
        return HTTP_UNAVAILABLE;
    }
    if (request->method == METHOD_POST &&
        !origin_is_permitted(publisher->origins, &parameters, reason)) {
        return HTTP_FORBIDDEN;
    }
    if (type_is_wrong(request)) {
        *reason = "an authenticated publisher sends application/json";
        return HTTP_BAD_TYPE;
    }
    struct buf body = {0};
    unsigned status = HTTP_OK;
    if (request->method == METHOD_POST) {
        status = read_body(publisher, request, &body, reason);
    }
    if (status == HTTP_OK) {
        status = begin_service(publisher, pending, service, request, buf_slice(&body), reason);
    }
    buf_release(&body);
    return status;
}

/* --- from the web server ---------------------------------------------------------------------- */

static void on_request(void *self, int fd, int source) {
    struct publisher *publisher = self;
    struct parameters parameters = handover_parameters(publisher->handover);
    struct route_paths paths = route_paths_of(publisher->config);
    struct request request;
    struct refusal refusal = {.status = HTTP_OK};
    if (!handover_receive(publisher->handover, fd, source)) {
        return; /* the web server went away in between */
    }
    request_parse(&parameters, &paths, &request);
    struct pending_request pending = {.requests = &publisher->requests,
                                      .fd = fd,
                                      .request_id = handover_request_id(publisher->handover),
                                      .is_head = request.method == METHOD_HEAD,
                                      .api = request.route.api};
    enum service service = service_of(&request, &refusal);
    if (service != SERVICE_NONE) {
        refusal.status = take_request(publisher, &pending, service, &request, &refusal.reason);
    }
    handover_release(publisher->handover);
    if (refusal.status != HTTP_OK) {
        pending_request_refuse(&pending, refusal.status, refusal.reason, refusal.allow);
    }
}

/* --- life ------------------------------------------------------------------------------------- */

struct publisher *publisher_create(struct loop *loop, const struct config *config,
                                   const struct origin_rules *origins, int listen_fd) {
    struct publisher *publisher = must_zalloc(sizeof *publisher);
    struct incoming_requests_owner owner = {publisher, on_request};
    int64_t body_bytes_max =
        config->max_body > config->max_durable_body ? config->max_body : config->max_durable_body;
    publisher->loop = loop;
    publisher->config = config;
    publisher->origins = origins;
    publisher->budget.bytes_max = (size_t)config->request_bytes;
    publisher->handover = handover_create();
    posts_init(&publisher->posts, loop, config);
    publisher->queries = queries_create(loop, config);
    pending_requests_init(&publisher->requests, loop, config->stall_timeout,
                          &publisher->incoming_requests, &publisher->budget);
    incoming_requests_start(&publisher->incoming_requests, loop, listen_fd, (size_t)body_bytes_max,
                            &publisher->budget, &owner);
    return publisher;
}

void publisher_destroy(struct publisher **slot) {
    struct publisher *publisher = *slot;
    *slot = NULL;
    loop_timer_stop(publisher->loop, &publisher->drain_look);
    posts_release(&publisher->posts);
    queries_destroy(&publisher->queries);
    pending_requests_release(&publisher->requests);
    incoming_requests_stop(&publisher->incoming_requests);
    handover_destroy(&publisher->handover);
    loop_reap(publisher->loop);
    free(publisher);
}

static bool is_idle(const struct publisher *publisher) {
    return pending_requests_are_empty(&publisher->requests) &&
           incoming_requests_are_empty(&publisher->incoming_requests);
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
    log_info("told to stop: finishing %zu requests", publisher->requests.count);
    publisher->is_draining = true;
    publisher->drain_until_ms = loop_now_ms(publisher->loop) + publisher->config->graceful_drain;
    loop_timer_start(publisher->loop, &publisher->drain_look, DRAIN_LOOK_MS, on_drain_look);
}
