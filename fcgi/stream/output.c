#include "output.h"

#include "tally.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { OUTPUT_RECORDS = 16 };

/* One record of a write: first the one begun, then new ones. */
struct planned_record {
    enum output_source source;
    size_t content_bytes; /* still to be written */
    size_t header_bytes;
    char header[RECORD_TRAILER_BYTES];
};

struct plan {
    struct planned_record records[OUTPUT_RECORDS];
    size_t count;
    struct iovec vectors[2 * OUTPUT_RECORDS];
    size_t vector_count;
    size_t bytes;
    size_t own;  /* bytes of own that are planned */
    uint64_t at; /* in the feed, after what is planned */
    uint64_t frame;
    bool has_trailer;
};

/* --- events among own bytes ---------------------------------------------------------------- */

struct own_event {
    uint64_t end; /* offset after its last byte, counted as output_events.out is */
    struct tally *tally;
};

struct output_events {
    uint64_t out;       /* own bytes written since this exists */
    struct buf waiting; /* of struct own_event, in order */
};

/* The end of an event that is in the draft of a gzip stream. */
#define IN_DRAFT UINT64_MAX

static void add_event(struct output *output, const struct own_event *event) {
    buf_append(&output->events->waiting, event, sizeof *event);
}

static void need_events(struct output *output) {
    if (output->events == NULL) {
        output->events = must_zalloc(sizeof *output->events);
    }
}

/* end: how many own bytes there are up to its end. */
static void add_own_event(struct output *output, size_t end, struct tally *tally) {
    need_events(output);
    add_event(output, &(struct own_event){output->events->out + end, tally});
}

static void add_draft_event(struct output *output, struct tally *tally) {
    need_events(output);
    add_event(output, &(struct own_event){IN_DRAFT, tally});
}

/* The events that were in the draft end where its block ends. */
static void settle_draft_events(struct output *output) {
    struct output_events *events = output->events;
    if (events == NULL) {
        return;
    }
    struct own_event *event = (void *)events->waiting.bytes;
    size_t i = events->waiting.length / sizeof *event;
    while (i > 0 && event[i - 1].end == IN_DRAFT) {
        event[--i].end = events->out + output->own.length;
    }
}

static void events_destroy(struct output_events **slot) {
    struct output_events *events = *slot;
    *slot = NULL;
    if (events != NULL) {
        buf_release(&events->waiting);
        free(events);
    }
}

/* Own bytes come between frames: no frame may wait. */
static void leave_shared_gzip(struct output *output) {
    if (output->feed != NULL) {
        check(output->cursor.at == output->feed->head);
        output_detach(output);
    }
}

void output_append_event(struct output *output, struct slice frame, struct tally *tally) {
    buf_append_slice(output_own(output), frame);
    if (output->gzip != NULL) {
        add_draft_event(output, tally);
    } else {
        add_own_event(output, output->own.length, tally);
    }
}

struct buf *output_own(struct output *output) {
    if (output->gzip == NULL) {
        return &output->own;
    }
    leave_shared_gzip(output);
    return &output->gzip->draft;
}

void output_take_back_own(struct output *output, size_t bytes) {
    check(bytes <= output_own_unbegun(output));
    struct buf *own = output->gzip != NULL ? &output->gzip->draft : &output->own;
    own->length -= bytes;
}

/* --- gzip ------------------------------------------------------------------------------------ */

void output_start_gzip(struct output *output, struct compressors *compressors) {
    check(output->gzip == NULL && output->feed == NULL);
    gzip_begin(&output->own);
    output->gzip = gzip_stream_create(compressors);
}

/* The draft becomes a block, after all other own bytes. */
static void seal(struct output *output) {
    if (output->gzip != NULL && output->gzip->draft.length > 0) {
        gzip_stream_seal(output->gzip, &output->own);
        settle_draft_events(output);
    }
}

void output_append_copy(struct output *output, struct slice block, const struct gzip_sum *sum,
                        struct tally *tally) {
    check(output->feed == NULL);
    seal(output);
    gzip_stream_copy(output->gzip, block, sum, &output->own);
    if (tally != NULL) {
        add_own_event(output, output->own.length, tally);
    }
    output->has_sent_feed = true;
}

