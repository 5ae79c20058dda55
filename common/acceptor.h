/* Accepts connections on a listening socket and hands them to its owner.
 *
 * It accepts all waiting connections, up to a batch a turn, because a full backlog becomes errors
 * at the web server. When the process has no free descriptors it pauses instead of spinning. */
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

/* Borrows listen_fd and makes it non-blocking. */
void acceptor_start(struct acceptor *acceptor, struct loop *loop, int listen_fd, void *owner,
                    void (*on_connection)(void *owner, int fd));

/* Harmless when stopped already. The listening socket stays open. */
void acceptor_stop(struct acceptor *acceptor);

/* While paused, new connections stay in the backlog. Harmless when stopped. */
void acceptor_set_paused(struct acceptor *acceptor, bool is_paused);
