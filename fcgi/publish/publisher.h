/* Owns everything in the publish handler. The way of one publish through it:
 *
 *   on_request      a request has come in whole: libfcgi parses it, the connection is taken over
 *   service_of      what is wanted, or why not
 *   envelope_build  makes the text of a notification of its body, or
 *   durable_parse   the values of a durable event
 *   batch_add       queues it; what comes in one turn goes to Postgres together
 *   on_done         Postgres has committed: the publisher is answered
 *
 * post.c has the last four. Requests for history and subscriptions go through db_request.h. There
 * is one thread, and nothing in it blocks. */
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
