#include "buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { BUF_FIRST_BYTES = 128 };

void buf_release(struct buf *buf) {
    free(buf->bytes);
    *buf = (struct buf){0};
}

char *buf_reserve(struct buf *buf, size_t more) {
    check(more <= SIZE_MAX / 4 && buf->length <= SIZE_MAX / 4);
    size_t wanted = buf->length + more;
    if (wanted > buf->size) {
        size_t size = buf->size == 0 ? BUF_FIRST_BYTES : buf->size;
        while (size < wanted) {
            size *= 2;
        }
        buf->bytes = must_realloc(buf->bytes, size);
        buf->size = size;
    }
    return buf->bytes + buf->length;
}

void buf_append(struct buf *buf, const void *bytes, size_t length) {
    if (length > 0) {
        memcpy(buf_reserve(buf, length), bytes, length);
        buf->length += length;
    }
}

void buf_append_slice(struct buf *buf, struct slice slice) {
    buf_append(buf, slice.at, slice.length);
}

void buf_append_text(struct buf *buf, const char *text) {
    buf_append(buf, text, strlen(text));
}

void buf_printf(struct buf *buf, const char *format, ...) {
    va_list arguments;
    va_list again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    check(length >= 0);
    vsnprintf(buf_reserve(buf, (size_t)length + 1), (size_t)length + 1, format, again);
    va_end(again);
    buf->length += (size_t)length;
}

void buf_consume(struct buf *buf, size_t length) {
    check(length <= buf->length);
    if (length == buf->length) {
        buf_release(buf);
    } else if (length > 0) {
        buf->length -= length;
        memmove(buf->bytes, buf->bytes + length, buf->length);
    }
}
