#include "greeting.h"

#include "pulse.h"
#include "stream_text.h"

/* Existing clients of user streams expect no position there, unless they ask for it. */
void greeting_first_position(struct subscriber *subscriber) {
    if (!subscriber_has_user(subscriber) || subscriber->wants_position) {
        bool is_told = subscriber_append_position(subscriber);
        (void)is_told; /* if there is none yet, the first event has one */
    }
}

void greeting_open(struct subscriber *subscriber) {
    bool is_gzip = audience_is_gzip(subscriber->audience);
    stream_text_headers(subscriber_own(subscriber), subscriber->audience->form, is_gzip, NULL);
    if (is_gzip) {
        output_start_gzip(&subscriber->client.seat.output,
                          &subscriber->subscribers->fanout.compressors);
    }
}

void greeting_headers(struct subscriber *subscriber) {
    greeting_open(subscriber);
    sse_retry(subscriber_own(subscriber), jittered(subscriber->client.clients->config->retry));
}

void greeting_wait(struct subscriber *subscriber) {
    greeting_headers(subscriber);
    sse_comment(subscriber_own(subscriber), "waiting");
    subscriber_become(subscriber, SUBSCRIBER_WAITING);
    pulse_start(subscriber);
}

void greeting_refresh(struct subscriber *subscriber, const struct position *at,
                      enum sse_refresh_reason reason, uint64_t dropped) {
    struct position position = subscriber_written(subscriber, at);
    audience_append_refresh(subscriber->audience, subscriber_own(subscriber), &position, reason,
                            dropped);
    broker_question_set_resume_point(subscriber->question, &position);
    subscriber_note_id(subscriber);
}

void greeting_gap(struct subscriber *subscriber, const struct position *position) {
    greeting_refresh(subscriber, position, SSE_REFRESH_GAP, SSE_DROPPED_UNKNOWN);
}

static void append_greeting(struct subscriber *subscriber) {
    struct names topics;
    if (subscriber->audience->form != STREAM_FORM_TOPIC) {
        sse_comment(subscriber_own(subscriber), "connected");
        return;
    }
    audience_topics(subscriber->audience, &topics);
    struct slice name = topic_key_name(topics.keys[0]);
    buf_printf(subscriber_own(subscriber), ": listening %.*s\n", (int)name.length, name.at);
}

/* True if it came with a durable id alone: its ephemeral events begin at the head. */
static bool lacks_ephemeral(const struct subscriber *subscriber) {
    const struct broker_question *question = subscriber->question;
    return !subscriber_has_user(subscriber) && question->position_kind == POSITION_KNOWN &&
           question->position.marker[0] == '\0';
}

/* Where it begins: at the head, but before the durable events that follow. A client that came with
 * a durable id alone is told this before its first event. Else, if its connection broke before
 * that, it would come back with the same id and begin at a later head without a refresh. */
static struct position beginning(const struct subscriber *subscriber,
                                 const struct wire_accepted *message) {
    struct position position = message->position;
    uint64_t own = subscriber->question->position.durable;
    if (message->has_backlog && own < position.durable) {
        position.durable = own;
    }
    return subscriber_written(subscriber, &position);
}

/* True if its position cannot be resumed from: then a refresh with another one comes next. */
static bool does_refresh_follow(const struct subscriber *subscriber,
                                const struct wire_accepted *message) {
    const struct broker_question *question = subscriber->question;
    return message->has_backlog && (!broker_question_has_position(question) ||
                                    question->position.durable > message->position.durable);
}

/* A client that had to wait may have missed events since its headers were sent: a refresh says
 * so. */
static void begin_at(struct subscriber *subscriber, const struct position *position,
                     bool was_waiting) {
    if (was_waiting) {
        greeting_gap(subscriber, position);
    } else {
        broker_question_set_resume_point(subscriber->question, position);
        greeting_first_position(subscriber);
    }
}

/* A client that asked for all that is kept also gets all that comes after this position. If it has
 * to ask again before its first event, it sends this position along. */
static void note_all_kept(struct subscriber *subscriber, const struct wire_accepted *message) {
    if (subscriber->question->position_kind == POSITION_ALL) {
        subscriber->question->position = subscriber_written(subscriber, &message->position);
    }
}

void greeting_greet(struct subscriber *subscriber, const struct wire_accepted *message) {
    bool was_waiting = subscriber->state == SUBSCRIBER_WAITING;
    append_greeting(subscriber);
    subscriber_become(subscriber, SUBSCRIBER_GREETED);
    subscriber->lacks_id =
        !broker_question_has_position(subscriber->question) || lacks_ephemeral(subscriber);
    if (subscriber->lacks_id && !does_refresh_follow(subscriber, message)) {
        struct position position = beginning(subscriber, message);
        begin_at(subscriber, &position, was_waiting);
    }
    note_all_kept(subscriber, message);
    pulse_start(subscriber);
}
