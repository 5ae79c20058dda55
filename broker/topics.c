#include "topics.h"

#include <stdlib.h>

void topics_init(struct topics *topics) {
    *topics = (struct topics){0};
    TAILQ_INIT(&topics->wanted);
    TAILQ_INIT(&topics->idle);
    topics->forgotten = must_zalloc(TOPICS_FLOOR_SLOTS * sizeof *topics->forgotten);
}

/* --- tenants --------------------------------------------------------------------------------- */

struct topic_tenant *topics_tenant(const struct topics *topics, struct slice name) {
    struct topic_tenant *tenant;
    HASH_FIND(hh, topics->tenants, name.at, name.length, tenant);
    return tenant;
}

static struct topic_tenant *tenant_find_or_create(struct topics *topics, struct slice name) {
    struct topic_tenant *tenant = topics_tenant(topics, name);
    if (tenant == NULL) {
        check(name.length <= TENANT_BYTES_MAX);
        tenant = must_zalloc(sizeof *tenant);
        memcpy(tenant->name, name.at, name.length);
        TAILQ_INIT(&tenant->wanted);
        TAILQ_INIT(&tenant->idle);
        HASH_ADD(hh, topics->tenants, name, name.length, tenant);
    }
    return tenant;
}

static void tenant_settle(struct topics *topics, struct topic_tenant *tenant) {
    if (tenant->topics == 0) {
        HASH_DEL(topics->tenants, tenant);
        buf_release(&tenant->channels);
        free(tenant);
    }
}

/* --- the two lists --------------------------------------------------------------------------- */

static void add_idle(struct topics *topics, struct topic *topic) {
    TAILQ_INSERT_TAIL(&topics->idle, topic, link);
    TAILQ_INSERT_TAIL(&topic->tenant->idle, topic, of_tenant);
}

static void remove_idle(struct topics *topics, struct topic *topic) {
    TAILQ_REMOVE(&topics->idle, topic, link);
    TAILQ_REMOVE(&topic->tenant->idle, topic, of_tenant);
}

static void add_wanted(struct topics *topics, struct topic *topic) {
    TAILQ_INSERT_TAIL(&topics->wanted, topic, link);
    TAILQ_INSERT_TAIL(&topic->tenant->wanted, topic, of_tenant);
}

static void remove_wanted(struct topics *topics, struct topic *topic) {
    TAILQ_REMOVE(&topics->wanted, topic, link);
    TAILQ_REMOVE(&topic->tenant->wanted, topic, of_tenant);
}

/* --- topics ---------------------------------------------------------------------------------- */

static struct floors *slot_of(const struct topics *topics, unsigned hash) {
    return &topics->forgotten[hash % TOPICS_FLOOR_SLOTS];
}

static void raise(uint64_t *floor, uint64_t value) {
    *floor = *floor > value ? *floor : value;
}

static void forget(struct topics *topics, struct topic *topic) {
    struct floors *slot = slot_of(topics, topic->hh.hashv);
    raise(&slot->place, topic->floors.place);
    raise(&slot->durable, topic->floors.durable);
    if (topics->walk_next == topic) {
        topics->walk_next = topic->hh.next;
    }
    if (topic_has_pattern(topic)) {
        patterns_remove(&topics->patterns, topic_key_of(topic));
    }
    HASH_DEL(topics->by_key, topic);
    remove_idle(topics, topic);
    topic->tenant->topics--;
    tenant_settle(topics, topic->tenant);
    free(topic);
}

void topics_settle(struct topics *topics, struct topic *topic) {
    if (topic->subscribers == 0 && topic->trail.count == 0) {
        forget(topics, topic);
    }
}

size_t topic_bytes(const struct topic *topic) {
    bool has_tenant = topic->tenant->name[0] != '\0';
    size_t tenant_bytes = has_tenant ? sizeof *topic->tenant + sizeof(struct UT_hash_bucket) : 0;
    return sizeof *topic + sizeof(struct UT_hash_bucket) + topic->key_length + tenant_bytes;
}

void topics_release(struct topics *topics) {
    check(TAILQ_EMPTY(&topics->wanted) && TAILQ_EMPTY(&topics->idle));
    free(topics->forgotten);
    topics->forgotten = NULL;
}

size_t topics_count(const struct topics *topics) {
    return HASH_COUNT(topics->by_key);
}

/* In the order in which they were created: new ones come last. */
void topics_walk_begin(struct topics *topics) {
    topics->walk_next = topics->by_key;
    topics->walk_left = topics_count(topics);
}

struct topic *topics_walk(struct topics *topics) {
    struct topic *topic = topics->walk_left > 0 ? topics->walk_next : NULL;
    if (topic == NULL) {
        topics->walk_next = NULL;
        return NULL;
    }
    topics->walk_next = topic->hh.next;
    topics->walk_left--;
    return topic;
}

bool topic_is_idle(const struct topic *topic, int64_t idle_ms, int64_t now_ms) {
    return topic->subscribers == 0 && now_ms - topic->last_activity_ms >= idle_ms;
}

struct topic *topics_find(const struct topics *topics, struct topic_key key) {
    struct topic *topic;
    TOPIC_KEY_FIND(topics->by_key, key, topic);
    return topic;
}

