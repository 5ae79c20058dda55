#include "topics.h"

#include <stdlib.h>

void topics_init(struct topics *topics) {
    *topics = (struct topics){0};
    TAILQ_INIT(&topics->wanted);
    TAILQ_INIT(&topics->idle);
}

static void forget(struct topics *topics, struct topic *topic) {
    HASH_DEL(topics->by_name, topic);
    TAILQ_REMOVE(&topics->idle, topic, link);
    free(topic);
}

void topics_settle(struct topics *topics, struct topic *topic) {
    if (topic->subscribers == 0 && topic->trail.count == 0) {
        forget(topics, topic);
    }
}

size_t topic_bytes(const struct topic *topic) {
    return sizeof *topic + sizeof(struct UT_hash_bucket) + topic->name_length + 1;
}

void topics_release(struct topics *topics) {
    check(TAILQ_EMPTY(&topics->wanted) && TAILQ_EMPTY(&topics->idle));
}

size_t topics_count(const struct topics *topics) {
    return HASH_COUNT(topics->by_name);
}

struct topic *topics_find(const struct topics *topics, struct slice name) {
    struct topic *topic;
    HASH_FIND(hh, topics->by_name, name.at, name.length, topic);
    return topic;
}

static struct topic *find_or_create(struct topics *topics, struct slice name) {
    struct topic *topic = topics_find(topics, name);
    if (topic != NULL) {
        return topic;
    }
    topic = must_zalloc(sizeof *topic + name.length + 1);
    memcpy(topic->name, name.at, name.length);
    topic->name_length = name.length;
    topic->last_activity_ms = wall_ms();
    LIST_INIT(&topic->subscriptions);
    HASH_ADD_KEYPTR(hh, topics->by_name, topic->name, topic->name_length, topic);
    TAILQ_INSERT_TAIL(&topics->idle, topic, link);
    return topic;
}

struct topic *topics_touch(struct topics *topics, struct slice name) {
    struct topic *topic = find_or_create(topics, name);
    topic->last_activity_ms = wall_ms();
    if (topic->subscribers == 0) {
        TAILQ_REMOVE(&topics->idle, topic, link);
        TAILQ_INSERT_TAIL(&topics->idle, topic, link);
    }
    return topic;
}

/* A topic may have thousands of handlers (one process per client) and a handler thousands of
 * topics, but hardly ever both: walking the two lists in step ends with the shorter one. */
struct subscription *topic_subscription(const struct topic *topic, const struct handler *handler,
                                        const struct subscription_list *list) {
    struct subscription *there = LIST_FIRST(&topic->subscriptions);
    struct subscription *here = LIST_FIRST(list);
    while (there != NULL && here != NULL) {
        if (there->handler == handler) {
            return there;
        }
        if (here->topic == topic) {
            return here;
        }
        there = LIST_NEXT(there, of_topic);
        here = LIST_NEXT(here, of_handler);
    }
    return NULL;
}

struct topic *topics_subscribe(struct topics *topics, struct slice name, struct handler *handler,
                               struct subscription_list *list, uint32_t clients) {
    struct topic *topic = find_or_create(topics, name);
    struct subscription *subscription = topic_subscription(topic, handler, list);
    if (subscription == NULL) {
        subscription = must_zalloc(sizeof *subscription);
        subscription->topic = topic;
        subscription->handler = handler;
        LIST_INSERT_HEAD(&topic->subscriptions, subscription, of_topic);
        LIST_INSERT_HEAD(list, subscription, of_handler);
    }
    if (topic->subscribers == 0) {
        TAILQ_REMOVE(&topics->idle, topic, link);
        TAILQ_INSERT_TAIL(&topics->wanted, topic, link);
    }
    topic->subscribers += clients;
    subscription->clients += clients;
    return topic;
}

static void lose_clients(struct topics *topics, struct subscription *subscription,
                         uint64_t clients) {
    struct topic *topic = subscription->topic;
    subscription->clients -= clients;
    topic->subscribers -= clients;
    if (subscription->clients == 0) {
        LIST_REMOVE(subscription, of_topic);
        LIST_REMOVE(subscription, of_handler);
        free(subscription);
    }
    if (topic->subscribers > 0) {
        return;
    }
    TAILQ_REMOVE(&topics->wanted, topic, link);
    TAILQ_INSERT_TAIL(&topics->idle, topic, link);
    topics_settle(topics, topic);
}

struct subscription *topics_subscription(const struct topics *topics, struct slice name,
                                         const struct handler *handler,
                                         const struct subscription_list *list) {
    const struct topic *topic = topics_find(topics, name);
    return topic == NULL ? NULL : topic_subscription(topic, handler, list);
}

bool topics_unsubscribe(struct topics *topics, struct slice name, const struct handler *handler,
                        const struct subscription_list *list) {
    struct subscription *subscription = topics_subscription(topics, name, handler, list);
    if (subscription == NULL || subscription->clients == subscription->by_token) {
        return false;
    }
    lose_clients(topics, subscription, 1);
    return true;
}

void topics_end(struct topics *topics, struct subscription *subscription) {
    lose_clients(topics, subscription, subscription->clients);
}
