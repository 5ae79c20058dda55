/* The text of Server-Sent Events, byte for byte. Pure: appends to a buf.
 *
 * An event's frame is a shared body and an id line. The body is built once, in the broker; the
 * id line goes in at the place that sse_event_body returns (behind the comment, if there is one):
 *
 *     : comment                    }  body, up to id_at
 *     id: 0.abcdefghijklm.17
 *     event: message               }
 *     data: {"n":1}                }  body, from id_at
 *                                  }
 *
 * No byte from outside reaches a line unsplit: data and comments are split at CR, LF and CRLF, and
 * types and ids have been checked for control characters by whoever hands them in. */
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

/* Why a client may have missed something, in the order in which one of several causes is named. */
enum sse_refresh_reason {
    SSE_REFRESH_UNKNOWN_POSITION,
    SSE_REFRESH_RESTART,
    SSE_REFRESH_GAP,
    SSE_REFRESH_OVERFLOW,
};
enum { SSE_REFRESH_REASONS = SSE_REFRESH_OVERFLOW + 1 };

/* The lines of a refresh event with its blank line; the id line goes before. dropped is the number
 * of events that the client would have been sent, or SSE_DROPPED_UNKNOWN. */
#define SSE_DROPPED_UNKNOWN UINT64_MAX
void sse_refresh(struct buf *out, enum sse_refresh_reason reason, uint64_t dropped,
                 const struct slice *topics, size_t topic_count);

/* "event: close\ndata: {}\n\n": the server ends this stream on purpose. */
void sse_close(struct buf *out);
