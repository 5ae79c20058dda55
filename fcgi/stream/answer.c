#include "answer.h"

#include "descriptors.h"
#include "log.h"
#include "reply.h"
#include "stream_text.h"

#include <stdlib.h>

enum {
    ANSWER_QUESTION_MS = 2000,                    /* until a question is answered 503 */
    ANSWER_DOCUMENT_BYTES_MAX = 16 * 1024 * 1024, /* in all, until they are read */
};

#define NO_BROKER_TEXT  "the broker does not answer"
#define TOO_MANY_TEXT   "too many clients ask for this at once"
#define MISROUTED_TEXT  "pgsse-publish's: the web server's routes are wrong"
#define NOT_SERVED_TEXT "this method is not served here"

/* A client that gets an answer, and no stream. */
struct answer {
    struct client client;
    struct answers *answers;     /* borrowed */
    struct shared_waiter waiter; /* while the broker is asked */
    unsigned wanted;             /* which of answers.questions it waits for */
    uint32_t document_bytes;     /* of its answer, if that is a document */
    bool takes_gzip;             /* a stream would be compressed */
};

static struct answer *answer_of(struct client *client) {
    return container_of(client, struct answer, client);
}

/* --- documents -------------------------------------------------------------------------------- */

/* Documents that clients have not read are bounded, over all clients. */
static void finish_with_document(struct answer *answer, unsigned status, struct slice document) {
    struct answers *answers = answer->answers;
    struct client *client = &answer->client;
    struct reply reply = {
        .status = status,
        .type = "application/json",
        .body = document,
        .without_body = client->without_body,
    };
    size_t bytes = client->without_body ? 0 : document.length;
    if (answers->document_bytes + bytes > ANSWER_DOCUMENT_BYTES_MAX) {
        client_refuse(client, HTTP_UNAVAILABLE, TOO_MANY_TEXT, NULL);
        return;
    }
    answer->document_bytes = (uint32_t)bytes;
    answers->document_bytes += bytes;
    reply_append(client_own(client), &reply);
    client_finish(client);
}

static void answer_with_document(struct answer *answer, const struct shared_question *question) {
    struct buf cut = {0};
    struct slice document = buf_slice(&question->document);
    if (answer->waiter.limit < question->limit) {
        wire_cut_health(document, answer->waiter.limit, &cut);
        document = buf_slice(&cut);
    }
    finish_with_document(answer, question->status, document);
    buf_release(&cut);
}

static void on_answer(struct shared_waiter *waiter, const struct shared_question *question) {
    struct answer *answer = container_of(waiter, struct answer, waiter);
    shared_question_leave(waiter);
    if (!client_is_open(&answer->client)) {
        return; /* closed in this turn */
    }
    if (question->is_position) {
        stream_text_headers(client_own(&answer->client), STREAM_FORM_TOPIC, answer->takes_gzip,
                            &question->position);
        client_finish(&answer->client);
    } else {
        answer_with_document(answer, question);
    }
}

/* --- without the broker ----------------------------------------------------------------------- */

static void finish_with_short_health(struct answer *answer) {
    struct buf document = {0};
    char now[WALL_TEXT_BYTES];
    (void)wall_print(wall_ms(), now);
    buf_printf(&document,
               "{\"status\":\"degraded\",\"message\":\"" NO_BROKER_TEXT "\",\"timestamp\":\"%s\"}",
               now);
    finish_with_document(answer, HTTP_UNAVAILABLE, buf_slice(&document));
    buf_release(&document);
}

static void answer_without_broker(struct answer *answer, unsigned wanted) {
    static const char health[] = "{\"status\":\"degraded\",\"reason\":\"" NO_BROKER_TEXT
                                 "\",\"version\":\"" PGSSE_VERSION "\"}";
    switch (wanted) {
    case WIRE_FULL_HEALTH:
        finish_with_document(answer, HTTP_UNAVAILABLE, slice_of(health));
        return;
    case WIRE_SHORT_HEALTH:
        finish_with_short_health(answer);
        return;
    case WIRE_USER_STREAMS:
    case WIRE_STREAM_STATS:
        client_refuse(&answer->client, HTTP_UNAVAILABLE, NO_BROKER_TEXT, NULL);
        return;
    default:
        client_refuse(&answer->client, HTTP_UNAVAILABLE, "no position can be had now", NULL);
        return;
    }
}

static void give_up(struct answers *answers, unsigned kind) {
    struct shared_question *question = &answers->questions[kind];
    struct shared_waiter *waiter;
    while ((waiter = shared_question_first(question)) != NULL) {
        struct answer *answer = container_of(waiter, struct answer, waiter);
        shared_question_leave(waiter);
        if (client_is_open(&answer->client)) {
            answer_without_broker(answer, kind);
        }
    }
}

void answers_on_down(struct answers *answers) {
    shared_questions_on_down(answers->questions);
    for (unsigned kind = 0; kind < WIRE_DOCUMENT_KINDS; kind++) {
        give_up(answers, kind);
    }
}

/* --- the role --------------------------------------------------------------------------------- */

/* Nothing is written while the client is OPEN. */
static void on_output(struct client *client) {
    (void)client;
}

