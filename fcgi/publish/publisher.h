/* Owns everything in the publish handler, and takes the requests: it finds out what each one wants,
 * and hands it to post.h, which publishes, or to db_request.h, which asks Postgres for history and
 * subscriptions. docs/architecture.md follows one event through the code. There is one thread, and
 * nothing in it blocks. */
#pragma once

#include "config.h"
#include "handover.h"
#include "incoming.h"
#include "origin.h"
#include "pending_request.h"
#include "post.h"
#include "queries.h"

struct publisher {
    const struct config *config;        /* borrowed */
    const struct origin_rules *origins; /* borrowed */
    struct loop *loop;                  /* borrowed */
    struct incoming_requests incoming_requests;
    struct handover *handover;
    struct pending_requests requests;
    struct posts posts;
    struct queries *queries;
    struct budget budget;
    struct loop_timer drain_look;
    int64_t drain_until_ms;
    bool is_draining;
};

struct publisher *publisher_create(struct loop *loop, const struct config *config,
                                   const struct origin_rules *origins, int listen_fd) must_check;
void publisher_destroy(struct publisher **publisher);

/* Finishes what was accepted, answers 503 to what still comes, then stops the loop; at the latest
 * after graceful_drain. */
void publisher_drain(struct publisher *publisher);
