/* HTTP answers that are no stream: CGI headers and a body. Pure: appends to a buf. */
#pragma once

#include "buf.h"
#include "http.h"

enum { REPLY_RETRY_AFTER_S = 2 };

/* Texts of both handlers. */
#define REPLY_BAD_TOPIC_TEXT "a topic is 1 to 128 of [a-z0-9_-]"
#define REPLY_NO_ROUTE_TEXT  "nothing is served under this path"

struct reply {
    unsigned status;  /* any HTTP status: see http.h */
    const char *type; /* of the body; NULL: there is none */
    struct slice body;
    const char *allow; /* the Allow header; may be NULL */
    bool without_body; /* the request is HEAD: headers only, with the body's length */
};

/* A 503 also gets Retry-After. */
void reply_append(struct buf *out, const struct reply *reply);

/* One line of text/plain. */
void reply_text(struct buf *out, unsigned status, const char *text, const char *allow,
                bool without_body);

/* A refusal: text for the topics API, else JSON, {"error":"text"}. What is not UTF-8 in the text is
 * replaced, and 204 has no body. */
void reply_refusal(struct buf *out, bool is_json, unsigned status, const char *text,
                   const char *allow, bool without_body);
