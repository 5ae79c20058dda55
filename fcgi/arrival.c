#include "arrival.h"

#include "buf.h"
#include "log.h"
#include "record.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

struct arrival {
    TAILQ_ENTRY(arrival) link;
    struct arrivals *arrivals;
    int fd;       /* -1: it has become a request */
    bool is_read; /* it is read here, because it comes in pieces */
    struct record_scan scan;
    struct buf kept; /* what was read, up to the limit */
    struct loop_io io;
    struct loop_timer timeout;
    struct loop_task reap;
};

/* --- end -------------------------------------------------------------------------------------- */

static void on_reap(struct loop_task *task) {
    struct arrival *arrival = container_of(task, struct arrival, reap);
    if (arrival->fd >= 0) {
        close(arrival->fd);
    }
    buf_release(&arrival->kept);
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

/* --- looking at what lies in the socket ------------------------------------------------------- */

enum look { LOOK_COMPLETE, LOOK_PARTIAL, LOOK_NOTHING, LOOK_USELESS };

static enum look look_of(enum record_verdict verdict) {
    switch (verdict) {
    case RECORD_REQUEST_COMPLETE:
        return LOOK_COMPLETE;
    case RECORD_REQUEST_PARTIAL:
        return LOOK_PARTIAL;
    case RECORD_REQUEST_BAD:
        note_refused("it does not begin a FastCGI request");
        return LOOK_USELESS;
    }
    return LOOK_USELESS;
}

/* What a call of recv that brought nothing means. */
static enum look look_of_nothing(ssize_t got) {
    bool is_over = got == 0 || (errno != EAGAIN && errno != EINTR);
    return is_over ? LOOK_USELESS : LOOK_NOTHING; /* gone: no reason to complain */
}

static enum look look_at(const struct arrivals *arrivals, int fd) {
    ssize_t got = recv(fd, arrivals->look, ARRIVAL_LOOK_BYTES, MSG_PEEK | MSG_DONTWAIT);
    if (got <= 0) {
        return look_of_nothing(got);
    }
    struct record_scan scan;
    record_scan_init(&scan);
    return look_of(record_scan_feed(&scan, arrivals->look, (size_t)got));
}

/* --- reading what comes in pieces ------------------------------------------------------------- */

static void keep(struct arrival *arrival, const char *bytes, size_t length) {
    size_t limit = arrival->arrivals->body_bytes_max + ARRIVAL_HEAD_BYTES_MAX;
    size_t room = limit - arrival->kept.length;
    buf_append(&arrival->kept, bytes, length < room ? length : room);
}

static enum look read_on(struct arrival *arrival) {
    struct arrivals *arrivals = arrival->arrivals;
    for (;;) {
        ssize_t got = recv(arrival->fd, arrivals->look, ARRIVAL_LOOK_BYTES, MSG_DONTWAIT);
        if (got <= 0) {
            return look_of_nothing(got);
        }
        keep(arrival, arrivals->look, (size_t)got);
        enum look look = look_of(record_scan_feed(&arrival->scan, arrivals->look, (size_t)got));
        if (look != LOOK_PARTIAL) {
            return look;
        }
        if (arrival->scan.stage < RECORD_AT_BODY &&
            arrival->kept.length >= ARRIVAL_HEAD_BYTES_MAX) {
            note_refused("its parameters are longer than 64 KiB");
            return LOOK_USELESS;
        }
        /* What keeps coming in keeps its time. */
        loop_timer_start(arrivals->loop, &arrival->timeout, ARRIVAL_TIMEOUT_MS, on_timeout);
    }
}

/* Where libfcgi can read what was read here; -1 if the machine has no more to give. */
static int kept_as_file(const struct arrival *arrival) {
    int file = memfd_create("pgsse-request", MFD_CLOEXEC);
    size_t length = arrival->kept.length;
    if (file >= 0 && (write(file, arrival->kept.bytes, length) != (ssize_t)length ||
                      lseek(file, 0, SEEK_SET) != 0)) {
        close(file);
        file = -1;
    }
    return file;
}

/* --- from one to the other -------------------------------------------------------------------- */

static void become_request(struct arrival *arrival) {
    const struct arrivals_owner *owner = &arrival->arrivals->owner;
    int fd = arrival->fd;
    int source = arrival->is_read ? kept_as_file(arrival) : fd;
    if (source < 0) {
        note_refused(strerror(errno));
        arrival_leave(arrival);
        return;
    }
    arrival->fd = -1;
    arrival_leave(arrival);
    owner->on_request(owner->self, fd, source);
}

static void judge(struct arrival *arrival, enum look look) {
    switch (look) {
    case LOOK_COMPLETE:
        become_request(arrival);
        return;
    case LOOK_PARTIAL:
        /* A web server may write the rest only when this has been taken out of the socket. */
        arrival->is_read = true;
        record_scan_init(&arrival->scan);
        judge(arrival, read_on(arrival));
        return;
    case LOOK_NOTHING:
        return;
    case LOOK_USELESS:
        arrival_leave(arrival);
        return;
    }
}

static void on_ready(struct loop_io *io, unsigned ready) {
    (void)ready;
    struct arrival *arrival = container_of(io, struct arrival, io);
    judge(arrival, arrival->is_read ? read_on(arrival) : look_at(arrival->arrivals, arrival->fd));
}

static void arrival_create(struct arrivals *arrivals, int fd, enum look look) {
    struct arrival *arrival = must_zalloc(sizeof *arrival);
    arrival->arrivals = arrivals;
    arrival->fd = fd;
    arrival->io = LOOP_IO_INIT;
    TAILQ_INSERT_TAIL(&arrivals->waiting, arrival, link);
    loop_io_start(arrivals->loop, &arrival->io, fd, LOOP_READ | LOOP_EDGE, on_ready);
    loop_timer_start(arrivals->loop, &arrival->timeout, ARRIVAL_TIMEOUT_MS, on_timeout);
    judge(arrival, look);
}

/* Mostly the request is there already when its connection is accepted. */
static void on_connection(void *owner, int fd) {
    struct arrivals *arrivals = owner;
    enum look look = look_at(arrivals, fd);
    if (look == LOOK_COMPLETE) {
        arrivals->owner.on_request(arrivals->owner.self, fd, fd);
    } else if (look == LOOK_USELESS) {
        close(fd); /* accepted in this moment: nobody can know it yet */
    } else {
        arrival_create(arrivals, fd, look);
    }
}

void arrivals_start(struct arrivals *arrivals, struct loop *loop, int listen_fd,
                    size_t body_bytes_max, const struct arrivals_owner *owner) {
    *arrivals = (struct arrivals){.loop = loop, .owner = *owner, .body_bytes_max = body_bytes_max};
    arrivals->look = must_alloc(ARRIVAL_LOOK_BYTES);
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
    free(arrivals->look);
    arrivals->look = NULL;
}