void topics_cover(const struct topics *topics, struct topic_key key, struct topic_cover *cover) {
    cover->topics = topics;
    cover->next = topics_find(topics, key);
    patterns_search(&topics->patterns, key, &cover->search);
}

struct topic *topics_next_cover(struct topic_cover *cover) {
    struct topic *topic = cover->next;
    struct topic_key pattern;
    cover->next = NULL;
    while (topic == NULL && patterns_next(&cover->search, &pattern)) {
        topic = topics_find(cover->topics, pattern);
    }
    return topic;
}

static struct topic *find_or_create(struct topics *topics, struct topic_key key) {
    struct topic *topic = topics_find(topics, key);
    if (topic != NULL) {
        return topic;
    }
    topic = must_zalloc(sizeof *topic + key.bytes.length);
    memcpy(topic->key, key.bytes.at, key.bytes.length);
    topic->key_length = key.bytes.length;
    topic->last_activity_ms = wall_ms();
    LIST_INIT(&topic->interests);
    TOPIC_KEY_ADD(topics->by_key, topic_key_of(topic), topic);
    if (topic_has_pattern(topic)) {
        patterns_add(&topics->patterns, key);
    } else {
        topic->floors = *slot_of(topics, topic->hh.hashv);
    }
    topic->tenant = tenant_find_or_create(topics, topic_key_tenant(key));
    topic->tenant->topics++;
    add_idle(topics, topic);
    return topic;
}

void topics_raise_durable_floor(struct topics *topics, struct topic_key key, uint64_t id) {
    struct topic *topic = topics_find(topics, key);
    unsigned hash;
    if (topic != NULL) {
        raise(&topic->floors.durable, id);
        return;
    }
    TOPIC_KEY_HASH(key, hash);
    raise(&slot_of(topics, hash)->durable, id);
}

void topics_forget_durable_floors(struct topics *topics) {
    struct topic *topic;
    struct topic *next;
    for (size_t i = 0; i < TOPICS_FLOOR_SLOTS; i++) {
        topics->forgotten[i].durable = 0;
    }
    HASH_ITER(hh, topics->by_key, topic, next) {
        topic->floors.durable = 0;
    }
}

void topics_count_broadcast(struct topics *topics, struct topic *topic) {
    if (topic != NULL) {
        topic->traffic.broadcast++;
    }
    topics->total.broadcast++;
}

struct topic *topics_touch(struct topics *topics, struct topic_key key) {
    struct topic *topic = find_or_create(topics, key);
    topic->last_activity_ms = wall_ms();
    if (topic->subscribers == 0) {
        remove_idle(topics, topic);
        add_idle(topics, topic);
    }
    return topic;
}

/* A topic may have thousands of handlers (with one process per client), and a handler thousands of
 * topics, but hardly ever both. So walk the two lists in step: the search ends with the shorter
 * one. */
struct interest *topic_interest(const struct topic *topic, const struct delivery *delivery,
                                const struct interest_list *list) {
    struct interest *there = LIST_FIRST(&topic->interests);
    struct interest *here = LIST_FIRST(list);
    while (there != NULL && here != NULL) {
        if (there->delivery == delivery) {
            return there;
        }
        if (here->topic == topic) {
            return here;
        }
        there = LIST_NEXT(there, of_topic);
        here = LIST_NEXT(here, of_delivery);
    }
    return NULL;
}

struct topic *topics_subscribe(struct topics *topics, struct topic_key key,
                               struct delivery *delivery, struct interest_list *list,
                               uint32_t clients) {
    struct topic *topic = find_or_create(topics, key);
    struct interest *interest = topic_interest(topic, delivery, list);
    if (interest == NULL) {
        interest = must_zalloc(sizeof *interest);
        interest->topic = topic;
        interest->delivery = delivery;
        LIST_INSERT_HEAD(&topic->interests, interest, of_topic);
        LIST_INSERT_HEAD(list, interest, of_delivery);
    }
    if (topic->subscribers == 0) {
        remove_idle(topics, topic);
        add_wanted(topics, topic);
    }
    topic->subscribers += clients;
    interest->clients += clients;
    return topic;
}

static void lose_clients(struct topics *topics, struct interest *interest, uint64_t clients) {
    struct topic *topic = interest->topic;
    interest->clients -= clients;
    topic->subscribers -= clients;
    if (interest->clients == 0) {
        LIST_REMOVE(interest, of_topic);
        LIST_REMOVE(interest, of_delivery);
        free(interest);
    }
    if (topic->subscribers > 0) {
        return;
    }
    remove_wanted(topics, topic);
    add_idle(topics, topic);
    topics_settle(topics, topic);
}

struct interest *topics_interest(const struct topics *topics, struct topic_key key,
                                 const struct delivery *delivery,
                                 const struct interest_list *list) {
    const struct topic *topic = topics_find(topics, key);
    return topic == NULL ? NULL : topic_interest(topic, delivery, list);
}

bool topics_unsubscribe(struct topics *topics, struct topic_key key,
                        const struct delivery *delivery, const struct interest_list *list) {
    struct interest *interest = topics_interest(topics, key, delivery, list);
    if (interest == NULL || interest->clients == interest->by_token) {
        return false;
    }
    lose_clients(topics, interest, 1);
    return true;
}

void topics_end(struct topics *topics, struct interest *interest) {
    lose_clients(topics, interest, interest->clients);
}
