#include "post.h"

#include "durable.h"
#include "envelopes.h"
#include "reply.h"

#include <stdlib.h>

struct post {
    struct pending_request pending;
    struct batch_item item;
    const struct config *config; /* borrowed */
    enum service service;
    char tenant[TENANT_BYTES_MAX + 1];
    struct envelopes envelopes; /* of all services but PUBLISH_DURABLE */
    struct durable durable;     /* of PUBLISH_DURABLE */
    /* The first envelope that is too large for a notification, of this post: then all become
     * durable events. NULL: none is. */
    const struct envelope *too_large;
    struct batch_row *rows; /* owned */
};

/* --- what is answered ------------------------------------------------------------------------- */

/* "line 3: ", if it is one of many. */
static void append_place(const struct envelope *envelope, struct buf *text) {
    if (envelope->unit != NULL) {
        buf_printf(text, "%s %zu: ", envelope->unit, envelope->number);
    }
}

/* An event is too large for a notification, and cannot be a durable one. */
static void append_too_large(const struct post *post, struct outcome outcome, struct buf *answer) {
    struct buf text = {0};
    append_place(post->too_large, &text);
    buf_printf(&text,
               "the event is larger than a notification may be (max_notify_bytes = %lld); as a "
               "durable event it would be taken, but ",
               (long long)post->config->max_notify_bytes);
    outcome_describe(outcome, &text);
    reply_refusal(answer, post->pending.api != API_TOPICS, HTTP_TOO_LARGE, text.bytes, NULL, false);
    buf_release(&text);
}

/* A line of text, as the topics API has it. */
static void append_text_failure(struct outcome outcome, struct buf *answer) {
    switch (outcome.kind) {
    case OUTCOME_REFUSED:
        reply_text(answer, HTTP_BAD_REQUEST, "Postgres does not take this event", NULL, false);
        return;
    case OUTCOME_UNAVAILABLE:
        reply_text(answer, HTTP_UNAVAILABLE, "Postgres is away: nothing was published", NULL,
                   false);
        return;
    case OUTCOME_BUSY:
        reply_text(answer, HTTP_UNAVAILABLE,
                   "Postgres is busy: nothing was published within publish_timeout", NULL, false);
        return;
    case OUTCOME_DONE:
    case OUTCOME_UNKNOWN:
    case OUTCOME_NO_SCHEMA:
    case OUTCOME_OTHER_SCHEMA:
    case OUTCOME_FOREIGN_SCHEMA:
    case OUTCOME_FORBIDDEN:
        outcome_append_answer(outcome, false, answer);
        return;
    }
}

static bool is_about_schema(enum outcome_kind kind) {
    return kind == OUTCOME_NO_SCHEMA || kind == OUTCOME_OTHER_SCHEMA ||
           kind == OUTCOME_FOREIGN_SCHEMA || kind == OUTCOME_FORBIDDEN;
}

static void append_failure(const struct post *post, struct outcome outcome, struct buf *answer) {
    if (post->too_large != NULL && is_about_schema(outcome.kind)) {
        append_too_large(post, outcome, answer);
    } else if (post->pending.api == API_TOPICS) {
        append_text_failure(outcome, answer);
    } else {
        outcome_append_answer(outcome, false, answer);
    }
}

/* {"topic":"alpha","data":{...}} */
static void append_echo(const struct envelope *envelope, struct buf *document) {
    buf_append_text(document, "{\"topic\":");
    json_quote(buf_slice(&envelope->topic), document);
    buf_append_text(document, ",\"data\":");
    buf_append_slice(document, buf_slice(&envelope->data));
    buf_append_text(document, "}");
}

static void append_success(const struct post *post, struct buf *answer) {
    struct buf document = {0};
    struct reply reply = {.status = HTTP_OK, .type = "application/json"};
    if (post->service == SERVICE_PUBLISH_DURABLE) {
        reply = (struct reply){.status = HTTP_ACCEPTED};
    } else if (post->service == SERVICE_PUBLISH_TOPIC) {
        append_echo(&post->envelopes.list[0], &document);
    } else {
        buf_printf(&document, "{\"published\":%zu}", post->item.row_count);
        reply.status = post->service == SERVICE_PUBLISH_SSE ? HTTP_CREATED : HTTP_OK;
    }
    reply.body = buf_slice(&document);
    reply_append(answer, &reply);
    buf_release(&document);
}

