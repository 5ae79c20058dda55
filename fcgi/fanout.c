#include "fanout.h"

#include "client.h"

#include <stdlib.h>

void fanout_init(struct fanout *fanout, struct loop *loop) {
    *fanout = (struct fanout){.loop = loop};
}

static void topic_destroy(struct fanout *fanout, struct fan_topic *topic) {
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

/* Whether the broker does not know it all yet. */
static bool has_changed(const struct fan_topic *topic) {
    return topic->delivered > 0 || topic->dropped_events > 0 || topic->dropped_clients > 0 ||
           topic->pending_events > 0 || topic->was_pending;
}

/* --- topics and audiences ------------------------------------------------------------------ */

static struct fan_topic *topic_find_or_create(struct fanout *fanout, struct slice name) {
    struct fan_topic *topic;
    HASH_FIND(hh, fanout->topics, name.at, name.length, topic);
    if (topic == NULL) {
        topic = must_zalloc(sizeof *topic + name.length);
        topic->name_length = (uint16_t)name.length;
        memcpy(topic->name, name.at, name.length);
        for (size_t form = 0; form < WIRE_FORMS; form++) {
            LIST_INIT(&topic->members[form]);
        }
        HASH_ADD_KEYPTR(hh, fanout->topics, topic->name, name.length, topic);
    }
    return topic;
}

static int compare_slices(const void *a, const void *b) {
    const struct slice *left = a;
    const struct slice *right = b;
    size_t common = left->length < right->length ? left->length : right->length;
    int order = memcmp(left->at, right->at, common);
    return order != 0 ? order : (left->length > right->length) - (left->length < right->length);
}

static bool has_members(const struct fan_topic *topic) {
    for (size_t form = 0; form < WIRE_FORMS; form++) {
        if (!LIST_EMPTY(&topic->members[form])) {
            return true;
        }
    }
    return false;
}

/* The same set of names gives the same key, in whatever order they were asked for. */
static void key_of(enum wire_form form, const struct wire_topics *topics, struct slice *sorted,
                   struct buf *key) {
    buf_append(key, form == WIRE_FORM_TOPICS ? "t" : "c", 1);
    memcpy(sorted, topics->names, topics->count * sizeof *sorted);
    qsort(sorted, topics->count, sizeof *sorted, compare_slices);
    for (size_t i = 0; i < topics->count; i++) {
        buf_append_slice(key, sorted[i]);
        buf_append(key, "", 1);
    }
}

static struct audience *audience_create(struct fanout *fanout, enum wire_form form,
                                        const struct slice *names, size_t count,
                                        const struct buf *key) {
    struct audience *audience = must_zalloc(sizeof *audience + count * sizeof(struct membership));
    audience->fanout = fanout;
    audience->form = form;
    audience->key = must_strdup(key->bytes, key->length);
    audience->key_length = key->length;
    audience->topic_count = count;
    feed_init(&audience->feed);
    LIST_INIT(&audience->live);
    for (size_t i = 0; i < count; i++) {
        struct membership *membership = &audience->memberships[i];
        membership->audience = audience;
        membership->topic = topic_find_or_create(fanout, names[i]);
        LIST_INSERT_HEAD(&membership->topic->members[form], membership, link);
    }
    HASH_ADD_KEYPTR(hh, fanout->audiences, audience->key, audience->key_length, audience);
    return audience;
}

struct audience *fanout_attach(struct fanout *fanout, enum wire_form form,
                               const struct wire_topics *topics) {
    struct slice sorted[WIRE_TOPICS_MAX];
    struct buf key = {0};
    struct audience *audience;
    key_of(form, topics, sorted, &key);
    HASH_FIND(hh, fanout->audiences, key.bytes, key.length, audience);
    if (audience == NULL) {
        audience = audience_create(fanout, form, sorted, topics->count, &key);
    }
    buf_release(&key);
    audience->attached++;
    return audience;
}

/* A topic without member stays only until the next report has told what was done on it. */
static void audience_destroy(struct audience *audience) {
    for (size_t i = 0; i < audience->topic_count; i++) {
        struct fan_topic *topic = audience->memberships[i].topic;
        LIST_REMOVE(&audience->memberships[i], link);
        if (!has_members(topic) && !has_changed(topic)) {
            topic_destroy(audience->fanout, topic);
        }
    }
    loop_flush_cancel(audience->fanout->loop, &audience->flush);
    HASH_DEL(audience->fanout->audiences, audience);
    feed_release(&audience->feed);
    free(audience->key);
    free(audience);
}

void fanout_detach(struct audience **place) {
    struct audience *audience = *place;
    *place = NULL;
    if (--audience->attached == 0) {
        audience_destroy(audience);
    }
}

static struct slice name_of(const struct fan_topic *topic) {
    return (struct slice){topic->name, topic->name_length};
}

void audience_topics(const struct audience *audience, struct wire_topics *topics) {
    topics->count = audience->topic_count;
    for (size_t i = 0; i < audience->topic_count; i++) {
        topics->names[i] = name_of(audience->memberships[i].topic);
    }
}

struct position fanout_position(enum wire_form form, const struct position *position) {
    return form == WIRE_FORM_CONNECTIONS ? position_durable(position) : *position;
}

void audience_append_refresh(const struct audience *audience, struct buf *out,
                             const struct position *position, enum sse_refresh_reason reason,
                             uint64_t dropped) {
    struct wire_topics topics;
    struct position written = fanout_position(audience->form, position);
    audience_topics(audience, &topics);
    if (audience->form == WIRE_FORM_TOPICS || !position_is_start(&written)) {
        sse_id(out, &written, (struct slice){0}); /* a connection's "0" would ask for all */
    }
    sse_refresh(out, reason, dropped, topics.names, topics.count);
}

struct fan_topic *audience_topic(const struct audience *audience, struct slice name) {
    for (size_t i = 0; i < audience->topic_count; i++) {
        struct fan_topic *topic = audience->memberships[i].topic;
        if (slice_equals(name_of(topic), name)) {
            return topic;
        }
    }
    return NULL;
}

/* --- flushing ------------------------------------------------------------------------------ */

/* Each client writes once; then what the slowest has behind it can go. */
static void on_flush(struct loop_task *task) {
    struct audience *audience = container_of(task, struct audience, flush);
    uint64_t oldest = audience->feed.next;
    struct client *client = LIST_FIRST(&audience->live);
    audience->attached++; /* so that it outlives its last client here */
    while (client != NULL) {
        struct client *next = LIST_NEXT(client, of_audience);
        client_flush(client); /* may take it out of the list */
        client = next;
    }
    LIST_FOREACH(client, &audience->live, of_audience) {
        uint64_t frame = client->outlet.cursor.frame;
        oldest = frame < oldest ? frame : oldest;
    }
    feed_trim(&audience->feed, oldest);
    fanout_detach(&audience);
}

static void flush_soon(struct audience *audience) {
    loop_flush_soon(audience->fanout->loop, &audience->flush, on_flush);
}

void audience_trim_soon(struct audience *audience) {
    flush_soon(audience);
}

void audience_join(struct audience *audience, struct client *client) {
    outlet_attach(&client->outlet, &audience->feed);
    LIST_INSERT_HEAD(&audience->live, client, of_audience);
    audience->live_count++;
    audience->is_told = false;
}

void audience_leave(struct audience *audience, struct client *client) {
    LIST_REMOVE(client, of_audience);
    audience->live_count--;
    outlet_detach(&client->outlet);
    flush_soon(audience); /* it may have been the slowest */
}

/* --- publishing ---------------------------------------------------------------------------- */

static void append_frame(struct audience *audience, struct slice frame,
                         const struct position *position, uint64_t durable_before,
                         struct fan_topic *topic) {
    memcpy(feed_append(&audience->feed, frame.length, topic), frame.at, frame.length);
    feed_note_durable(&audience->feed, durable_before);
    audience->last = *position;
    audience->is_told = topic == NULL;
    flush_soon(audience);
}

/* The id line goes in where sse_event_body left its place. */
struct slice fanout_frame(struct fanout *fanout, enum wire_form form,
                          const struct wire_event *event) {
    struct buf *frame = &fanout->frame;
    struct position position = fanout_position(form, &event->position);
    frame->length = 0;
    buf_append(frame, event->body.at, event->id_at);
    sse_id(frame, &position, event->publisher_id);
    buf_append(frame, event->body.at + event->id_at, event->body.length - event->id_at);
    return buf_slice(frame);
}

static void publish_as(struct fanout *fanout, enum wire_form form, const struct wire_event *event,
                       uint64_t durable_before, struct fan_topic *topic) {
    const struct membership *membership;
    if (LIST_EMPTY(&topic->members[form])) {
        return;
    }
    struct slice frame = fanout_frame(fanout, form, event);
    LIST_FOREACH(membership, &topic->members[form], link) {
        if (!LIST_EMPTY(&membership->audience->live)) {
            append_frame(membership->audience, frame, &event->position, durable_before, topic);
        }
    }
}

void fanout_publish(struct fanout *fanout, const struct wire_event *event,
                    uint64_t durable_before) {
    struct fan_topic *topic;
    HASH_FIND(hh, fanout->topics, event->topic.at, event->topic.length, topic);
    if (topic == NULL) {
        return; /* its last client has just left */
    }
    publish_as(fanout, WIRE_FORM_TOPICS, event, durable_before, topic);
    if (event->is_durable) {
        publish_as(fanout, WIRE_FORM_CONNECTIONS, event, durable_before, topic);
    }
}

static bool is_concerned(const struct audience *audience, const struct wire_refresh *message) {
    return !LIST_EMPTY(&audience->live) &&
           (audience->form == WIRE_FORM_TOPICS || message->is_durable) &&
           (message->topic.length == 0 || audience_topic(audience, message->topic) != NULL);
}

/* What several of its topics have to tell at one place is told once: of unknown losses the first
 * reason that was named stands for all. */
static bool is_told_already(const struct audience *audience, const struct wire_refresh *message) {
    return audience->is_told && message->topic.length > 0 &&
           message->dropped == SSE_DROPPED_UNKNOWN &&
           position_equals(&audience->last, &message->position);
}

static void refresh_audience(struct audience *audience, const struct wire_refresh *message,
                             uint64_t durable_before) {
    struct buf *frame = &audience->fanout->frame;
    if (is_told_already(audience, message)) {
        return;
    }
    frame->length = 0;
    audience_append_refresh(audience, frame, &message->position, message->reason, message->dropped);
    append_frame(audience, buf_slice(frame), &message->position, durable_before, NULL);
    feed_note_refresh(&audience->feed, message->reason);
}

void fanout_refresh(struct fanout *fanout, const struct wire_refresh *message,
                    uint64_t durable_before) {
    struct audience *audience;
    struct audience *next;
    HASH_ITER(hh, fanout->audiences, audience, next) {
        if (is_concerned(audience, message)) {
            refresh_audience(audience, message, durable_before);
        }
    }
}

/* --- counting ------------------------------------------------------------------------------ */

void fan_topic_delivered(struct fan_topic *topic) {
    if (topic != NULL) {
        topic->delivered++;
    }
}

static void add_loss(struct fan_loss *loss, const struct feed_mark *mark) {
    if (mark->topic != NULL) {
        mark->topic->dropped_events++;
        loss->dropped += loss->dropped == SSE_DROPPED_UNKNOWN ? 0 : 1;
        return;
    }
    loss->dropped = SSE_DROPPED_UNKNOWN;
    loss->reason = mark->reason < loss->reason ? mark->reason : loss->reason;
}

void audience_count_dropped(struct audience *audience, const struct outlet *outlet,
                            struct fan_loss *loss) {
    const struct feed *feed = &audience->feed;
    for (uint64_t frame = outlet_first_unbegun(outlet); frame < feed->next; frame++) {
        add_loss(loss, feed_mark(feed, frame));
    }
}

void audience_count_dropped_client(struct audience *audience) {
    for (size_t i = 0; i < audience->topic_count; i++) {
        audience->memberships[i].topic->dropped_clients++;
    }
}

/* What waits for one client, added to the topics that it waits on. */
static void gauge_client(const struct client *client) {
    const struct outlet *outlet = &client->outlet;
    uint64_t from = outlet->cursor.at;
    for (uint64_t frame = outlet->cursor.frame; frame < outlet->feed->next; frame++) {
        const struct feed_mark *mark = feed_mark(outlet->feed, frame);
        if (mark->topic != NULL) {
            mark->topic->pending_events++;
            mark->topic->queued_bytes += mark->end - from;
        }
        from = mark->end;
    }
}

static void gauge_all(struct fanout *fanout) {
    struct fan_topic *topic;
    struct fan_topic *next_topic;
    HASH_ITER(hh, fanout->topics, topic, next_topic) {
        topic->pending_events = 0;
        topic->queued_bytes = 0;
    }
    struct audience *audience;
    struct audience *next_audience;
    HASH_ITER(hh, fanout->audiences, audience, next_audience) {
        struct client *client;
        if (audience->feed.first == audience->feed.next) {
            continue; /* nobody waits for anything */
        }
        LIST_FOREACH(client, &audience->live, of_audience) {
            gauge_client(client);
        }
    }
}

static bool report_topic(struct buf *report, struct fan_topic *topic) {
    struct wire_report_entry entry = {
        .topic = name_of(topic),
        .delivered = topic->delivered,
        .dropped_events = topic->dropped_events,
        .dropped_clients = topic->dropped_clients,
        .pending_events = topic->pending_events,
        .queued_bytes = topic->queued_bytes,
    };
    if (!wire_report_add(report, &entry)) {
        return false;
    }
    topic->delivered = 0;
    topic->dropped_events = 0;
    topic->dropped_clients = 0;
    topic->was_pending = topic->pending_events > 0;
    return true;
}

void fanout_report(struct fanout *fanout, uint32_t serial, void *owner,
                   void (*send)(void *owner, struct payload *report)) {
    struct buf report = {0};
    struct fan_topic *topic;
    struct fan_topic *next;
    gauge_all(fanout);
    wire_report_begin(&report, serial);
    HASH_ITER(hh, fanout->topics, topic, next) {
        if (has_changed(topic) && !report_topic(&report, topic)) {
            send(owner, wire_report_end(&report, false));
            wire_report_begin(&report, serial);
            check(report_topic(&report, topic));
        }
        if (!has_members(topic)) {
            topic_destroy(fanout, topic);
        }
    }
    send(owner, wire_report_end(&report, true));
}

/* --- resuming ------------------------------------------------------------------------------ */

/* Connections subscribe anew. */
static uint32_t resumed_clients(const struct fan_topic *topic) {
    uint32_t clients = 0;
    const struct membership *membership;
    LIST_FOREACH(membership, &topic->members[WIRE_FORM_TOPICS], link) {
        clients += membership->audience->live_count;
    }
    return clients;
}

void fanout_resume(struct fanout *fanout, const struct position *position, void *owner,
                   void (*send)(void *owner, struct payload *resume)) {
    enum position_kind kind = position->marker[0] == '\0' ? POSITION_NONE : POSITION_KNOWN;
    struct buf resume = {0};
    struct fan_topic *topic;
    struct fan_topic *next;
    wire_resume_begin(&resume, kind, position);
    HASH_ITER(hh, fanout->topics, topic, next) {
        struct wire_resume_entry entry = {name_of(topic), resumed_clients(topic)};
        if (entry.clients > 0 && !wire_resume_add(&resume, &entry)) {
            send(owner, wire_resume_end(&resume, false));
            wire_resume_begin(&resume, kind, position);
            check(wire_resume_add(&resume, &entry));
        }
    }
    send(owner, wire_resume_end(&resume, true));
}
