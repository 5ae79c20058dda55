/* A client that is a stream, and its state with the broker and its audience: it asks, joins,
 * leaves, and asks again. subscribe.h decides what it is sent, pulse.h when.
 *
 *   ASKING        the broker was asked, nothing is written; after 200 ms:
 *   WAITING       headers, "retry:" and ": waiting" are out; the broker has not answered yet
 *   GREETED       it was accepted: headers and first block are on their way; what it missed follows
 *   LIVE          it is subscribed: it shares its audience's feed
 *   ASKING_AGAIN  it asks again, from the last id that was queued for it, once that is written
 *   QUIET         it asked again, and its user has no rights any more: heartbeats only
 *   LEFT          it gets no more events
 *
 * When the broker goes away, LIVE streams stay what they are: the next uplink resumes for all of
 * them. GREETED ones become ASKING_AGAIN.
 *
 * A user stream (see wire.h) is never WAITING: only the broker can say whether it gets a 200. It
 * asks again when the broker has gone, and when its user's rights have changed. */
#pragma once

#include "broker_question.h"
#include "client.h"
#include "fanout.h"
#include "overflow.h"

/* What all subscribers of a process share. */
struct subscribers {
    struct clients *clients;            /* borrowed */
    struct broker_questions *questions; /* borrowed */
    struct fanout fanout;
    uint32_t count;           /* of streams that are open */
    struct position position; /* the last that the broker told: all before it has come */
    int64_t moved_ms;         /* when the position last changed */
};

enum subscriber_state {
    SUBSCRIBER_ASKING,
    SUBSCRIBER_WAITING,
    SUBSCRIBER_GREETED,
    SUBSCRIBER_LIVE,
    SUBSCRIBER_ASKING_AGAIN,
    SUBSCRIBER_QUIET,
    SUBSCRIBER_LEFT,
};

struct subscriber {
    struct client client;
    struct subscribers *subscribers;  /* borrowed */
    struct audience *audience;        /* attached until it is released */
    struct overflow *overflow;        /* owned; the waiting refresh about dropped events; or NULL */
    struct broker_question *question; /* owned; NULL: nothing is asked */
    char *user;                       /* owned; of a user stream; else NULL */
    uint64_t token;                   /* of a LIVE user stream: its token at the broker */
    int64_t ends_ms; /* when it reaches max_stream_age; INT64_MAX: there is no limit */
    int64_t id_ms;   /* when it was sent an id of its own, or its greeting */
    enum subscriber_state state;
    bool accepts_events; /* it may be an EventSource, which needs a 200 */
    bool lacks_id; /* it came without a position that can be used, and was sent no id of its own */
    bool wants_position;
    bool has_heartbeat_events;
};

static inline bool subscriber_has_user(const struct subscriber *subscriber) {
    return subscriber->audience->form == STREAM_FORM_USER;
}

/* All topics of a stream are of one tenant. */
static inline struct slice subscriber_tenant(const struct subscriber *subscriber) {
    return topic_key_tenant(fan_topic_key(subscriber->audience->memberships[0].topic));
}

static inline struct buf *subscriber_own(struct subscriber *subscriber) {
    return client_own(&subscriber->client);
}

/* The one place where the state changes. */
void subscriber_become(struct subscriber *subscriber, enum subscriber_state state);

/* The broker has told that position: all before it has come. */
void subscribers_reach(struct subscribers *subscribers, const struct position *position);

/* --- positions -------------------------------------------------------------------------------- */

/* The part of the position that its stream writes. */
struct position subscriber_written(const struct subscriber *subscriber,
                                   const struct position *position) must_check;

/* Appends an event with the position after all that was queued for it, so that a client that comes
 * back with it has missed nothing. Returns false, and appends nothing, if it has no position
 * yet. */
bool subscriber_append_position(struct subscriber *subscriber) must_check;

/* It came without a position that can be used, and has been sent no id, by itself or by its
 * feed. */
static inline bool subscriber_lacks_id(const struct subscriber *subscriber) {
    return subscriber->lacks_id && !subscriber->client.seat.output.has_sent_feed;
}

/* An id was queued among its own bytes. */
void subscriber_note_id(struct subscriber *subscriber);

/* --- asking and leaving ----------------------------------------------------------------------- */

/* Sends SUBSCRIBE if the broker is there. If output of the last subscription still waits, this does
 * nothing: it is called again when that is written. */
void subscriber_ask(struct subscriber *subscriber);

/* All that waited is written: the broker may send more of the replay. */
void subscriber_renew_credit(struct subscriber *subscriber);

/* It has got all up to SUBSCRIBED: from now on it shares the feed. */
void subscriber_join(struct subscriber *subscriber);

/* A live client leaves its feed, and subscribes again from the first frame that is not begun. It
 * gets the durable events from the table, and the ephemeral ones from the log, or a refresh if they
 * are not kept. */
void subscriber_renew(struct subscriber *subscriber);

/* The rights of a user stream's user have changed: it asks again. */
void subscriber_recheck(struct subscriber *subscriber);

/* The broker is away. */
void subscriber_on_broker_lost(struct subscriber *subscriber);

/* It gets no more events: leaves its feed, and the broker is told. */
void subscriber_leave(struct subscriber *subscriber);
