/* The compressors of a process. A group of clients has one of them for itself (see gzip_group.h),
 * and there are at most COMPRESSORS_MAX: a group that has sent nothing for COMPRESSORS_IDLE_MS
 * loses its compressor to one that needs it. What is compressed alone shares one workplace, and has
 * a budget: anybody can ask for streams of many different names, each of which would compress each
 * event once more. Beyond the budget bytes are stored as they are, which every client can read.
 *
 * Also here: what compression has saved. */
#pragma once

#include "gzip.h"

#include <sys/queue.h>

enum {
    COMPRESSORS_MAX = 64,
    COMPRESSORS_IDLE_MS = 10000,
    COMPRESSORS_ALONE_BYTES = 2 * 1024 * 1024, /* compressed alone, in each: */
    COMPRESSORS_ALONE_MS = 100,
};

struct compressor {
    TAILQ_ENTRY(compressor) link; /* in compressors.used, the least recently used first */
    struct gzip_window *window;   /* owned */
    struct compressor **slot;     /* borrowed: where its group has it */
    int64_t used_ms;
};
TAILQ_HEAD(compressor_list, compressor);

struct compressors {
    struct compressor_list used;
    size_t count;
    struct gzip_window *workplace; /* owned; NULL: was never needed */
    struct buf block;              /* reused for each frame */
    int64_t alone_since_ms;        /* the budget is counted since then */
    size_t alone_bytes;
    uint64_t plain_bytes; /* sent since the last report: what they would have been, */
    uint64_t sent_bytes;  /* and what they were */
};

void compressors_init(struct compressors *compressors);
/* All groups have given theirs back. */
void compressors_release(struct compressors *compressors);

/* *slot becomes a compressor without history, or stays NULL if all are in use. Later it may become
 * NULL again, in a call of this for another slot. */
void compressors_take(struct compressors *compressors, struct compressor **slot, int64_t now_ms);
/* *slot becomes NULL. Harmless if it is NULL already. */
void compressors_give_back(struct compressors *compressors, struct compressor **slot);
void compressors_note_use(struct compressors *compressors, struct compressor *compressor,
                          int64_t now_ms);

/* Appends blocks that refer to nothing. */
void compressors_alone(struct compressors *compressors, struct slice plain, struct buf *out);

void compressors_count(struct compressors *compressors, uint64_t plain_bytes, uint64_t sent_bytes);
