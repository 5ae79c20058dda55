#include "outlet.h"

#include "fanout.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { OUTLET_RECORDS = 16 };

/* One record of a write: first the one begun, then new ones. */
struct planned_record {
    enum outlet_source source;
    size_t content_bytes; /* still to be written */
    size_t header_bytes;
    char header[RECORD_TRAILER_BYTES];
};

struct plan {
    struct planned_record records[OUTLET_RECORDS];
    size_t count;
    struct iovec vectors[2 * OUTLET_RECORDS];
    size_t vector_count;
    size_t bytes;
    size_t own;  /* bytes of own that are planned */
    uint64_t at; /* in the feed, behind what is planned */
    uint64_t frame;
    bool has_trailer;
};

/* --- events among own bytes ---------------------------------------------------------------- */

struct own_event {
    uint64_t end; /* offset behind its last byte, counted from when this exists */
    struct fan_topic *topic;
};

struct outlet_events {
    uint64_t out;       /* own bytes that have gone since then */
    struct buf waiting; /* of struct own_event, in order */
};

static void add_own_event(struct outlet *outlet, size_t end, struct fan_topic *topic) {
    if (outlet->events == NULL) {
        outlet->events = must_zalloc(sizeof *outlet->events);
    }
    struct own_event event = {outlet->events->out + end, topic};
    buf_append(&outlet->events->waiting, &event, sizeof event);
}

static void events_destroy(struct outlet_events **place) {
    struct outlet_events *events = *place;
    *place = NULL;
    if (events != NULL) {
        buf_release(&events->waiting);
        free(events);
    }
}

void outlet_append_event(struct outlet *outlet, struct slice frame, struct fan_topic *topic) {
    buf_append_slice(&outlet->own, frame);
    add_own_event(outlet, outlet->own.length, topic);
}

/* So many more own bytes are out. */
static void count_own(struct outlet *outlet, size_t bytes) {
    struct outlet_events *events = outlet->events;
    if (events == NULL) {
        return;
    }
    const struct own_event *event = (const void *)events->waiting.bytes;
    size_t count = events->waiting.length / sizeof *event;
    size_t done = 0;
    events->out += bytes;
    while (done < count && event[done].end <= events->out) {
        fan_topic_delivered(event[done++].topic);
    }
    buf_consume(&events->waiting, done * sizeof *event);
    if (done == count) {
        events_destroy(&outlet->events);
    }
}

/* --- the feed -------------------------------------------------------------------------------- */

void outlet_init(struct outlet *outlet, uint16_t request_id) {
    *outlet = (struct outlet){.request_id = request_id};
}

void outlet_release(struct outlet *outlet) {
    buf_release(&outlet->own);
    events_destroy(&outlet->events);
}

void outlet_attach(struct outlet *outlet, struct feed *feed) {
    check(outlet->feed == NULL);
    outlet->feed = feed;
    outlet->cursor = feed_cursor_at_head(feed);
}

/* The frame that the offset stands in or before, looked for from cursor.frame on. */
static uint64_t frame_at(const struct feed *feed, struct feed_cursor cursor) {
    while (cursor.frame < feed->next && feed_mark(feed, cursor.frame)->end <= cursor.at) {
        cursor.frame++;
    }
    return cursor.frame;
}

/* Behind the record begun, and behind the frame that it ends in. */
static struct feed_cursor behind_begun(const struct outlet *outlet) {
    struct feed_cursor cursor = outlet->cursor;
    if (outlet->is_begun && outlet->source == OUTLET_FEED) {
        cursor.at += outlet->record_left;
    }
    cursor.frame = frame_at(outlet->feed, cursor);
    if (!feed_is_at_boundary(outlet->feed, &cursor)) {
        cursor.at = feed_mark(outlet->feed, cursor.frame)->end;
        cursor.frame++;
    }
    return cursor;
}

uint64_t outlet_first_unbegun(const struct outlet *outlet) {
    return behind_begun(outlet).frame;
}

size_t outlet_own_unbegun(const struct outlet *outlet) {
    bool is_in_own = outlet->is_begun && outlet->source == OUTLET_OWN;
    return outlet->own.length - (is_in_own ? outlet->record_left : 0);
}

static void count_delivered_up_to(struct outlet *outlet, uint64_t offset) {
    while (outlet->cursor.frame < outlet->feed->next) {
        const struct feed_mark *mark = feed_mark(outlet->feed, outlet->cursor.frame);
        if (mark->end > offset) {
            return;
        }
        fan_topic_delivered(mark->topic);
        outlet->cursor.frame++;
    }
}

