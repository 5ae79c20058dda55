/* All connected handler processes: what the broker has for each of them. */
#pragma once

#include "handler.h"

void handlers_init(struct handlers *handlers, struct loop *loop, struct journal *journal,
                   struct condition *condition, struct health *health);

/* Closes all connections; the handler processes keep their clients. */
void handlers_release(struct handlers *handlers);

/* Sends the frame to every handler that is SERVED. */
void handlers_send(struct handlers *handlers, struct payload *frame);

/* Sends the head to every handler that is SERVED, if it has moved since that handler was told. */
void handlers_tell_position(struct handlers *handlers);

/* handler_serve_held, for each. */
void handlers_serve_held(struct handlers *handlers);

/* The table has gaps up to that id. Live clients are told now, in order with their events; a client
 * in a replay is told when the replay comes to the gap. */
void handlers_tell_gaps(struct handlers *handlers, const struct gap *list, size_t count,
                        uint64_t id);

/* The table has appeared, has gone, or is another one. All clients get a refresh and go on from the
 * new table's head, since an id of the old table means nothing in the new one. */
void handlers_on_table_changed(struct handlers *handlers);
