#include "db_request.h"

#include "history_page.h"
#include "names.h"
#include "reply.h"
#include "topic.h"
#include "user_channel.h"

#include <stdlib.h>

struct db_request {
    struct pending_request pending;
    struct query query;
    enum service service;
    char tenant[TENANT_BYTES_MAX + 1];
    struct user_channel user_channel; /* all but HISTORY */
    struct history_page page;         /* HISTORY */
};

/* How many subscriptions are listed at most, so that the answer is bounded. */
#define CHANNELS_MAX "65536"

/* A page ends before the event that would exceed HISTORY_PAGE_BYTES_MAX, but not before the first
 * one. Data of events that do not fit are not read. pgsse.history reads by the index, whatever the
 * planner knows of the table. */
#define HISTORY                                                                            \
    "SELECT id, type, data, pg_catalog.to_char(created_at AT TIME ZONE 'UTC',"             \
    " 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') "                                               \
    "FROM (SELECT h.*, pg_catalog.row_number() OVER up_to AS n,"                           \
    " pg_catalog.sum(bytes) OVER up_to AS bytes_so_far"                                    \
    " FROM pgsse.history($1::pg_catalog.text, $2::bigint, $3::integer,"                    \
    " $5::pg_catalog.text) AS h"                                                           \
    " WINDOW up_to AS (ORDER BY id ROWS UNBOUNDED PRECEDING)) AS page "                    \
    "WHERE n OPERATOR(pg_catalog.=) 1 OR bytes_so_far OPERATOR(pg_catalog.<=) $4::bigint " \
    "ORDER BY id"

/* --- answers ---------------------------------------------------------------------------------- */

static void append_channels(const struct db_request *request, const struct pg_result *result,
                            struct buf *document) {
    user_channel_begin_list(&request->user_channel, document);
    for (int row = 0; row < result->rows; row++) {
        user_channel_append_channel(slice_of(pg_value(result, row, 0)), row == 0, document);
    }
    user_channel_end_list(document);
}

static void append_history(const struct db_request *request, const struct pg_result *result,
                           struct buf *document) {
    history_page_begin(document);
    for (int row = 0; row < result->rows; row++) {
        struct history_page_event event = {
            .id = slice_of(pg_value(result, row, 0)),
            .type = slice_of(pg_value(result, row, 1)),
            .data = slice_of(pg_value(result, row, 2)),
            .created_at = slice_of(pg_value(result, row, 3)),
        };
        history_page_append_event(&request->page, &event, row == 0, document);
    }
    history_page_end(document);
}

/* Returns the status. */
static unsigned append_document(const struct db_request *request, const struct pg_result *result,
                                struct buf *document) {
    switch (request->service) {
    case SERVICE_SUBSCRIBE:
        user_channel_append_status(&request->user_channel, "subscribed", document);
        return HTTP_CREATED;
    case SERVICE_UNSUBSCRIBE:
        user_channel_append_status(&request->user_channel, "unsubscribed", document);
        return HTTP_OK;
    case SERVICE_CHANNELS:
        append_channels(request, result, document);
        return HTTP_OK;
    case SERVICE_HISTORY:
        append_history(request, result, document);
        return HTTP_OK;
    case SERVICE_NONE:
    case SERVICE_PUBLISH_TOPIC:
    case SERVICE_PUBLISH_MANY:
    case SERVICE_PUBLISH_SSE:
    case SERVICE_PUBLISH_DURABLE:
        break;
    }
    check(false);
    return HTTP_OK;
}

static void append_answer(const struct db_request *request, const struct pg_result *result,
                          struct buf *answer) {
    struct buf document = {0};
    struct reply reply = {.type = "application/json", .without_body = request->pending.is_head};
    reply.status = append_document(request, result, &document);
    reply.body = buf_slice(&document);
    reply_append(answer, &reply);
    buf_release(&document);
}

/* A query that only reads has changed nothing: its outcome is never unknown. */
static struct outcome outcome_for(const struct db_request *request, struct outcome outcome) {
    bool is_question = request->service == SERVICE_CHANNELS || request->service == SERVICE_HISTORY;
    if (is_question && outcome.kind == OUTCOME_UNKNOWN) {
        outcome.kind = OUTCOME_UNAVAILABLE;
    }
    return outcome;
}

static void db_request_destroy(struct db_request *request) {
    user_channel_release(&request->user_channel);
    free(request);
}

static void on_done(struct query *query, struct outcome outcome, const struct pg_result *result) {
    struct db_request *request = container_of(query, struct db_request, query);
    struct buf answer = {0};
    if (outcome.kind == OUTCOME_DONE) {
        append_answer(request, result, &answer);
    } else {
        outcome_append_answer(outcome_for(request, outcome), request->pending.is_head, &answer);
    }
    pending_request_dismiss(&request->pending, buf_slice(&answer));
    buf_release(&answer);
    db_request_destroy(request);
}

