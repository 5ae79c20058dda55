/* The documents that the broker makes about itself, as JSON: full health, short health, how many
 * user streams are open, and the figures of all streams (enum wire_document_kind). The stream
 * handler serves them over HTTP, and status.sock (status.h) serves full health. The one file that
 * knows json-c. */
#pragma once

#include "wire.h"

struct survey;
struct overview;

/* Who may read the document. The messages of Postgres and libpq may name hosts, ports, paths, users
 * and roles: only LOCAL documents contain them. PUBLIC ones name the kind of fault. */
enum document_scope { DOCUMENT_PUBLIC, DOCUMENT_LOCAL };
enum { DOCUMENT_SCOPES = DOCUMENT_LOCAL + 1 };

/* All functions append to *out. The survey must be DONE. */

/* Health, with that list of topics (listing.h). The totals are about the whole machine. */
void document_health(const struct overview *overview, const struct survey *survey,
                     enum document_scope scope, struct slice list, struct buf *out);

/* {"status":"ok","message":"all is well","timestamp":"..."}. It is public, and needs no survey. */
void document_short_health(const struct overview *overview, struct buf *out);

/* The HTTP status for both health documents. */
uint16_t document_health_status(const struct overview *overview) must_check;

/* {"count":2,"activeConnections":2,"totalConnections":2,"byChannel":{"a":2,"b":1}}: existing
 * clients know these names. The tenant's user streams; one counts from ACCEPTED on. */
void document_user_streams(const struct survey *survey, struct slice tenant, struct buf *out);

/* How many streams are open, on how many topics, and how many events they lost because they were
 * too slow: {"connected_clients","active_topics","dropped_messages","timestamp"}. For the tenant ""
 * of the whole machine. For any other of its own streams and topics, where events lost on topics
 * that the broker has forgotten do not count. */
void document_stream_stats(const struct survey *survey, struct slice tenant, struct buf *out);
