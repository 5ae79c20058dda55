/* What the broker tells of itself, as JSON. The one file that knows json-c. */
#pragma once

#include "buf.h"

struct broker;

/* A list of topics, or of channels, ends there, however many more are asked for. */
enum { DOCUMENT_LIST_BYTES_MAX = 512 * 1024 };

/* Health: limit topics at most; totals are never cut. Appends to *out, as the others do. */
void document_health(struct broker *broker, uint32_t limit, struct buf *out);

/* {"status":"ok","message":"all is well","timestamp":"..."}: for those who only want to know. */
void document_short_health(const struct broker *broker, struct buf *out);

/* Of HTTP, that goes with both. */
uint16_t document_health_status(const struct broker *broker) must_check;

/* How many connections (streams of the third door) are open on this machine:
 * {"count":2,"activeConnections":2,"totalConnections":2,"byChannel":{"a":2,"b":1}}. One counts from
 * ACCEPTED on. */
void document_connections(const struct broker *broker, struct buf *out);
