#include "admission.h"

#include "reply.h"
#include "stream.h"

#include <stdlib.h>

enum {
    ADMISSION_PATIENCE_MS = 200,  /* until headers leave without the broker's answer */
    ADMISSION_DECISION_MS = 2000, /* where they cannot: until the request is given up */
};

static bool is_connection(const struct client *client) {
    return client->audience->form == WIRE_FORM_CONNECTIONS;
}

static struct position written(const struct client *client, const struct position *position) {
    return fanout_position(client->audience->form, position);
}

/* Where it goes on from. A connection without an id (the table has gone) has no place: "0" would
 * ask for all that is kept. */
static void stand_at(struct client *client, const struct position *position) {
    inquiry_set_position(client->inquiry, position);
    if (is_connection(client) && position_is_start(position)) {
        client->inquiry->position_kind = POSITION_NONE;
    }
}

/* --- asking, and leaving ---------------------------------------------------------------------- */

/* A replay begins with new credit: what waits from the one before has to be out first. */
static bool is_ready_to_ask(const struct client *client) {
    return client->state != CLIENT_RESUBSCRIBING || outlet_is_empty(&client->outlet);
}

void admission_ask(struct client *client) {
    struct inquiry *inquiry = client->inquiry;
    if (!is_ready_to_ask(client)) {
        return;
    }
    inquiry_draw_token(inquiry);
    struct wire_subscribe message = {
        .token = inquiry->token,
        .form = client->audience->form,
        .position_kind = inquiry->position_kind,
        .position = inquiry->position,
        .user = slice_of(client->user),
    };
    audience_topics(client->audience, &message.topics);
    uplink_take(&client->stream->uplink, wire_encode_subscribe(&message));
}

/* Half of the credit is renewed at a time, so that small events do not ask one by one. */
void admission_renew_credit(struct client *client) {
    struct inquiry *inquiry = client->inquiry;
    if (inquiry != NULL && inquiry->token != 0 &&
        inquiry->owed_credit_bytes >= WIRE_CREDIT_BYTES / 2) {
        struct wire_credit message = {inquiry->token, inquiry->owed_credit_bytes};
        inquiry->owed_credit_bytes = 0;
        uplink_take(&client->stream->uplink, wire_encode_credit(&message));
    }
}

/* The broker knows of it: it is live, or was asked for on this connection. */
static bool is_subscribed(const struct client *client) {
    return client->audience != NULL && uplink_is_up(&client->stream->uplink) &&
           (client->state == CLIENT_LIVE ||
            (client->inquiry != NULL && client->inquiry->token != 0));
}

static void tell_unsubscribed(const struct client *client) {
    if (is_subscribed(client)) {
        struct wire_unsubscribe message = {
            .token = client->inquiry == NULL ? client->token : client->inquiry->token,
            .form = client->audience->form,
        };
        audience_topics(client->audience, &message.topics);
        uplink_take(&client->stream->uplink, wire_encode_unsubscribe(&message));
    }
}

void admission_end(struct client *client) {
    tell_unsubscribed(client);
    if (client->state == CLIENT_LIVE) {
        audience_leave(client->audience, client);
    }
    inquiry_destroy(&client->inquiry);
}

/* Up to where it has its durable events when it leaves its feed: to the first frame that goes with
 * it; or else to all that was applied. */
static struct position position_kept(const struct client *client) {
    const struct feed *feed = &client->audience->feed;
    uint64_t lost = outlet_first_unbegun(&client->outlet);
    return (struct position){.durable = lost < feed->next ? feed_mark(feed, lost)->durable_before
                                                          : client->stream->position.durable};
}

void admission_renew(struct client *client) {
    struct position kept = position_kept(client);
    check(is_connection(client) && client->state == CLIENT_LIVE);
    admission_end(client);
    client->inquiry = inquiry_create(client, INQUIRY_SUBSCRIPTION);
    stand_at(client, &kept);
    client->state = CLIENT_RESUBSCRIBING;
    client_ask(client);
    client_flush_soon(client);
}

static void ask_anew(struct client *client, enum client_state state) {
    tell_unsubscribed(client);
    inquiry_drop_token(client->inquiry);
    client->state = state;
    client_ask(client);
}

