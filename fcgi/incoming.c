#include "incoming.h"

#include "buf.h"
#include "log.h"
#include "record.h"
#include "reply.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum incoming_state {
    INCOMING_LOOKED_AT, /* inspected in its socket */
    INCOMING_READ,      /* read into memory, because it comes in pieces */
    INCOMING_HELD,      /* the same, but not read on, since the budget is spent */
};

struct incoming {
    TAILQ_ENTRY(incoming) link; /* in incoming_requests.waiting, or in incoming_requests.read */
    struct incoming_requests *incoming_requests;
    int fd; /* -1: it has become a request */
    enum incoming_state state;
    struct record_scan scan;
    struct buf kept;     /* what was read, up to the limit */
    size_t budget_bytes; /* taken from the budget for kept */
    struct loop_io io;
    struct loop_timer timeout;
    struct loop_task reap;
};

/* --- end -------------------------------------------------------------------------------------- */

static void on_reap(struct loop_task *task) {
    struct incoming *incoming = container_of(task, struct incoming, reap);
    if (incoming->fd >= 0) {
        close(incoming->fd);
    }
    free(incoming);
}

static struct incoming_list *list_of(const struct incoming *incoming) {
    struct incoming_requests *incoming_requests = incoming->incoming_requests;
    return incoming->state == INCOMING_LOOKED_AT ? &incoming_requests->waiting
                                                 : &incoming_requests->read;
}

static void incoming_leave(struct incoming *incoming) {
    struct incoming_requests *incoming_requests = incoming->incoming_requests;
    TAILQ_REMOVE(list_of(incoming), incoming, link);
    incoming_requests->held_count -= incoming->state == INCOMING_HELD ? 1 : 0;
    buf_release(&incoming->kept); /* not in the reap phase: many may leave in one turn */
    budget_give(incoming_requests->budget, incoming->budget_bytes);
    loop_io_stop(incoming_requests->loop, &incoming->io);
    loop_timer_stop(incoming_requests->loop, &incoming->timeout);
    loop_reap_soon(incoming_requests->loop, &incoming->reap, on_reap);
    incoming_requests_on_budget(incoming_requests);
}

static void note_refused(const char *reason) {
    static struct log_limit limit;
    log_limited(&limit, LOG_LEVEL_WARNING, "a FastCGI connection is closed: %s", reason);
}

static void on_timeout(struct loop_timer *timer) {
    note_refused("its request did not come in whole within 5 s");
    incoming_leave(container_of(timer, struct incoming, timeout));
}

/* --- inspecting what is in the socket --------------------------------------------------------- */

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

/* What it means that recv has returned no byte. */
static enum look look_of_nothing(ssize_t got) {
    bool is_over = got == 0 || (errno != EAGAIN && errno != EINTR);
    return is_over ? LOOK_USELESS : LOOK_NOTHING; /* the web server has gone: not logged */
}

/* Inspects what is in the socket, and leaves it there. *scan is the state after all of it. */
static enum look look_at(const struct incoming_requests *incoming_requests, int fd,
                         struct record_scan *scan) {
    ssize_t got = recv(fd, incoming_requests->look, INCOMING_LOOK_BYTES, MSG_PEEK | MSG_DONTWAIT);
    if (got <= 0) {
        return look_of_nothing(got);
    }
    record_scan_init(scan);
    return look_of(record_scan_feed(scan, incoming_requests->look, (size_t)got));
}

/* --- the budget ------------------------------------------------------------------------------- */

/* If a request was held before its first byte was read, what has come of it is still in its
 * socket. */
static uint16_t request_id_of(struct incoming *incoming) {
    if (incoming->kept.length == 0) {
        (void)look_at(incoming->incoming_requests, incoming->fd, &incoming->scan);
    }
    return (uint16_t)incoming->scan.request_id;
}

/* The request is not parsed, so the answer is a line of text, whatever was asked for. It fits into
 * the socket, since nothing was written there before. */
static void refuse(struct incoming *incoming) {
    char header[RECORD_HEADER_BYTES];
    char trailer[RECORD_TRAILER_BYTES];
    struct buf answer = {0};
    struct buf records = {0};
    uint16_t request_id = request_id_of(incoming);
    reply_text(&answer, HTTP_UNAVAILABLE, "too many requests wait: nothing was done", NULL, false);
    record_header(header, request_id, answer.length);
    record_trailer(trailer, request_id);
    buf_append(&records, header, sizeof header);
    buf_append_slice(&records, buf_slice(&answer));
    buf_append(&records, trailer, sizeof trailer);
    ssize_t sent = send(incoming->fd, records.bytes, records.length, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)sent; /* if this fails, the web server sees the connection close */
    buf_release(&answer);
    buf_release(&records);
}