/* --- its way ---------------------------------------------------------------------------------- */

static void post_destroy(struct post *post) {
    envelopes_release(&post->envelopes);
    durable_release(&post->durable);
    free(post->rows);
    free(post);
}

static void on_done(struct batch_item *item, struct outcome outcome) {
    struct post *post = container_of(item, struct post, item);
    struct buf answer = {0};
    if (outcome.kind == OUTCOME_DONE) {
        append_success(post, &answer);
    } else {
        append_failure(post, outcome, &answer);
    }
    pending_request_dismiss(&post->pending, buf_slice(&answer));
    buf_release(&answer);
    post_destroy(post);
}

static void abandon(struct pending_request *pending) {
    struct post *post = container_of(pending, struct post, pending);
    on_done(&post->item, (struct outcome){OUTCOME_UNKNOWN, 0});
}

/* --- rows ------------------------------------------------------------------------------------- */

static void begin_rows(struct post *post, size_t count) {
    post->rows = must_zalloc(count * sizeof *post->rows);
    post->item.rows = post->rows;
    post->item.row_count = count;
}

static void load_durable(const struct post *post, struct batch_row *row, struct slice topic,
                         struct slice data, struct slice type, const struct fields *fields) {
    *row = (struct batch_row){{topic, data, type, buf_slice(&fields->id), buf_slice(&fields->retry),
                               buf_slice(&fields->comment),
                               fields->is_text ? slice_of("t") : (struct slice){0},
                               slice_of(post->tenant)}};
}

static void load_notification(struct batch_row *row, const struct envelope *envelope) {
    *row = (struct batch_row){{slice_of(envelope->channel), buf_slice(&envelope->text)}};
}

static void load_envelope(const struct post *post, struct batch_row *row,
                          const struct envelope *envelope) {
    if (post->too_large != NULL) {
        load_durable(post, row, buf_slice(&envelope->topic), buf_slice(&envelope->data),
                     buf_slice(&envelope->type), &envelope->fields);
    } else {
        load_notification(row, envelope);
    }
}

static bool is_too_large(const struct posts *posts, const struct envelope *envelope) {
    return envelope->text.length > (size_t)posts->config->max_notify_bytes;
}

static bool is_broadcast(const struct envelope *envelope) {
    return slice_is(buf_slice(&envelope->topic), TOPIC_BROADCAST);
}

/* Good until the next call. */
static const char *refuse_large_broadcast(const struct posts *posts, const struct post *post) {
    static struct buf text;
    text.length = 0;
    append_place(post->too_large, &text);
    buf_printf(&text,
               "the event is larger than a notification may be (max_notify_bytes = %lld), and a "
               "broadcast cannot be a durable event",
               (long long)posts->config->max_notify_bytes);
    buf_append(&text, "", 1);
    return text.bytes;
}

/* If one of many events is too large for a notification, all become durable ones: so they are
 * still in one commit, and in order. A broadcast cannot be a durable event: it has no topic. */
static unsigned load_envelopes(struct posts *posts, struct post *post, const char **reason) {
    const struct envelopes *envelopes = &post->envelopes;
    bool has_broadcast = false;
    for (size_t i = 0; i < envelopes->count; i++) {
        if (post->too_large == NULL && is_too_large(posts, &envelopes->list[i])) {
            post->too_large = &envelopes->list[i];
        }
        has_broadcast = has_broadcast || is_broadcast(&envelopes->list[i]);
    }
    if (post->too_large != NULL && has_broadcast) {
        *reason = refuse_large_broadcast(posts, post);
        return HTTP_TOO_LARGE;
    }
    begin_rows(post, envelopes->count);
    for (size_t i = 0; i < envelopes->count; i++) {
        load_envelope(post, &post->rows[i], &envelopes->list[i]);
    }
    return HTTP_OK;
}

