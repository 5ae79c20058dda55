/* The broker's topics, and which handlers are interested in which. Fan-out and health use this.
 *
 * A topic exists while it has subscribers or events in the log. The log is bounded, so a flood of
 * names cannot fill the memory. The totals keep the counts of topics that were freed.
 *
 * The floors of a topic say up to where the log has dropped its events. They are exact while the
 * topic exists. When the topic is freed, its floors go into one of TOPICS_FLOOR_SLOTS slots, chosen
 * by the hash of its key. A slot keeps the highest floors of all topics that share it, and a new
 * topic begins with the floors of its slot. So a new topic may seem to have lost events that were
 * another topic's, but a loss is never hidden.
 *
 * A tenant exists while it has topics. */
#pragma once

#include "buf.h"
#include "hash.h"
#include "patterns.h"
#include "trail.h"

#include <sys/queue.h>

enum { TOPICS_FLOOR_SLOTS = 65536 };

struct delivery;
struct topic;

struct floors {
    uint64_t place;   /* of the newest dropped ephemeral event */
    uint64_t durable; /* the id of the newest dropped durable event */
};

/* Counters of events, of one topic or of all. */
struct traffic {
    uint64_t published;
    uint64_t broadcast;      /* frames to handlers */
    uint64_t delivered;      /* frames to clients, as handlers report them */
    uint64_t dropped_events; /* as handlers report them, as are the next */
    uint64_t dropped_clients;
};

/* One handler's interest in one topic. */
struct interest {
    struct topic *topic;       /* borrowed: a topic stays while it has interests */
    struct delivery *delivery; /* borrowed: a closing handler ends its interests first */
    uint64_t clients;          /* at least 1 */
    uint64_t by_token;         /* how many of them have a replay (replay.h), and so a token */
    uint64_t user_streams;     /* how many of them are open user streams, see replay.h */
    uint64_t first_of;         /* how many of these user streams have this as their first topic */
    uint64_t losses_told;      /* during the handler's RESUME: see history_losses */
    uint64_t pending_events;   /* as the handler reported last */
    uint64_t queued_bytes;
    uint32_t streams; /* that the handler counts with this topic, as it reported last */
    LIST_ENTRY(interest) of_topic;
    LIST_ENTRY(interest) of_delivery;
};
LIST_HEAD(interest_list, interest);

TAILQ_HEAD(topic_list, topic);

struct topic_tenant {
    UT_hash_handle hh;
    struct topic_list wanted; /* as in struct topics, but of this tenant */
    struct topic_list idle;
    size_t topics; /* in both lists */
    char name[TENANT_BYTES_MAX + 1];
    /* The counts below are valid only if `survey` is the current survey's number; else they are
     * 0. */
    uint64_t survey;
    uint64_t streams;
    uint64_t user_streams; /* that are open */
    uint64_t active_topics;
    uint64_t dropped_events;
    struct buf channels; /* of open user streams: members of a JSON object, name and count */
};

/* A topic, or a pattern of topics that handlers are interested in. A pattern has no events of its
 * own. */
struct topic {
    UT_hash_handle hh;
    struct interest_list interests;
    TAILQ_ENTRY(topic) link;      /* in topics.wanted or topics.idle */
    TAILQ_ENTRY(topic) of_tenant; /* in the tenant's list of the same name */
    struct topic_tenant *tenant;  /* borrowed: it stays while it has topics */
    struct trail trail;           /* its events in the log; the log fills and empties it */
    struct floors floors;         /* raised by the log */
    uint64_t subscribers;         /* clients of all handlers */
    struct traffic traffic;
    /* Frames that wait for handlers. The count is valid only if `survey` is the current survey's
     * number (survey.h); else it is 0. */
    uint64_t queued_frames;
    uint64_t survey;
    int64_t last_activity_ms; /* wall clock */
    size_t key_length;
    char key[];
};

