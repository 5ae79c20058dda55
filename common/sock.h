/* Unix stream sockets: listening on a path without disturbing a live server, connecting, and the
 * peer's user and process. */
#pragma once

#include "base.h"

#include <sys/types.h>

#define SOCK_PATH_MAX 107 /* bytes; the kernel's limit, less the final NUL */

/* Listens on path with that mode. A socket file without a server is replaced; if a server answers
 * there, nothing is changed. Returns a non-blocking descriptor, or -1 with *reason (static text, or
 * that of errno). */
int sock_listen(const char *path, mode_t mode, const char **reason) must_check;

/* Connects: a Unix socket is connected at once or not at all. Returns a non-blocking descriptor, or
 * -1 with errno. */
int sock_connect(const char *path) must_check;

/* Returns the next waiting connection, non-blocking, or -1 with errno (EAGAIN: none). */
int sock_accept(int listen_fd) must_check;

/* uid and pid of the peer process, from the kernel. */
bool sock_peer(int fd, uid_t *uid, pid_t *pid) must_check;

void sock_set_nonblocking(int fd);
