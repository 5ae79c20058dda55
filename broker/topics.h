/* The broker's topics, and which handlers want which: who gets an event, and what health tells.
 *
 * A topic exists while somebody subscribes to it, and for some time after its last event: of those
 * without subscriber the TOPICS_IDLE_MAX that were active last are kept, so that no flood of names
 * fills the memory. Totals are counted elsewhere and lose nothing when a topic is forgotten. */
#pragma once

#include "base.h"

#include <sys/queue.h>
#include <uthash.h>

enum { TOPICS_IDLE_MAX = 65536 };

struct handler;
struct topic;

/* What one handler has to do with one topic. */
struct subscription {
    struct topic *topic;     /* borrowed: it lives as long as its subscriptions */
    struct handler *handler; /* borrowed: it ends its subscriptions before it goes */
    uint32_t clients;        /* at least 1 */
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
    size_t idle_count;
};

void topics_init(struct topics *topics);
/* Every handler must have left. */
void topics_release(struct topics *topics);

size_t topics_count(const struct topics *topics);

/* NULL if there is none. */
struct topic *topics_find(const struct topics *topics, struct slice name);

/* The topic had an event just now: found or created, and the youngest of the idle ones. It may be
 * forgotten at the next call. */
struct topic *topics_touch(struct topics *topics, struct slice name);

/* One more client of the handler, whose list it is. */
void topics_subscribe(struct topics *topics, struct slice name, struct handler *handler,
                      struct subscription_list *list);

/* One client less; false if the handler has none there. */
bool topics_unsubscribe(struct topics *topics, struct slice name, const struct handler *handler,
                        const struct subscription_list *list) must_check;

/* The handler's subscription to the topic, or NULL. */
struct subscription *topics_subscription(const struct topics *topics, struct slice name,
                                         const struct handler *handler,
                                         const struct subscription_list *list);

/* Ends a subscription whatever its clients: the handler is going. */
void topics_end(struct topics *topics, struct subscription *subscription);