static void keep_frames(struct outlet *outlet, struct feed_cursor from, struct feed_cursor to) {
    buf_append(&outlet->own, feed_at(outlet->feed, from.at), (size_t)(to.at - from.at));
    for (uint64_t frame = from.frame; frame < to.frame; frame++) {
        const struct feed_mark *mark = feed_mark(outlet->feed, frame);
        if (mark->topic != NULL) {
            add_own_event(outlet, (size_t)(mark->end - from.at), mark->topic);
        }
    }
}

static void append_own(struct outlet *outlet, const struct outlet *rest) {
    size_t before = outlet->own.length;
    buf_append_slice(&outlet->own, buf_slice(&rest->own));
    if (rest->events == NULL) {
        return;
    }
    const struct own_event *event = (const void *)rest->events->waiting.bytes;
    for (size_t i = 0; i < rest->events->waiting.length / sizeof *event; i++) {
        add_own_event(outlet, before + (size_t)(event[i].end - rest->events->out), event[i].topic);
    }
}

/* Before: the record begun, own bytes, frames. The begun part of the feed goes before own bytes,
 * and the events in it are counted when they are out. */
void outlet_detach(struct outlet *outlet) {
    const struct feed *feed = outlet->feed;
    if (feed == NULL) {
        return;
    }
    struct feed_cursor from = outlet->cursor;
    struct feed_cursor to = behind_begun(outlet);
    size_t kept = (size_t)(to.at - from.at);
    if (kept > 0) {
        struct outlet rest = {.own = outlet->own, .events = outlet->events};
        outlet->own = (struct buf){0};
        outlet->events = NULL;
        keep_frames(outlet, from, to);
        append_own(outlet, &rest);
        outlet_release(&rest);
    }
    if (outlet->is_begun && outlet->source == OUTLET_FEED) {
        outlet->source = OUTLET_OWN;
    }
    outlet->feed = NULL;
}

void outlet_end(struct outlet *outlet) {
    check(outlet->feed == NULL);
    outlet->is_ending = true;
}

static uint64_t feed_queued(const struct outlet *outlet) {
    return outlet->feed == NULL ? 0 : outlet->feed->head - outlet->cursor.at;
}

uint64_t outlet_queued_bytes(const struct outlet *outlet) {
    return outlet->own.length + feed_queued(outlet);
}

bool outlet_is_empty(const struct outlet *outlet) {
    return !outlet->is_begun && !outlet->is_ending && outlet_queued_bytes(outlet) == 0;
}

/* --- planning ------------------------------------------------------------------------------ */

static void plan_vector(struct plan *plan, const char *bytes, size_t length) {
    if (length > 0) {
        plan->vectors[plan->vector_count++] = (struct iovec){(char *)bytes, length};
        plan->bytes += length;
    }
}

/* The content's place is behind what is planned of its source already. */
static void plan_content(struct plan *plan, const struct outlet *outlet,
                         const struct planned_record *record) {
    switch (record->source) {
    case OUTLET_OWN:
        plan_vector(plan, outlet->own.bytes + plan->own, record->content_bytes);
        plan->own += record->content_bytes;
        return;
    case OUTLET_FEED:
        plan_vector(plan, feed_at(outlet->feed, plan->at), record->content_bytes);
        plan->at += record->content_bytes;
        return;
    case OUTLET_TRAILER:
        plan->has_trailer = true;
        return;
    }
}

static void plan_record(struct plan *plan, const struct outlet *outlet, enum outlet_source source,
                        size_t content_bytes, size_t content_left, size_t header_left) {
    struct planned_record *record = &plan->records[plan->count++];
    record->source = source;
    record->content_bytes = content_left;
    record->header_bytes = header_left;
    size_t whole = RECORD_HEADER_BYTES;
    if (source == OUTLET_TRAILER) {
        whole = RECORD_TRAILER_BYTES;
        record_trailer(record->header, outlet->request_id);
    } else {
        record_header(record->header, outlet->request_id, content_bytes);
    }
    plan_vector(plan, record->header + whole - header_left, header_left);
    plan_content(plan, outlet, record);
}

static void plan_begun(struct plan *plan, const struct outlet *outlet) {
    plan_record(plan, outlet, outlet->source, outlet->record_bytes, outlet->record_left,
                outlet->header_left);
    if (outlet->feed != NULL) {
        plan->frame = frame_at(outlet->feed, (struct feed_cursor){plan->at, plan->frame});
    }
}

