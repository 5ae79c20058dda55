#include "gzip_stream.h"

#include <stdlib.h>

/* Heartbeats and greetings are shorter: nothing is gained with them. */
enum { GZIP_STREAM_STORED_BYTES = 256 };

struct gzip_stream *gzip_stream_create(struct compressors *compressors) {
    struct gzip_stream *stream = must_zalloc(sizeof *stream);
    stream->compressors = compressors;
    return stream;
}

void gzip_stream_destroy(struct gzip_stream **slot) {
    struct gzip_stream *stream = *slot;
    *slot = NULL;
    if (stream != NULL) {
        buf_release(&stream->draft);
        free(stream);
    }
}

void gzip_stream_seal(struct gzip_stream *stream, struct buf *out) {
    struct slice plain = buf_slice(&stream->draft);
    size_t before = out->length;
    if (plain.length == 0) {
        return;
    }
    gzip_sum_add(&stream->sum, plain);
    if (plain.length < GZIP_STREAM_STORED_BYTES) {
        gzip_store(plain, out);
    } else {
        compressors_alone(stream->compressors, plain, out);
    }
    compressors_count(stream->compressors, plain.length, out->length - before);
    buf_release(&stream->draft);
}

void gzip_stream_copy(struct gzip_stream *stream, struct slice block, const struct gzip_sum *sum,
                      struct buf *out) {
    check(stream->draft.length == 0);
    gzip_sum_join(&stream->sum, sum);
    buf_append_slice(out, block);
    compressors_count(stream->compressors, sum->length, block.length);
}

void gzip_stream_leave(struct gzip_stream *stream, const struct gzip_sum *sum) {
    struct gzip_sum read = gzip_sum_after(sum, &stream->joined);
    check(read.length == 0 || stream->draft.length == 0);
    gzip_sum_join(&stream->sum, &read);
}
