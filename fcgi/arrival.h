/* Connections from the web server whose request has not come in whole yet.
 *
 * libfcgi waits while it parses. So that the event loop never does, a connection stays here until
 * its request has come in whole: BEGIN_REQUEST, the parameters, the body. One that says nothing, or
 * half of it, or something else than FastCGI, is closed with a reason.
 *
 * As a rule the request lies in the socket at once, is looked at there, and libfcgi reads it from
 * there. One that comes in pieces is read here, and libfcgi reads it from a memory file. */
#pragma once

#include "acceptor.h"
#include "loop.h"

enum {
    ARRIVAL_TIMEOUT_MS = 5000,          /* without a further byte */
    ARRIVAL_HEAD_BYTES_MAX = 64 * 1024, /* up to the end of the parameters */
    ARRIVAL_LOOK_BYTES = 64 * 1024,
};

struct arrival;
TAILQ_HEAD(arrival_list, arrival);

struct arrivals_owner {
    void *self;
    /* fd is the connection, non-blocking; source is where the request can be read whole: fd itself,
     * or a file. Both are the owner's now. */
    void (*on_request)(void *self, int fd, int source);
};

struct arrivals {
    struct loop *loop;
    struct arrivals_owner owner;
    struct acceptor acceptor;
    struct arrival_list waiting;
    size_t body_bytes_max; /* what is kept of a body */
    char *look;            /* owned: room for what is looked at or read */
};

/* Of a body that is longer than body_bytes_max the rest is thrown away when all has come in: the
 * request can then be refused without the web server noticing a broken connection. */
void arrivals_start(struct arrivals *arrivals, struct loop *loop, int listen_fd,
                    size_t body_bytes_max, const struct arrivals_owner *owner);

/* No further connections; those that have arrived may still become requests. */
void arrivals_close_door(struct arrivals *arrivals);

/* The door closed or opened for a while: the backlog keeps what comes. */
void arrivals_pause(struct arrivals *arrivals);
void arrivals_resume(struct arrivals *arrivals);

bool arrivals_are_empty(const struct arrivals *arrivals);

void arrivals_stop(struct arrivals *arrivals);
