/* The headers of a stream, and the bytes that end it on purpose. Pure. */
#pragma once

#include "buf.h"
#include "position.h"
#include "stream_form.h"

/* The status line and headers. With a position it is the answer to HEAD; else position is NULL. A
 * stream that is not compressed needs no Vary: a cache may give it to every client. Topics streams
 * have no header that they could do without: lighttpd keeps 224 bytes for each while the stream is
 * open. Existing clients of user streams compare Cache-Control and Connection. */
void stream_text_headers(struct buf *out, enum stream_form form, bool is_gzip,
                         const struct position *position);

/* When to come back, why, and `event: close`. Without an id: the client resumes from what it has.
 */
void stream_text_goodbye(struct buf *out, int64_t retry_ms, const char *why);
