/* A stream's clock: heartbeats, the ids that a quiet stream is sent, and its age. */
#pragma once

#include "subscriber.h"

/* Headers are queued: heartbeats begin. */
void pulse_start(struct subscriber *subscriber);

/* Its age begins, which max_stream_age limits. */
void pulse_start_age(struct subscriber *subscriber);
bool pulse_is_old(const struct subscriber *subscriber) must_check;

/* Its timer is due, and its socket has not stalled: sends a heartbeat or a position if it is time,
 * and starts the timer again. */
void pulse_beat(struct subscriber *subscriber);
