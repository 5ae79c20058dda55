#include "acceptor.h"

#include "log.h"
#include "sock.h"

#include <errno.h>

enum { ACCEPT_BATCH = 256, ACCEPT_REST_MS = 100 };

static void on_rested(struct loop_timer *timer) {
    struct acceptor *acceptor = container_of(timer, struct acceptor, rest);
    loop_io_change(acceptor->loop, &acceptor->io, acceptor->is_paused ? 0 : LOOP_READ);
}

static void take_rest(struct acceptor *acceptor) {
    static struct log_limit limit;
    log_limited(&limit, LOG_LEVEL_WARNING, "cannot accept a connection: %s", strerror(errno));
    loop_io_change(acceptor->loop, &acceptor->io, 0);
    loop_timer_start(acceptor->loop, &acceptor->rest, ACCEPT_REST_MS, on_rested);
}

static void on_listen_ready(struct loop_io *io, unsigned ready) {
    (void)ready;
    struct acceptor *acceptor = container_of(io, struct acceptor, io);
    for (int i = 0; i < ACCEPT_BATCH && io->fd >= 0 && !acceptor->is_paused; i++) {
        int fd = sock_accept(io->fd);
        if (fd < 0) {
            if (errno != EAGAIN && errno != EWOULDBLOCK) {
                take_rest(acceptor);
            }
            return;
        }
        acceptor->on_connection(acceptor->owner, fd);
    }
}

void acceptor_start(struct acceptor *acceptor, struct loop *loop, int listen_fd, void *owner,
                    void (*on_connection)(void *owner, int fd)) {
    *acceptor = (struct acceptor){
        .loop = loop, .io = LOOP_IO_INIT, .owner = owner, .on_connection = on_connection};
    sock_set_nonblocking(listen_fd);
    loop_io_start(loop, &acceptor->io, listen_fd, LOOP_READ, on_listen_ready);
}

void acceptor_stop(struct acceptor *acceptor) {
    if (acceptor->loop != NULL) {
        loop_timer_stop(acceptor->loop, &acceptor->rest);
        loop_io_stop(acceptor->loop, &acceptor->io);
    }
}

void acceptor_set_paused(struct acceptor *acceptor, bool is_paused) {
    acceptor->is_paused = is_paused;
    if (acceptor->io.fd >= 0) {
        bool is_resting = loop_timer_is_started(&acceptor->rest);
        loop_io_change(acceptor->loop, &acceptor->io, is_paused || is_resting ? 0 : LOOP_READ);
    }
}
