/* A growing array of bytes: append at the end, remove at the front. Zero-initialised. The caller
 * bounds it; growing cannot fail. */
#pragma once

#include "base.h"

struct buf {
    char *bytes; /* owned; NULL while size is 0 */
    size_t length;
    size_t size;
};

void buf_release(struct buf *buf);

/* Makes room for at least `more` bytes after length and returns a pointer to it. The caller writes
 * there, and adds the number of bytes written to length. The pointer is good until the next
 * call. */
char *buf_reserve(struct buf *buf, size_t more);

void buf_append(struct buf *buf, const void *bytes, size_t length);
void buf_append_slice(struct buf *buf, struct slice slice);
void buf_append_text(struct buf *buf, const char *text);
void buf_printf(struct buf *buf, const char *format, ...) printf_like(2, 3);

/* Removes the first length bytes. An empty buf gives its memory back. */
void buf_consume(struct buf *buf, size_t length);

static inline struct slice buf_slice(const struct buf *buf) {
    return (struct slice){buf->bytes, buf->length};
}
