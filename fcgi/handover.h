/* The door to libfcgi: it accepts and parses a request, and then hands the connection over. This is
 * the one file that knows its private fields.
 *
 * What makes the hand-over sound: nothing is ever written with libfcgi; its streams are freed
 * without closing the connection; and the request is made new before the next one, else libfcgi
 * would close the descriptor that it gave away.
 *
 * One struct handover serves one request after the other. */
#pragma once

#include "base.h"

struct handover;

enum { HANDOVER_LISTEN_FD = 0 }; /* where a web server puts the listening socket */

/* First of all: a web server that is killed must leave nobody behind whom the next one, finding an
 * answering socket, would take for its own. */
void handover_die_with_parent(void);

/* Once, after the program has taken its signals and before any other call. False when fd 0 is no
 * listening socket: nobody started us as FastCGI. */
bool handover_init(void) must_check;

struct handover *handover_create(void) must_check;
void handover_destroy(struct handover **handover);

/* Parses the request of the connection fd. It can be read from source: fd itself, or a file with
 * what came in on it. All of it that will be used must be there (see arrival.h), so this does not
 * wait. Takes source over, if it is a file; on failure both are closed. */
bool handover_receive(struct handover *handover, int fd, int source) must_check;

/* A parameter of the request ("REQUEST_METHOD"), "" if it is absent. Good until the request ends.
 */
const char *handover_parameter(const struct handover *handover, const char *name);

/* Reads up to length bytes of the body. Less than length: that was all there is. */
size_t handover_read_body(struct handover *handover, char *bytes, size_t length);

uint16_t handover_request_id(const struct handover *handover);

/* Ends the request within libfcgi; fd is the caller's alone from now on. What can still be read
 * from it are left-overs of the request: to be drained, never parsed. */
void handover_release(struct handover *handover);
