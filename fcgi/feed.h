/* The stream of bytes that all live clients of the same topics share.
 *
 * A frame is appended once, whoever listens; a client is a cursor into the feed. Nothing is queued
 * per client: what waits for it are the bytes between its cursor and the head, and the feed keeps
 * them until the slowest cursor has passed. An idle feed holds no bytes at all.
 *
 * Frames are counted from 0 over the life of the feed, offsets likewise. The frames from `first` on
 * are kept: their ends are in marks, their bytes are contiguous. */
#pragma once

#include "sse.h"

struct fan_topic;

struct feed_mark {
    uint64_t end;                   /* offset behind the frame's last byte */
    struct fan_topic *topic;        /* borrowed; whose event it is; NULL: it is a refresh */
    enum sse_refresh_reason reason; /* of a refresh */
    uint64_t durable_before;        /* the durable place that it stands behind */
};

struct feed {
    char *bytes; /* owned */
    size_t size;
    uint64_t base;           /* offset of bytes[0] */
    uint64_t head;           /* offset behind the last frame */
    struct feed_mark *marks; /* owned; marks[i] is of frame base_mark + i */
    size_t marks_size;
    uint64_t base_mark;
    uint64_t first; /* the oldest frame kept */
    uint64_t next;  /* the number of the next frame */
};

/* Where a client stands. */
struct feed_cursor {
    uint64_t at;    /* offset of the next byte to be written */
    uint64_t frame; /* the frame that this byte belongs to, or will */
};

void feed_init(struct feed *feed);
void feed_release(struct feed *feed);

/* Room for a frame of that length at the head; filled by the caller at once. */
char *feed_append(struct feed *feed, size_t length, struct fan_topic *topic) must_check;

/* The newest frame, which has no topic, is a refresh for that reason. */
void feed_note_refresh(struct feed *feed, enum sse_refresh_reason reason);

/* The newest frame stands behind that durable place: whoever has got all before it can go on from
 * there. */
void feed_note_durable(struct feed *feed, uint64_t before);

/* Frames before that one are wanted by nobody any more. */
void feed_trim(struct feed *feed, uint64_t frame);

/* A cursor at the head: it will get what is appended from now on. */
struct feed_cursor feed_cursor_at_head(const struct feed *feed);

/* Whether the cursor stands before a frame's first byte, so that something else may go between. */
bool feed_is_at_boundary(const struct feed *feed, const struct feed_cursor *cursor);

/* How many bytes from the offset `at`, inside or before frame `frame`, should be written as one
 * piece: as many whole frames as fit into `limit`, or a part of one that does not fit. *next_frame
 * is the frame that stands behind the piece, or goes on there. */
size_t feed_span(const struct feed *feed, uint64_t at, uint64_t frame, size_t limit,
                 uint64_t *next_frame);

const char *feed_at(const struct feed *feed, uint64_t offset);
const struct feed_mark *feed_mark(const struct feed *feed, uint64_t frame);
