#include "subscriber.h"

void subscriber_become(struct subscriber *subscriber, enum subscriber_state state) {
    subscriber->state = state;
}

void subscribers_reach(struct subscribers *subscribers, const struct position *position) {
    if (!position_equals(&subscribers->position, position)) {
        subscribers->position = *position;
        subscribers->moved_ms = loop_now_ms(subscribers->clients->loop);
    }
}

static struct uplink *uplink_of(const struct subscriber *subscriber) {
    return subscriber->subscribers->questions->uplink;
}

/* --- positions -------------------------------------------------------------------------------- */

struct position subscriber_written(const struct subscriber *subscriber,
                                   const struct position *position) {
    return stream_form_position(subscriber->audience->form, position);
}

void subscriber_note_id(struct subscriber *subscriber) {
    subscriber->id_ms = client_now_ms(&subscriber->client);
    subscriber->lacks_id = false;
}

/* The start is never told: it would ask for all that is kept. Nor is the position at which a client
 * was accepted that asked for all that is kept: it is after all of that. */
bool subscriber_append_position(struct subscriber *subscriber) {
    const struct broker_question *question = subscriber->question;
    struct position position = {0};
    if (subscriber->state == SUBSCRIBER_LIVE) {
        position = subscriber_written(subscriber, &subscriber->subscribers->position);
    } else if (question != NULL && question->position_kind == POSITION_KNOWN) {
        position = question->position;
    }
    if (position_is_start(&position)) {
        return false;
    }
    sse_position(subscriber_own(subscriber), &position);
    subscriber_note_id(subscriber);
    return true;
}

/* --- asking ----------------------------------------------------------------------------------- */

/* A replay begins with new credit: what waits from the last one has to be written first. */
static bool is_ready_to_ask(const struct subscriber *subscriber) {
    return subscriber->question != NULL && uplink_is_up(uplink_of(subscriber)) &&
           (subscriber->state != SUBSCRIBER_ASKING_AGAIN ||
            output_is_empty(&subscriber->client.seat.output));
}

void subscriber_ask(struct subscriber *subscriber) {
    struct broker_question *question = subscriber->question;
    if (!is_ready_to_ask(subscriber)) {
        return;
    }
    broker_question_draw_token(question);
    struct wire_subscribe message = {
        .token = question->token,
        .form = stream_form_wire(subscriber->audience->form),
        .position_kind = question->position_kind,
        .position = question->position,
        .user = slice_of(subscriber->user),
    };
    audience_topics(subscriber->audience, &message.topics);
    fanout_recount(subscriber->audience);
    uplink_queue(uplink_of(subscriber), wire_encode_subscribe(&message));
}

/* Half of the credit is renewed at a time, so that small events do not ask one by one. */
void subscriber_renew_credit(struct subscriber *subscriber) {
    struct broker_question *question = subscriber->question;
    if (question != NULL && question->token != 0 &&
        question->owed_credit_bytes >= WIRE_CREDIT_BYTES / 2) {
        struct wire_credit message = {question->token, question->owed_credit_bytes};
        question->owed_credit_bytes = 0;
        uplink_queue(uplink_of(subscriber), wire_encode_credit(&message));
    }
}

void subscriber_join(struct subscriber *subscriber) {
    subscriber->token = subscriber_has_user(subscriber) ? subscriber->question->token : 0;
    broker_question_destroy(&subscriber->question);
    audience_join(subscriber->audience, &subscriber->client.seat);
    subscriber_become(subscriber, SUBSCRIBER_LIVE);
}

/* --- leaving ---------------------------------------------------------------------------------- */

/* True if the broker knows of it: it is live, or has asked on this connection. */
static bool is_subscribed(const struct subscriber *subscriber) {
    return uplink_is_up(uplink_of(subscriber)) &&
           (subscriber->state == SUBSCRIBER_LIVE ||
            (subscriber->question != NULL && subscriber->question->token != 0));
}

static void tell_unsubscribed(const struct subscriber *subscriber) {
    const struct broker_question *question = subscriber->question;
    if (is_subscribed(subscriber)) {
        struct wire_unsubscribe message = {
            .token = question == NULL ? subscriber->token : question->token,
            .form = stream_form_wire(subscriber->audience->form),
        };
        audience_topics(subscriber->audience, &message.topics);
        uplink_queue(uplink_of(subscriber), wire_encode_unsubscribe(&message));
    }
}

void subscriber_leave(struct subscriber *subscriber) {
    tell_unsubscribed(subscriber);
    if (subscriber->state == SUBSCRIBER_LIVE) {
        audience_leave(subscriber->audience, &subscriber->client.seat);
    }
    broker_question_destroy(&subscriber->question);
    subscriber_become(subscriber, SUBSCRIBER_LEFT);
}

/* --- asking again ----------------------------------------------------------------------------- */

/* Its position when it leaves its feed: before the first frame that is not begun, or else the last
 * one that the broker told. */
static struct position position_before_loss(const struct subscriber *subscriber) {
    const struct feed *feed = &subscriber->audience->feed;
    uint64_t lost = output_first_unbegun(&subscriber->client.seat.output);
    return subscriber_written(subscriber, lost < feed->next ? &feed_mark(feed, lost)->before
                                                            : &subscriber->subscribers->position);
}

void subscriber_renew(struct subscriber *subscriber) {
    struct position kept = position_before_loss(subscriber);
    check(subscriber->state == SUBSCRIBER_LIVE);
    subscriber_leave(subscriber);
    subscriber->question = broker_question_create(subscriber->subscribers->questions, subscriber);
    broker_question_set_resume_point(subscriber->question, &kept);
    subscriber_become(subscriber, SUBSCRIBER_ASKING_AGAIN);
    subscriber_ask(subscriber);
    client_flush_soon(&subscriber->client);
}

static void ask_anew(struct subscriber *subscriber, enum subscriber_state state) {
    tell_unsubscribed(subscriber);
    broker_question_drop_token(subscriber->question);
    subscriber_become(subscriber, state);
    subscriber_ask(subscriber);
}

void subscriber_recheck(struct subscriber *subscriber) {
    switch (subscriber->state) {
    case SUBSCRIBER_ASKING:
    case SUBSCRIBER_WAITING:
        ask_anew(subscriber, subscriber->state);
        return;
    case SUBSCRIBER_GREETED:
    case SUBSCRIBER_ASKING_AGAIN:
    case SUBSCRIBER_QUIET:
        ask_anew(subscriber, SUBSCRIBER_ASKING_AGAIN);
        return;
    case SUBSCRIBER_LIVE:
        subscriber_renew(subscriber);
        return;
    case SUBSCRIBER_LEFT:
        return;
    }
}

/* A QUIET stream asks again, since the next broker has not refused it. So does a LIVE user stream,
 * since only a broker knows its user's rights. */
void subscriber_on_broker_lost(struct subscriber *subscriber) {
    if (subscriber->question != NULL) {
        broker_question_drop_token(subscriber->question);
    }
    if (subscriber->state == SUBSCRIBER_LIVE && subscriber_has_user(subscriber)) {
        subscriber_renew(subscriber);
    }
    if (subscriber->state == SUBSCRIBER_GREETED || subscriber->state == SUBSCRIBER_QUIET) {
        subscriber_become(subscriber, SUBSCRIBER_ASKING_AGAIN);
    }
}
