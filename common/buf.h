/* A growing run of bytes: append at the end, take away at the front. Zero-initialised.
 * Bounded by whoever fills it; growth itself cannot fail. */
#pragma once

#include "base.h"

struct buf {
    char *bytes; /* owned; NULL while size is 0 */
    size_t length;
    size_t size;
};

void buf_release(struct buf *buf);

/* Room for at least more bytes behind length; they are filled by the caller, who then adds to
 * length what was used. The pointer is good until the next call. */
char *buf_reserve(struct buf *buf, size_t more);

void buf_append(struct buf *buf, const void *bytes, size_t length);
void buf_append_slice(struct buf *buf, struct slice slice);
void buf_append_text(struct buf *buf, const char *text);
void buf_printf(struct buf *buf, const char *format, ...) printf_like(2, 3);

/* The first length bytes go away. What becomes empty gives its memory back. */
void buf_consume(struct buf *buf, size_t length);

static inline struct slice buf_slice(const struct buf *buf) {
    return (struct slice){buf->bytes, buf->length};
}
