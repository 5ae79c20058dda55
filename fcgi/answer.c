#include "answer.h"

#include "admission.h"
#include "reply.h"
#include "schema.h"
#include "stream.h"
#include "wish.h"

enum { ANSWER_QUESTION_MS = 2000 /* until a question is answered 503 */ };

#define READ_METHODS    REPLY_HEALTH_METHODS
#define PUBLISH_METHODS "POST, OPTIONS"
#define NO_BROKER_TEXT  "the broker does not answer"

/* --- questions to the broker ------------------------------------------------------------------ */

void answer_ask(struct client *client) {
    struct uplink *uplink = &client->stream->uplink;
    uint64_t token = client->inquiry->token;
    struct wire_ask_health health = {token, client->inquiry->limit};
    switch (client->inquiry->question) {
    case INQUIRY_POSITION:
    case INQUIRY_DURABLE_POSITION:
        uplink_take(uplink, wire_encode_ask(WIRE_ASK_POSITION, token));
        return;
    case INQUIRY_HEALTH:
        uplink_take(uplink, wire_encode_ask_health(&health));
        return;
    case INQUIRY_CONNECTIONS:
        uplink_take(uplink, wire_encode_ask(WIRE_ASK_CONNECTIONS, token));
        return;
    case INQUIRY_STATUS:
        uplink_take(uplink, wire_encode_ask(WIRE_ASK_STATUS, token));
        return;
    case INQUIRY_SUBSCRIPTION:
        return;
    }
}

static bool is_asking(const struct client *client, enum inquiry_question question) {
    return client->state == CLIENT_ASKING && client->inquiry->question == question;
}

static bool is_asking_for_document(const struct client *client) {
    return is_asking(client, INQUIRY_HEALTH) || is_asking(client, INQUIRY_CONNECTIONS) ||
           is_asking(client, INQUIRY_STATUS);
}

static void finish_with_position(struct client *client, const struct position *position) {
    char text[POSITION_TEXT_BYTES];
    (void)position_print(position, text);
    reply_stream_headers(&client->outlet.own, text);
    client_finish(client);
}

void answer_on_position(struct client *client, const struct position *position) {
    struct position durable = position_durable(position);
    if (is_asking(client, INQUIRY_POSITION)) {
        finish_with_position(client, position);
    } else if (is_asking(client, INQUIRY_DURABLE_POSITION) && durable.durable != 0) {
        finish_with_position(client, &durable);
    } else if (is_asking(client, INQUIRY_DURABLE_POSITION)) {
        client_refuse(client, REPLY_NOT_IMPLEMENTED,
                      "durable events need the schema: " SCHEMA_COMMAND, NULL);
    }
}

static void finish_with_document(struct client *client, unsigned status, struct slice document) {
    struct reply reply = {
        .status = status,
        .type = "application/json",
        .body = document,
        .without_body = client->without_body,
    };
    reply_append(&client->outlet.own, &reply);
    client_finish(client);
}

void answer_on_document(struct client *client, const struct wire_document *message) {
    if (is_asking_for_document(client)) {
        finish_with_document(client, message->status, message->document);
    }
}

static void finish_with_status(struct client *client) {
    struct buf document = {0};
    char now[WALL_TEXT_BYTES];
    (void)wall_print(wall_ms(), now);
    buf_printf(&document,
               "{\"status\":\"degraded\",\"message\":\"" NO_BROKER_TEXT "\",\"timestamp\":\"%s\"}",
               now);
    finish_with_document(client, REPLY_UNAVAILABLE, buf_slice(&document));
    buf_release(&document);
}

static void answer_without_broker(struct client *client) {
    static const char health[] = "{\"status\":\"degraded\",\"reason\":\"" NO_BROKER_TEXT
                                 "\",\"version\":\"" PGSSE_VERSION "\"}";
    switch (client->inquiry->question) {
    case INQUIRY_HEALTH:
        finish_with_document(client, REPLY_UNAVAILABLE, slice_of(health));
        return;
    case INQUIRY_STATUS:
        finish_with_status(client);
        return;
    case INQUIRY_CONNECTIONS:
        client_refuse(client, REPLY_UNAVAILABLE, NO_BROKER_TEXT, NULL);
        return;
    case INQUIRY_POSITION:
    case INQUIRY_DURABLE_POSITION:
        client_refuse(client, REPLY_UNAVAILABLE, "no position can be had now", NULL);
        return;
    case INQUIRY_SUBSCRIPTION:
        return;
    }
}

void answer_on_broker_lost(struct client *client) {
    if (is_asking_for_document(client)) {
        answer_without_broker(client);
    }
}

static void on_no_answer(struct loop_timer *timer) {
    answer_without_broker(container_of(timer, struct client, timer));
}

static void begin_question(struct client *client, enum inquiry_question question, uint32_t limit) {
    client->state = CLIENT_ASKING;
    client->inquiry = inquiry_create(client, question);
    client->inquiry->limit = limit;
    loop_timer_start(client->stream->loop, &client->timer, ANSWER_QUESTION_MS, on_no_answer);
    if (is_asking_for_document(client) && uplink_is_away(&client->stream->uplink)) {
        answer_without_broker(client);
        return;
    }
    client_ask(client);
}

/* --- methods that are the same everywhere ----------------------------------------------------- */

