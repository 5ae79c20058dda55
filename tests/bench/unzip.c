#include "unzip.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "fault.h"

enum { GZIP_BITS = 15 + 16, ROOM_BYTES = 64 * 1024 };

struct unzip {
    z_stream stream;
};

struct unzip *unzip_create(void) {
    struct unzip *unzip = fault_calloc(1, sizeof(*unzip));

    if (inflateInit2(&unzip->stream, GZIP_BITS) != Z_OK) {
        fault_die("zlib: no memory");
    }
    return unzip;
}

void unzip_destroy(struct unzip **unzip) {
    if (*unzip != NULL) {
        inflateEnd(&(*unzip)->stream);
        free(*unzip);
        *unzip = NULL;
    }
}

bool unzip_feed(struct unzip *unzip, const char *bytes, size_t length, unzip_take *take,
                void *owner) {
    static char room[ROOM_BYTES];
    z_stream *stream = &unzip->stream;
    int result;

    stream->next_in = (Bytef *)bytes;
    stream->avail_in = (uInt)length;
    do {
        stream->next_out = (Bytef *)room;
        stream->avail_out = sizeof(room);
        result = inflate(stream, Z_SYNC_FLUSH);
        if (result != Z_OK && result != Z_BUF_ERROR && result != Z_STREAM_END) {
            return false;
        }
        take(owner, room, sizeof(room) - stream->avail_out);
    } while (stream->avail_out == 0 && result != Z_STREAM_END);
    return true;
}

uint64_t unzip_length_alone(struct slice text) {
    static char room[ROOM_BYTES];
    z_stream stream = {0};
    uint64_t length = 0;

    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_BITS, 8,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
        fault_die("zlib: no memory");
    }
    while (text.length > 0) {
        const char *end = memmem(text.at, text.length, "\n\n", 2);
        size_t block = end == NULL ? text.length : (size_t)(end - text.at) + 2;

        stream.next_in = (Bytef *)text.at;
        stream.avail_in = (uInt)block;
        stream.next_out = (Bytef *)room;
        stream.avail_out = sizeof(room);
        deflate(&stream, Z_SYNC_FLUSH);
        length += sizeof(room) - stream.avail_out;
        text = (struct slice){text.at + block, text.length - block};
    }
    deflateEnd(&stream);
    return length;
}
