/* The gzip format (RFC 1952), in blocks. This is the one file that knows zlib.
 *
 * All blocks end at a byte (a sync flush), so that the blocks of a stream may come from different
 * compressors. Whoever has a block whole can decode all of it at once.
 *
 * A block of a window may refer to what went through the window since its last reset. A client can
 * decode it if these were the last bytes that it got, in this order and with nothing between. A
 * block that was made alone refers to nothing, and fits everywhere. */
#pragma once

#include "buf.h"

/* Length and checksum of plain bytes: the end of a gzip stream tells both. */
struct gzip_sum {
    uint64_t length;
    uint32_t crc;
};

void gzip_sum_add(struct gzip_sum *sum, struct slice plain);
/* The plain bytes of `more` follow those of sum. */
void gzip_sum_join(struct gzip_sum *sum, const struct gzip_sum *more);
/* Of the bytes of `whole` that follow those of `before`, with which it begins. */
struct gzip_sum gzip_sum_after(const struct gzip_sum *whole,
                               const struct gzip_sum *before) must_check;

/* What comes before the first block, and after the last one. */
void gzip_begin(struct buf *out);
void gzip_end(struct buf *out, const struct gzip_sum *sum);

/* A compressor and the last bytes that went through it: some 39 KB. */
struct gzip_window;

struct gzip_window *gzip_window_create(void) must_check;
void gzip_window_destroy(struct gzip_window **window);
/* The next block refers to nothing. */
void gzip_window_reset(struct gzip_window *window);
/* Appends a block. */
void gzip_window_block(struct gzip_window *window, struct slice plain, struct buf *out);

/* Appends a block that refers to nothing. The window is only the workplace, and is reset. */
void gzip_alone(struct gzip_window *workplace, struct slice plain, struct buf *out);

/* Appends blocks with the bytes as they are: no work, and 5 bytes more for each 64 KiB. */
void gzip_store(struct slice plain, struct buf *out);
