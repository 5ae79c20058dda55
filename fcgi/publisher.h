/* Owns everything in the publish handler. The way of one publish through it:
 *
 *   on_request      its request line has come in whole: it goes into the line for the workers
 *   worker          a thread parses it with libfcgi and reads its body,
 *   envelope_build  makes the NOTIFY payload,
 *   batch_publish   waits until Postgres has committed it, with all that arrived together,
 *   publisher_answer  and answers
 *
 * One thread runs the loop: connections, Postgres, signals. publish_threads threads do the rest. */
#pragma once

#include "arrival.h"
#include "batch.h"
#include "config.h"
#include "handover.h"

struct publisher;

struct publisher *publisher_create(struct loop *loop, const struct config *config,
                                   int listen_fd) must_check;

/* Waits for the workers. */
void publisher_destroy(struct publisher **publisher);

/* Finishes what was accepted, answers 503 to what still comes, then stops the loop; at the latest
 * after graceful_drain. */
void publisher_drain(struct publisher *publisher);

/* Nothing is under way: destroying will not wait. */
bool publisher_is_idle(struct publisher *publisher);
