/* Connections from the web server whose request is not complete yet.
 *
 * libfcgi blocks while it reads a request. The event loop must not block, so a connection stays
 * here until its request is complete: BEGIN_REQUEST, the parameters, the body. A connection that
 * sends nothing, only a part, or something other than FastCGI is closed, and the log says why.
 *
 * Usually the whole request is in the socket at once: it is inspected there (MSG_PEEK), and libfcgi
 * reads it from the socket. A request that comes in pieces is read into memory here, and libfcgi
 * reads it from a memory file.
 *
 * The bytes that are read here count against a budget. While it is spent, no connection is
 * accepted, and of the requests that come in pieces only the oldest is read on, so that always one
 * of them becomes complete. The others wait in their sockets. A request that has waited for
 * INCOMING_PATIENCE_MS is answered 503. */
#pragma once

#include "acceptor.h"
#include "budget.h"
#include "loop.h"

enum {
    INCOMING_TIMEOUT_MS = 5000,          /* without another byte */
    INCOMING_PATIENCE_MS = 5000,         /* while the budget is spent */
    INCOMING_HEAD_BYTES_MAX = 64 * 1024, /* up to the end of the parameters */
    INCOMING_LOOK_BYTES = 64 * 1024,
};

struct incoming;
TAILQ_HEAD(incoming_list, incoming);

struct incoming_requests_owner {
    void *self;
    /* A request is complete. fd is the connection, non-blocking; source is where the whole request
     * can be read: fd itself, or a file. Both belong to the owner now. */
    void (*on_request)(void *self, int fd, int source);
};

struct incoming_requests {
    struct loop *loop;
    struct incoming_requests_owner owner;
    struct acceptor acceptor;
    struct incoming_list waiting; /* requests that are inspected in their sockets */
    struct incoming_list read;    /* requests that come in pieces, the oldest first */
    struct budget *budget;        /* borrowed */
    size_t held_count;            /* of these: those that wait for the budget */
    bool is_paused;               /* by its owner */
    size_t body_bytes_max;        /* how much of a body is kept */
    char *look;                   /* owned: a buffer to peek or read into */
};

/* The rest of a body that is longer than body_bytes_max is read and thrown away. So the request can
 * be refused without a broken connection, which the web server would report. */
void incoming_requests_start(struct incoming_requests *incoming_requests, struct loop *loop,
                             int listen_fd, size_t body_bytes_max, struct budget *budget,
                             const struct incoming_requests_owner *owner);

/* Accepts no more connections. Requests that are coming in may still become complete. */
void incoming_requests_close_door(struct incoming_requests *incoming_requests);

/* While this is paused, no connection is accepted: new ones stay in the backlog. */
void incoming_requests_set_paused(struct incoming_requests *incoming_requests, bool is_paused);

/* To be called when others have taken from the budget, or given back to it. */
void incoming_requests_on_budget(struct incoming_requests *incoming_requests);

bool incoming_requests_are_empty(const struct incoming_requests *incoming_requests);

void incoming_requests_stop(struct incoming_requests *incoming_requests);
