#include "audience.h"

/* --- topics ---------------------------------------------------------------------------------- */

void audience_topics(const struct audience *audience, struct names *topics) {
    topics->count = audience->topic_count;
    for (size_t i = 0; i < audience->topic_count; i++) {
        topics->keys[i] = fan_topic_key(audience->memberships[i].topic);
    }
}

struct tally *audience_tally(const struct audience *audience, struct topic_key key) {
    struct tally *found = NULL;
    for (size_t i = 0; i < audience->topic_count; i++) {
        struct fan_topic *topic = audience->memberships[i].topic;
        if (topic_key_equals(fan_topic_key(topic), key)) {
            return &topic->tally;
        }
        if (!topic_key_is_pattern(key) && topic_key_covers(fan_topic_key(topic), key)) {
            found = &topic->tally;
        }
    }
    return found;
}

/* --- clients ---------------------------------------------------------------------------------- */

/* Each client writes once; then the feed drops what all of them have written. No client leaves the
 * list meanwhile: one that is closed, or has to leave its feed, leaves after this (see
 * client.h). */
static void on_flush(struct loop_task *task) {
    struct audience *audience = container_of(task, struct audience, flush);
    uint64_t oldest = audience->feed.next;
    struct seat *seat;
    LIST_FOREACH(seat, &audience->live, link) {
        audience->flush_seat(seat);
        uint64_t frame = seat->output.cursor.frame;
        oldest = frame < oldest ? frame : oldest;
    }
    feed_trim(&audience->feed, oldest);
    audience->is_told = false;
}

static void flush_soon(struct audience *audience) {
    loop_flush_soon(audience->loop, &audience->flush, on_flush);
}

void audience_trim_soon(struct audience *audience) {
    flush_soon(audience);
}

void audience_join(struct audience *audience, struct seat *seat) {
    output_attach(&seat->output, &audience->feed);
    LIST_INSERT_HEAD(&audience->live, seat, link);
    audience->live_count++;
    audience->is_told = false;
}

void audience_leave(struct audience *audience, struct seat *seat) {
    LIST_REMOVE(seat, link);
    audience->live_count--;
    output_detach(&seat->output);
    flush_soon(audience); /* it may have been the slowest */
}

/* --- the feed --------------------------------------------------------------------------------- */

void audience_append(struct audience *audience, struct slice frame, const struct position *position,
                     const struct feed_mark *mark) {
    feed_append(&audience->feed, frame, mark);
    audience->last = *position;
    audience->last_ms = loop_now_ms(audience->loop);
    audience->is_told = mark->tally == NULL;
    flush_soon(audience);
}

void audience_append_refresh(const struct audience *audience, struct buf *out,
                             const struct position *position, enum sse_refresh_reason reason,
                             uint64_t dropped) {
    struct slice names[NAMES_MAX];
    struct position written = stream_form_position(audience->form, position);
    size_t count = 0;
    for (size_t i = 0; i < audience->topic_count; i++) {
        struct topic_key key = fan_topic_key(audience->memberships[i].topic);
        if (topic_key_is_pattern(key) || !slice_is(topic_key_name(key), TOPIC_BROADCAST)) {
            names[count++] = topic_key_name(key); /* nobody has asked for the broadcasts */
        }
    }
    if (!position_is_start(&written)) { /* "0" would ask for all that is kept */
        sse_id(out, &written, (struct slice){0});
    }
    sse_refresh(out, reason, dropped, names, count);
}

static void loss_add(struct fan_loss *loss, const struct fan_loss *more) {
    bool is_known = loss->dropped != SSE_DROPPED_UNKNOWN && more->dropped != SSE_DROPPED_UNKNOWN;
    loss->dropped = is_known ? loss->dropped + more->dropped : SSE_DROPPED_UNKNOWN;
    loss->reason = more->reason < loss->reason ? more->reason : loss->reason;
}

/* If the last refresh was not written yet, one that tells of both losses replaces it. */
void audience_refresh(struct audience *audience, const struct wire_refresh *message,
                      const struct position *before) {
    struct buf frame = {0};
    struct feed_mark mark = {.before = *before};
    struct fan_loss loss = {message->dropped, message->reason};
    if (audience->is_told) {
        feed_take_back(&audience->feed, &mark);
        loss_add(&loss, &audience->told);
    }
    mark.reason = loss.reason;
    audience->told = loss;
    audience_append_refresh(audience, &frame, &message->position, loss.reason, loss.dropped);
    audience_append(audience, buf_slice(&frame), &message->position, &mark);
    buf_release(&frame);
}

/* --- counting --------------------------------------------------------------------------------- */

static void count_dropped(struct fan_loss *loss, const struct feed_mark *mark) {
    struct fan_loss event = {1, SSE_REFRESH_OVERFLOW};
    struct fan_loss refresh = {SSE_DROPPED_UNKNOWN, mark->reason};
    if (mark->tally != NULL) {
        mark->tally->dropped_events++;
    }
    loss_add(loss, mark->tally != NULL ? &event : &refresh);
}

void audience_count_dropped(struct audience *audience, const struct output *output,
                            struct fan_loss *loss) {
    const struct feed *feed = &audience->feed;
    for (uint64_t frame = output_first_unbegun(output); frame < feed->next; frame++) {
        count_dropped(loss, feed_mark(feed, frame));
    }
}

void audience_count_dropped_client(struct audience *audience) {
    audience->memberships[0].topic->tally.dropped_clients++;
}
