#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base.h"
#include "stats.h"

/* What pgsse is measured against: one libpq connection in a thread of its own that LISTENs and does
 * nothing else with what it hears than to count it. */
struct listener;

/* Connects and LISTENs, or ends the program. The caller owns it. */
struct listener *listener_create(const char *database_url, const char *channel);
void listener_destroy(struct listener **listener);

/* Begins to count events of that topic (borrowed) until `count` were heard or timeout_ms is over.
 * The age of stamped ones goes to delays_us (borrowed, may be NULL). */
void listener_start(struct listener *listener, const char *topic, uint64_t count,
                    struct stats *delays_us, int64_t timeout_ms);

/* Waits for the end of that. False: not all were heard. */
must_check bool listener_finish(struct listener *listener);

/* When the last one was heard. */
int64_t listener_reached_ns(const struct listener *listener);
