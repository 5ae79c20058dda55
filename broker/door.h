/* Where handler processes come in: the socket broker.sock, and who may use it. */
#pragma once

#include "acceptor.h"
#include "config.h"

struct broker;

enum { DOOR_USERS_MAX = 64, DOOR_PATH_BYTES = 256 };

struct door {
    struct broker *broker; /* borrowed */
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

/* Processes of root, of our own user and of handler_users become handlers; others are closed. */
bool door_open(struct door *door, struct broker *broker, char *reason,
               size_t reason_bytes) must_check;

/* Removes the socket, too. Harmless when it was never opened (zero-initialised). */
void door_close(struct door *door);
