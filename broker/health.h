/* Who asks for the health document (document.h), and when it can be written.
 *
 * Handlers report once a second by themselves; who asks for health gets figures of this moment:
 * all handlers are asked, and the document is built when all have answered or after
 * HEALTH_WAIT_MS, whichever comes first. */
#pragma once

#include "base.h"
#include "loop.h"

struct broker;

enum { HEALTH_WAIT_MS = 200 };

/* document is good during the call; status is that of HTTP. */
typedef void health_callback(void *owner, uint64_t token, uint16_t status, struct slice document);

struct health_request {
    TAILQ_ENTRY(health_request) link;
    struct health *health;
    struct loop_timer timeout;
    uint32_t serial;
    uint32_t limit;
    size_t awaited; /* handlers that have not answered yet */
    void *owner;
    uint64_t token;
    health_callback *on_done;
};

TAILQ_HEAD(health_request_list, health_request);

struct health {
    struct broker *broker; /* borrowed */
    struct health_request_list requests;
    uint32_t last_serial;
};

void health_init(struct health *health, struct broker *broker);
void health_release(struct health *health);

/* on_done is called once, later, unless the owner cancels. limit: how many topics are listed at
 * most; totals are never cut. */
void health_ask(struct health *health, uint32_t limit, void *owner, uint64_t token,
                health_callback *on_done);

/* The owner goes: its requests are forgotten. */
void health_cancel(struct health *health, const void *owner);

/* A handler has answered, or will never answer, all serials above before, up to serial. */
void health_on_report(struct health *health, uint32_t before, uint32_t serial);
