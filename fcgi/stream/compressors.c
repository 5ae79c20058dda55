#include "compressors.h"

#include <stdlib.h>

void compressors_init(struct compressors *compressors) {
    *compressors = (struct compressors){0};
    TAILQ_INIT(&compressors->used);
}

void compressors_release(struct compressors *compressors) {
    check(compressors->count == 0);
    gzip_window_destroy(&compressors->workplace);
    buf_release(&compressors->block);
}

static struct compressor *compressor_create(struct compressors *compressors) {
    struct compressor *compressor = must_zalloc(sizeof *compressor);
    compressor->window = gzip_window_create();
    compressors->count++;
    return compressor;
}

/* Takes the one that was not used for the longest time from its group. NULL if all are in use. */
static struct compressor *take_idle(struct compressors *compressors, int64_t now_ms) {
    struct compressor *oldest = TAILQ_FIRST(&compressors->used);
    if (now_ms - oldest->used_ms < COMPRESSORS_IDLE_MS) {
        return NULL;
    }
    TAILQ_REMOVE(&compressors->used, oldest, link);
    *oldest->slot = NULL;
    gzip_window_reset(oldest->window);
    return oldest;
}

void compressors_take(struct compressors *compressors, struct compressor **slot, int64_t now_ms) {
    check(*slot == NULL);
    struct compressor *compressor = compressors->count < COMPRESSORS_MAX
                                        ? compressor_create(compressors)
                                        : take_idle(compressors, now_ms);
    if (compressor != NULL) {
        compressor->slot = slot;
        compressor->used_ms = now_ms;
        *slot = compressor;
        TAILQ_INSERT_TAIL(&compressors->used, compressor, link);
    }
}

void compressors_give_back(struct compressors *compressors, struct compressor **slot) {
    struct compressor *compressor = *slot;
    *slot = NULL;
    if (compressor != NULL) {
        TAILQ_REMOVE(&compressors->used, compressor, link);
        compressors->count--;
        gzip_window_destroy(&compressor->window);
        free(compressor);
    }
}

void compressors_note_use(struct compressors *compressors, struct compressor *compressor,
                          int64_t now_ms) {
    compressor->used_ms = now_ms;
    TAILQ_REMOVE(&compressors->used, compressor, link);
    TAILQ_INSERT_TAIL(&compressors->used, compressor, link);
}

static bool has_budget(struct compressors *compressors, size_t bytes) {
    int64_t now_ms = clock_ms();
    if (now_ms - compressors->alone_since_ms >= COMPRESSORS_ALONE_MS) {
        compressors->alone_since_ms = now_ms;
        compressors->alone_bytes = 0;
    }
    compressors->alone_bytes += bytes;
    return compressors->alone_bytes <= COMPRESSORS_ALONE_BYTES;
}

void compressors_alone(struct compressors *compressors, struct slice plain, struct buf *out) {
    if (!has_budget(compressors, plain.length)) {
        gzip_store(plain, out);
        return;
    }
    if (compressors->workplace == NULL) {
        compressors->workplace = gzip_window_create();
    }
    gzip_alone(compressors->workplace, plain, out);
}

void compressors_count(struct compressors *compressors, uint64_t plain_bytes, uint64_t sent_bytes) {
    compressors->plain_bytes += plain_bytes;
    compressors->sent_bytes += sent_bytes;
}
