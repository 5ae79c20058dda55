#include "feed.h"

#include <stdlib.h>

enum { FEED_FIRST_BYTES = 1024, FEED_FIRST_MARKS = 16 };

void feed_init(struct feed *feed) {
    *feed = (struct feed){0};
}

void feed_release(struct feed *feed) {
    free(feed->bytes);
    free(feed->marks);
    gzip_group_destroy(&feed->gzip);
    feed_init(feed);
}

const struct feed_mark *feed_mark(const struct feed *feed, uint64_t frame) {
    check(frame >= feed->first && frame < feed->next);
    return &feed->marks[frame - feed->base_mark];
}

const struct gzip_sum *feed_sum(const struct feed *feed, uint64_t frame) {
    return frame == feed->next ? &feed->gzip->sum : &feed_mark(feed, frame)->sum;
}

const char *feed_at(const struct feed *feed, uint64_t offset) {
    check(offset >= feed->base && offset <= feed->head);
    return feed->bytes + (offset - feed->base);
}

/* Offset of the frame's first byte. For a frame after the oldest kept one, it is the end of the
 * frame before. For the oldest one it is the base, because trimming and growing keep base there or
 * below. */
static uint64_t start_of(const struct feed *feed, uint64_t frame) {
    return frame == feed->base_mark ? feed->base : feed->marks[frame - 1 - feed->base_mark].end;
}

/* Drops what is before `first` from memory. */
static void compact(struct feed *feed) {
    uint64_t start = feed->first == feed->next ? feed->head : start_of(feed, feed->first);
    size_t kept_bytes = (size_t)(feed->head - start);
    size_t kept_marks = (size_t)(feed->next - feed->first);
    if (kept_bytes > 0) {
        memmove(feed->bytes, feed_at(feed, start), kept_bytes);
        memmove(feed->marks, feed->marks + (feed->first - feed->base_mark),
                kept_marks * sizeof *feed->marks);
    }
    feed->base = start;
    feed->base_mark = feed->first;
}

static size_t grown(size_t size, size_t first, size_t wanted) {
    size = size == 0 ? first : size;
    while (size < wanted) {
        size *= 2;
    }
    return size;
}

/* Room for one more frame of that length. The dead part is reused before memory grows, once it is
 * at least half of the whole, so that a byte is moved once on average. */
static void make_room(struct feed *feed, size_t length) {
    size_t used = (size_t)(feed->head - feed->base);
    size_t marks_used = (size_t)(feed->next - feed->base_mark);
    if (used + length <= feed->size && marks_used < feed->marks_size) {
        return;
    }
    uint64_t start = start_of(feed, feed->first);
    if (2 * (start - feed->base) >= used || 2 * (feed->first - feed->base_mark) >= marks_used) {
        compact(feed);
        used = (size_t)(feed->head - feed->base);
        marks_used = (size_t)(feed->next - feed->base_mark);
    }
    if (used + length > feed->size) {
        feed->size = grown(feed->size, FEED_FIRST_BYTES, used + length);
        feed->bytes = must_realloc(feed->bytes, feed->size);
    }
    if (marks_used == feed->marks_size) {
        feed->marks_size = grown(feed->marks_size, FEED_FIRST_MARKS, marks_used + 1);
        feed->marks = must_realloc(feed->marks, feed->marks_size * sizeof *feed->marks);
    }
}

void feed_append(struct feed *feed, struct slice frame, const struct feed_mark *mark) {
    check(frame.length > 0);
    make_room(feed, frame.length);
    memcpy(feed->bytes + (feed->head - feed->base), frame.at, frame.length);
    feed->head += frame.length;
    struct feed_mark *slot = &feed->marks[feed->next - feed->base_mark];
    *slot = *mark;
    slot->end = feed->head;
    feed->next++;
}

void feed_take_back(struct feed *feed, struct feed_mark *mark) {
    *mark = *feed_mark(feed, feed->next - 1);
    feed->next--;
    feed->head = start_of(feed, feed->next);
}

void feed_trim(struct feed *feed, uint64_t frame) {
    check(frame >= feed->first && frame <= feed->next);
    feed->first = frame;
    if (feed->first == feed->next && feed->bytes != NULL) {
        feed->base = feed->head;
        feed->base_mark = feed->next;
        free(feed->bytes);
        free(feed->marks);
        feed->bytes = NULL;
        feed->marks = NULL;
        feed->size = 0;
        feed->marks_size = 0;
    }
}

struct feed_cursor feed_cursor_at_head(const struct feed *feed) {
    return (struct feed_cursor){feed->head, feed->next};
}

bool feed_is_at_boundary(const struct feed *feed, const struct feed_cursor *cursor) {
    return cursor->frame == feed->next || cursor->at == start_of(feed, cursor->frame);
}

size_t feed_span(const struct feed *feed, uint64_t at, uint64_t frame, size_t limit,
                 uint64_t *next_frame) {
    uint64_t end = at;
    while (frame < feed->next && feed_mark(feed, frame)->end - at <= limit) {
        end = feed_mark(feed, frame)->end;
        frame++;
    }
    *next_frame = frame;
    return end > at ? (size_t)(end - at) : limit; /* a frame that is longer than a piece */
}
