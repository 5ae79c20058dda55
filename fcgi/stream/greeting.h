/* What a stream is sent before it is live, except events: headers, the greeting, its first
 * position, and refreshes. */
#pragma once

#include "subscriber.h"

/* Headers, and the encoding that they tell of. */
void greeting_open(struct subscriber *subscriber);
/* The same, and when to come back. */
void greeting_headers(struct subscriber *subscriber);

/* The broker has not answered yet: sends headers and ": waiting". The state becomes WAITING. */
void greeting_wait(struct subscriber *subscriber);

/* The broker has accepted it, and its headers are queued. The state becomes GREETED. */
void greeting_greet(struct subscriber *subscriber, const struct wire_accepted *message);

/* Sends the position as its first event; a user stream gets that only if it asked for it. */
void greeting_first_position(struct subscriber *subscriber);

/* Sends a refresh: it may have missed events, and goes on from that position. */
void greeting_refresh(struct subscriber *subscriber, const struct position *at,
                      enum sse_refresh_reason reason, uint64_t dropped);
/* The same, for a gap of unknown length. */
void greeting_gap(struct subscriber *subscriber, const struct position *at);
