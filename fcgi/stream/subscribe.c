#include "subscribe.h"

#include "greeting.h"
#include "http.h"
#include "pulse.h"
#include "stream_text.h"

#include <stdlib.h>

enum {
    SUBSCRIBE_PATIENCE_MS = 200, /* until headers are sent without the broker's answer */
    SUBSCRIBE_DECISION_MS =
        2000, /* of user streams, which need it: until the request is given up */
};

static struct subscriber *subscriber_of(struct client *client) {
    return container_of(client, struct subscriber, client);
}

static int64_t retry_of(const struct subscriber *subscriber) {
    return jittered(subscriber->client.clients->config->retry);
}

/* --- what the broker says --------------------------------------------------------------------- */

/* Its audience becomes that of the granted topics. False unless these are some of the topics that
 * were asked for, in the same order. */
static bool take_granted(struct subscriber *subscriber, const struct names *granted) {
    struct audience *asked = subscriber->audience;
    struct names topics;
    size_t found = 0;
    audience_topics(asked, &topics);
    for (size_t i = 0; i < topics.count && found < granted->count; i++) {
        found += topic_key_equals(topics.keys[i], granted->keys[found]) ? 1 : 0;
    }
    if (found < granted->count || found == 0) {
        return false;
    }
    if (found < topics.count) {
        /* they would count on topics that may be destroyed */
        check(subscriber->client.seat.output.events == NULL);
        subscriber->audience = fanout_attach(&subscriber->subscribers->fanout, asked->form,
                                             audience_is_gzip(asked), granted);
        fanout_detach(&subscriber->subscribers->fanout, &asked);
    }
    return true;
}

/* It was greeted before. If it has no position and nothing follows, it may have missed events. */
static void go_on(struct subscriber *subscriber, const struct wire_accepted *message) {
    subscriber_become(subscriber, SUBSCRIBER_GREETED);
    if (!message->has_backlog && !broker_question_has_position(subscriber->question)) {
        greeting_gap(subscriber, &message->position);
        client_flush_soon(&subscriber->client);
    }
}

struct subscriber *subscribe_find(const struct subscribers *subscribers, uint64_t token) {
    const struct broker_question *question = broker_questions_find(subscribers->questions, token);
    bool is_here = question != NULL && client_is_open(&question->subscriber->client);
    return is_here ? question->subscriber : NULL;
}

bool subscribe_on_accepted(struct subscriber *subscriber, const struct wire_accepted *message) {
    bool is_asked = subscriber->state == SUBSCRIBER_ASKING ||
                    subscriber->state == SUBSCRIBER_WAITING ||
                    subscriber->state == SUBSCRIBER_ASKING_AGAIN;
    if (!is_asked) {
        return true;
    }
    if (subscriber_has_user(subscriber) && !take_granted(subscriber, &message->topics)) {
        return false;
    }
    if (subscriber->client.without_body) {
        struct position head = subscriber_written(subscriber, &message->position);
        stream_text_headers(subscriber_own(subscriber), subscriber->audience->form,
                            audience_is_gzip(subscriber->audience), &head);
        client_finish(&subscriber->client);
        return true;
    }
    if (subscriber->state == SUBSCRIBER_ASKING_AGAIN) {
        go_on(subscriber, message);
        return true;
    }
    if (subscriber->state == SUBSCRIBER_ASKING) {
        greeting_headers(subscriber);
    }
    greeting_greet(subscriber, message);
    return true;
}

void subscribe_on_refresh(struct subscriber *subscriber, const struct wire_refresh *message) {
    if (subscriber->state == SUBSCRIBER_GREETED) {
        greeting_refresh(subscriber, &message->position, message->reason, message->dropped);
        client_flush_soon(&subscriber->client);
    }
}

void subscribe_on_replay(struct subscriber *subscriber, const struct wire_event *event,
                         size_t wire_bytes) {
    if (subscriber->state != SUBSCRIBER_GREETED) {
        return;
    }
    struct tally *tally = audience_tally(subscriber->audience, event->topic);
    if (tally == NULL) {
        return;
    }
    struct broker_question *question = subscriber->question;
    struct position position = subscriber_written(subscriber, &event->position);
    output_append_event(
        &subscriber->client.seat.output,
        fanout_frame(&subscriber->subscribers->fanout, subscriber->audience->form, event), tally);
    broker_question_set_resume_point(subscriber->question, &position);
    subscriber_note_id(subscriber);
    question->owed_credit_bytes += (uint32_t)wire_bytes;
    client_flush_soon(&subscriber->client);
}

void subscribe_on_subscribed(struct subscriber *subscriber) {
    if (subscriber->state != SUBSCRIBER_GREETED) {
        return;
    }
    subscriber_join(subscriber);
    if (subscriber_lacks_id(subscriber)) {
        /* The feed's ids from before were not sent to it. */
        subscriber->id_ms = client_now_ms(&subscriber->client);
        greeting_first_position(subscriber);
    }
    client_flush_soon(&subscriber->client);
}

