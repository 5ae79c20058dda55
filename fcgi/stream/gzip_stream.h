/* The gzip stream of one client: what is open of it, and what the client has got. There is no
 * compressor in it. */
#pragma once

#include "gzip_group.h"

struct gzip_stream {
    struct compressors *compressors; /* borrowed */
    struct buf draft;                /* own bytes that are not compressed yet */
    struct gzip_sum sum;             /* of what was compressed for it alone, and of the frames that
                                        it read before it left a feed */
    struct gzip_sum joined;          /* the group's, when it joined the feed that it reads */
};

struct gzip_stream *gzip_stream_create(struct compressors *compressors) must_check;
/* The stream may be NULL. */
void gzip_stream_destroy(struct gzip_stream **stream);

/* Appends the draft as one block. */
void gzip_stream_seal(struct gzip_stream *stream, struct buf *out);
/* Appends a block that was compressed alone for many; the sum is of its plain bytes. There is no
 * draft. */
void gzip_stream_copy(struct gzip_stream *stream, struct slice block, const struct gzip_sum *sum,
                      struct buf *out);
/* It has left the feed. sum: the group's, after the last frame that it read. */
void gzip_stream_leave(struct gzip_stream *stream, const struct gzip_sum *sum);
