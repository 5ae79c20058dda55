/* Owns everything in the publish handler. The way of one publish through it:
 *
 *   on_request      a request has come in whole: libfcgi parses it, the connection is taken over
 *   envelope_build  makes the NOTIFY payload of its body
 *   batch_add       queues it; what comes in one turn goes to Postgres together
 *   on_done         Postgres has committed: the publisher is answered
 *
 * One thread, and nothing in it waits. */
#pragma once

#include "arrival.h"
#include "batch.h"
#include "config.h"
#include "handover.h"

/* Publishes under way; from there on new connections stay in the backlog. */
enum { PUBLISHER_POSTS_MAX = 4096 };

struct post;
LIST_HEAD(post_list, post);

struct publisher {
    const struct config *config; /* borrowed */
    struct loop *loop;           /* borrowed */
    struct arrivals arrivals;
    struct handover *handover;
    struct batch *batch;
    struct post_list posts; /* that wait for Postgres */
    size_t post_count;
    uint64_t next_nonce; /* counts from a random place, so no two processes meet */
    struct loop_timer drain_look;
    int64_t drain_until_ms;
    bool is_draining;
};

struct publisher *publisher_create(struct loop *loop, const struct config *config,
                                   int listen_fd) must_check;
void publisher_destroy(struct publisher **publisher);

/* Finishes what was accepted, answers 503 to what still comes, then stops the loop; at the latest
 * after graceful_drain. */
void publisher_drain(struct publisher *publisher);