static void on_out_of_patience(struct loop_timer *timer) {
    struct incoming *incoming = container_of(timer, struct incoming, timeout);
    note_refused("more than request_bytes of requests wait");
    refuse(incoming);
    incoming_leave(incoming);
}

static void hold(struct incoming *incoming) {
    struct loop *loop = incoming->incoming_requests->loop;
    incoming->state = INCOMING_HELD;
    incoming->incoming_requests->held_count++;
    loop_io_change(loop, &incoming->io, 0);
    loop_timer_start(loop, &incoming->timeout, INCOMING_PATIENCE_MS, on_out_of_patience);
}

static void read_again(struct incoming *incoming) {
    struct loop *loop = incoming->incoming_requests->loop;
    incoming->state = INCOMING_READ;
    incoming->incoming_requests->held_count--;
    loop_io_change(loop, &incoming->io, LOOP_READ | LOOP_EDGE);
    loop_timer_start(loop, &incoming->timeout, INCOMING_TIMEOUT_MS, on_timeout);
}

static bool may_read(const struct incoming *incoming) {
    const struct incoming_requests *incoming_requests = incoming->incoming_requests;
    return !budget_is_spent(incoming_requests->budget) ||
           incoming == TAILQ_FIRST(&incoming_requests->read);
}

void incoming_requests_on_budget(struct incoming_requests *incoming_requests) {
    struct incoming *incoming = TAILQ_FIRST(&incoming_requests->read);
    while (incoming != NULL && incoming_requests->held_count > 0 && may_read(incoming)) {
        if (incoming->state == INCOMING_HELD) {
            read_again(incoming);
        }
        incoming = TAILQ_NEXT(incoming, link);
    }
    acceptor_set_paused(&incoming_requests->acceptor,
                        incoming_requests->is_paused || budget_is_spent(incoming_requests->budget));
}

/* --- reading what comes in pieces ------------------------------------------------------------- */

static void keep(struct incoming *incoming, const char *bytes, size_t length) {
    size_t limit = incoming->incoming_requests->body_bytes_max + INCOMING_HEAD_BYTES_MAX;
    size_t room = limit - incoming->kept.length;
    buf_append(&incoming->kept, bytes, length < room ? length : room);
    budget_take(incoming->incoming_requests->budget, incoming->kept.size - incoming->budget_bytes);
    incoming->budget_bytes = incoming->kept.size;
    incoming_requests_on_budget(incoming->incoming_requests);
}

static enum look read_on(struct incoming *incoming) {
    struct incoming_requests *incoming_requests = incoming->incoming_requests;
    while (may_read(incoming)) {
        ssize_t got =
            recv(incoming->fd, incoming_requests->look, INCOMING_LOOK_BYTES, MSG_DONTWAIT);
        if (got <= 0) {
            return look_of_nothing(got);
        }
        keep(incoming, incoming_requests->look, (size_t)got);
        enum look look =
            look_of(record_scan_feed(&incoming->scan, incoming_requests->look, (size_t)got));
        if (look != LOOK_PARTIAL) {
            return look;
        }
        if (incoming->scan.stage < RECORD_AT_BODY &&
            incoming->kept.length >= INCOMING_HEAD_BYTES_MAX) {
            note_refused("its parameters are longer than 64 KiB");
            return LOOK_USELESS;
        }
        /* Whatever comes in restarts the timeout. */
        loop_timer_start(incoming_requests->loop, &incoming->timeout, INCOMING_TIMEOUT_MS,
                         on_timeout);
    }
    hold(incoming);
    return LOOK_NOTHING;
}

/* A memory file with what was read here, for libfcgi; -1 if there can be none. */
static int kept_as_file(const struct incoming *incoming) {
    int file = memfd_create("pgsse-request", MFD_CLOEXEC);
    size_t length = incoming->kept.length;
    if (file >= 0 && (write(file, incoming->kept.bytes, length) != (ssize_t)length ||
                      lseek(file, 0, SEEK_SET) != 0)) {
        close(file);
        file = -1;
    }
    return file;
}

/* --- from one to the other -------------------------------------------------------------------- */