static void join_group(struct output *output, struct feed *feed) {
    check(gzip_group_is_clean(feed->gzip));
    output->gzip->joined = feed->gzip->sum;
    feed->gzip->readers++;
}

/* `to` is where it stops reading. */
static void leave_group(struct output *output, struct feed *feed, uint64_t to) {
    gzip_stream_leave(output->gzip, feed_sum(feed, to));
    feed->gzip->readers--;
}

/* So many more own bytes are written. */
static void count_own(struct output *output, size_t bytes) {
    struct output_events *events = output->events;
    if (events == NULL) {
        return;
    }
    const struct own_event *event = (const void *)events->waiting.bytes;
    size_t count = events->waiting.length / sizeof *event;
    size_t done = 0;
    events->out += bytes;
    while (done < count && event[done].end <= events->out) {
        tally_delivered(event[done++].tally);
    }
    buf_consume(&events->waiting, done * sizeof *event);
    if (done == count) {
        events_destroy(&output->events);
    }
}

/* --- the feed -------------------------------------------------------------------------------- */

void output_init(struct output *output, uint16_t request_id) {
    *output = (struct output){.request_id = request_id};
}

void output_release(struct output *output) {
    buf_release(&output->own);
    events_destroy(&output->events);
    gzip_stream_destroy(&output->gzip);
}

void output_attach(struct output *output, struct feed *feed) {
    check(output->feed == NULL);
    output->feed = feed;
    output->cursor = feed_cursor_at_head(feed);
    if (feed->gzip != NULL) {
        join_group(output, feed);
    }
}

/* The frame that cursor.at is in or before. The search begins at cursor.frame. */
static uint64_t frame_at(const struct feed *feed, struct feed_cursor cursor) {
    while (cursor.frame < feed->next && feed_mark(feed, cursor.frame)->end <= cursor.at) {
        cursor.frame++;
    }
    return cursor.frame;
}

/* After the record that is begun, and after the frame in which this record ends. */
static struct feed_cursor after_begun(const struct output *output) {
    struct feed_cursor cursor = output->cursor;
    if (output->is_begun && output->source == OUTPUT_FEED) {
        cursor.at += output->record_left;
    }
    cursor.frame = frame_at(output->feed, cursor);
    if (!feed_is_at_boundary(output->feed, &cursor)) {
        cursor.at = feed_mark(output->feed, cursor.frame)->end;
        cursor.frame++;
    }
    return cursor;
}

uint64_t output_first_unbegun(const struct output *output) {
    return after_begun(output).frame;
}

size_t output_own_unbegun(const struct output *output) {
    bool is_in_own = output->is_begun && output->source == OUTPUT_OWN;
    if (output->gzip != NULL) {
        return output->gzip->draft.length;
    }
    return output->own.length - (is_in_own ? output->record_left : 0);
}

static void count_delivered_up_to(struct output *output, uint64_t offset) {
    while (output->cursor.frame < output->feed->next) {
        const struct feed_mark *mark = feed_mark(output->feed, output->cursor.frame);
        if (mark->end > offset) {
            return;
        }
        tally_delivered(mark->tally);
        output->cursor.frame++;
    }
}

/* So many more bytes of the feed are written. Plain bytes count once their frame is whole. */
static void count_feed(struct output *output, size_t bytes) {
    uint64_t before = output->cursor.frame;
    count_delivered_up_to(output, output->cursor.at);
    if (output->gzip != NULL) {
        uint64_t plain = feed_sum(output->feed, output->cursor.frame)->length -
                         feed_sum(output->feed, before)->length;
        compressors_count(output->gzip->compressors, plain, bytes);
    }
}

static void keep_frames(struct output *output, struct feed_cursor from, struct feed_cursor to) {
    buf_append(&output->own, feed_at(output->feed, from.at), (size_t)(to.at - from.at));
    for (uint64_t frame = from.frame; frame < to.frame; frame++) {
        const struct feed_mark *mark = feed_mark(output->feed, frame);
        if (mark->tally != NULL) {
            add_own_event(output, (size_t)(mark->end - from.at), mark->tally);
        }
    }
}