static void refuse(struct subscriber *subscriber, const struct wire_refused *message) {
    char *text = must_strdup(message->text.at, message->text.length);
    client_refuse(&subscriber->client, message->status, text, NULL);
    free(text);
}

/* The broker has dropped the subscription. */
void subscribe_on_refused(struct subscriber *subscriber, const struct wire_refused *message) {
    broker_question_drop_token(subscriber->question);
    if (subscriber->state == SUBSCRIBER_ASKING) {
        refuse(subscriber, message);
        return;
    }
    if (message->status == HTTP_FORBIDDEN && subscriber_has_user(subscriber)) {
        subscriber_become(subscriber, SUBSCRIBER_QUIET);
        return;
    }
    sse_close(subscriber_own(subscriber));
    client_finish(&subscriber->client);
}

/* --- too slow ------------------------------------------------------------------------------------
 *
 * The client is told in-band, or resumes from what it has: in both cases nothing is lost silently.
 */

static void count_drop(struct subscriber *subscriber) {
    struct fan_loss loss = {.reason = SSE_REFRESH_OVERFLOW};
    audience_count_dropped_client(subscriber->audience);
    if (subscriber->state == SUBSCRIBER_LIVE) {
        audience_count_dropped(subscriber->audience, &subscriber->client.seat.output, &loss);
    }
}

static bool has_overflowed(const struct subscriber *subscriber) {
    int64_t limit_bytes = subscriber->client.clients->config->client_queue_bytes;
    return client_is_open(&subscriber->client) && subscriber->state == SUBSCRIBER_LIVE &&
           overflow_is_due(&subscriber->client.seat.output, (uint64_t)limit_bytes);
}

static void on_overflow(struct subscriber *subscriber) {
    struct client *client = &subscriber->client;
    switch ((enum config_slow_client)client->clients->config->slow_client) {
    case CONFIG_SLOW_REFRESH:
        if (subscriber_has_user(subscriber) || overflow_has_durable(&client->seat.output)) {
            subscriber_renew(subscriber); /* it can get these from the table */
        } else {
            overflow_skip(&subscriber->overflow, &client->seat.output, subscriber->audience);
        }
        return;
    case CONFIG_SLOW_DISCONNECT:
        client_note_slow("more than client_queue_bytes wait for it");
        count_drop(subscriber);
        client_finish(client);
        return;
    }
}

static void on_blocked(struct client *client) {
    struct subscriber *subscriber = subscriber_of(client);
    if (has_overflowed(subscriber)) {
        on_overflow(subscriber);
    }
}

/* A client that overflows leaves its feed: not here, where the audience walks over its seats, but
 * in a flush of its own, later in this turn. */
static void flush_seat(struct seat *seat) {
    struct subscriber *subscriber = container_of(seat, struct subscriber, client.seat);
    client_flush(&subscriber->client);
    if (subscriber->client.is_blocked && has_overflowed(subscriber)) {
        client_flush_soon(&subscriber->client);
    }
}

/* --- its role --------------------------------------------------------------------------------- */

static void on_writable(struct client *client) {
    struct subscriber *subscriber = subscriber_of(client);
    if (subscriber->state == SUBSCRIBER_LIVE) {
        audience_trim_soon(subscriber->audience);
    }
}

static void on_drained(struct client *client) {
    struct subscriber *subscriber = subscriber_of(client);
    overflow_destroy(&subscriber->overflow);
    if (subscriber->state == SUBSCRIBER_ASKING_AGAIN && subscriber->question->token == 0) {
        subscriber_ask(subscriber);
    } else {
        subscriber_renew_credit(subscriber);
    }
}

/* An EventSource would not come back after a 503: it gets a stream that only says goodbye. */
static void end(struct client *client, int64_t retry_ms, const char *why, const char *refusal) {
    struct subscriber *subscriber = subscriber_of(client);
    if (subscriber->state == SUBSCRIBER_ASKING && !subscriber->accepts_events) {
        client_refuse(client, HTTP_UNAVAILABLE, refusal, NULL);
        return;
    }
    if (subscriber->state == SUBSCRIBER_ASKING) {
        greeting_open(subscriber);
    }
    /* Frames that are begun go before the goodbye. The rest is dropped: the client can resume. */
    subscriber_leave(subscriber);
    stream_text_goodbye(client_own(client), retry_ms, why);
    client_finish(client);
}

/* The broker does not answer: a topics stream waits for it, a user stream ends. */
static void on_patience_over(struct subscriber *subscriber) {
    static const char why[] = "the broker does not answer";
    if (subscriber_has_user(subscriber)) {
        end(&subscriber->client, retry_of(subscriber), why, why);
    } else {
        greeting_wait(subscriber);
    }
}