/* --- bodies ----------------------------------------------------------------------------------- */

static unsigned read_durable(struct post *post, struct slice body, const char **reason) {
    struct durable *durable = &post->durable;
    unsigned status = durable_parse(durable, body, reason);
    if (status == HTTP_OK) {
        begin_rows(post, 1);
        load_durable(post, post->rows, buf_slice(&durable->channel), buf_slice(&durable->data),
                     buf_slice(&durable->type), &durable->fields);
    }
    return status;
}

static unsigned read_many(struct posts *posts, struct post *post, struct slice body,
                          const char **reason) {
    struct envelope_stamp stamp = {slice_of(post->tenant), posts->next_nonce};
    unsigned status = envelopes_parse(&post->envelopes, body, &stamp, reason);
    posts->next_nonce = stamp.nonce;
    return status;
}

static bool read_envelope(struct posts *posts, struct post *post, const struct request *request,
                          struct slice body, const char **reason) {
    struct envelope *envelope = must_zalloc(sizeof *envelope);
    struct envelope_stamp stamp = {slice_of(post->tenant), posts->next_nonce++};
    post->envelopes = (struct envelopes){.count = 1, .list = envelope};
    return post->service == SERVICE_PUBLISH_SSE
               ? envelope_of_sse(envelope, body, &stamp, reason)
               : envelope_of_topic(envelope, request->route.topic, body, &stamp, reason);
}

static unsigned read_post(struct posts *posts, struct post *post, const struct request *request,
                          struct slice body, const char **reason) {
    unsigned status = HTTP_OK;
    if (post->service == SERVICE_PUBLISH_DURABLE) {
        return read_durable(post, body, reason);
    }
    if (post->service == SERVICE_PUBLISH_MANY) {
        status = read_many(posts, post, body, reason);
    } else if (!read_envelope(posts, post, request, body, reason)) {
        status = HTTP_BAD_REQUEST;
    }
    return status == HTTP_OK ? load_envelopes(posts, post, reason) : status;
}

static size_t held_by(const struct envelope *envelope) {
    const struct fields *fields = &envelope->fields;
    return sizeof *envelope + envelope->topic.size + envelope->data.size + envelope->type.size +
           envelope->text.size + fields->id.size + fields->retry.size + fields->comment.size;
}

static size_t held_bytes_of(const struct post *post) {
    size_t bytes = sizeof *post + post->item.row_count * sizeof *post->rows +
                   post->durable.data.size + post->durable.fields.comment.size;
    for (size_t i = 0; i < post->envelopes.count; i++) {
        bytes += held_by(&post->envelopes.list[i]);
    }
    return bytes;
}

unsigned post_begin(struct posts *posts, const struct pending_request *pending,
                    enum service service, const struct request *request, struct slice body,
                    const char **reason) {
    struct post *post = must_zalloc(sizeof *post);
    post->service = service;
    identity_copy_tenant(&request->identity, post->tenant);
    unsigned status = read_post(posts, post, request, body, reason);
    if (status != HTTP_OK) {
        post_destroy(post);
        return status;
    }
    post->pending = *pending;
    post->pending.abandon = abandon;
    post->config = posts->config;
    post->item.on_done = on_done;
    bool is_durable = service == SERVICE_PUBLISH_DURABLE || post->too_large != NULL;
    pending_request_admit(&post->pending, held_bytes_of(post));
    batch_add(is_durable ? posts->durable : posts->ephemeral, &post->item);
    return HTTP_OK;
}

/* --- life ------------------------------------------------------------------------------------- */

void posts_init(struct posts *posts, struct loop *loop, const struct config *config) {
    posts->config = config;
    posts->ephemeral = batch_create(loop, config, &batch_ephemeral);
    posts->durable = batch_create(loop, config, &batch_durable);
    random_bytes(&posts->next_nonce, sizeof posts->next_nonce);
}

void posts_release(struct posts *posts) {
    batch_destroy(&posts->ephemeral);
    batch_destroy(&posts->durable);
}