static void append_own(struct output *output, const struct output *rest) {
    size_t before = output->own.length;
    buf_append_slice(&output->own, buf_slice(&rest->own));
    if (rest->events == NULL) {
        return;
    }
    const struct own_event *event = (const void *)rest->events->waiting.bytes;
    for (size_t i = 0; i < rest->events->waiting.length / sizeof *event; i++) {
        add_own_event(output, before + (size_t)(event[i].end - rest->events->out), event[i].tally);
    }
}

/* Until now the order is: the record that is begun, own bytes, frames. So frames that are begun go
 * before own bytes; the events in them count when they are written. */
void output_detach(struct output *output) {
    struct feed *feed = output->feed;
    if (feed == NULL) {
        return;
    }
    struct feed_cursor from = output->cursor;
    struct feed_cursor to = after_begun(output);
    size_t kept = (size_t)(to.at - from.at);
    if (kept > 0) {
        struct output rest = {.own = output->own, .events = output->events};
        output->own = (struct buf){0};
        output->events = NULL;
        keep_frames(output, from, to);
        append_own(output, &rest);
        output_release(&rest);
    }
    if (feed->gzip != NULL) {
        leave_group(output, feed, to.frame);
    }
    if (output->is_begun && output->source == OUTPUT_FEED) {
        output->source = OUTPUT_OWN;
    }
    output->feed = NULL;
}

void output_end(struct output *output) {
    check(output->feed == NULL);
    if (output->gzip != NULL && !output->is_ending) {
        seal(output);
        gzip_end(&output->own, &output->gzip->sum);
    }
    output->is_ending = true;
}

static bool has_draft(const struct output *output) {
    return output->gzip != NULL && output->gzip->draft.length > 0;
}

static uint64_t feed_queued(const struct output *output) {
    return output->feed == NULL ? 0 : output->feed->head - output->cursor.at;
}

bool output_is_empty(const struct output *output) {
    return !output->is_begun && !output->is_ending && output->own.length == 0 &&
           !has_draft(output) && feed_queued(output) == 0;
}

/* --- planning ------------------------------------------------------------------------------ */

static void plan_vector(struct plan *plan, const char *bytes, size_t length) {
    if (length > 0) {
        plan->vectors[plan->vector_count++] = (struct iovec){(char *)bytes, length};
        plan->bytes += length;
    }
}

/* The content comes after what is already planned of the record's source. */
static void plan_content(struct plan *plan, const struct output *output,
                         const struct planned_record *record) {
    switch (record->source) {
    case OUTPUT_OWN:
        plan_vector(plan, output->own.bytes + plan->own, record->content_bytes);
        plan->own += record->content_bytes;
        return;
    case OUTPUT_FEED:
        plan_vector(plan, feed_at(output->feed, plan->at), record->content_bytes);
        plan->at += record->content_bytes;
        return;
    case OUTPUT_TRAILER:
        plan->has_trailer = true;
        return;
    }
}

static void plan_record(struct plan *plan, const struct output *output, enum output_source source,
                        size_t content_bytes, size_t content_left, size_t header_left) {
    struct planned_record *record = &plan->records[plan->count++];
    record->source = source;
    record->content_bytes = content_left;
    record->header_bytes = header_left;
    size_t whole = RECORD_HEADER_BYTES;
    if (source == OUTPUT_TRAILER) {
        whole = RECORD_TRAILER_BYTES;
        record_trailer(record->header, output->request_id);
    } else {
        record_header(record->header, output->request_id, content_bytes);
    }
    plan_vector(plan, record->header + whole - header_left, header_left);
    plan_content(plan, output, record);
}

static void plan_begun(struct plan *plan, const struct output *output) {
    plan_record(plan, output, output->source, output->record_bytes, output->record_left,
                output->header_left);
    if (output->feed != NULL) {
        plan->frame = frame_at(output->feed, (struct feed_cursor){plan->at, plan->frame});
    }
}

static void plan_new(struct plan *plan, const struct output *output, enum output_source source,
                     size_t content_bytes) {
    size_t header_bytes =
        source == OUTPUT_TRAILER ? (size_t)RECORD_TRAILER_BYTES : (size_t)RECORD_HEADER_BYTES;
    plan_record(plan, output, source, content_bytes, content_bytes, header_bytes);
}

