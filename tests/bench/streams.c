#include "streams.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clock.h"
#include "fault.h"

#define OPENING_AT_ONCE 256
#define READ_BYTES      (256 * 1024)
#define READY_AT_ONCE   256

struct stream {
    int fd; /* -1: not connected */
    struct frames frames;
};

struct streams {
    const struct address *address; /* borrowed */
    struct stream *streams;        /* owned */
    size_t capacity;
    size_t begun;
    size_t closed;
    int epoll_fd;
    int last_errno;
    int64_t opening_since_ns;
    int64_t opened_ns;
    int64_t reached_ns;
    struct frames_tally tally;
    bool is_gzip;
    bool begins_late;
    bool is_numbered;
    char target[256];
    size_t header_bytes;
    char headers[256]; /* lines */
    char fault[256];
    char read[READ_BYTES];
};

struct streams *streams_create(const struct address *address, const char *topic, size_t capacity) {
    struct streams *streams = fault_calloc(1, sizeof(*streams));

    streams->address = address;
    streams->streams = fault_calloc(capacity, sizeof(*streams->streams));
    streams->capacity = capacity;
    for (size_t i = 0; i < capacity; i++) {
        streams->streams[i].fd = -1;
    }
    streams->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (streams->epoll_fd < 0) {
        fault_die("epoll: %s", strerror(errno));
    }
    snprintf(streams->target, sizeof(streams->target), "/topics/%s/events", topic);
    return streams;
}

void streams_ask(struct streams *streams, const char *target, bool is_numbered) {
    snprintf(streams->target, sizeof(streams->target), "%s", target);
    streams->is_numbered = is_numbered;
}

static void add_header(struct streams *streams, const char *name, const char *value) {
    size_t room = sizeof(streams->headers) - streams->header_bytes;
    int length =
        snprintf(streams->headers + streams->header_bytes, room, "%s: %s\r\n", name, value);

    if (length < 0 || (size_t)length >= room) {
        fault_die("too long a header: %s", value);
    }
    streams->header_bytes += (size_t)length;
}

void streams_resume(struct streams *streams, const char *position) {
    add_header(streams, "Last-Event-ID", position);
}

void streams_accept_gzip(struct streams *streams) {
    add_header(streams, "Accept-Encoding", "gzip");
    streams->is_gzip = true;
}

void streams_begin_late(struct streams *streams) {
    streams->begins_late = true;
}

void streams_record(struct streams *streams, struct buf *record) {
    streams->streams[0].frames.record = record;
}

uint64_t streams_first(const struct streams *streams, size_t i) {
    return streams->streams[i].frames.first_number;
}

static void stream_close(struct streams *streams, struct stream *stream) {
    if (stream->fd < 0) {
        return;
    }
    close(stream->fd);
    stream->fd = -1;
    streams->closed++;
}

void streams_destroy(struct streams **streams) {
    struct streams *gone = *streams;

    if (gone == NULL) {
        return;
    }
    for (size_t i = 0; i < gone->begun; i++) {
        stream_close(gone, &gone->streams[i]);
        unzip_destroy(&gone->streams[i].frames.unzip);
    }
    close(gone->epoll_fd);
    free(gone->streams);
    free(gone);
    *streams = NULL;
}

static void stream_watch(struct streams *streams, struct stream *stream, int operation,
                         uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = stream};

    if (epoll_ctl(streams->epoll_fd, operation, stream->fd, &event) != 0) {
        fault_die("epoll: %s", strerror(errno));
    }
}

static void stream_begin(struct streams *streams) {
    struct stream *stream = &streams->streams[streams->begun++];

    stream->frames.begins_late = streams->begins_late;
    stream->frames.unzip = streams->is_gzip ? unzip_create() : NULL;
    stream->fd = address_connect(streams->address);
    if (stream->fd < 0) {
        streams->last_errno = errno;
        streams->closed++;
        return;
    }
    stream_watch(streams, stream, EPOLL_CTL_ADD, EPOLLOUT);
}

static void stream_request(struct streams *streams, struct stream *stream) {
    char request[512];
    char number[24] = "";
    int length;

    if (streams->is_numbered) {
        snprintf(number, sizeof(number), "%td", stream - streams->streams);
    }
    length = snprintf(request, sizeof(request), "GET %s%s HTTP/1.1\r\nHost: %s\r\n%s\r\n",
                      streams->target, number, streams->address->host, streams->headers);
    if (send(stream->fd, request, (size_t)length, MSG_NOSIGNAL) != length) {
        streams->last_errno = errno;
        stream_close(streams, stream);
        return;
    }
    stream_watch(streams, stream, EPOLL_CTL_MOD, EPOLLIN);
}

