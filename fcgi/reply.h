/* Answers that are no stream, as CGI headers and a body. Pure: appends to a buf. */
#pragma once

#include "buf.h"

enum reply_status {
    REPLY_OK = 200,
    REPLY_CREATED = 201,
    REPLY_ACCEPTED = 202,
    REPLY_NO_CONTENT = 204,
    REPLY_BAD_REQUEST = 400,
    REPLY_FORBIDDEN = 403,
    REPLY_NOT_FOUND = 404,
    REPLY_METHOD_NOT_ALLOWED = 405,
    REPLY_TOO_LARGE = 413,
    REPLY_BAD_TYPE = 415,
    REPLY_INTERNAL_ERROR = 500,
    REPLY_NOT_IMPLEMENTED = 501,
    REPLY_UNAVAILABLE = 503,
};

enum { REPLY_RETRY_AFTER_S = 2 };

/* What both handlers say. */
#define REPLY_TOPIC_METHODS  "GET, HEAD, POST, OPTIONS"
#define REPLY_HEALTH_METHODS "GET, HEAD, OPTIONS"
#define REPLY_BAD_TOPIC_TEXT "a topic is 1 to 128 of [a-z0-9_-]"
#define REPLY_NO_ROUTE_TEXT  "nothing is served under this path"

struct reply {
    unsigned status;  /* any of HTTP's; those above have a reason phrase */
    const char *type; /* of the body; NULL: there is none */
    struct slice body;
    const char *allow; /* the Allow header; may be NULL */
    bool without_body; /* it was HEAD: only the headers, the body's length among them */
};

/* 503 gets Retry-After by itself. */
void reply_append(struct buf *out, const struct reply *reply);

/* text/plain, a line. */
void reply_text(struct buf *out, unsigned status, const char *text, const char *allow,
                bool without_body);

/* {"error":"text"}: a refusal of the third door. The text is UTF-8; neither way has a body for 204.
 */
void reply_error(struct buf *out, unsigned status, const char *text, const char *allow,
                 bool without_body);

/* The status line and headers of a stream or, with a position, of the answer to HEAD. */
void reply_stream_headers(struct buf *out, const char *position);
