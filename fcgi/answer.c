#include "answer.h"

#include "reply.h"
#include "stream.h"

enum { ANSWER_QUESTION_MS = 2000 /* until a question is answered 503 */ };

/* --- questions to the broker ------------------------------------------------------------------ */

void answer_ask(struct client *client) {
    struct uplink *uplink = &client->stream->uplink;
    struct wire_ask_health health = {client->inquiry->token, client->limit};
    switch (client->question) {
    case CLIENT_ASKS_POSITION:
        uplink_take(uplink, wire_encode_ask_position(client->inquiry->token));
        return;
    case CLIENT_ASKS_HEALTH:
        uplink_take(uplink, wire_encode_ask_health(&health));
        return;
    case CLIENT_ASKS_NOTHING:
        return;
    }
}

void answer_on_position(struct client *client, const struct position *position) {
    char text[POSITION_TEXT_BYTES];
    if (client->question == CLIENT_ASKS_POSITION) {
        (void)position_print(position, text);
        reply_stream_headers(&client->outlet.own, text);
        client_finish(client);
    }
}

static void finish_with_health(struct client *client, unsigned status, struct slice document) {
    struct reply reply = {
        .status = status,
        .type = "application/json",
        .body = document,
        .without_body = client->without_body,
    };
    reply_append(&client->outlet.own, &reply);
    client_finish(client);
}

void answer_on_health(struct client *client, const struct wire_health *message) {
    if (client->question == CLIENT_ASKS_HEALTH) {
        finish_with_health(client, message->status, message->document);
    }
}

void answer_without_broker(struct client *client) {
    static const char document[] = "{\"status\":\"degraded\",\"reason\":\"the broker does not "
                                   "answer\",\"version\":\"" PGSSE_VERSION "\"}";
    if (client->question == CLIENT_ASKS_HEALTH) {
        finish_with_health(client, REPLY_UNAVAILABLE, slice_of(document));
    } else {
        client_finish_with_text(client, REPLY_UNAVAILABLE, "no position can be had now", NULL);
    }
}

static void on_no_answer(struct loop_timer *timer) {
    answer_without_broker(container_of(timer, struct client, timer));
}

static void begin_question(struct client *client, enum client_question question) {
    client->question = question;
    client->state = CLIENT_ASKING;
    client->inquiry = inquiry_create(client);
    loop_timer_start(client->stream->loop, &client->timer, ANSWER_QUESTION_MS, on_no_answer);
    if (question == CLIENT_ASKS_HEALTH && uplink_is_away(&client->stream->uplink)) {
        answer_without_broker(client);
        return;
    }
    client_ask(client);
}

static void answer_topic(struct client *client, const struct request *request) {
    switch (request->method) {
    case METHOD_GET:
        client_begin_stream(client, request);
        return;
    case METHOD_HEAD:
        begin_question(client, CLIENT_ASKS_POSITION);
        return;
    case METHOD_OPTIONS:
        client_finish_with_text(client, REPLY_NO_CONTENT, "", REPLY_TOPIC_METHODS);
        return;
    case METHOD_POST:
        client_finish_with_text(client, REPLY_METHOD_NOT_ALLOWED,
                                "POST is pgsse-publish's: the web server's routes are wrong",
                                REPLY_TOPIC_METHODS);
        return;
    case METHOD_OTHER:
        client_finish_with_text(client, REPLY_METHOD_NOT_ALLOWED, "this method is not served here",
                                REPLY_TOPIC_METHODS);
        return;
    }
}

static void answer_health(struct client *client, const struct request *request) {
    client->limit = request->limit;
    switch (request->method) {
    case METHOD_GET:
    case METHOD_HEAD:
        if (request->limit == REQUEST_LIMIT_BAD) {
            client_finish_with_text(client, REPLY_BAD_REQUEST, "limit must be a whole number",
                                    NULL);
        } else {
            begin_question(client, CLIENT_ASKS_HEALTH);
        }
        return;
    case METHOD_OPTIONS:
        client_finish_with_text(client, REPLY_NO_CONTENT, "", REPLY_HEALTH_METHODS);
        return;
    case METHOD_POST:
    case METHOD_OTHER:
        client_finish_with_text(client, REPLY_METHOD_NOT_ALLOWED, "this method is not served here",
                                REPLY_HEALTH_METHODS);
        return;
    }
}

void answer_request(struct client *client, const struct request *request) {
    switch (request->route.kind) {
    case ROUTE_TOPIC_EVENTS:
        answer_topic(client, request);
        break;
    case ROUTE_HEALTH:
        answer_health(client, request);
        break;
    case ROUTE_BAD_TOPIC:
        client_finish_with_text(client, REPLY_BAD_REQUEST, REPLY_BAD_TOPIC_TEXT, NULL);
        break;
    case ROUTE_NONE:
        client_finish_with_text(client, REPLY_NOT_FOUND, REPLY_NO_ROUTE_TEXT, NULL);
        break;
    }
}
