/* Unix stream sockets: listening on a path without harm to a live server, connecting, and who
 * is at the other end. */
#pragma once

#include "base.h"

#include <sys/types.h>

enum { SOCK_PATH_MAX = 107 }; /* bytes; the kernel's limit, less the final NUL */

/* Listens on path with that mode. A socket file that nobody answers on is replaced; where
 * somebody answers, nothing is touched. Returns a non-blocking descriptor, or -1 with *reason
 * telling why (static text, or that of errno). */
int sock_listen(const char *path, mode_t mode, const char **reason) must_check;

/* Starts to connect; a Unix socket is connected at once or not at all. Non-blocking descriptor,
 * or -1 with errno. */
int sock_connect(const char *path) must_check;

/* The next waiting connection, non-blocking, or -1 with errno (EAGAIN: none). */
int sock_accept(int listen_fd) must_check;

/* uid and pid of the process at the other end, as the kernel vouches for them. */
bool sock_peer(int fd, uid_t *uid, pid_t *pid) must_check;

void sock_set_nonblocking(int fd);
