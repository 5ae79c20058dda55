/* Takes connections from a listening socket and hands them to its owner.
 *
 * Drains what waits (a full backlog turns into errors at the web server) up to a batch a turn, and
 * when the process has run out of descriptors it rests instead of spinning. */
#pragma once

#include "loop.h"

struct acceptor {
    struct loop *loop;
    struct loop_io io;
    struct loop_timer rest;
    bool is_paused;
    void *owner;
    void (*on_connection)(void *owner, int fd); /* fd: non-blocking, now the owner's */
};

/* Borrows listen_fd, which becomes non-blocking. */
void acceptor_start(struct acceptor *acceptor, struct loop *loop, int listen_fd, void *owner,
                    void (*on_connection)(void *owner, int fd));

/* Harmless when stopped already. The listening socket stays open. */
void acceptor_stop(struct acceptor *acceptor);

/* Leaves new connections in the backlog, or takes them again. */
void acceptor_pause(struct acceptor *acceptor);
void acceptor_resume(struct acceptor *acceptor);
