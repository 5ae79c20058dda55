#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"

/* Keep-alive clients that send one fixed request again and again, each the next as soon as it has
 * the answer to the last: what a server can do with that many callers. */

struct http_load {
    uint64_t answered;   /* with the expected status, within the time */
    uint64_t errors;     /* other statuses, lost connections, no answer */
    uint64_t reconnects; /* the server said Connection: close, as it may */
    int bad_status;      /* the last unexpected one, or 0 */
    double per_second;
};

/* Runs for duration_ms, and up to two seconds longer for the answers that are under way. */
void http_load_run(struct http_load *load, const struct address *address, const char *request,
                   int expected_status, unsigned clients, int64_t duration_ms);