static void on_time(struct client *client) {
    struct answer *answer = answer_of(client);
    answer_without_broker(answer, answer->wanted);
}

static void end(struct client *client, int64_t retry_ms, const char *why, const char *refusal) {
    (void)retry_ms;
    (void)why;
    client_refuse(client, HTTP_UNAVAILABLE, refusal, NULL);
}

static void leave(struct client *client) {
    shared_question_leave(&answer_of(client)->waiter);
}

static void release(struct client *client) {
    struct answer *answer = answer_of(client);
    answer->answers->document_bytes -= answer->document_bytes;
    free(answer->waiter.tenant);
}

static const struct client_role role = {
    .on_writable = on_output,
    .on_drained = on_output,
    .on_blocked = on_output,
    .on_time = on_time,
    .end = end,
    .leave = leave,
    .release = release,
};

static struct answer *answer_create(struct answers *answers, int fd, uint16_t request_id,
                                    const struct request *request) {
    struct answer *answer = must_zalloc(sizeof *answer);
    answer->answers = answers;
    answer->takes_gzip = stream_takes_gzip(request, answers->clients->config);
    client_init(&answer->client, answers->clients, &role, fd, request_id, request);
    return answer;
}

/* --- questions to the broker ------------------------------------------------------------------ */

/* tenant: who asks; empty where the answer is the same for all. */
static void begin_question(struct answer *answer, unsigned wanted, uint32_t limit,
                           struct slice tenant) {
    struct shared_question *question = &answer->answers->questions[wanted];
    bool is_away = uplink_is_away(question->broker_questions->uplink);
    answer->wanted = wanted;
    answer->waiter.limit = limit;
    answer->waiter.tenant = must_strdup(tenant.at, tenant.length);
    client_start_timer(&answer->client, ANSWER_QUESTION_MS);
    if (wanted != SHARED_QUESTION_POSITION && is_away) {
        answer_without_broker(answer, wanted);
    } else if (!shared_question_join(question, &answer->waiter)) {
        client_refuse(&answer->client, HTTP_UNAVAILABLE, TOO_MANY_TEXT, NULL);
    }
}

static void begin_health(struct answer *answer, const struct request *request) {
    if (request->limit == REQUEST_LIMIT_BAD) {
        client_refuse(&answer->client, HTTP_BAD_REQUEST, "limit must be a whole number", NULL);
    } else {
        begin_question(answer, WIRE_FULL_HEALTH, request->limit, request->identity.tenant);
    }
}

/* --- requests that are no stream -------------------------------------------------------------- */

/* GET or HEAD. */
static void answer_read(struct answer *answer, const struct request *request, const char *allow) {
    struct slice tenant = request->identity.tenant;
    switch (request->route.kind) {
    case ROUTE_TOPIC_EVENTS:
        begin_question(answer, SHARED_QUESTION_POSITION, 0, (struct slice){0});
        return;
    case ROUTE_FULL_HEALTH:
        begin_health(answer, request);
        return;
    case ROUTE_USER_STREAMS:
        begin_question(answer, WIRE_USER_STREAMS, 0, tenant);
        return;
    case ROUTE_SSE_STATS:
        begin_question(answer, WIRE_STREAM_STATS, 0, tenant);
        return;
    case ROUTE_SHORT_HEALTH:
        begin_question(answer, WIRE_SHORT_HEALTH, 0, (struct slice){0});
        return;
    case ROUTE_CHANNELS:
    case ROUTE_HISTORY:
        /* The web server's configuration is at fault, and not the client: hence 500. */
        client_refuse(&answer->client, HTTP_INTERNAL_ERROR, "this is " MISROUTED_TEXT, NULL);
        return;
    case ROUTE_EVENTS:
    case ROUTE_EVENTS_PUBLISH:
    case ROUTE_SSE_PUBLISH:
    case ROUTE_DURABLE_PUBLISH:
    case ROUTE_SUBSCRIBE:
    case ROUTE_UNSUBSCRIBE:
    case ROUTE_USER_STREAM:
    case ROUTE_BAD_TOPIC:
    case ROUTE_NONE:
        client_refuse(&answer->client, HTTP_METHOD_NOT_ALLOWED, NOT_SERVED_TEXT, allow);
        return;
    }
}

static void answer_method(struct answer *answer, const struct request *request, const char *allow) {
    struct client *client = &answer->client;
    bool is_misrouted = strstr(allow, "POST") != NULL;
    switch (request->method) {
    case METHOD_GET:
    case METHOD_HEAD:
        answer_read(answer, request, allow);
        return;
    case METHOD_OPTIONS:
        client_refuse(client, HTTP_NO_CONTENT, "", allow);
        return;
    case METHOD_POST:
        client_refuse(client, HTTP_METHOD_NOT_ALLOWED,
                      is_misrouted ? "POST is " MISROUTED_TEXT : NOT_SERVED_TEXT, allow);
        return;
    case METHOD_OTHER:
        client_refuse(client, HTTP_METHOD_NOT_ALLOWED, NOT_SERVED_TEXT, allow);
        return;
    }
}