static void answer_options(struct client *client, const char *allow) {
    client_refuse(client, REPLY_NO_CONTENT, "", allow);
}

static void answer_not_served(struct client *client, const char *allow) {
    client_refuse(client, REPLY_METHOD_NOT_ALLOWED, "this method is not served here", allow);
}

static void answer_misrouted_post(struct client *client, const char *allow) {
    client_refuse(client, REPLY_METHOD_NOT_ALLOWED,
                  "POST is pgsse-publish's: the web server's routes are wrong", allow);
}

/* --- first door ------------------------------------------------------------------------------- */

static void begin_stream(struct client *client, const struct request *request) {
    struct wire_topics topics = {.count = 1, .names = {slice_of(request->route.topic)}};
    admission_begin(client, WIRE_FORM_TOPICS, &topics, request);
}

static void answer_topic(struct client *client, const struct request *request) {
    switch (request->method) {
    case METHOD_GET:
        begin_stream(client, request);
        return;
    case METHOD_HEAD:
        begin_question(client, INQUIRY_POSITION, 0);
        return;
    case METHOD_OPTIONS:
        answer_options(client, REPLY_TOPIC_METHODS);
        return;
    case METHOD_POST:
        answer_misrouted_post(client, REPLY_TOPIC_METHODS);
        return;
    case METHOD_OTHER:
        answer_not_served(client, REPLY_TOPIC_METHODS);
        return;
    }
}

/* A document of the broker's. */
static void answer_document(struct client *client, const struct request *request,
                            enum inquiry_question question) {
    switch (request->method) {
    case METHOD_GET:
    case METHOD_HEAD:
        if (question == INQUIRY_HEALTH && request->limit == REQUEST_LIMIT_BAD) {
            client_refuse(client, REPLY_BAD_REQUEST, "limit must be a whole number", NULL);
        } else {
            begin_question(client, question, request->limit);
        }
        return;
    case METHOD_OPTIONS:
        answer_options(client, READ_METHODS);
        return;
    case METHOD_POST:
    case METHOD_OTHER:
        answer_not_served(client, READ_METHODS);
        return;
    }
}

/* --- third door ------------------------------------------------------------------------------- */

static void begin_connection(struct client *client, const struct request *request) {
    struct wish wish;
    const char *reason;
    unsigned status = wish_parse(&wish, request->query, request->user, &reason);
    if (status != REPLY_OK) {
        client_refuse(client, status, reason, NULL);
    } else if (request->method == METHOD_HEAD) {
        begin_question(client, INQUIRY_DURABLE_POSITION, 0);
    } else {
        admission_begin_connection(client, wish.user, &wish.topics, request);
    }
    wish_release(&wish);
}

static void answer_connection(struct client *client, const struct request *request) {
    switch (request->method) {
    case METHOD_GET:
    case METHOD_HEAD:
        begin_connection(client, request);
        return;
    case METHOD_OPTIONS:
        answer_options(client, READ_METHODS);
        return;
    case METHOD_POST:
    case METHOD_OTHER:
        answer_not_served(client, READ_METHODS);
        return;
    }
}

/* What pgsse-publish alone serves came here. */
static void answer_publishers(struct client *client, const struct request *request) {
    switch (request->method) {
    case METHOD_OPTIONS:
        answer_options(client, PUBLISH_METHODS);
        return;
    case METHOD_POST:
        answer_misrouted_post(client, PUBLISH_METHODS);
        return;
    case METHOD_GET:
    case METHOD_HEAD:
    case METHOD_OTHER:
        answer_not_served(client, PUBLISH_METHODS);
        return;
    }
}

/* So did what it reads from the database: no fault of the client's, and its method is right. */
static void answer_readers(struct client *client, const struct request *request) {
    switch (request->method) {
    case METHOD_GET:
    case METHOD_HEAD:
        client_refuse(client, REPLY_INTERNAL_ERROR,
                      "this is pgsse-publish's: the web server's routes are wrong", NULL);
        return;
    case METHOD_OPTIONS:
        answer_options(client, READ_METHODS);
        return;
    case METHOD_POST:
    case METHOD_OTHER:
        answer_not_served(client, READ_METHODS);
        return;
    }
}

void answer_request(struct client *client, const struct request *request) {
    switch (request->route.kind) {
    case ROUTE_TOPIC_EVENTS:
        answer_topic(client, request);
        break;
    case ROUTE_HEALTH:
        answer_document(client, request, INQUIRY_HEALTH);
        break;
    case ROUTE_CONNECTIONS:
        answer_document(client, request, INQUIRY_CONNECTIONS);
        break;
    case ROUTE_STATUS:
        answer_document(client, request, INQUIRY_STATUS);
        break;
    case ROUTE_STREAM:
        answer_connection(client, request);
        break;
    case ROUTE_PUBLISH:
    case ROUTE_SUBSCRIBE:
    case ROUTE_UNSUBSCRIBE:
        answer_publishers(client, request);
        break;
    case ROUTE_CHANNELS:
    case ROUTE_HISTORY:
        answer_readers(client, request);
        break;
    case ROUTE_BAD_TOPIC:
        client_refuse(client, REPLY_BAD_REQUEST, REPLY_BAD_TOPIC_TEXT, NULL);
        break;
    case ROUTE_NONE:
        client_refuse(client, REPLY_NOT_FOUND, REPLY_NO_ROUTE_TEXT, NULL);
        break;
    }
}
