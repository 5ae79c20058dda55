#include "arrival.h"

#include "log.h"
#include "record.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct arrival {
    TAILQ_ENTRY(arrival) link;
    struct arrivals *arrivals;
    int fd; /* -1: it has become a request */
    struct loop_io io;
    struct loop_timer timeout;
    struct loop_task reap;
};

static void on_reap(struct loop_task *task) {
    struct arrival *arrival = container_of(task, struct arrival, reap);
    if (arrival->fd >= 0) {
        close(arrival->fd);
    }
    free(arrival);
}

static void arrival_leave(struct arrival *arrival) {
    struct arrivals *arrivals = arrival->arrivals;
    TAILQ_REMOVE(&arrivals->waiting, arrival, link);
    loop_io_stop(arrivals->loop, &arrival->io);
    loop_timer_stop(arrivals->loop, &arrival->timeout);
    loop_reap_soon(arrivals->loop, &arrival->reap, on_reap);
}

static void note_refused(const char *reason) {
    static struct log_limit limit;
    log_limited(&limit, LOG_LEVEL_WARNING, "a FastCGI connection is closed: %s", reason);
}

static void on_timeout(struct loop_timer *timer) {
    note_refused("its request did not come in whole within 5 s");
    arrival_leave(container_of(timer, struct arrival, timeout));
}

enum look { LOOK_COMPLETE, LOOK_PARTIAL, LOOK_USELESS };

/* Looks at what has come in without taking it. */
static enum look look_at(const struct arrivals *arrivals, int fd) {
    ssize_t got = recv(fd, arrivals->peeked, ARRIVAL_HEADER_BYTES_MAX, MSG_PEEK | MSG_DONTWAIT);
    if (got < 0) {
        return errno == EAGAIN || errno == EINTR ? LOOK_PARTIAL : LOOK_USELESS;
    }
    if (got == 0) {
        return LOOK_USELESS; /* it has gone: no reason to complain */
    }
    switch (record_check_request(arrivals->peeked, (size_t)got)) {
    case RECORD_REQUEST_COMPLETE:
        return LOOK_COMPLETE;
    case RECORD_REQUEST_PARTIAL:
        if (got < ARRIVAL_HEADER_BYTES_MAX) {
            return LOOK_PARTIAL;
        }
        note_refused("its parameters are longer than 64 KiB");
        return LOOK_USELESS;
    case RECORD_REQUEST_BAD:
        note_refused("it does not begin a FastCGI request");
        return LOOK_USELESS;
    }
    return LOOK_USELESS;
}

static void on_ready(struct loop_io *io, unsigned ready) {
    (void)ready;
    struct arrival *arrival = container_of(io, struct arrival, io);
    struct arrivals *arrivals = arrival->arrivals;
    int fd = arrival->fd;
    switch (look_at(arrivals, fd)) {
    case LOOK_COMPLETE:
        arrival->fd = -1;
        arrival_leave(arrival);
        arrivals->on_request(arrivals->owner, fd);
        return;
    case LOOK_PARTIAL:
        return;
    case LOOK_USELESS:
        arrival_leave(arrival);
        return;
    }
}

/* Mostly the request is there already when its connection is accepted. */
static void on_connection(void *owner, int fd) {
    struct arrivals *arrivals = owner;
    switch (look_at(arrivals, fd)) {
    case LOOK_COMPLETE:
        arrivals->on_request(arrivals->owner, fd);
        return;
    case LOOK_USELESS:
        close(fd); /* accepted in this moment: nobody can know it yet */
        return;
    case LOOK_PARTIAL:
        break;
    }
    struct arrival *arrival = must_zalloc(sizeof *arrival);
    arrival->arrivals = arrivals;
    arrival->fd = fd;
    arrival->io = LOOP_IO_INIT;
    TAILQ_INSERT_TAIL(&arrivals->waiting, arrival, link);
    loop_io_start(arrivals->loop, &arrival->io, fd, LOOP_READ | LOOP_EDGE, on_ready);
    loop_timer_start(arrivals->loop, &arrival->timeout, ARRIVAL_TIMEOUT_MS, on_timeout);
}

void arrivals_start(struct arrivals *arrivals, struct loop *loop, int listen_fd, void *owner,
                    void (*on_request)(void *owner, int fd)) {
    *arrivals = (struct arrivals){.loop = loop, .owner = owner, .on_request = on_request};
    arrivals->peeked = must_alloc(ARRIVAL_HEADER_BYTES_MAX);
    TAILQ_INIT(&arrivals->waiting);
    acceptor_start(&arrivals->acceptor, loop, listen_fd, arrivals, on_connection);
}

void arrivals_close_door(struct arrivals *arrivals) {
    acceptor_stop(&arrivals->acceptor);
}

void arrivals_pause(struct arrivals *arrivals) {
    acceptor_pause(&arrivals->acceptor);
}

void arrivals_resume(struct arrivals *arrivals) {
    acceptor_resume(&arrivals->acceptor);
}

bool arrivals_are_empty(const struct arrivals *arrivals) {
    return TAILQ_EMPTY(&arrivals->waiting);
}

void arrivals_stop(struct arrivals *arrivals) {
    acceptor_stop(&arrivals->acceptor);
    struct arrival *arrival;
    while ((arrival = TAILQ_FIRST(&arrivals->waiting)) != NULL) {
        arrival_leave(arrival);
    }
    free(arrivals->peeked);
    arrivals->peeked = NULL;
}