/* The server is healthy, so the retry is short; the first block of its next stream sets the usual
 * one again. */
static void end_of_age(struct subscriber *subscriber) {
    int64_t retry_ms = jittered(subscriber->client.clients->config->retry / 10);
    end(&subscriber->client, retry_ms, "max_stream_age reached", "server draining");
}

/* It has reached its age, or its socket has stalled, or it is time for a heartbeat. */
static void on_time(struct client *client) {
    struct subscriber *subscriber = subscriber_of(client);
    if (subscriber->state == SUBSCRIBER_ASKING) {
        on_patience_over(subscriber);
    } else if (pulse_is_old(subscriber)) {
        end_of_age(subscriber);
    } else if (client->is_blocked && client_patience_ms(client) == 0) {
        count_drop(subscriber);
        client_stall(client);
    } else {
        pulse_beat(subscriber);
    }
}

static void leave(struct client *client) {
    subscriber_leave(subscriber_of(client));
}

static void release(struct client *client) {
    struct subscriber *subscriber = subscriber_of(client);
    subscriber->subscribers->count--;
    fanout_detach(&subscriber->subscribers->fanout, &subscriber->audience);
    overflow_destroy(&subscriber->overflow);
    free(subscriber->user);
}

static const struct client_role role = {
    .on_writable = on_writable,
    .on_drained = on_drained,
    .on_blocked = on_blocked,
    .on_time = on_time,
    .end = end,
    .leave = leave,
    .release = release,
};

/* --- the beginning ---------------------------------------------------------------------------- */

struct client *subscribe_begin(struct subscribers *subscribers, int fd, uint16_t request_id,
                               const struct request *request, const struct stream_query *wanted) {
    struct subscriber *subscriber = must_zalloc(sizeof *subscriber);
    struct client *client = &subscriber->client;
    bool must_decide = wanted->form == STREAM_FORM_USER;
    bool takes_gzip = stream_takes_gzip(request, subscribers->clients->config);
    client_init(client, subscribers->clients, &role, fd, request_id, request);
    subscriber->subscribers = subscribers;
    subscribers->count++;
    subscriber->accepts_events = request->accepts_events && !client->without_body;
    subscriber->wants_position = request->wants_position;
    subscriber->has_heartbeat_events = request->has_heartbeat_events;
    subscriber->user = must_decide ? must_strdup(wanted->user.at, wanted->user.length) : NULL;
    subscriber->audience =
        fanout_attach(&subscribers->fanout, wanted->form, takes_gzip, &wanted->topics);
    subscriber->question = broker_question_create(subscribers->questions, subscriber);
    subscriber->question->position_kind =
        client->without_body ? POSITION_NONE : request->position_kind;
    subscriber->question->position = subscriber_written(subscriber, &request->position);
    subscriber_become(subscriber, SUBSCRIBER_ASKING);
    pulse_start_age(subscriber);
    client_start_timer(client, must_decide ? SUBSCRIBE_DECISION_MS : SUBSCRIBE_PATIENCE_MS);
    subscriber_ask(subscriber);
    return client;
}

void subscribe_init(struct subscribers *subscribers, struct clients *clients,
                    struct broker_questions *questions) {
    *subscribers = (struct subscribers){.clients = clients, .questions = questions};
    fanout_init(&subscribers->fanout, clients->loop, flush_seat);
}

void subscribe_release(struct subscribers *subscribers) {
    fanout_release(&subscribers->fanout);
}

/* --- all of them ------------------------------------------------------------------------------ */

/* True if the client is a stream, and open. */
static bool is_subscriber(const struct client *client) {
    return client->role == &role && client_is_open(client);
}

void subscribe_on_up(struct subscribers *subscribers) {
    struct client *client;
    LIST_FOREACH(client, &subscribers->clients->list, link) {
        if (is_subscriber(client)) {
            subscriber_ask(subscriber_of(client));
        }
    }
}

void subscribe_on_down(struct subscribers *subscribers) {
    struct client *client;
    LIST_FOREACH(client, &subscribers->clients->list, link) {
        if (is_subscriber(client)) {
            subscriber_on_broker_lost(subscriber_of(client));
        }
    }
}

static bool is_concerned(const struct subscriber *subscriber, const struct wire_recheck *message) {
    return subscriber->user != NULL &&
           (message->user.length == 0 ||
            (slice_is(message->user, subscriber->user) &&
             slice_equals(message->tenant, subscriber_tenant(subscriber))));
}

void subscribe_on_recheck(struct subscribers *subscribers, const struct wire_recheck *message) {
    struct client *client;
    LIST_FOREACH(client, &subscribers->clients->list, link) {
        if (is_subscriber(client) && is_concerned(subscriber_of(client), message)) {
            subscriber_recheck(subscriber_of(client));
        }
    }
}
