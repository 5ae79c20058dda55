/* The status socket: health for readers on this machine, with nc, curl or a monitor.
 *
 * A connection that sends nothing for STATUS_SILENCE_MS gets the health document and is closed. A
 * connection that sends something has to send HTTP: GET or HEAD of /healthz[?limit=N]. The path
 * is always that: healthz_path is a place among the paths of the web server, and here is nothing
 * else. Nothing can be changed through this socket. */
#pragma once

#include "door.h"
#include "outq.h"

enum { STATUS_SILENCE_MS = 200, STATUS_CONNECTIONS_MAX = 64 };

struct status_connection;
TAILQ_HEAD(status_connection_list, status_connection);

struct status {
    struct loop *loop;     /* borrowed; NULL: it is not open */
    struct health *health; /* borrowed */
    struct acceptor acceptor;
    int fd;
    char path[DOOR_PATH_BYTES];
    struct status_connection_list connections;
    size_t connection_count;
};

bool status_open(struct status *status, struct loop *loop, const struct config *config,
                 struct health *health, char *reason, size_t reason_bytes) must_check;
/* Harmless when it was never opened (zero-initialised). */
void status_close(struct status *status);
