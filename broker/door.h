/* The door is the socket broker.sock, where handler processes connect, and knows which users may
 * use it. door_open_socket opens status.sock (status.h), too. */
#pragma once

#include "acceptor.h"
#include "handler.h"

enum { DOOR_USERS_MAX = 64, DOOR_PATH_BYTES = 256 };

struct door {
    struct handlers *handlers; /* borrowed; NULL: the door is not open */
    struct acceptor acceptor;
    int fd;
    char path[DOOR_PATH_BYTES];
    uid_t users[DOOR_USERS_MAX]; /* who may connect */
    size_t user_count;
};

/* Opens socket_dir/name. On failure nothing is left behind, and reason (of reason_bytes) tells what
 * and why. */
bool door_open_socket(const struct config *config, const char *name, int *fd,
                      char path[DOOR_PATH_BYTES], char *reason, size_t reason_bytes) must_check;

/* Accepts processes of root, of the broker's own user and of handler_users; connections of others
 * are closed. While descriptors are short, all new connections are closed, so that LISTEN can still
 * reconnect. */
bool door_open(struct door *door, struct handlers *handlers, char *reason,
               size_t reason_bytes) must_check;

/* Also removes the socket file. Harmless when it was never opened (zero-initialised). */
void door_close(struct door *door);
