/* One publish request, from its connection to its answer, in a thread that may wait. */
#pragma once

#include "batch.h"
#include "config.h"
#include "handover.h"

struct worker {
    const struct config *config; /* borrowed */
    struct batch *batch;         /* borrowed */
    struct handover *handover;   /* owned by who made the worker */
};

/* Answers the request that waits on fd, and closes it. is_draining: with 503. */
void worker_serve(struct worker *worker, int fd, bool is_draining);
