/* How many bytes of requests a handler holds. Pure. Two kinds of owners share one:
 * incoming_requests (incoming.h), for requests that are still coming in, and in pgsse-publish
 * pending_requests (pending_request.h), for requests that wait for Postgres. An owner takes the
 * bytes that it allocates for a request, and gives them back when it frees them. Before it reads
 * more, it asks whether the budget is spent. One request may exceed the budget, so that the largest
 * one is served, too. */
#pragma once

#include "base.h"

struct budget {
    size_t bytes_max;
    size_t bytes; /* taken and not given back */
};

static inline void budget_take(struct budget *budget, size_t bytes) {
    budget->bytes += bytes;
}

static inline void budget_give(struct budget *budget, size_t bytes) {
    check(bytes <= budget->bytes);
    budget->bytes -= bytes;
}

static inline bool budget_is_spent(const struct budget *budget) {
    return budget->bytes >= budget->bytes_max;
}
