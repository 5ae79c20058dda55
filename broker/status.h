/* The status socket: health for who is on this machine, with nc, curl or a monitor.
 *
 * A connection that says nothing for STATUS_SILENCE_MS gets the health document and is closed. One
 * that speaks speaks HTTP: GET or HEAD of /healthz[?limit=N]. It cannot change anything. */
#pragma once

#include "door.h"
#include "outq.h"

struct broker;

enum { STATUS_SILENCE_MS = 200, STATUS_CONNECTIONS_MAX = 64 };

struct status_connection;
TAILQ_HEAD(status_connection_list, status_connection);

struct status {
    struct broker *broker; /* borrowed */
    struct acceptor acceptor;
    int fd;
    char path[DOOR_PATH_BYTES];
    struct status_connection_list connections;
    size_t connection_count;
};

bool status_open(struct status *status, struct broker *broker, char *reason,
                 size_t reason_bytes) must_check;
/* Harmless when it was never opened (zero-initialised). */
void status_close(struct status *status);
