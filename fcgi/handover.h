/* Lets libfcgi parse a request, and then takes the connection out of libfcgi. This is the one file
 * that knows libfcgi's private fields.
 *
 * Why this is safe: nothing is written with libfcgi; its streams are freed without closing the
 * connection; and its request is initialised again before the next one, else libfcgi would close
 * the descriptor that it has given away.
 *
 * One struct handover serves all requests, one after the other. */
#pragma once

#include "base.h"
#include "parameters.h"

struct handover;

enum { HANDOVER_LISTEN_FD = 0 }; /* where a web server puts the listening socket */

/* Call this first: the process gets SIGTERM when its web server dies. If a handler stayed, the next
 * web server would find a socket that answers, and use that handler as its own. */
void handover_die_with_parent(void);

/* Call this once, after loop_on_signal and before all functions below. False if descriptor 0 is no
 * listening socket: no web server has started the program. */
bool handover_init(void) must_check;

struct handover *handover_create(void) must_check;
void handover_destroy(struct handover **handover);

/* Parses a request of the connection fd. source is where it can be read: fd itself, or a file with
 * the bytes that came in. All bytes that will be read must be there (see incoming.h), so this does
 * not block. A file is owned by the handover from now on. On failure both are closed. */
bool handover_receive(struct handover *handover, int fd, int source) must_check;

/* A parameter of the request ("REQUEST_METHOD"), "" if it is absent. Good until handover_release.
 */
const char *handover_parameter(const struct handover *handover, const char *name);

/* All parameters, good until then, too. */
struct parameters handover_parameters(const struct handover *handover) must_check;

/* Reads up to length bytes of the body, and returns how many. If these are fewer, the body has
 * ended. */
size_t handover_read_body(struct handover *handover, char *bytes, size_t length);

uint16_t handover_request_id(const struct handover *handover);

/* Ends the request for libfcgi: fd belongs to the caller alone from now on. Bytes that can still be
 * read from fd are left over from this request: drain them, never parse them. */
void handover_release(struct handover *handover);
