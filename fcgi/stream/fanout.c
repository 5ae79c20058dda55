#include "fanout.h"

#include <stdlib.h>

void fanout_init(struct fanout *fanout, struct loop *loop, void (*flush_seat)(struct seat *seat)) {
    *fanout = (struct fanout){.loop = loop, .flush_seat = flush_seat};
}

static void topic_destroy(struct fanout *fanout, struct fan_topic *topic) {
    check(fanout->topics != NULL); /* it is one of them */
    if (topic_key_is_pattern(fan_topic_key(topic))) {
        patterns_remove(&fanout->patterns, fan_topic_key(topic));
    }
    HASH_DEL(fanout->topics, topic);
    free(topic);
}

void fanout_release(struct fanout *fanout) {
    struct fan_topic *topic;
    struct fan_topic *next;
    check(fanout->audiences == NULL);
    HASH_ITER(hh, fanout->topics, topic, next) {
        topic_destroy(fanout, topic);
    }
    buf_release(&fanout->frame);
}

/* --- topics and audiences ------------------------------------------------------------------ */

static struct fan_topic *topic_find_or_create(struct fanout *fanout, struct topic_key key) {
    struct fan_topic *topic;
    TOPIC_KEY_FIND(fanout->topics, key, topic);
    if (topic == NULL) {
        topic = must_zalloc(sizeof *topic + key.bytes.length);
        topic->key_length = (uint16_t)key.bytes.length;
        memcpy(topic->key, key.bytes.at, key.bytes.length);
        for (size_t form = 0; form < STREAM_FORMS; form++) {
            LIST_INIT(&topic->members[form]);
        }
        TOPIC_KEY_ADD(fanout->topics, fan_topic_key(topic), topic);
        if (topic_key_is_pattern(key)) {
            patterns_add(&fanout->patterns, key);
        }
    }
    return topic;
}

static bool has_members(const struct fan_topic *topic) {
    for (size_t form = 0; form < STREAM_FORMS; form++) {
        if (!LIST_EMPTY(&topic->members[form])) {
            return true;
        }
    }
    return false;
}

static void key_of(enum stream_form form, const struct names *sorted, struct buf *key) {
    buf_append(key, &"telu"[form], 1);
    for (size_t i = 0; i < sorted->count; i++) {
        buf_append_slice(key, sorted->keys[i].bytes);
        buf_append(key, "", 1);
    }
}

static struct audience *audience_create(struct fanout *fanout, enum stream_form form,
                                        const struct names *topics, const struct buf *key) {
    struct audience *audience =
        must_zalloc(sizeof *audience + topics->count * sizeof(struct membership));
    audience->loop = fanout->loop;
    audience->flush_seat = fanout->flush_seat;
    audience->form = form;
    audience->key = must_strdup(key->bytes, key->length);
    audience->key_length = key->length;
    audience->topic_count = topics->count;
    feed_init(&audience->feed);
    LIST_INIT(&audience->live);
    for (size_t i = 0; i < topics->count; i++) {
        struct membership *membership = &audience->memberships[i];
        membership->audience = audience;
        membership->topic = topic_find_or_create(fanout, topics->keys[i]);
        LIST_INSERT_HEAD(&membership->topic->members[form], membership, link);
    }
    HASH_ADD_KEYPTR(hh, fanout->audiences, audience->key, audience->key_length, audience);
    return audience;
}

/* Of the topic with which its streams are counted. */
static struct tally *first_tally(const struct audience *audience) {
    return &audience->memberships[0].topic->tally;
}

void fanout_recount(struct audience *audience) {
    first_tally(audience)->has_other_streams = true;
}

struct audience *fanout_attach(struct fanout *fanout, enum stream_form form,
                               const struct names *topics) {
    struct names sorted = *topics; /* in whatever order they were asked for */
    struct buf key = {0};
    struct audience *audience;
    names_sort(&sorted);
    key_of(form, &sorted, &key);
    HASH_FIND(hh, fanout->audiences, key.bytes, key.length, audience);
    if (audience == NULL) {
        audience = audience_create(fanout, form, &sorted, &key);
    }
    buf_release(&key);
    audience->attached++;
    tally_add_stream(first_tally(audience));
    return audience;
}

