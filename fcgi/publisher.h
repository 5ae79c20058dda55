/* Owns everything in the publish handler. The way of one publish through it:
 *
 *   on_request      a request has come in whole: libfcgi parses it, the connection is taken over
 *   service_of      what is wanted, or why not
 *   envelope_build  makes the NOTIFY payload of its body (durable_parse, for a durable event)
 *   batch_add       queues it; what comes in one turn goes to Postgres together
 *   on_done         Postgres has committed: the publisher is answered
 *
 * What is too large for a notification goes the way of durable events, if there is one. Questions
 * (history, subscriptions) are lookup.h's. One thread, and nothing in it waits. */
#pragma once

#include "arrival.h"
#include "batch.h"
#include "config.h"
#include "handover.h"
#include "queries.h"
#include "response.h"

/* Requests that wait for Postgres, and the bytes of their events; from there on new connections
 * stay in the backlog. */
enum { PUBLISHER_VISITS_MAX = 4096, PUBLISHER_HELD_BYTES_MAX = 64 * 1024 * 1024 };

/* A request that waits for Postgres, embedded in what is made of it. */
struct visit {
    LIST_ENTRY(visit) link;
    struct publisher *publisher; /* borrowed */
    int fd;
    uint16_t request_id;
    bool is_head;
    bool is_third_door; /* its errors are JSON */
    size_t held_bytes;
    void (*abandon)(struct visit *visit); /* the program ends: to be answered and freed */
};
LIST_HEAD(visit_list, visit);

struct publisher {
    const struct config *config; /* borrowed */
    struct loop *loop;           /* borrowed */
    struct arrivals arrivals;
    struct handover *handover;
    struct batch *ephemeral;
    struct batch *durable;
    struct queries *queries;
    struct responses responses;
    struct visit_list visits;
    size_t visit_count;
    size_t held_bytes;   /* of them all */
    bool is_full;        /* the door is closed until some have been answered */
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

/* For who makes something of a request: the visit waits, and holds that much memory. */
void publisher_admit(struct publisher *publisher, struct visit *visit, size_t held_bytes);

/* Answers it and lets it go; whoever it is embedded in frees it. */
void publisher_dismiss(struct visit *visit, struct slice answer);