void admission_recheck(struct client *client) {
    switch (client->state) {
    case CLIENT_SUBSCRIBING:
    case CLIENT_WAITING:
        ask_anew(client, client->state);
        return;
    case CLIENT_GREETED:
    case CLIENT_RESUBSCRIBING:
    case CLIENT_QUIET:
        ask_anew(client, CLIENT_RESUBSCRIBING);
        return;
    case CLIENT_LIVE:
        admission_renew(client);
        return;
    case CLIENT_ASKING:
    case CLIENT_ENDING:
    case CLIENT_GONE:
    case CLIENT_CLOSED:
        return;
    }
}

/* A quiet one may ask again: the broker that comes has not said no to it. A live connection has to:
 * what its user may have is not for the handler to go on with. */
void admission_on_broker_lost(struct client *client) {
    if (client->inquiry != NULL) {
        inquiry_drop_token(client->inquiry);
    }
    if (client->state == CLIENT_LIVE && is_connection(client)) {
        admission_renew(client);
    }
    if (client->state == CLIENT_GREETED || client->state == CLIENT_QUIET) {
        client->state = CLIENT_RESUBSCRIBING;
    }
}

/* --- the first block -------------------------------------------------------------------------- */

void admission_append_id(struct client *client) {
    struct position position;
    if (client->state == CLIENT_LIVE) {
        position = written(client, &client->stream->position);
        if (position_is_start(&position)) {
            return; /* it would ask for all that is kept */
        }
    } else if (client->inquiry != NULL && inquiry_has_position(client->inquiry)) {
        position = client->inquiry->position;
    } else {
        return;
    }
    sse_id(&client->outlet.own, &position, (struct slice){0});
}

static void append_headers(struct client *client) {
    reply_stream_headers(&client->outlet.own, NULL);
    sse_retry(&client->outlet.own, jittered(client->stream->config->retry));
}

static void on_patience_over(struct loop_timer *timer) {
    struct client *client = container_of(timer, struct client, timer);
    if (is_connection(client)) {
        client_give_up(client, "the broker does not answer");
        return;
    }
    append_headers(client);
    sse_comment(&client->outlet.own, "waiting");
    admission_append_id(client);
    buf_append_text(&client->outlet.own, "\n");
    client->state = CLIENT_WAITING;
    client_start_pulse(client);
}

static void append_refresh(struct client *client, const struct position *place,
                           enum sse_refresh_reason reason, uint64_t dropped) {
    struct position position = written(client, place);
    audience_append_refresh(client->audience, &client->outlet.own, &position, reason, dropped);
    stand_at(client, &position);
    client->inquiry->is_block_open = false;
}

static void append_gap(struct client *client, const struct position *position) {
    append_refresh(client, position, SSE_REFRESH_GAP, SSE_DROPPED_UNKNOWN);
}

static void append_greeting(struct client *client) {
    struct wire_topics topics;
    if (is_connection(client)) {
        sse_comment(&client->outlet.own, "connected");
        return;
    }
    audience_topics(client->audience, &topics);
    buf_printf(&client->outlet.own, ": listening %.*s\n", (int)topics.names[0].length,
               topics.names[0].at);
}

static void greet(struct client *client, const struct wire_accepted *message) {
    struct inquiry *inquiry = client->inquiry;
    bool was_waiting = client->state == CLIENT_WAITING;
    append_greeting(client);
    client->state = CLIENT_GREETED;
    if (message->follows && !inquiry_has_position(inquiry)) {
        inquiry->is_block_open = true; /* the refresh that follows ends it */
    } else if (was_waiting && inquiry->position_kind == POSITION_NONE) {
        append_gap(client, &message->position);
    } else {
        if (!message->follows) {
            struct position position = written(client, &message->position);
            stand_at(client, &position);
        }
        admission_append_id(client);
        buf_append_text(&client->outlet.own, "\n");
    }
    client_start_pulse(client);
}

/* --- what the broker says --------------------------------------------------------------------- */

/* The audience becomes the one of those topics that it may have: among those that were asked for,
 * in the same order. */
static bool take_granted(struct client *client, const struct wire_topics *granted) {
    struct audience *asked = client->audience;
    struct wire_topics topics;
    size_t found = 0;
    audience_topics(asked, &topics);
    for (size_t i = 0; i < topics.count && found < granted->count; i++) {
        found += slice_equals(topics.names[i], granted->names[found]) ? 1 : 0;
    }
    if (found < granted->count || found == 0) {
        return false;
    }
    if (found < topics.count) {
        check(client->outlet.events == NULL); /* they are counted on topics that may go */
        client->audience = fanout_attach(&client->stream->fanout, asked->form, granted);
        fanout_detach(&asked);
    }
    return true;
}