void fanout_forget(struct fanout *fanout, struct fan_topic *topic) {
    if (!has_members(topic)) {
        topic_destroy(fanout, topic);
    }
}

static void audience_destroy(struct fanout *fanout, struct audience *audience) {
    for (size_t i = 0; i < audience->topic_count; i++) {
        struct fan_topic *topic = audience->memberships[i].topic;
        LIST_REMOVE(&audience->memberships[i], link);
        if (!has_members(topic)) {
            topic->tally.has_other_streams = false; /* the broker has forgotten them, too */
        }
        if (!tally_has_changed(&topic->tally)) {
            fanout_forget(fanout, topic);
        }
    }
    loop_flush_cancel(fanout->loop, &audience->flush);
    HASH_DEL(fanout->audiences, audience);
    feed_release(&audience->feed);
    free(audience->key);
    free(audience);
}

void fanout_detach(struct fanout *fanout, struct audience **slot) {
    struct audience *audience = *slot;
    *slot = NULL;
    tally_remove_stream(first_tally(audience));
    if (--audience->attached == 0) {
        audience_destroy(fanout, audience);
    }
}

/* --- publishing ---------------------------------------------------------------------------- */

struct slice fanout_frame(struct fanout *fanout, enum stream_form form,
                          const struct wire_event *event) {
    fanout->frame.length = 0;
    stream_form_event(form, event, &fanout->frame);
    return buf_slice(&fanout->frame);
}

/* An audience gets the event once, also if it wants the topic and patterns that match it. */
static void publish_as(struct fanout *fanout, enum stream_form form, const struct wire_event *event,
                       const struct fan_topic *topic, const struct feed_mark *mark) {
    const struct membership *membership;
    if (LIST_EMPTY(&topic->members[form])) {
        return;
    }
    struct slice frame = fanout_frame(fanout, form, event);
    LIST_FOREACH(membership, &topic->members[form], link) {
        struct audience *audience = membership->audience;
        if (!LIST_EMPTY(&audience->live) && audience->published != fanout->published) {
            audience->published = fanout->published;
            audience_append(audience, frame, &event->position, mark);
        }
    }
}

static void publish_to(struct fanout *fanout, const struct wire_event *event,
                       struct fan_topic *topic, const struct position *before) {
    struct feed_mark mark = {
        .tally = &topic->tally, .is_durable = event->is_durable, .before = *before};
    publish_as(fanout, STREAM_FORM_TOPIC, event, topic, &mark);
    publish_as(fanout, STREAM_FORM_EVENTS, event, topic, &mark);
    publish_as(fanout, STREAM_FORM_LABELLED, event, topic, &mark);
    if (event->is_durable) {
        publish_as(fanout, STREAM_FORM_USER, event, topic, &mark);
    }
}

void fanout_publish(struct fanout *fanout, const struct wire_event *event,
                    const struct position *before) {
    struct fan_topic *topic;
    struct pattern_search search;
    struct topic_key pattern;
    fanout->published++;
    TOPIC_KEY_FIND(fanout->topics, event->topic, topic);
    if (topic != NULL) { /* NULL: only patterns match it, or its last client has just left */
        publish_to(fanout, event, topic, before);
    }
    patterns_search(&fanout->patterns, event->topic, &search);
    while (patterns_next(&search, &pattern)) {
        TOPIC_KEY_FIND(fanout->topics, pattern, topic);
        if (topic != NULL) {
            publish_to(fanout, event, topic, before);
        }
    }
}

static bool is_concerned(const struct audience *audience, const struct wire_refresh *message) {
    return !LIST_EMPTY(&audience->live) &&
           (audience->form != STREAM_FORM_USER || message->is_durable) &&
           (topic_key_is_none(message->topic) || audience_tally(audience, message->topic) != NULL);
}

void fanout_refresh(struct fanout *fanout, const struct wire_refresh *message,
                    const struct position *before) {
    struct audience *audience;
    struct audience *next;
    HASH_ITER(hh, fanout->audiences, audience, next) {
        if (is_concerned(audience, message)) {
            audience_refresh(audience, message, before);
        }
    }
}
