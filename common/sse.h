/* The text of Server-Sent Events, byte for byte. Pure: appends to a buf.
 *
 * An event's frame is a shared body and an id line. The body is built once, in the broker; the id
 * line goes in at the offset that sse_event_body returns (after the comment, if there is one):
 *
 *     : comment                    }  body, up to id_at
 *     id: 0.abcdefghijklm.17
 *     event: message               }
 *     data: {"n":1}                }  body, from id_at
 *                                  }
 *
 * No input can break out of its line: data and comments are split at CR, LF and CRLF, and callers
 * have checked types and ids for control characters. */
#pragma once

#include "buf.h"
#include "position.h"

struct sse_event {
    struct slice comment; /* none if empty */
    struct slice type;    /* "message" if empty; valid by event_type_is_valid */
    bool has_retry;
    uint32_t retry_ms;
    struct slice data; /* text of any kind; an empty one is sent as "data:" */
};

/* Appends the body and returns id_at, counted from where the body starts. */
size_t sse_event_body(struct buf *out, const struct sse_event *event) must_check;

/* "id: D.M.S\n", or "id: D.M.S~publisher_id\n". */
void sse_id(struct buf *out, const struct position *position, struct slice publisher_id);

/* ": text\n" */
void sse_comment(struct buf *out, const char *text);

/* "retry: 5000\n" */
void sse_retry(struct buf *out, int64_t retry_ms);

/* Why a client may have missed something. Of several reasons the first of this list is told. */
enum sse_refresh_reason {
    SSE_REFRESH_UNKNOWN_POSITION,
    SSE_REFRESH_RESTART,
    SSE_REFRESH_GAP,
    SSE_REFRESH_OVERFLOW,
};
enum { SSE_REFRESH_REASONS = SSE_REFRESH_OVERFLOW + 1 };

/* The lines of a refresh event with its blank line; the caller writes the id line before. dropped
 * is the number of events that the client has missed, or SSE_DROPPED_UNKNOWN. */
#define SSE_DROPPED_UNKNOWN UINT64_MAX
void sse_refresh(struct buf *out, enum sse_refresh_reason reason, uint64_t dropped,
                 const struct slice *topics, size_t topic_count);

/* The position that the stream has reached. It is an event of its own, because browsers and client
 * libraries ignore an id without data, or take it for an empty event.
 *
 *     event: position
 *     id: 0.abcdefghijklm.17
 *     data: {"position":"0.abcdefghijklm.17"} */
void sse_position(struct buf *out, const struct position *position);

/* "event: close\ndata: {}\n\n": the server ends this stream on purpose. */
void sse_close(struct buf *out);
