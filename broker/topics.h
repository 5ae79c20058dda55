/* The broker's topics, and which handlers want which: who gets an event, and what health tells.
 *
 * A topic exists while somebody subscribes to it or the log holds events of it, so that no flood of
 * names fills the memory: the log is bounded. Totals are counted elsewhere and lose nothing when a
 * topic is forgotten. */
#pragma once

#include "trail.h"

#include <sys/queue.h>
#include <uthash.h>

struct handler;
struct topic;

/* What one handler has to do with one topic. */
struct subscription {
    struct topic *topic;     /* borrowed: it lives as long as its subscriptions */
    struct handler *handler; /* borrowed: it ends its subscriptions before it goes */
    uint64_t clients;        /* at least 1 */
    uint64_t by_token;       /* of these: a replay (replay.h) speaks for them */
    uint64_t floor_told;     /* the handler's RESUME: the floor that it was told of */
    uint64_t gap_told;       /* the same, of what was pruned */
    uint64_t pending_events; /* as the handler reported last */
    uint64_t queued_bytes;
    LIST_ENTRY(subscription) of_topic;
    LIST_ENTRY(subscription) of_handler;
};
LIST_HEAD(subscription_list, subscription);

struct topic {
    UT_hash_handle hh;
    struct subscription_list subscriptions;
    TAILQ_ENTRY(topic) link; /* in topics.wanted or topics.idle */
    struct trail trail;      /* its events in the log, which fills and empties it */
    uint64_t subscribers;    /* clients of all handlers */
    uint64_t published;
    uint64_t broadcast;
    uint64_t delivered;
    uint64_t dropped_events;
    uint64_t dropped_clients;
    uint64_t queued_frames;   /* to handlers, when health was last asked for */
    int64_t last_activity_ms; /* wall clock */
    size_t name_length;
    char name[];
};
TAILQ_HEAD(topic_list, topic);

struct topics {
    struct topic *by_name;
    struct topic_list wanted; /* with subscriber, in no order */
    struct topic_list idle;   /* without, the most recently active last */
};

void topics_init(struct topics *topics);
/* Every handler must have left, and the log must be empty. */
void topics_release(struct topics *topics);

size_t topics_count(const struct topics *topics);

/* NULL if there is none. */
struct topic *topics_find(const struct topics *topics, struct slice name);

/* The topic had an event just now: found or created, and the youngest of the idle ones. The log
 * takes the event, and so keeps the topic. */
struct topic *topics_touch(struct topics *topics, struct slice name);

/* So many more clients of the handler, whose list it is. The topic stays until they have left. */
struct topic *topics_subscribe(struct topics *topics, struct slice name, struct handler *handler,
                               struct subscription_list *list, uint32_t clients);

/* One client less; false if the handler has none there but those that replays speak for. */
bool topics_unsubscribe(struct topics *topics, struct slice name, const struct handler *handler,
                        const struct subscription_list *list) must_check;

/* The handler's subscription to the topic, or NULL. */
struct subscription *topics_subscription(const struct topics *topics, struct slice name,
                                         const struct handler *handler,
                                         const struct subscription_list *list);
struct subscription *topic_subscription(const struct topic *topic, const struct handler *handler,
                                        const struct subscription_list *list);

/* Something that kept it has left: forgets it if that was the last. */
void topics_settle(struct topics *topics, struct topic *topic);

/* Memory that a topic takes, besides what the log accounts for. */
size_t topic_bytes(const struct topic *topic);

/* Ends a subscription whatever its clients: the handler is going. */
void topics_end(struct topics *topics, struct subscription *subscription);
