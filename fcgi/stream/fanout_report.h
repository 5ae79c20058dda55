/* What the broker is told about a handler's topics: what was delivered and dropped on them, and how
 * many clients they have. */
#pragma once

#include "fanout.h"

/* Sends RESUME, with which a connection to the broker begins: how many live clients each topic has,
 * and the position that they have reached. Of several frames the last has is_last set. */
void fanout_resume(struct fanout *fanout, const struct position *position, void *owner,
                   void (*send)(void *owner, struct payload *resume));

/* Reports all topics on which something has changed, frame by frame: the last one, which
 * may be empty, has is_last set. streams: how many are open. */
void fanout_report(struct fanout *fanout, uint32_t serial, uint32_t streams, void *owner,
                   void (*send)(void *owner, struct payload *report));
