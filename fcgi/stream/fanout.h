/* Which clients get which events, within one handler process.
 *
 *   fan_topic --- membership --- audience --- seat, in a client
 *
 * A fan_topic is a topic, or a pattern of topics.
 *
 * fanout_publish appends an event to the feed of every audience that wants its topic: its cost does
 * not depend on how many clients there are. The flush phase then lets each client of the audiences
 * that became dirty write once. */
#pragma once

#include "audience.h"
#include "patterns.h"

struct fanout {
    struct loop *loop; /* borrowed */
    void (*flush_seat)(struct seat *);
    struct audience *audiences;
    struct fan_topic *topics; /* by key, patterns, too */
    struct patterns patterns;
    struct compressors compressors;
    uint64_t published; /* events: numbers them */
    struct buf frame;   /* reused for each event */
};

/* flush_seat writes what waits for a live client. It is called in the flush phase, and must not
 * take a seat out of its audience. */
void fanout_init(struct fanout *fanout, struct loop *loop, void (*flush_seat)(struct seat *seat));
/* All clients must have left. */
void fanout_release(struct fanout *fanout);

/* Finds or creates the audience of these topics, each named once, of clients that take gzip or do
 * not. It has one client more now. */
struct audience *fanout_attach(struct fanout *fanout, enum stream_form form, bool takes_gzip,
                               const struct names *topics);

/* The audience has one client less; without any it is destroyed. *audience becomes NULL. */
void fanout_detach(struct fanout *fanout, struct audience **audience);

/* A client of the audience subscribes again: the broker may forget how many streams there are, so
 * the next report tells it. */
void fanout_recount(struct audience *audience);

/* Destroys the topic unless an audience wants it. Its tally is not reported any more. */
void fanout_forget(struct fanout *fanout, struct fan_topic *topic);

/* The event as browsers get it; good until the next call. */
struct slice fanout_frame(struct fanout *fanout, enum stream_form form,
                          const struct wire_event *event);

/* Appends the event to every audience that wants its topic and its kind. before: the position that
 * was reached before it. */
void fanout_publish(struct fanout *fanout, const struct wire_event *event,
                    const struct position *before);

/* Tells every live client that the message concerns: see audience_refresh. */
void fanout_refresh(struct fanout *fanout, const struct wire_refresh *message,
                    const struct position *before);