/* It was greeted long ago. Who had no position then was promised a refresh. */
static void go_on(struct client *client, const struct wire_accepted *message) {
    client->state = CLIENT_GREETED;
    if (!message->follows && !inquiry_has_position(client->inquiry)) {
        append_gap(client, &message->position);
        client_flush_soon(client);
    }
}

bool admission_on_accepted(struct client *client, const struct wire_accepted *message) {
    bool is_asked = client->state == CLIENT_SUBSCRIBING || client->state == CLIENT_WAITING ||
                    client->state == CLIENT_RESUBSCRIBING;
    if (!is_asked) {
        return true;
    }
    if (is_connection(client) && !take_granted(client, &message->topics)) {
        return false;
    }
    if (client->state == CLIENT_RESUBSCRIBING) {
        go_on(client, message);
        return true;
    }
    if (client->state == CLIENT_SUBSCRIBING) {
        append_headers(client);
    }
    greet(client, message);
    return true;
}

void admission_on_refresh(struct client *client, const struct wire_refresh *message) {
    if (client->state == CLIENT_GREETED) {
        append_refresh(client, &message->position, message->reason, message->dropped);
        client_flush_soon(client);
    }
}

void admission_on_replay(struct client *client, const struct wire_event *event, size_t wire_bytes) {
    if (client->state != CLIENT_GREETED) {
        return;
    }
    struct fan_topic *topic = audience_topic(client->audience, event->topic);
    if (topic == NULL) {
        return;
    }
    struct inquiry *inquiry = client->inquiry;
    struct position position = written(client, &event->position);
    outlet_append_event(&client->outlet,
                        fanout_frame(&client->stream->fanout, client->audience->form, event),
                        topic);
    stand_at(client, &position);
    inquiry->is_block_open = false;
    inquiry->owed_credit_bytes += (uint32_t)wire_bytes;
    client_flush_soon(client);
}

void admission_on_subscribed(struct client *client, const struct wire_position *message) {
    if (client->state != CLIENT_GREETED) {
        return;
    }
    struct position position = written(client, &message->position);
    if (!position_equals(&client->inquiry->position, &position) && !position_is_start(&position)) {
        sse_id(&client->outlet.own, &position, (struct slice){0});
        buf_append_text(&client->outlet.own, "\n");
    }
    client->token = is_connection(client) ? client->inquiry->token : 0;
    inquiry_destroy(&client->inquiry);
    audience_join(client->audience, client);
    client->state = CLIENT_LIVE;
    client_flush_soon(client);
}

static void refuse(struct client *client, const struct wire_refused *message) {
    char *text = must_strdup(message->text.at, message->text.length);
    client_refuse(client, message->status, text, NULL);
    free(text);
}

static void end_block(struct client *client) {
    if (client->inquiry->is_block_open) {
        buf_append_text(&client->outlet.own, "\n");
        client->inquiry->is_block_open = false;
        client_flush_soon(client);
    }
}

/* The broker has forgotten it with this. */
void admission_on_refused(struct client *client, const struct wire_refused *message) {
    inquiry_drop_token(client->inquiry);
    if (client->state == CLIENT_SUBSCRIBING || client->state == CLIENT_ASKING) {
        refuse(client, message);
        return;
    }
    end_block(client);
    if (message->status == REPLY_FORBIDDEN && is_connection(client)) {
        client->state = CLIENT_QUIET;
        return;
    }
    sse_close(&client->outlet.own);
    client_finish(client);
}

/* --- the beginning ---------------------------------------------------------------------------- */

void admission_begin(struct client *client, enum wire_form form, const struct wire_topics *topics,
                     const struct request *request) {
    bool must_decide = form == WIRE_FORM_CONNECTIONS;
    struct inquiry *inquiry = inquiry_create(client, INQUIRY_SUBSCRIPTION);
    client->inquiry = inquiry;
    client->audience = fanout_attach(&client->stream->fanout, form, topics);
    inquiry->position_kind = request->position_kind;
    inquiry->position = written(client, &request->position);
    client_start_age(client);
    loop_timer_start(client->stream->loop, &client->timer,
                     must_decide ? ADMISSION_DECISION_MS : ADMISSION_PATIENCE_MS, on_patience_over);
    client_ask(client);
}

void admission_begin_connection(struct client *client, struct slice user,
                                const struct wire_topics *topics, const struct request *request) {
    client->user = must_strdup(user.at, user.length);
    admission_begin(client, WIRE_FORM_CONNECTIONS, topics, request);
}