static void abandon(struct pending_request *pending) {
    struct db_request *request = container_of(pending, struct db_request, pending);
    on_done(&request->query, (struct outcome){OUTCOME_UNKNOWN, 0}, NULL);
}

/* --- questions -------------------------------------------------------------------------------- */

static struct query query_of(const struct db_request *request) {
    const char *user = request->user_channel.user.bytes;
    const char *channel = request->user_channel.channel.bytes;
    const char *tenant = request->tenant;
    const struct history_page *page = &request->page;
    switch (request->service) {
    case SERVICE_SUBSCRIBE:
        return (struct query){
            .sql = "SELECT pgsse.subscribe($1::pg_catalog.text, $2::pg_catalog.text, "
                   "$3::pg_catalog.text)",
            .parameters = {user, channel, tenant},
            .parameter_count = 3};
    case SERVICE_UNSUBSCRIBE:
        return (struct query){
            .sql = "SELECT pgsse.unsubscribe($1::pg_catalog.text, $2::pg_catalog.text, "
                   "$3::pg_catalog.text)",
            .parameters = {user, channel, tenant},
            .parameter_count = 3};
    case SERVICE_CHANNELS:
        return (struct query){
            .sql =
                "SELECT s FROM pgsse.subscriptions($1::pg_catalog.text, $2::pg_catalog.text) AS s "
                "WHERE pg_catalog.octet_length(s) OPERATOR(pg_catalog.<=) 255 LIMIT " CHANNELS_MAX,
            .parameters = {user, tenant},
            .parameter_count = 2};
    case SERVICE_HISTORY:
        return (struct query){
            .sql = HISTORY,
            .parameters = {page->channel, page->after_id, page->limit, page->bytes, tenant},
            .parameter_count = 5};
    case SERVICE_NONE:
    case SERVICE_PUBLISH_TOPIC:
    case SERVICE_PUBLISH_MANY:
    case SERVICE_PUBLISH_SSE:
    case SERVICE_PUBLISH_DURABLE:
        break;
    }
    check(false);
    return (struct query){0};
}

static unsigned check_channel(struct slice channel, const struct identity *identity,
                              const char **reason) {
    if (topic_is_pattern(channel)) {
        *reason = "\"channel\" " NAMES_PATTERN_TEXT;
        return HTTP_BAD_REQUEST;
    }
    if (!identity_may_read(identity, channel)) {
        *reason = IDENTITY_UNREADABLE;
        return HTTP_FORBIDDEN;
    }
    return HTTP_OK;
}

static unsigned parse_user(struct user_channel *user_channel, enum service service,
                           const struct request *request, struct slice body, const char **reason) {
    unsigned status = service == SERVICE_CHANNELS
                          ? user_channel_parse_query(user_channel, request->query, reason)
                          : user_channel_parse(user_channel, body, reason);
    if (status == HTTP_OK && !identity_may_be(&request->identity, buf_slice(&user_channel->user))) {
        *reason = "\"userId\" must be the authenticated user";
        return HTTP_FORBIDDEN;
    }
    return status == HTTP_OK && service == SERVICE_SUBSCRIBE
               ? check_channel(buf_slice(&user_channel->channel), &request->identity, reason)
               : status;
}

static unsigned parse_page(struct history_page *page, const struct request *request,
                           const char **reason) {
    unsigned status = history_page_parse(page, request->query, reason);
    if (status == HTTP_OK && !identity_may_read(&request->identity, slice_of(page->channel))) {
        *reason = IDENTITY_UNREADABLE;
        return HTTP_FORBIDDEN;
    }
    return status;
}

unsigned db_request_begin(struct queries *queries, const struct pending_request *pending,
                          enum service service, const struct request *request, struct slice body,
                          const char **reason) {
    struct db_request *asked = must_zalloc(sizeof *asked);
    asked->pending = *pending;
    asked->pending.abandon = abandon;
    asked->service = service;
    identity_copy_tenant(&request->identity, asked->tenant);
    unsigned status = service == SERVICE_HISTORY
                          ? parse_page(&asked->page, request, reason)
                          : parse_user(&asked->user_channel, service, request, body, reason);
    if (status != HTTP_OK) {
        db_request_destroy(asked);
        return status;
    }
    asked->query = query_of(asked);
    asked->query.on_done = on_done;
    pending_request_admit(&asked->pending, sizeof *asked);
    queries_add(queries, &asked->query);
    return HTTP_OK;
}
