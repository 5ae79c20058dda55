/* A gzip stream as a browser decodes it: piece by piece, as it comes. */
#pragma once

#include "support.h"

#include <zlib.h>

struct inflating {
    z_stream stream;
    struct buf text; /* all that could be decoded */
    bool is_begun;
    bool is_ended; /* with the right checksum and length */
};

static unused void inflating_release(struct inflating *inflating) {
    if (inflating->is_begun) {
        (void)inflateEnd(&inflating->stream);
    }
    buf_release(&inflating->text);
    *inflating = (struct inflating){0};
}

/* window_bits: 31 for gzip, -15 for blocks alone. False if these are no good bytes. */
static unused bool inflating_take_as(struct inflating *inflating, struct slice bytes,
                                     int window_bits) {
    z_stream *stream = &inflating->stream;
    if (!inflating->is_begun) {
        assert_int_equal(inflateInit2(stream, window_bits), Z_OK);
        inflating->is_begun = true;
    }
    stream->next_in = (Bytef *)bytes.at;
    stream->avail_in = (uInt)bytes.length;
    for (;;) {
        stream->next_out = (Bytef *)buf_reserve(&inflating->text, 4096);
        stream->avail_out = 4096;
        int result = inflate(stream, Z_SYNC_FLUSH);
        inflating->text.length += 4096 - stream->avail_out;
        if (result == Z_STREAM_END) {
            inflating->is_ended = true;
            return stream->avail_in == 0; /* nothing comes after it */
        }
        if (result == Z_BUF_ERROR || (result == Z_OK && stream->avail_out > 0)) {
            return stream->avail_in == 0;
        }
        if (result != Z_OK) {
            return false;
        }
    }
}

static unused void inflating_take(struct inflating *inflating, struct slice bytes) {
    assert_false(inflating->is_ended && bytes.length > 0);
    if (!inflating->is_ended && !inflating_take_as(inflating, bytes, 31)) {
        fail_msg("the gzip stream is broken after %zu bytes: %s", inflating->text.length,
                 inflating->stream.msg == NULL ? "" : inflating->stream.msg);
    }
}