struct topics {
    struct topic *by_key;         /* patterns, too */
    struct topic_tenant *tenants; /* by their names */
    struct patterns patterns;
    struct topic_list wanted; /* with subscribers, in no order */
    struct topic_list idle;   /* without subscribers, the most recently active last */
    struct floors *forgotten; /* owned: TOPICS_FLOOR_SLOTS of them, for topics that were freed */
    struct traffic total;     /* of all topics, freed ones included */
    uint64_t plain_bytes;     /* of compressed streams, as handlers report them: what was sent, */
    uint64_t gzip_bytes;      /* before and after compression */
    struct topic *walk_next;  /* the walk's next topic; NULL: no walk */
    size_t walk_left;
};

void topics_init(struct topics *topics);
/* All interests must have ended, and the log must be empty. */
void topics_release(struct topics *topics);

size_t topics_count(const struct topics *topics);

/* NULL if the tenant has no topic. */
struct topic_tenant *topics_tenant(const struct topics *topics, struct slice name) must_check;

/* A walk over all topics that may take many turns. Topics may come and go meanwhile; each topic
 * that stays is met once. The walk ends even if topics keep coming. There is one walk at a time. */
void topics_walk_begin(struct topics *topics);
/* NULL at the end. */
struct topic *topics_walk(struct topics *topics);

/* True if the topic has no subscriber, and had no event for idle_ms. */
bool topic_is_idle(const struct topic *topic, int64_t idle_ms, int64_t now_ms) must_check;

static inline bool topic_has_pattern(const struct topic *topic) {
    return topic->key[0] == '*';
}

/* All that covers a topic: the topic itself, and the patterns that match it. */
struct topic_cover {
    const struct topics *topics;
    struct topic *next; /* the topic itself, before it was returned */
    struct pattern_search search;
};
void topics_cover(const struct topics *topics, struct topic_key key, struct topic_cover *cover);
/* NULL at the end. */
struct topic *topics_next_cover(struct topic_cover *cover);

/* NULL if there is none. */
struct topic *topics_find(const struct topics *topics, struct topic_key key);

/* The topic has an event now: finds or creates it, and notes its activity. The caller adds the
 * event to the log, which keeps the topic. */
struct topic *topics_touch(struct topics *topics, struct topic_key key);

/* Counts an event of the topic that goes to a handler. topic: NULL if it does not exist any
 * more. */
void topics_count_broadcast(struct topics *topics, struct topic *topic);

/* Adds that many clients to the handler's interest; list is the handler's. The topic stays until
 * they have left. */
struct topic *topics_subscribe(struct topics *topics, struct topic_key key,
                               struct delivery *delivery, struct interest_list *list,
                               uint32_t clients);

/* Takes one client away; false if the handler has none there without a replay. */
bool topics_unsubscribe(struct topics *topics, struct topic_key key,
                        const struct delivery *delivery,
                        const struct interest_list *list) must_check;

/* The handler's interest in the topic, or NULL. */
struct interest *topics_interest(const struct topics *topics, struct topic_key key,
                                 const struct delivery *delivery, const struct interest_list *list);
struct interest *topic_interest(const struct topic *topic, const struct delivery *delivery,
                                const struct interest_list *list);

/* The topic's durable events up to the id are not in the log. The topic need not exist. */
void topics_raise_durable_floor(struct topics *topics, struct topic_key key, uint64_t id);

/* Another table gives the ids from now on: all durable floors become 0. */
void topics_forget_durable_floors(struct topics *topics);

/* Call this after an entry has left the log: frees the topic if nothing else keeps it. */
void topics_settle(struct topics *topics, struct topic *topic);

/* The memory of a topic, without what the log counts. A topic of another tenant than "" counts as
 * if its tenant had no other. */
size_t topic_bytes(const struct topic *topic);

static inline struct topic_key topic_key_of(const struct topic *topic) {
    return (struct topic_key){{topic->key, topic->key_length}};
}

/* Ends an interest, however many clients it has: the handler is closing. */
void topics_end(struct topics *topics, struct interest *interest);