/* Plans the next record; false when there is none. */
static bool plan_next(struct plan *plan, const struct output *output) {
    size_t own_left = output->own.length - plan->own;
    struct feed_cursor cursor = {plan->at, plan->frame};
    bool is_between = output->feed == NULL || feed_is_at_boundary(output->feed, &cursor);
    if (own_left > 0 && is_between) {
        plan_new(plan, output, OUTPUT_OWN,
                 own_left < RECORD_CONTENT_MAX ? own_left : RECORD_CONTENT_MAX);
        return true;
    }
    if (output->feed != NULL && plan->at < output->feed->head) {
        size_t span =
            feed_span(output->feed, plan->at, plan->frame, RECORD_CONTENT_MAX, &plan->frame);
        plan_new(plan, output, OUTPUT_FEED, span);
        return true;
    }
    if (output->is_ending && !plan->has_trailer) {
        plan_new(plan, output, OUTPUT_TRAILER, 0);
        return true;
    }
    return false;
}

static void plan_fill(struct plan *plan, const struct output *output) {
    plan->count = 0;
    plan->vector_count = 0;
    plan->bytes = 0;
    plan->own = 0;
    plan->at = output->cursor.at;
    plan->frame = output->cursor.frame;
    plan->has_trailer = false;
    if (output->is_begun) {
        plan_begun(plan, output);
    }
    while (plan->count < OUTPUT_RECORDS && plan_next(plan, output)) {
    }
}

/* --- accounting ---------------------------------------------------------------------------- */

static void account_content(struct output *output, enum output_source source, size_t bytes) {
    switch (source) {
    case OUTPUT_OWN:
        buf_consume(&output->own, bytes);
        count_own(output, bytes);
        return;
    case OUTPUT_FEED:
        output->cursor.at += bytes;
        count_feed(output, bytes);
        return;
    case OUTPUT_TRAILER:
        return;
    }
}

/* If a part of the record is left, this is the record that is begun from now on. */
static size_t account_record(struct output *output, const struct planned_record *record,
                             size_t written) {
    size_t header = written < record->header_bytes ? written : record->header_bytes;
    size_t content =
        written - header < record->content_bytes ? written - header : record->content_bytes;
    if (content > 0) {
        account_content(output, record->source, content);
    }
    output->has_sent_feed |= record->source == OUTPUT_FEED;
    size_t content_left = record->content_bytes - content;
    size_t header_left = record->header_bytes - header;
    bool is_whole = header_left == 0 && content_left == 0;
    if (!is_whole && !output->is_begun) {
        output->record_bytes = (uint16_t)record->content_bytes; /* it is new: nothing was written */
    }
    output->source = record->source;
    output->record_left = (uint16_t)content_left;
    output->header_left = (uint8_t)header_left;
    output->is_begun = !is_whole && written > 0;
    return header + content;
}

static enum output_result write_all(struct output *output, int fd) {
    struct plan plan;
    for (;;) {
        plan_fill(&plan, output);
        if (plan.count == 0) {
            return OUTPUT_DRAINED;
        }
        struct msghdr message = {.msg_iov = plan.vectors, .msg_iovlen = plan.vector_count};
        ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0) {
            if (errno == EINTR) {
                continue;
            }
            return errno == EAGAIN || errno == EWOULDBLOCK ? OUTPUT_BLOCKED : OUTPUT_BROKEN;
        }
        size_t left = (size_t)sent;
        output->has_written = true;
        for (size_t i = 0; i < plan.count && left > 0; i++) {
            left -= account_record(output, &plan.records[i], left);
        }
        if ((size_t)sent < plan.bytes) {
            continue; /* the next call says whether it is blocked */
        }
        if (plan.has_trailer) {
            return OUTPUT_DONE;
        }
        if (plan.count < OUTPUT_RECORDS) {
            return OUTPUT_DRAINED;
        }
    }
}

enum output_result output_write(struct output *output, int fd) {
    seal(output);
    output->has_written = false;
    enum output_result result = write_all(output, fd);
    output->is_blocked = result == OUTPUT_BLOCKED;
    return result;
}
