/* The bytes that all live clients of an audience share.
 *
 * A frame is appended once, however many clients there are; a client is a cursor into the feed.
 * Nothing is queued per client: what waits for it are the bytes between its cursor and the head,
 * and the feed keeps them until the slowest cursor has passed. An idle feed holds no bytes at all.
 *
 * In a feed with a gzip_group the bytes of a frame are compressed.
 *
 * Frames and offsets are counted from 0 over the life of the feed. The frames from `first` on are
 * kept: their ends are in marks, their bytes are contiguous. */
#pragma once

#include "gzip_group.h"
#include "sse.h"

struct tally;

struct feed_mark {
    uint64_t end;                   /* offset after the frame's last byte */
    struct tally *tally;            /* borrowed; of the topic of an event; NULL: a refresh */
    enum sse_refresh_reason reason; /* of a refresh */
    bool is_durable;                /* an event that stands in the table */
    struct position before;         /* of a client that has all before this frame */
    struct gzip_sum sum;            /* of a gzip_group, before this frame */
};

struct feed {
    char *bytes; /* owned */
    size_t size;
    uint64_t base;           /* offset of bytes[0] */
    uint64_t head;           /* offset after the last frame */
    struct feed_mark *marks; /* owned; marks[i] is of frame base_mark + i */
    size_t marks_size;
    uint64_t base_mark;
    uint64_t first;          /* the oldest frame kept */
    uint64_t next;           /* the number of the next frame */
    struct gzip_group *gzip; /* owned; NULL: the frames are plain */
};

/* Where a client stands. */
struct feed_cursor {
    uint64_t at;    /* offset of the next byte to be written */
    uint64_t frame; /* the frame of that byte */
};

void feed_init(struct feed *feed);
/* Its group is destroyed, too. */
void feed_release(struct feed *feed);

/* Appends a frame; both are copied, and the mark's end is set here. */
void feed_append(struct feed *feed, struct slice frame, const struct feed_mark *mark);

/* Removes the newest frame, of which no client has written a byte. *mark becomes its mark. */
void feed_take_back(struct feed *feed, struct feed_mark *mark);

/* Drops the frames before that one. */
void feed_trim(struct feed *feed, uint64_t frame);

/* A cursor at the head: it will get what is appended from now on. */
struct feed_cursor feed_cursor_at_head(const struct feed *feed);

/* True if the cursor is between two frames, where other bytes may be written. */
bool feed_is_at_boundary(const struct feed *feed, const struct feed_cursor *cursor);

/* How many bytes from the offset `at`, inside or before frame `frame`, should be written as one
 * piece: as many whole frames as fit into `limit`, or a part of one that does not fit. *next_frame
 * is the frame after the piece, or the one of which the piece is a part. */
size_t feed_span(const struct feed *feed, uint64_t at, uint64_t frame, size_t limit,
                 uint64_t *next_frame);

const char *feed_at(const struct feed *feed, uint64_t offset);
const struct feed_mark *feed_mark(const struct feed *feed, uint64_t frame);

/* Of the plain bytes of all frames before that one, which is kept or is the next; the feed has a
 * gzip_group. */
const struct gzip_sum *feed_sum(const struct feed *feed, uint64_t frame);
