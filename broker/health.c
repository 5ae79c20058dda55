#include "health.h"

#include "broker.h"
#include "document.h"

#include <stdlib.h>

static void request_end(struct health_request *request) {
    TAILQ_REMOVE(&request->health->requests, request, link);
    loop_timer_stop(request->health->broker->loop, &request->timeout);
    free(request);
}

static void request_answer(struct health_request *request) {
    struct broker *broker = request->health->broker;
    if (request->on_done == NULL) {
        request_end(request);
        return;
    }
    struct buf document = {0};
    document_health(broker, request->limit, &document);
    request->on_done(request->owner, request->token, document_health_status(broker),
                     buf_slice(&document));
    buf_release(&document);
    request_end(request);
}

static void on_timeout(struct loop_timer *timer) {
    request_answer(container_of(timer, struct health_request, timeout));
}

static void one_answer_less(struct health_request *request) {
    if (--request->awaited == 0) {
        loop_timer_start(request->health->broker->loop, &request->timeout, 0, on_timeout);
    }
}

static void ask_handler(struct handler *handler, void *argument) {
    struct health_request *request = argument;
    handler->report_asked = request->serial;
    request->awaited++;
    handler_take(handler, wire_encode_ask_report(request->serial));
}

void health_ask(struct health *health, uint32_t limit, void *owner, uint64_t token,
                health_callback *on_done) {
    struct health_request *request = must_zalloc(sizeof *request);
    request->health = health;
    request->serial = ++health->last_serial;
    request->limit = limit;
    request->owner = owner;
    request->token = token;
    request->on_done = on_done;
    TAILQ_INSERT_TAIL(&health->requests, request, link);
    loop_timer_start(health->broker->loop, &request->timeout, HEALTH_WAIT_MS, on_timeout);
    request->awaited = 1; /* we ourselves, so that it is not complete before all are asked */
    broker_visit_handlers(health->broker, request, ask_handler);
    one_answer_less(request);
}

/* It ends by its timer: whoever asks handlers for it may be on the stack now. */
void health_cancel(struct health *health, const void *owner) {
    struct health_request *request;
    TAILQ_FOREACH(request, &health->requests, link) {
        if (request->owner == owner) {
            request->on_done = NULL;
        }
    }
}

void health_on_report(struct health *health, uint32_t before, uint32_t serial) {
    struct health_request *request;
    TAILQ_FOREACH(request, &health->requests, link) {
        if (request->serial > before && request->serial <= serial) {
            one_answer_less(request);
        }
    }
}

void health_init(struct health *health, struct broker *broker) {
    *health = (struct health){.broker = broker};
    TAILQ_INIT(&health->requests);
}

void health_release(struct health *health) {
    struct health_request *request;
    while ((request = TAILQ_FIRST(&health->requests)) != NULL) {
        request_end(request);
    }
}