static void answer_at_once(struct answer *answer, const struct request *request) {
    const char *allow = route_methods(request->route.kind);
    if (request->route.kind == ROUTE_BAD_TOPIC) {
        client_refuse(&answer->client, HTTP_BAD_REQUEST, REPLY_BAD_TOPIC_TEXT, NULL);
    } else if (allow == NULL) {
        client_refuse(&answer->client, HTTP_NOT_FOUND, REPLY_NO_ROUTE_TEXT, NULL);
    } else {
        answer_method(answer, request, allow);
    }
}

/* --- streams ---------------------------------------------------------------------------------- */

/* Only streams are limited: other requests end soon, and may use the reserve of descriptors. */
static bool has_room(const struct answers *answers, int fd) {
    const struct clients *clients = answers->clients;
    return clients->count < (size_t)clients->config->max_connections &&
           fd < descriptors_reserved_from();
}

/* Refuses a stream with 503. An EventSource would not come back after a 503, so it gets a stream
 * that only says when to come back. */
static void turn_away(struct client *client, enum stream_form form, const struct request *request) {
    static const char reason[] = "too many streams are open here";
    static struct log_limit limit;
    log_limited(&limit, LOG_LEVEL_WARNING,
                "a stream is refused: max_connections, or no descriptors are left");
    if (!request->is_event_source) {
        client_refuse(client, HTTP_UNAVAILABLE, reason, NULL);
        return;
    }
    stream_text_headers(client_own(client), form, false, NULL);
    stream_text_goodbye(client_own(client), jittered(client->clients->config->retry), reason);
    client_finish(client);
}

static struct client *begin_stream(struct answers *answers, int fd, uint16_t request_id,
                                   const struct request *request,
                                   const struct stream_query *wanted) {
    if (request->method != METHOD_HEAD && !has_room(answers, fd)) {
        struct answer *answer = answer_create(answers, fd, request_id, request);
        turn_away(&answer->client, wanted->form, request);
        return &answer->client;
    }
    return subscribe_begin(answers->subscribers, fd, request_id, request, wanted);
}

static struct client *begin_topics_stream(struct answers *answers, int fd, uint16_t request_id,
                                          const struct request *request) {
    struct stream_query wanted;
    stream_query_of_topic(&wanted, slice_of(request->route.topic), &request->identity);
    return begin_stream(answers, fd, request_id, request, &wanted);
}

/* What a query reads: stream_query_of_events, or stream_query_of_user. */
typedef unsigned read_query(struct stream_query *wanted, const char *query,
                            const struct identity *identity, const char **reason);

static struct client *begin_queried_stream(struct answers *answers, int fd, uint16_t request_id,
                                           const struct request *request, read_query *read) {
    struct stream_query wanted;
    const char *reason;
    struct client *client;
    unsigned status = read(&wanted, request->query, &request->identity, &reason);
    if (status != HTTP_OK) {
        client = &answer_create(answers, fd, request_id, request)->client;
        client_refuse(client, status, reason, NULL);
    } else if (request->method == METHOD_HEAD && wanted.form != STREAM_FORM_USER) {
        struct answer *answer = answer_create(answers, fd, request_id, request);
        client = &answer->client;
        begin_question(answer, SHARED_QUESTION_POSITION, 0, (struct slice){0});
    } else {
        client = begin_stream(answers, fd, request_id, request, &wanted);
    }
    stream_query_release(&wanted);
    return client;
}

/* --- requests --------------------------------------------------------------------------------- */

/* Whoever asks for a tenant that cannot be must not get another one's events. */
static struct client *refuse_stranger(struct answers *answers, int fd, uint16_t request_id,
                                      const struct request *request) {
    struct client *client = &answer_create(answers, fd, request_id, request)->client;
    client_refuse(client, HTTP_INTERNAL_ERROR, IDENTITY_REFUSAL, NULL);
    return client;
}

struct client *answer_request(struct answers *answers, int fd, uint16_t request_id,
                              const struct request *request) {
    bool is_get = request->method == METHOD_GET;
    bool is_read = is_get || request->method == METHOD_HEAD;
    if (!request->identity.is_known) {
        return refuse_stranger(answers, fd, request_id, request);
    }
    if (request->route.kind == ROUTE_TOPIC_EVENTS && is_get) {
        return begin_topics_stream(answers, fd, request_id, request);
    }
    if (request->route.kind == ROUTE_EVENTS && is_read) {
        return begin_queried_stream(answers, fd, request_id, request, stream_query_of_events);
    }
    if (request->route.kind == ROUTE_USER_STREAM && is_read) {
        return begin_queried_stream(answers, fd, request_id, request, stream_query_of_user);
    }
    struct answer *answer = answer_create(answers, fd, request_id, request);
    answer_at_once(answer, request);
    return &answer->client;
}

void answers_init(struct answers *answers, struct clients *clients,
                  struct subscribers *subscribers) {
    *answers = (struct answers){.clients = clients, .subscribers = subscribers};
    shared_questions_init(answers->questions, clients->loop, subscribers->questions, on_answer);
}

void answers_release(struct answers *answers) {
    shared_questions_release(answers->questions);
}
