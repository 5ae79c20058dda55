#include "lookup.h"

#include "page.h"
#include "reply.h"
#include "subscription.h"

#include <stdlib.h>

struct lookup {
    struct visit visit;
    struct query query;
    enum service service;
    struct subscription subscription; /* all but HISTORY */
    struct page page;                 /* HISTORY */
};

/* Subscriptions that are listed, at most: what is answered has to have an end. */
#define CHANNELS_MAX "65536"

/* A page ends before the event that would pass PAGE_BYTES_MAX, or behind the first one; the
 * data of those that do not fit are not read. What the planner thinks of the table does not matter:
 * pgsse.history settles that for itself. */
#define HISTORY                                                                             \
    "SELECT id, type, data,"                                                                \
    " to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') "         \
    "FROM (SELECT h.*, row_number() OVER up_to AS n, sum(bytes) OVER up_to AS bytes_so_far" \
    " FROM pgsse.history($1::text, $2::bigint, $3::integer) AS h"                           \
    " WINDOW up_to AS (ORDER BY id ROWS UNBOUNDED PRECEDING)) AS page "                     \
    "WHERE n = 1 OR bytes_so_far <= $4::bigint ORDER BY id"

/* --- answers ---------------------------------------------------------------------------------- */

static void append_channels(const struct lookup *lookup, const struct pg_result *result,
                            struct buf *document) {
    subscription_begin_list(&lookup->subscription, document);
    for (int row = 0; row < result->rows; row++) {
        subscription_append_channel(slice_of(pg_value(result, row, 0)), row == 0, document);
    }
    subscription_end_list(document);
}

static void append_history(const struct lookup *lookup, const struct pg_result *result,
                           struct buf *document) {
    page_begin(document);
    for (int row = 0; row < result->rows; row++) {
        struct page_event event = {
            .id = slice_of(pg_value(result, row, 0)),
            .type = slice_of(pg_value(result, row, 1)),
            .payload = slice_of(pg_value(result, row, 2)),
            .created_at = slice_of(pg_value(result, row, 3)),
        };
        page_append_event(&lookup->page, &event, row == 0, document);
    }
    page_end(document);
}

/* Returns the status. */
static unsigned append_document(const struct lookup *lookup, const struct pg_result *result,
                                struct buf *document) {
    switch (lookup->service) {
    case SERVICE_SUBSCRIBE:
        subscription_append_status(&lookup->subscription, "subscribed", document);
        return REPLY_CREATED;
    case SERVICE_UNSUBSCRIBE:
        subscription_append_status(&lookup->subscription, "unsubscribed", document);
        return REPLY_OK;
    case SERVICE_CHANNELS:
        append_channels(lookup, result, document);
        return REPLY_OK;
    case SERVICE_HISTORY:
        append_history(lookup, result, document);
        return REPLY_OK;
    case SERVICE_NONE:
    case SERVICE_PUBLISH:
    case SERVICE_PUBLISH_DURABLE:
        break;
    }
    check(false);
    return REPLY_OK;
}

static void append_answer(const struct lookup *lookup, const struct pg_result *result,
                          struct buf *answer) {
    struct buf document = {0};
    struct reply reply = {.type = "application/json", .without_body = lookup->visit.is_head};
    reply.status = append_document(lookup, result, &document);
    reply.body = buf_slice(&document);
    reply_append(answer, &reply);
    buf_release(&document);
}

/* A question that was not answered has changed nothing: nobody needs to wonder. */
static struct outcome outcome_for(const struct lookup *lookup, struct outcome outcome) {
    bool is_question = lookup->service == SERVICE_CHANNELS || lookup->service == SERVICE_HISTORY;
    if (is_question && outcome.kind == OUTCOME_UNKNOWN) {
        outcome.kind = OUTCOME_UNAVAILABLE;
    }
    return outcome;
}

static void lookup_destroy(struct lookup *lookup) {
    subscription_release(&lookup->subscription);
    free(lookup);
}

static void on_done(struct query *query, struct outcome outcome, const struct pg_result *result) {
    struct lookup *lookup = container_of(query, struct lookup, query);
    struct buf answer = {0};
    if (outcome.kind == OUTCOME_DONE) {
        append_answer(lookup, result, &answer);
    } else {
        outcome_append_answer(outcome_for(lookup, outcome), lookup->visit.is_head, &answer);
    }
    publisher_dismiss(&lookup->visit, buf_slice(&answer));
    buf_release(&answer);
    lookup_destroy(lookup);
}

static void abandon(struct visit *visit) {
    struct lookup *lookup = container_of(visit, struct lookup, visit);
    on_done(&lookup->query, (struct outcome){OUTCOME_UNKNOWN, 0}, NULL);
}

/* --- questions -------------------------------------------------------------------------------- */

static struct query query_of(const struct lookup *lookup) {
    const char *user = lookup->subscription.user.bytes;
    const char *channel = lookup->subscription.channel.bytes;
    const struct page *page = &lookup->page;
    switch (lookup->service) {
    case SERVICE_SUBSCRIBE:
        return (struct query){.sql = "SELECT pgsse.subscribe($1::text, $2::text)",
                              .parameters = {user, channel},
                              .parameter_count = 2};
    case SERVICE_UNSUBSCRIBE:
        return (struct query){.sql = "SELECT pgsse.unsubscribe($1::text, $2::text)",
                              .parameters = {user, channel},
                              .parameter_count = 2};
    case SERVICE_CHANNELS:
        return (struct query){
            .sql = "SELECT s FROM pgsse.subscriptions($1::text) AS s LIMIT " CHANNELS_MAX,
            .parameters = {user},
            .parameter_count = 1};
    case SERVICE_HISTORY:
        return (struct query){
            .sql = HISTORY,
            .parameters = {page->channel, page->after_id, page->limit, page->bytes},
            .parameter_count = 4};
    case SERVICE_NONE:
    case SERVICE_PUBLISH:
    case SERVICE_PUBLISH_DURABLE:
        break;
    }
    check(false);
    return (struct query){0};
}

static unsigned parse_user(struct subscription *subscription, enum service service,
                           const struct request *request, struct slice body, const char **reason) {
    unsigned status = service == SERVICE_CHANNELS
                          ? subscription_parse_query(subscription, request->query, reason)
                          : subscription_parse(subscription, body, reason);
    bool is_authenticated = request->user[0] != '\0';
    if (status == REPLY_OK && is_authenticated &&
        !slice_is(buf_slice(&subscription->user), request->user)) {
        *reason = "\"userId\" must be the authenticated user";
        return REPLY_FORBIDDEN;
    }
    return status;
}

unsigned lookup_begin(struct publisher *publisher, const struct visit *visit, enum service service,
                      const struct request *request, struct slice body, const char **reason) {
    struct lookup *lookup = must_zalloc(sizeof *lookup);
    lookup->visit = *visit;
    lookup->visit.abandon = abandon;
    lookup->service = service;
    unsigned status = service == SERVICE_HISTORY
                          ? page_parse(&lookup->page, request->query, reason)
                          : parse_user(&lookup->subscription, service, request, body, reason);
    if (status != REPLY_OK) {
        lookup_destroy(lookup);
        return status;
    }
    lookup->query = query_of(lookup);
    lookup->query.on_done = on_done;
    publisher_admit(publisher, &lookup->visit, sizeof *lookup);
    queries_add(publisher->queries, &lookup->query);
    return REPLY_OK;
}
