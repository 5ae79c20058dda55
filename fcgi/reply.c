#include "reply.h"

#include "json.h"

static const char *phrase_of(unsigned status) {
    switch (status) {
    case REPLY_OK:
        return "OK";
    case REPLY_CREATED:
        return "Created";
    case REPLY_ACCEPTED:
        return "Accepted";
    case REPLY_NO_CONTENT:
        return "No Content";
    case REPLY_BAD_REQUEST:
        return "Bad Request";
    case REPLY_FORBIDDEN:
        return "Forbidden";
    case REPLY_NOT_FOUND:
        return "Not Found";
    case REPLY_METHOD_NOT_ALLOWED:
        return "Method Not Allowed";
    case REPLY_TOO_LARGE:
        return "Content Too Large";
    case REPLY_BAD_TYPE:
        return "Unsupported Media Type";
    case REPLY_INTERNAL_ERROR:
        return "Internal Server Error";
    case REPLY_NOT_IMPLEMENTED:
        return "Not Implemented";
    case REPLY_UNAVAILABLE:
        return "Service Unavailable";
    default:
        return "Answer";
    }
}

void reply_append(struct buf *out, const struct reply *reply) {
    buf_printf(out,
               "Status: %u %s\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n",
               reply->status, phrase_of(reply->status));
    if (reply->allow != NULL) {
        buf_printf(out, "Allow: %s\r\n", reply->allow);
    }
    if (reply->status == REPLY_UNAVAILABLE) {
        buf_printf(out, "Retry-After: %d\r\n", REPLY_RETRY_AFTER_S);
    }
    if (reply->type != NULL && reply->status != REPLY_NO_CONTENT) {
        buf_printf(out, "Content-Type: %s\r\n", reply->type);
    }
    if (reply->status != REPLY_NO_CONTENT) {
        buf_printf(out, "Content-Length: %zu\r\n", reply->body.length);
    }
    buf_append_text(out, "\r\n");
    if (!reply->without_body) {
        buf_append_slice(out, reply->body);
    }
}

void reply_text(struct buf *out, unsigned status, const char *text, const char *allow,
                bool without_body) {
    struct buf line = {0};
    if (status != REPLY_NO_CONTENT) {
        buf_printf(&line, "%s\n", text);
    }
    struct reply reply = {
        .status = status,
        .type = "text/plain; charset=utf-8",
        .body = buf_slice(&line),
        .allow = allow,
        .without_body = without_body,
    };
    reply_append(out, &reply);
    buf_release(&line);
}

void reply_error(struct buf *out, unsigned status, const char *text, const char *allow,
                 bool without_body) {
    struct buf document = {0};
    if (status != REPLY_NO_CONTENT) {
        buf_append_text(&document, "{\"error\":");
        json_quote(slice_of(text), &document);
        buf_append_text(&document, "}");
    }
    struct reply reply = {
        .status = status,
        .type = "application/json",
        .body = buf_slice(&document),
        .allow = allow,
        .without_body = without_body,
    };
    reply_append(out, &reply);
    buf_release(&document);
}

void reply_stream_headers(struct buf *out, const char *position) {
    buf_append_text(out, "Status: 200 OK\r\nContent-Type: text/event-stream\r\n"
                         "Cache-Control: no-cache\r\nConnection: keep-alive\r\n"
                         "X-Accel-Buffering: no\r\nIncremental: ?1\r\nVary: Accept-Encoding\r\n");
    if (position != NULL) {
        buf_printf(out, "Pgsse-Position: %s\r\n", position);
    }
    buf_append_text(out, "\r\n");
}
