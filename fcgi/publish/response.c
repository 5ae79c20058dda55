#include "response.h"

#include "log.h"
#include "record.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct response {
    TAILQ_ENTRY(response) link;
    struct responses *responses; /* borrowed */
    int fd;
    struct buf records;
    size_t sent; /* of them */
    int64_t progress_ms;
    struct loop_io io;
    struct loop_task reap;
};

static void on_writable(struct loop_io *io, unsigned ready);
static void on_out_of_patience(struct loop_timer *timer);

void response_append_records(struct buf *out, uint16_t request_id, struct slice answer) {
    char header[RECORD_HEADER_BYTES];
    char trailer[RECORD_TRAILER_BYTES];
    size_t records = answer.length / RECORD_CONTENT_MAX + 1;
    (void)buf_reserve(out, answer.length + records * sizeof header + sizeof trailer);
    while (answer.length > 0) {
        size_t length = answer.length < RECORD_CONTENT_MAX ? answer.length : RECORD_CONTENT_MAX;
        record_header(header, request_id, length);
        buf_append(out, header, sizeof header);
        buf_append(out, answer.at, length);
        answer = (struct slice){answer.at + length, answer.length - length};
    }
    record_trailer(trailer, request_id);
    buf_append(out, trailer, sizeof trailer);
}

/* --- writing ---------------------------------------------------------------------------------- */

enum progress { PROGRESS_DONE, PROGRESS_BLOCKED, PROGRESS_BROKEN };

/* Writes from *sent on, what the socket takes. */
static enum progress write_on(int fd, const struct buf *records, size_t *sent) {
    while (*sent < records->length) {
        ssize_t taken =
            send(fd, records->bytes + *sent, records->length - *sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (taken > 0) {
            *sent += (size_t)taken;
        } else if (taken < 0 && errno != EINTR) {
            return errno == EAGAIN ? PROGRESS_BLOCKED : PROGRESS_BROKEN;
        }
    }
    return PROGRESS_DONE;
}

static void note_lost(const char *reason) {
    static struct log_limit limit;
    log_limited(&limit, LOG_LEVEL_WARNING, "an answer did not reach the web server: %s", reason);
}

/* --- slow ones ---------------------------------------------------------------------------------
 */

static void watch_first(struct responses *responses) {
    const struct response *first = TAILQ_FIRST(&responses->slow);
    if (first == NULL) {
        loop_timer_stop(responses->loop, &responses->patience);
        return;
    }
    int64_t left_ms = first->progress_ms + responses->stall_ms - loop_now_ms(responses->loop);
    loop_timer_start(responses->loop, &responses->patience, left_ms > 0 ? left_ms : 0,
                     on_out_of_patience);
}

static void response_free(struct response *response) {
    close(response->fd);
    buf_release(&response->records);
    free(response);
}

static void on_reap(struct loop_task *task) {
    response_free(container_of(task, struct response, reap));
}

static void response_leave(struct response *response) {
    struct responses *responses = response->responses;
    TAILQ_REMOVE(&responses->slow, response, link);
    responses->waiting_bytes -= response->records.length;
    loop_io_stop(responses->loop, &response->io);
    loop_reap_soon(responses->loop, &response->reap, on_reap);
    watch_first(responses);
}

static void on_out_of_patience(struct loop_timer *timer) {
    struct responses *responses = container_of(timer, struct responses, patience);
    note_lost("it has not been read on for stall_timeout");
    response_leave(TAILQ_FIRST(&responses->slow));
}

static void on_writable(struct loop_io *io, unsigned ready) {
    (void)ready;
    struct response *response = container_of(io, struct response, io);
    struct responses *responses = response->responses;
    switch (write_on(response->fd, &response->records, &response->sent)) {
    case PROGRESS_DONE:
        response_leave(response);
        return;
    case PROGRESS_BROKEN:
        log_debug("an answer is not wanted any more: %s", strerror(errno));
        response_leave(response);
        return;
    case PROGRESS_BLOCKED:
        response->progress_ms = loop_now_ms(responses->loop);
        TAILQ_REMOVE(&responses->slow, response, link);
        TAILQ_INSERT_TAIL(&responses->slow, response, link);
        watch_first(responses);
        return;
    }
}

/* Takes the records over. */
static void response_wait(struct responses *responses, int fd, const struct buf *records,
                          size_t sent) {
    struct response *response = must_zalloc(sizeof *response);
    response->responses = responses;
    response->fd = fd;
    response->records = *records;
    response->sent = sent;
    response->progress_ms = loop_now_ms(responses->loop);
    response->io = LOOP_IO_INIT;
    responses->waiting_bytes += records->length;
    TAILQ_INSERT_TAIL(&responses->slow, response, link);
    loop_io_start(responses->loop, &response->io, fd, LOOP_WRITE, on_writable);
    while (responses->waiting_bytes > RESPONSES_BYTES_MAX) {
        note_lost("too much waits for clients that are too slow");
        response_leave(TAILQ_FIRST(&responses->slow));
    }
    watch_first(responses);
}

/* --- all of them ------------------------------------------------------------------------------ */

void responses_start(struct responses *responses, struct loop *loop, int64_t stall_ms) {
    *responses = (struct responses){.loop = loop, .stall_ms = stall_ms};
    TAILQ_INIT(&responses->slow);
}

void responses_stop(struct responses *responses) {
    struct response *response;
    while ((response = TAILQ_FIRST(&responses->slow)) != NULL) {
        note_lost("the handler stops");
        response_leave(response);
    }
}

bool responses_are_empty(const struct responses *responses) {
    return TAILQ_EMPTY(&responses->slow);
}

void responses_send(struct responses *responses, int fd, uint16_t request_id, struct slice answer) {
    struct buf records = {0};
    size_t sent = 0;
    response_append_records(&records, request_id, answer);
    switch (write_on(fd, &records, &sent)) {
    case PROGRESS_BLOCKED:
        response_wait(responses, fd, &records, sent);
        return;
    case PROGRESS_BROKEN:
        note_lost(strerror(errno));
        break;
    case PROGRESS_DONE:
        break;
    }
    close(fd);
    buf_release(&records);
}
