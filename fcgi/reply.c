#include "reply.h"

#include "json.h"
#include "utf8.h"

void reply_append(struct buf *out, const struct reply *reply) {
    buf_printf(out,
               "Status: %u %s\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n",
               reply->status, http_phrase(reply->status));
    if (reply->allow != NULL) {
        buf_printf(out, "Allow: %s\r\n", reply->allow);
    }
    if (reply->status == HTTP_UNAVAILABLE) {
        buf_printf(out, "Retry-After: %d\r\n", REPLY_RETRY_AFTER_S);
    }
    if (reply->type != NULL && reply->status != HTTP_NO_CONTENT) {
        buf_printf(out, "Content-Type: %s\r\n", reply->type);
    }
    if (reply->status != HTTP_NO_CONTENT) {
        buf_printf(out, "Content-Length: %zu\r\n", reply->body.length);
    }
    buf_append_text(out, "\r\n");
    if (!reply->without_body) {
        buf_append_slice(out, reply->body);
    }
}

/* The document is released. */
static void append_document(struct buf *out, const struct reply *head, struct buf *document) {
    struct reply reply = *head;
    reply.body = buf_slice(document);
    reply_append(out, &reply);
    buf_release(document);
}

void reply_text(struct buf *out, unsigned status, const char *text, const char *allow,
                bool without_body) {
    struct reply head = {status, "text/plain; charset=utf-8", {0}, allow, without_body};
    struct buf line = {0};
    if (status != HTTP_NO_CONTENT) {
        utf8_repair(slice_of(text), &line);
        buf_append_text(&line, "\n");
    }
    append_document(out, &head, &line);
}

/* {"error":"text"} */
static void append_error(struct buf *out, unsigned status, const char *text, const char *allow,
                         bool without_body) {
    struct reply head = {status, "application/json", {0}, allow, without_body};
    struct buf document = {0};
    if (status != HTTP_NO_CONTENT) {
        struct buf sound = {0};
        utf8_repair(slice_of(text), &sound);
        buf_append_text(&document, "{\"error\":");
        json_quote(buf_slice(&sound), &document);
        buf_append_text(&document, "}");
        buf_release(&sound);
    }
    append_document(out, &head, &document);
}

void reply_refusal(struct buf *out, bool is_json, unsigned status, const char *text,
                   const char *allow, bool without_body) {
    if (is_json) {
        append_error(out, status, text, allow, without_body);
    } else {
        reply_text(out, status, text, allow, without_body);
    }
}
