/* All clients that asked for the same topics in the same form. They get the same bytes, so they
 * share one feed: a frame is appended once, and the flush phase then lets each of them write once.
 *
 * Clients that take gzip are audiences of their own, whose feed has a gzip_group. There a live
 * client that is no reader of the feed gets copies of the frames among its own bytes.
 *
 * User streams (see wire.h) are audiences of their own: they get durable events only, and their ids
 * are the durable part of a position alone. */
#pragma once

#include "hash.h"
#include "loop.h"
#include "seat.h"
#include "stream_form.h"
#include "tally.h"

struct audience;

/* One topic that one audience wants. */
struct membership {
    struct audience *audience; /* the owner */
    struct fan_topic *topic;   /* kept alive by this */
    LIST_ENTRY(membership) link;
};

LIST_HEAD(membership_list, membership);

/* A topic or pattern that some audience wants, or wanted since the last report to the broker. */
struct fan_topic {
    UT_hash_handle hh;
    struct membership_list members[STREAM_FORMS]; /* while there is one, the topic stays */
    struct tally tally;
    uint16_t key_length;
    char key[];
};

static inline struct topic_key fan_topic_key(const struct fan_topic *topic) {
    return (struct topic_key){{topic->key, topic->key_length}};
}

/* What a client may have missed. Of several causes, the first reason of the enum is told, and the
 * sum of the events. */
struct fan_loss {
    uint64_t dropped; /* events, or SSE_DROPPED_UNKNOWN */
    enum sse_refresh_reason reason;
};

struct audience {
    UT_hash_handle hh;
    struct loop *loop;                 /* borrowed */
    void (*flush_seat)(struct seat *); /* see fanout_init */
    struct feed feed;
    uint64_t published;    /* the number of the last event that was appended for it */
    size_t attached;       /* its clients in any state: it is destroyed with the last one */
    struct seat_list live; /* those that get events */
    uint32_t live_count;
    enum stream_form form;
    struct position last; /* the id of the newest frame in the feed */
    int64_t last_ms;      /* when that was appended */
    bool is_told; /* the newest frame is a refresh that a further loss can still be merged into */
    struct fan_loss told; /* then: what it tells */
    struct loop_task flush;
    char *key; /* owned: the form, then the topics' keys, sorted, each ended by NUL */
    size_t key_length;
    size_t topic_count;
    struct membership memberships[];
};

/* Its topics, sorted; their keys live as long as the audience. */
void audience_topics(const struct audience *audience, struct names *topics);

static inline bool audience_is_gzip(const struct audience *audience) {
    return audience->feed.gzip != NULL;
}

/* The tally of that topic or pattern among its own, or else of a pattern among them that matches
 * the topic; NULL if there is none. */
struct tally *audience_tally(const struct audience *audience, struct topic_key topic);

/* --- its clients ------------------------------------------------------------------------------ */

/* The client gets what is published from now on, until audience_leave. */
void audience_join(struct audience *audience, struct seat *seat);
void audience_leave(struct audience *audience, struct seat *seat);

/* A live client that has left the feed goes on at its head. */
void audience_attach(struct audience *audience, struct output *output);

/* A client of it can write again: at the end of the turn the feed drops what all have written. */
void audience_trim_soon(struct audience *audience);

/* --- its feed --------------------------------------------------------------------------------- */

/* Appends a frame for all its live clients. There must be one. */
void audience_append(struct audience *audience, struct slice frame, const struct position *position,
                     const struct feed_mark *mark);

/* Tells all its live clients, in order with the events, that they may have missed events. before:
 * the position that was reached before. Refreshes that follow each other within a turn become one.
 * (One that is written cannot tell of later losses, even if its position is the same.) */
void audience_refresh(struct audience *audience, const struct wire_refresh *message,
                      const struct position *before);

/* Appends the frame of a refresh about the audience's topics, with its id line. */
void audience_append_refresh(const struct audience *audience, struct buf *out,
                             const struct position *position, enum sse_refresh_reason reason,
                             uint64_t dropped);

/* --- counting --------------------------------------------------------------------------------- */

/* Counts the frames that a client with that output has not begun as dropped, and adds them to
 * *loss. */
void audience_count_dropped(struct audience *audience, const struct output *output,
                            struct fan_loss *loss);

/* On one of its topics, the first: so the sum over all topics is the number of clients. */
void audience_count_dropped_client(struct audience *audience);
