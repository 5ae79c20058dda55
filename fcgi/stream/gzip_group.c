#include "gzip_group.h"

#include <stdlib.h>

/* A copy for a newcomer is longer than the shared block by about half of the frame, and a reset
 * makes the next frames longer by one or two frames for each reader. */
enum {
    GZIP_RESET_FRAMES = 3, /* copies for each reader */
    GZIP_COPIED_BYTES_MAX = 256 * 1024,
};

struct gzip_group *gzip_group_create(struct compressors *compressors) {
    struct gzip_group *group = must_zalloc(sizeof *group);
    group->compressors = compressors;
    return group;
}

void gzip_group_destroy(struct gzip_group **slot) {
    struct gzip_group *group = *slot;
    *slot = NULL;
    if (group != NULL) {
        compressors_give_back(group->compressors, &group->compressor);
        free(group);
    }
}

bool gzip_group_is_clean(const struct gzip_group *group) {
    return group->compressor == NULL || !group->has_history;
}

bool gzip_group_is_reset_due(struct gzip_group *group, uint32_t newcomers, size_t frame_bytes) {
    uint64_t frames = group->copied_frames + newcomers;
    uint64_t bytes = group->copied_bytes + (uint64_t)newcomers * frame_bytes;
    if (gzip_group_is_clean(group) || frames >= (uint64_t)GZIP_RESET_FRAMES * group->readers ||
        bytes > GZIP_COPIED_BYTES_MAX) {
        return true;
    }
    group->copied_frames = frames;
    group->copied_bytes = bytes;
    return false;
}

void gzip_group_reset(struct gzip_group *group) {
    if (!gzip_group_is_clean(group)) {
        gzip_window_reset(group->compressor->window);
    }
    group->has_history = false;
    group->copied_frames = 0;
    group->copied_bytes = 0;
}

void gzip_group_encode(struct gzip_group *group, struct slice frame, int64_t now_ms,
                       struct buf *out) {
    gzip_sum_add(&group->sum, frame);
    if (group->compressor == NULL) {
        compressors_take(group->compressors, &group->compressor, now_ms);
    }
    if (group->compressor == NULL) {
        compressors_alone(group->compressors, frame, out);
        return;
    }
    compressors_note_use(group->compressors, group->compressor, now_ms);
    gzip_window_block(group->compressor->window, frame, out);
    group->has_history = true;
}

void gzip_group_take_back(struct gzip_group *group, const struct gzip_sum *sum) {
    group->sum = *sum;
    gzip_group_reset(group);
}
