/* Which clients get which events, within one handler process.
 *
 *   fan_topic --- membership --- audience --- clients
 *
 * An audience is all clients that asked for the same topics in the same form: they get the same
 * bytes, so they share one feed. fanout_publish appends an event to the feed of every audience that
 * wants its topic: its cost does not depend on how many clients there are. The flush phase then
 * lets each client of the audiences that became dirty write once.
 *
 * Connections (see wire.h) are audiences of their own: they get durable events only, and their ids
 * are the durable place alone. */
#pragma once

#include "loop.h"
#include "outlet.h"
#include "wire.h"

#include <uthash.h>

struct client;
LIST_HEAD(client_list, client);
struct audience;

/* One audience's wish for one topic. */
struct membership {
    struct audience *audience; /* the owner */
    struct fan_topic *topic;   /* holds the topic */
    LIST_ENTRY(membership) link;
};

LIST_HEAD(membership_list, membership);

/* What was done on a topic since the last report to the broker. */
struct fan_topic {
    UT_hash_handle hh;
    struct membership_list members[WIRE_FORMS]; /* while there is one, the topic stays */
    uint64_t delivered;
    uint64_t dropped_events;
    uint64_t dropped_clients;
    uint64_t pending_events; /* gauges, of the report under way */
    uint64_t queued_bytes;
    bool was_pending; /* the last report said so: the next one must say that it is over */
    uint16_t name_length;
    char name[];
};

struct audience {
    UT_hash_handle hh;
    struct fanout *fanout;
    enum wire_form form;
    struct feed feed;
    size_t attached;         /* clients in any state: while there is one, it stays */
    struct client_list live; /* those that get events */
    uint32_t live_count;
    struct position last; /* the id of the newest frame in the feed */
    bool is_told;         /* that is a refresh, and nobody has joined since */
    struct loop_task flush;
    char *key; /* owned: the form, then the topics' names, sorted, each ended by NUL */
    size_t key_length;
    size_t topic_count;
    struct membership memberships[];
};

struct fanout {
    struct loop *loop; /* borrowed */
    struct audience *audiences;
    struct fan_topic *topics;
    struct buf frame; /* kept from event to event */
};

void fanout_init(struct fanout *fanout, struct loop *loop);
/* All clients must have left. */
void fanout_release(struct fanout *fanout);

/* The audience of these topics, each named once, found or created, with one client more. */
struct audience *fanout_attach(struct fanout *fanout, enum wire_form form,
                               const struct wire_topics *topics);

/* One client less; with the last one the audience goes. *audience becomes NULL. */
void fanout_detach(struct audience **audience);

/* The names of its topics, sorted; they live as long as the audience. */
void audience_topics(const struct audience *audience, struct wire_topics *topics);

/* The client gets what is published from now on, until audience_leave. */
void audience_join(struct audience *audience, struct client *client);
void audience_leave(struct audience *audience, struct client *client);

/* A client of it goes on reading: what the slowest one has behind it may go at the end of the turn.
 */
void audience_trim_soon(struct audience *audience);

/* The event as browsers get it; good until the next call of this room. */
struct slice fanout_frame(struct fanout *fanout, enum wire_form form,
                          const struct wire_event *event);

/* An event goes to every audience that wants its topic, and its kind. durable_before: the durable
 * place that was reached before it. */
void fanout_publish(struct fanout *fanout, const struct wire_event *event, uint64_t durable_before);

/* Every live client that it concerns, or each of one topic, is told, in order with the events, that
 * it may have missed some. */
void fanout_refresh(struct fanout *fanout, const struct wire_refresh *message,
                    uint64_t durable_before);

/* The position as clients of that form have it. */
struct position fanout_position(enum wire_form form, const struct position *position) must_check;

/* Appends the frame of a refresh about the audience's topics, with its id line. */
void audience_append_refresh(const struct audience *audience, struct buf *out,
                             const struct position *position, enum sse_refresh_reason reason,
                             uint64_t dropped);

/* The audience's topic of that name, or NULL. */
struct fan_topic *audience_topic(const struct audience *audience, struct slice name);

/* What the outlet counts. topic may be NULL: it was no event. */
void fan_topic_delivered(struct fan_topic *topic);

/* What a client that is too slow loses. */
struct fan_loss {
    uint64_t dropped; /* events; SSE_DROPPED_UNKNOWN when a refresh that it did not get was among */
    enum sse_refresh_reason reason; /* them: then of that one, if it is named first */
};

/* Counts what a client with that outlet will not get of its feed as dropped, and adds it to the
 * loss. */
void audience_count_dropped(struct audience *audience, const struct outlet *outlet,
                            struct fan_loss *loss);
void audience_count_dropped_client(struct audience *audience);

/* What a new connection to the broker begins with: how many live clients there are on which topics,
 * and that they are at that position. Frame by frame: the last one has is_last set. */
void fanout_resume(struct fanout *fanout, const struct position *position, void *owner,
                   void (*send)(void *owner, struct payload *resume));

/* Reports all topics on which something has changed, frame by frame: the last one, which
 * may be empty, has is_last set. */
void fanout_report(struct fanout *fanout, uint32_t serial, void *owner,
                   void (*send)(void *owner, struct payload *report));