static void stream_read(struct streams *streams, struct stream *stream) {
    ssize_t got = recv(stream->fd, streams->read, sizeof(streams->read), 0);

    if (got > 0) {
        frames_feed(&stream->frames, &streams->tally, streams->read, (size_t)got, clock_now_ns());
        return;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    streams->last_errno = got < 0 ? errno : 0;
    stream_close(streams, stream);
}

static void streams_turn(struct streams *streams, int timeout_ms) {
    struct epoll_event ready[READY_AT_ONCE];
    int count = epoll_wait(streams->epoll_fd, ready, READY_AT_ONCE, timeout_ms);

    for (int i = 0; i < count; i++) {
        struct stream *stream = ready[i].data.ptr;

        if ((ready[i].events & EPOLLOUT) != 0) {
            stream_request(streams, stream);
        } else {
            stream_read(streams, stream);
        }
    }
}

static int left_ms(int64_t deadline_ns) {
    int64_t left_ns = deadline_ns - clock_now_ns();

    return left_ns <= 0 ? 0 : (int)(left_ns / CLOCK_NS_PER_MS) + 1;
}

bool streams_open(struct streams *streams, size_t count, int64_t timeout_ms) {
    int64_t deadline_ns;

    if (count > streams->capacity) {
        fault_die("more streams wanted than the pool holds");
    }
    streams->opening_since_ns = clock_now_ns();
    deadline_ns = streams->opening_since_ns + timeout_ms * CLOCK_NS_PER_MS;
    while (streams->tally.greeted < count && streams->closed == 0) {
        int timeout = left_ms(deadline_ns);

        if (timeout == 0) {
            break;
        }
        while (streams->begun < count &&
               streams->begun - streams->tally.greeted < OPENING_AT_ONCE) {
            stream_begin(streams);
        }
        streams_turn(streams, timeout);
    }
    streams->opened_ns = clock_now_ns();
    return streams->tally.greeted == count && streams->closed == 0;
}

int64_t streams_opening_ns(const struct streams *streams) {
    return streams->opened_ns - streams->opening_since_ns;
}

void streams_expect(struct streams *streams, uint64_t number) {
    streams->tally.target = number;
    streams->tally.at_target = 0;
}

bool streams_await(struct streams *streams, int64_t timeout_ms) {
    int64_t deadline_ns = clock_now_ns() + timeout_ms * CLOCK_NS_PER_MS;

    while (streams->tally.at_target < streams->begun && streams->closed == 0) {
        int timeout = left_ms(deadline_ns);

        if (timeout == 0) {
            break;
        }
        streams_turn(streams, timeout);
    }
    streams->reached_ns = clock_now_ns();
    return streams->tally.at_target == streams->begun && streams->closed == 0;
}

int64_t streams_reached_ns(const struct streams *streams) {
    return streams->reached_ns;
}

void streams_run(struct streams *streams, int64_t duration_ms) {
    int64_t deadline_ns = clock_now_ns() + duration_ms * CLOCK_NS_PER_MS;

    for (int timeout = left_ms(deadline_ns); timeout > 0; timeout = left_ms(deadline_ns)) {
        streams_turn(streams, timeout);
    }
}

struct frames_tally *streams_tally(struct streams *streams) {
    return &streams->tally;
}

/* Adds "12 what" to the fault if there are any. */
static void name_fault(struct streams *streams, uint64_t count, const char *what) {
    size_t length = strlen(streams->fault);

    if (count > 0 && length < sizeof(streams->fault)) {
        snprintf(streams->fault + length, sizeof(streams->fault) - length, "%s%" PRIu64 " %s",
                 length > 0 ? ", " : "", count, what);
    }
}

const char *streams_fault(struct streams *streams) {
    const struct frames_tally *tally = &streams->tally;
    const char *end = streams->last_errno != 0 ? strerror(streams->last_errno) : "end of stream";
    char closed[96];
    char refused[96];

    snprintf(closed, sizeof(closed), "streams closed (%s)", end);
    snprintf(refused, sizeof(refused), "streams without a greeting (last bad status %d)",
             tally->last_status);
    streams->fault[0] = '\0';
    name_fault(streams, streams->closed, closed);
    name_fault(streams, streams->begun - tally->greeted, refused);
    name_fault(streams, tally->target > 0 ? streams->begun - tally->at_target : 0,
               "streams without the last event");
    name_fault(streams, tally->lost, "events lost");
    name_fault(streams, tally->disordered, "events out of order");
    name_fault(streams, tally->refreshes, "refreshes");
    name_fault(streams, tally->closes, "closes");
    name_fault(streams, tally->foreign, "lines or answers not understood");
    return streams->fault[0] != '\0' ? streams->fault : NULL;
}
