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
        oldest = output_is_attached(&seat->output) && frame < oldest ? frame : oldest;
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

void audience_attach(struct audience *audience, struct output *output) {
    if (!audience_is_gzip(audience) || gzip_group_is_clean(audience->feed.gzip)) {
        output_attach(output, &audience->feed);
    } /* else it is a newcomer, until the next reset */
}

void audience_join(struct audience *audience, struct seat *seat) {
    audience_attach(audience, &seat->output);
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

/* --- gzip ------------------------------------------------------------------------------------- */

static uint32_t newcomers_of(const struct audience *audience) {
    return audience->live_count - audience->feed.gzip->readers;
}

/* The first newcomer from that seat on, if any is left; NULL at the end. Most newcomers are at the
 * beginning of the list, and a walk ends with the last of them. */
static struct seat *next_newcomer(struct seat *seat, uint32_t *left) {
    for (; seat != NULL && *left > 0; seat = LIST_NEXT(seat, link)) {
        if (!output_is_attached(&seat->output)) {
            (*left)--;
            return seat;
        }
    }
    return NULL;
}

/* The body may attach the newcomer. */
#define FOREACH_NEWCOMER(seat, audience, left)                                           \
    for ((seat) = next_newcomer(LIST_FIRST(&(audience)->live), &(left)); (seat) != NULL; \
         (seat) = next_newcomer(LIST_NEXT(seat, link), &(left)))

/* Copies for a client that does not read would grow: it has to become a reader. */
static bool has_blocked_newcomer(const struct audience *audience) {
    uint32_t left = newcomers_of(audience);
    const struct seat *seat;
    FOREACH_NEWCOMER(seat, audience, left) {
        if (seat->output.is_blocked) {
            return true;
        }
    }
    return false;
}

static void reset_group(struct audience *audience) {
    uint32_t left = newcomers_of(audience);
    struct seat *seat;
    gzip_group_reset(audience->feed.gzip);
    FOREACH_NEWCOMER(seat, audience, left) {
        output_attach(&seat->output, &audience->feed);
    }
}

static void copy_to_newcomers(struct audience *audience, struct slice frame, struct tally *tally) {
    struct gzip_group *group = audience->feed.gzip;
    struct buf *block = &group->compressors->block;
    uint32_t left = newcomers_of(audience);
    struct gzip_sum sum = {0};
    struct seat *seat;
    gzip_sum_add(&sum, frame);
    block->length = 0;
    compressors_alone(group->compressors, frame, block);
    FOREACH_NEWCOMER(seat, audience, left) {
        output_append_copy(&seat->output, buf_slice(block), &sum, tally);
    }
}

/* Refreshes are rare, and one may be taken back: nobody gets a copy of one. */
static bool must_reset(const struct audience *audience, const struct feed_mark *mark,
                       size_t frame_bytes) {
    return mark->tally == NULL || has_blocked_newcomer(audience) ||
           gzip_group_is_reset_due(audience->feed.gzip, newcomers_of(audience), frame_bytes);
}

static void append_compressed(struct audience *audience, struct slice frame,
                              const struct feed_mark *mark) {
    struct gzip_group *group = audience->feed.gzip;
    struct buf *block = &group->compressors->block;
    struct feed_mark summed = *mark;
    if (newcomers_of(audience) > 0 && must_reset(audience, mark, frame.length)) {
        reset_group(audience);
    }
    summed.sum = group->sum;
    block->length = 0;
    gzip_group_encode(group, frame, loop_now_ms(audience->loop), block);
    feed_append(&audience->feed, buf_slice(block), &summed);
    if (newcomers_of(audience) > 0) {
        copy_to_newcomers(audience, frame, mark->tally);
    }
}

static void take_back(struct audience *audience, struct feed_mark *mark) {
    feed_take_back(&audience->feed, mark);
    if (audience_is_gzip(audience)) {
        gzip_group_take_back(audience->feed.gzip, &mark->sum);
    }
}

/* --- the feed --------------------------------------------------------------------------------- */

void audience_append(struct audience *audience, struct slice frame, const struct position *position,
                     const struct feed_mark *mark) {
    if (audience_is_gzip(audience)) {
        append_compressed(audience, frame, mark);
    } else {
        feed_append(&audience->feed, frame, mark);
    }
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
        take_back(audience, &mark);
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
    if (!output_is_attached(output)) {
        return; /* nothing of the feed waits */
    }
    for (uint64_t frame = output_first_unbegun(output); frame < feed->next; frame++) {
        count_dropped(loss, feed_mark(feed, frame));
    }
}

void audience_count_dropped_client(struct audience *audience) {
    audience->memberships[0].topic->tally.dropped_clients++;
}
