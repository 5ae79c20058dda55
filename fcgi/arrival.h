/* Connections from the web server whose request has not come in whole yet.
 *
 * libfcgi waits while it parses. So that neither the event loop nor a worker ever does, a connection
 * stays here, its bytes unread, until BEGIN_REQUEST and all parameters lie in the socket. One that
 * says nothing, or half of it, or something else than FastCGI, is closed with a reason. */
#pragma once

#include "acceptor.h"
#include "loop.h"

enum { ARRIVAL_TIMEOUT_MS = 5000, ARRIVAL_HEADER_BYTES_MAX = 64 * 1024 };

struct arrival;
TAILQ_HEAD(arrival_list, arrival);

struct arrivals {
    struct loop *loop;
    struct acceptor acceptor;
    struct arrival_list waiting;
    char *peeked; /* owned: room for one look */
    void *owner;
    void (*on_request)(void *owner, int fd); /* fd: non-blocking, now the owner's */
};

void arrivals_start(struct arrivals *arrivals, struct loop *loop, int listen_fd, void *owner,
                    void (*on_request)(void *owner, int fd));

/* No further connections; those that have arrived may still become requests. */
void arrivals_close_door(struct arrivals *arrivals);

/* The door again closed or opened for a while: the backlog keeps what comes. */
void arrivals_pause(struct arrivals *arrivals);
void arrivals_resume(struct arrivals *arrivals);

bool arrivals_are_empty(const struct arrivals *arrivals);

void arrivals_stop(struct arrivals *arrivals);