static void become_request(struct incoming *incoming) {
    const struct incoming_requests_owner *owner = &incoming->incoming_requests->owner;
    int fd = incoming->fd;
    int source = incoming->state == INCOMING_LOOKED_AT ? fd : kept_as_file(incoming);
    if (source < 0) {
        note_refused(strerror(errno));
        incoming_leave(incoming);
        return;
    }
    incoming->fd = -1;
    incoming_leave(incoming);
    owner->on_request(owner->self, fd, source);
}

static void judge(struct incoming *incoming, enum look look) {
    switch (look) {
    case LOOK_COMPLETE:
        become_request(incoming);
        return;
    case LOOK_PARTIAL:
        /* The socket may be full: then the web server can write the rest only when this is read. */
        TAILQ_REMOVE(list_of(incoming), incoming, link);
        incoming->state = INCOMING_READ;
        TAILQ_INSERT_TAIL(list_of(incoming), incoming, link);
        record_scan_init(&incoming->scan);
        judge(incoming, read_on(incoming));
        return;
    case LOOK_NOTHING:
        return;
    case LOOK_USELESS:
        incoming_leave(incoming);
        return;
    }
}

/* For the socket of a held request the loop reports only that the web server has gone. */
static void on_ready(struct loop_io *io, unsigned ready) {
    (void)ready;
    struct incoming *incoming = container_of(io, struct incoming, io);
    if (incoming->state == INCOMING_HELD) {
        incoming_leave(incoming);
        return;
    }
    judge(incoming, incoming->state == INCOMING_LOOKED_AT
                        ? look_at(incoming->incoming_requests, incoming->fd, &incoming->scan)
                        : read_on(incoming));
}

static void incoming_create(struct incoming_requests *incoming_requests, int fd, enum look look) {
    struct incoming *incoming = must_zalloc(sizeof *incoming);
    incoming->incoming_requests = incoming_requests;
    incoming->fd = fd;
    incoming->io = LOOP_IO_INIT;
    TAILQ_INSERT_TAIL(&incoming_requests->waiting, incoming, link);
    loop_io_start(incoming_requests->loop, &incoming->io, fd, LOOP_READ | LOOP_EDGE, on_ready);
    loop_timer_start(incoming_requests->loop, &incoming->timeout, INCOMING_TIMEOUT_MS, on_timeout);
    judge(incoming, look);
}

/* Usually the request is complete when its connection is accepted. */
static void on_connection(void *owner, int fd) {
    struct incoming_requests *incoming_requests = owner;
    struct record_scan scan;
    enum look look = look_at(incoming_requests, fd, &scan);
    if (look == LOOK_COMPLETE) {
        incoming_requests->owner.on_request(incoming_requests->owner.self, fd, fd);
    } else if (look == LOOK_USELESS) {
        close(fd); /* accepted just now: no other callback knows this descriptor */
    } else {
        incoming_create(incoming_requests, fd, look);
    }
}

void incoming_requests_start(struct incoming_requests *incoming_requests, struct loop *loop,
                             int listen_fd, size_t body_bytes_max, struct budget *budget,
                             const struct incoming_requests_owner *owner) {
    *incoming_requests = (struct incoming_requests){
        .loop = loop, .owner = *owner, .budget = budget, .body_bytes_max = body_bytes_max};
    incoming_requests->look = must_alloc(INCOMING_LOOK_BYTES);
    TAILQ_INIT(&incoming_requests->waiting);
    TAILQ_INIT(&incoming_requests->read);
    acceptor_start(&incoming_requests->acceptor, loop, listen_fd, incoming_requests, on_connection);
}

void incoming_requests_close_door(struct incoming_requests *incoming_requests) {
    acceptor_stop(&incoming_requests->acceptor);
}

void incoming_requests_set_paused(struct incoming_requests *incoming_requests, bool is_paused) {
    incoming_requests->is_paused = is_paused;
    incoming_requests_on_budget(incoming_requests);
}

bool incoming_requests_are_empty(const struct incoming_requests *incoming_requests) {
    return TAILQ_EMPTY(&incoming_requests->waiting) && TAILQ_EMPTY(&incoming_requests->read);
}

void incoming_requests_stop(struct incoming_requests *incoming_requests) {
    acceptor_stop(&incoming_requests->acceptor);
    struct incoming *incoming;
    while ((incoming = TAILQ_FIRST(&incoming_requests->waiting)) != NULL ||
           (incoming = TAILQ_FIRST(&incoming_requests->read)) != NULL) {
        incoming_leave(incoming);
    }
    free(incoming_requests->look);
    incoming_requests->look = NULL;
}
