/* How the frames of a feed are compressed: once, for all clients of an audience that takes gzip.
 *
 * The frames share a compressor, so a frame may refer to the ones before it, back to the group's
 * last reset. So a client may read the feed if exactly these frames were the last bytes that it
 * got. The others are newcomers: clients that have just come, and those that were sent bytes of
 * their own, or lost frames, since the last reset. They get their own copies of each frame, which
 * was compressed alone, and may begin to read where the next reset is.
 *
 * A reset costs each reader: for some frames there is little to refer to. A newcomer costs, too, as
 * long as it waits. So the group is reset when both have cost about the same, or before the copies
 * become many.
 *
 * A group without a compressor (see compressors.h) compresses each frame alone: then there are no
 * newcomers. */
#pragma once

#include "compressors.h"

struct gzip_group {
    struct compressors *compressors; /* borrowed */
    struct compressor *compressor;   /* borrowed; NULL: it has none */
    struct gzip_sum sum;             /* of all frames that the feed has had */
    uint64_t copied_frames;          /* for newcomers, since the last reset */
    uint64_t copied_bytes;
    uint32_t readers; /* clients that are attached to the feed; output.c counts them */
    bool has_history; /* frames since the last reset */
};

struct gzip_group *gzip_group_create(struct compressors *compressors) must_check;
/* The group may be NULL. */
void gzip_group_destroy(struct gzip_group **group);

/* The next block refers to nothing: clients may begin to read. */
bool gzip_group_is_clean(const struct gzip_group *group) must_check;

/* Whether to reset before the next frame, of that length, instead of copying it for so many
 * newcomers, at least one. If not, the copies are counted. */
bool gzip_group_is_reset_due(struct gzip_group *group, uint32_t newcomers,
                             size_t frame_bytes) must_check;
void gzip_group_reset(struct gzip_group *group);

/* Appends the block of the feed's next frame, and adds the frame to the sum. */
void gzip_group_encode(struct gzip_group *group, struct slice frame, int64_t now_ms,
                       struct buf *out);
/* The newest frame has reached nobody: the sum is what it was before. The group is reset. */
void gzip_group_take_back(struct gzip_group *group, const struct gzip_sum *sum);