static void plan_new(struct plan *plan, const struct outlet *outlet, enum outlet_source source,
                     size_t content_bytes) {
    size_t header_bytes =
        source == OUTLET_TRAILER ? (size_t)RECORD_TRAILER_BYTES : (size_t)RECORD_HEADER_BYTES;
    plan_record(plan, outlet, source, content_bytes, content_bytes, header_bytes);
}

/* Plans the next record; false when there is none. */
static bool plan_next(struct plan *plan, const struct outlet *outlet) {
    size_t own_left = outlet->own.length - plan->own;
    struct feed_cursor cursor = {plan->at, plan->frame};
    bool is_between = outlet->feed == NULL || feed_is_at_boundary(outlet->feed, &cursor);
    if (own_left > 0 && is_between) {
        plan_new(plan, outlet, OUTLET_OWN,
                 own_left < RECORD_CONTENT_MAX ? own_left : RECORD_CONTENT_MAX);
        return true;
    }
    if (outlet->feed != NULL && plan->at < outlet->feed->head) {
        size_t span =
            feed_span(outlet->feed, plan->at, plan->frame, RECORD_CONTENT_MAX, &plan->frame);
        plan_new(plan, outlet, OUTLET_FEED, span);
        return true;
    }
    if (outlet->is_ending && !plan->has_trailer) {
        plan_new(plan, outlet, OUTLET_TRAILER, 0);
        return true;
    }
    return false;
}

static void plan_fill(struct plan *plan, const struct outlet *outlet) {
    plan->count = 0;
    plan->vector_count = 0;
    plan->bytes = 0;
    plan->own = 0;
    plan->at = outlet->cursor.at;
    plan->frame = outlet->cursor.frame;
    plan->has_trailer = false;
    if (outlet->is_begun) {
        plan_begun(plan, outlet);
    }
    while (plan->count < OUTLET_RECORDS && plan_next(plan, outlet)) {
    }
}

/* --- accounting ---------------------------------------------------------------------------- */

static void account_content(struct outlet *outlet, enum outlet_source source, size_t bytes) {
    switch (source) {
    case OUTLET_OWN:
        buf_consume(&outlet->own, bytes);
        count_own(outlet, bytes);
        return;
    case OUTLET_FEED:
        outlet->cursor.at += bytes;
        count_delivered_up_to(outlet, outlet->cursor.at);
        return;
    case OUTLET_TRAILER:
        return;
    }
}

/* What is left of the record, if anything, is the one begun from now on. */
static size_t account_record(struct outlet *outlet, const struct planned_record *record,
                             size_t written) {
    size_t header = written < record->header_bytes ? written : record->header_bytes;
    size_t content =
        written - header < record->content_bytes ? written - header : record->content_bytes;
    if (content > 0) {
        account_content(outlet, record->source, content);
    }
    size_t content_left = record->content_bytes - content;
    size_t header_left = record->header_bytes - header;
    bool is_whole = header_left == 0 && content_left == 0;
    if (!is_whole && !outlet->is_begun) {
        outlet->record_bytes = (uint16_t)record->content_bytes; /* it is new: nothing was out */
    }
    outlet->source = record->source;
    outlet->record_left = (uint16_t)content_left;
    outlet->header_left = (uint8_t)header_left;
    outlet->is_begun = !is_whole && written > 0;
    return header + content;
}

enum outlet_result outlet_write(struct outlet *outlet, int fd) {
    struct plan plan;
    for (;;) {
        plan_fill(&plan, outlet);
        if (plan.count == 0) {
            return OUTLET_DRAINED;
        }
        struct msghdr message = {.msg_iov = plan.vectors, .msg_iovlen = plan.vector_count};
        ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0) {
            if (errno == EINTR) {
                continue;
            }
            return errno == EAGAIN || errno == EWOULDBLOCK ? OUTLET_BLOCKED : OUTLET_BROKEN;
        }
        size_t left = (size_t)sent;
        outlet->written_bytes += left;
        for (size_t i = 0; i < plan.count && left > 0; i++) {
            left -= account_record(outlet, &plan.records[i], left);
        }
        if ((size_t)sent < plan.bytes) {
            continue; /* the next call says whether it is blocked */
        }
        if (plan.has_trailer) {
            return OUTLET_DONE;
        }
        if (plan.count < OUTLET_RECORDS) {
            return OUTLET_DRAINED;
        }
    }
}
