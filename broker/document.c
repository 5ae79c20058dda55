#include "document.h"

#include "broker.h"

#include <json-c/json.h>

enum { DOCUMENT_OK = 200, DOCUMENT_UNAVAILABLE = 503 };

/* --- members ------------------------------------------------------------------------------- */

static void add_count(struct json_object *object, const char *name, uint64_t value) {
    json_object_object_add(object, name, json_object_new_uint64(value));
}

static void add_bool(struct json_object *object, const char *name, bool value) {
    json_object_object_add(object, name, json_object_new_boolean(value));
}

static void add_text(struct json_object *object, const char *name, const char *text) {
    json_object_object_add(object, name, text == NULL ? NULL : json_object_new_string(text));
}

/* Below 0 is null: not known. */
static void add_number(struct json_object *object, const char *name, double value) {
    char text[32];
    snprintf(text, sizeof text, "%.4g", value);
    json_object_object_add(object, name, value < 0 ? NULL : json_object_new_double_s(value, text));
}

/* 0 is null. */
static void add_time(struct json_object *object, const char *name, int64_t ms) {
    char text[WALL_TEXT_BYTES];
    if (ms != 0) {
        (void)wall_print(ms, text);
    }
    add_text(object, name, ms == 0 ? NULL : text);
}

/* --- health ---------------------------------------------------------------------------------- */

/* What is queued at the moment, summed from the parts that hold it. */
struct queued {
    uint64_t frames; /* to handlers */
    uint64_t frame_bytes;
    uint64_t events; /* to clients */
    uint64_t event_bytes;
};

/* How many of the frames that wait for handlers are events of each topic: one pass over the queues,
 * made when somebody asks, so that nothing has to be counted when events flow. */
static void count_queued_frames(struct broker *broker) {
    struct topic *topic;
    TAILQ_FOREACH(topic, &broker->topics.wanted, link) {
        topic->queued_frames = 0;
    }
    const struct handler *handler;
    TAILQ_FOREACH(handler, &broker->handlers, link) {
        for (size_t i = 0; i < handler->output.count; i++) {
            const struct payload *payload = outq_at(&handler->output, i);
            struct slice bytes = {payload->bytes, payload->length};
            struct wire_frame frame;
            struct wire_event event;
            if (wire_next(&bytes, WIRE_ANSWER_BYTES_MAX, &frame) == WIRE_NEXT_FRAME &&
                frame.type == WIRE_EVENT && wire_decode_event(frame.body, &event) &&
                (topic = topics_find(&broker->topics, event.topic)) != NULL) {
                topic->queued_frames++;
            }
        }
    }
}

static struct queued topic_queued(const struct topic *topic) {
    struct queued queued = {.frames = topic->subscribers > 0 ? topic->queued_frames : 0};
    const struct subscription *subscription;
    LIST_FOREACH(subscription, &topic->subscriptions, of_topic) {
        queued.events += subscription->pending_events;
        queued.event_bytes += subscription->queued_bytes;
    }
    return queued;
}

static uint64_t subscriptions_memory(const struct topic *topic) {
    uint64_t bytes = 0;
    const struct subscription *subscription;
    LIST_FOREACH(subscription, &topic->subscriptions, of_topic) {
        bytes += sizeof *subscription;
    }
    return bytes;
}

static bool topic_is_idle(const struct broker *broker, const struct topic *topic, int64_t now_ms) {
    return topic->subscribers == 0 &&
           now_ms - topic->last_activity_ms >= broker->config->topic_idle;
}

static struct json_object *topic_document(const struct broker *broker, const struct topic *topic,
                                          int64_t now_ms) {
    struct json_object *object = json_object_new_object();
    struct queued queued = topic_queued(topic);
    json_object_object_add(object, "topic",
                           json_object_new_string_len(topic->name, (int)topic->name_length));
    add_count(object, "subscribers", topic->subscribers);
    add_count(object, "dispatch_depth", queued.frames);
    add_count(object, "pending_to_clients", queued.events);
    add_count(object, "published", topic->published);
    add_count(object, "broadcast", topic->broadcast);
    add_count(object, "delivered_frames", topic->delivered);
    add_count(object, "dropped_clients", topic->dropped_clients);
    add_count(object, "dropped_events", topic->dropped_events);
    add_count(object, "memory_usage_bytes",
              topic_bytes(topic) + trail_bytes(&topic->trail) + subscriptions_memory(topic) +
                  queued.event_bytes);
    add_count(object, "last_activity_unix", (uint64_t)(topic->last_activity_ms / 1000));
    add_bool(object, "is_idle", topic_is_idle(broker, topic, now_ms));
    return object;
}

/* False when the list is full: of topics, or of bytes. */
static bool add_topic(struct json_object *list, size_t *bytes, const struct broker *broker,
                      const struct topic *topic, uint32_t limit, int64_t now_ms) {
    size_t length;
    if (json_object_array_length(list) >= limit) {
        return false;
    }
    struct json_object *object = topic_document(broker, topic, now_ms);
    (void)json_object_to_json_string_length(object, JSON_C_TO_STRING_PLAIN, &length);
    *bytes += length;
    if (*bytes > DOCUMENT_LIST_BYTES_MAX) {
        json_object_put(object);
        return false;
    }
    json_object_array_add(list, object);
    return true;
}

/* Subscribed ones first, then the others, the most recently active first. */
static struct json_object *topics_document(const struct broker *broker, uint32_t limit,
                                           int64_t now_ms) {
    struct json_object *list = json_object_new_array();
    size_t bytes = 0;
    const struct topic *topic;
    TAILQ_FOREACH(topic, &broker->topics.wanted, link) {
        if (!add_topic(list, &bytes, broker, topic, limit, now_ms)) {
            return list;
        }
    }
    TAILQ_FOREACH_REVERSE(topic, &broker->topics.idle, topic_list, link) {
        if (!add_topic(list, &bytes, broker, topic, limit, now_ms)) {
            return list;
        }
    }
    return list;
}

struct sums {
    uint64_t subscribers;
    uint64_t idle_topics;
    uint64_t memory;
    struct queued queued;
};

static void sum_topic(struct sums *sums, const struct broker *broker, const struct topic *topic,
                      int64_t now_ms) {
    sums->subscribers += topic->subscribers;
    sums->idle_topics += topic_is_idle(broker, topic, now_ms) ? 1 : 0;
    sums->memory += subscriptions_memory(topic);
    sums->memory += topic->trail.count > 0 ? 0 : topic_bytes(topic); /* else it is the log's */
    const struct subscription *subscription;
    LIST_FOREACH(subscription, &topic->subscriptions, of_topic) {
        sums->queued.events += subscription->pending_events;
        sums->queued.event_bytes += subscription->queued_bytes;
    }
}

static struct sums sum_all(const struct broker *broker, int64_t now_ms) {
    struct sums sums = {0};
    const struct topic *topic;
    TAILQ_FOREACH(topic, &broker->topics.wanted, link) {
        sum_topic(&sums, broker, topic, now_ms);
    }
    TAILQ_FOREACH(topic, &broker->topics.idle, link) {
        sum_topic(&sums, broker, topic, now_ms);
    }
    const struct handler *handler;
    TAILQ_FOREACH(handler, &broker->handlers, link) {
        sums.queued.frames += handler->output.count;
        sums.queued.frame_bytes += handler->output.queued_bytes;
    }
    return sums;
}

static struct json_object *totals_document(const struct broker *broker, int64_t now_ms) {
    struct json_object *object = json_object_new_object();
    const struct broker_totals *totals = &broker->totals;
    struct sums sums = sum_all(broker, now_ms);
    add_count(object, "topics", topics_count(&broker->topics));
    add_count(object, "subscribers", sums.subscribers);
    add_count(object, "handlers", broker->handler_count);
    add_count(object, "dispatch_depth", sums.queued.frames);
    add_count(object, "pending_to_clients", sums.queued.events);
    add_count(object, "published", totals->published);
    add_count(object, "broadcast", totals->broadcast);
    add_count(object, "delivered_frames", totals->delivered);
    add_count(object, "dropped_clients", totals->dropped_clients);
    add_count(object, "dropped_events", totals->dropped_events);
    add_count(object, "total_memory_usage_bytes",
              broker->history.bytes + sums.memory + sums.queued.frame_bytes +
                  sums.queued.event_bytes);
    add_count(object, "history_events", broker->history.count);
    add_count(object, "history_bytes", broker->history.bytes);
    add_count(object, "history_dropped", broker->history.dropped);
    add_count(object, "idle_topics", sums.idle_topics);
    add_bool(object, "listen_connected", broker_is_listening(broker));
    add_time(object, "listen_connected_since",
             broker_is_listening(broker) ? broker->listening_since_ms : 0);
    add_bool(object, "notify_connected", canary_is_connected(&broker->canary));
    add_bool(object, "table_connected", table_is_connected(&broker->table));
    add_count(object, "durable_head", broker->table.head);
    add_text(object, "durable_absent",
             broker->table.state == TABLE_ABSENT ? broker->table.reason : NULL);
    add_count(object, "reconnects", totals->reconnects);
    add_count(object, "reconnect_attempts", totals->reconnect_attempts);
    add_count(object, "notifications", totals->notifications);
    add_count(object, "bad_notifications", totals->bad_notifications);
    add_count(object, "odd_topics", totals->odd_topics);
    add_count(object, "errors", totals->errors);
    add_time(object, "last_error_at", broker->last_error_ms);
    add_number(object, "queue_usage", broker->canary.queue_usage);
    add_count(object, "queue_warnings", totals->queue_warnings);
    add_time(object, "last_queue_warning_at", broker->last_queue_warning_ms);
    add_count(object, "hook_runs", broker->hook.totals.runs);
    add_count(object, "hook_failures", broker->hook.totals.failures);
    add_count(object, "hook_dropped", broker->hook.totals.dropped);
    add_time(object, "last_hook_at", broker->hook.totals.last_ms);
    add_number(object, "canary_ms", broker->canary.round_trip_ms);
    return object;
}

static void write_out(struct json_object *object, struct buf *out) {
    size_t length;
    const char *text = json_object_to_json_string_length(object, JSON_C_TO_STRING_PLAIN, &length);
    check(text != NULL);
    buf_append(out, text, length);
    json_object_put(object);
}

void document_health(struct broker *broker, uint32_t limit, struct buf *out) {
    count_queued_frames(broker);
    struct json_object *object = json_object_new_object();
    int64_t now_ms = wall_ms();
    bool is_degraded = broker->degraded_since_ms != 0;
    add_text(object, "status", is_degraded ? "degraded" : "ok");
    add_text(object, "reason", is_degraded ? broker->degraded_reason : NULL);
    add_time(object, "degraded_since", broker->degraded_since_ms);
    add_time(object, "now", now_ms);
    add_time(object, "last_notification_at", broker->last_notification_wall_ms);
    add_text(object, "version", PGSSE_VERSION);
    json_object_object_add(object, "totals", totals_document(broker, now_ms));
    json_object_object_add(object, "topics", topics_document(broker, limit, now_ms));
    write_out(object, out);
}

uint16_t document_health_status(const struct broker *broker) {
    return broker_is_listening(broker) ? DOCUMENT_OK : DOCUMENT_UNAVAILABLE;
}

void document_short_health(const struct broker *broker, struct buf *out) {
    bool is_degraded = broker->degraded_since_ms != 0;
    struct json_object *object = json_object_new_object();
    add_text(object, "status", is_degraded ? "degraded" : "ok");
    add_text(object, "message", is_degraded ? broker->degraded_reason : "all is well");
    add_time(object, "timestamp", wall_ms());
    write_out(object, out);
}

/* --- connections -------------------------------------------------------------------------------
 */

struct census {
    uint64_t connections;
    struct json_object *by_channel;
    size_t bytes; /* of its names */
};

static void count_channel(struct census *census, const struct topic *topic) {
    struct json_object *count;
    if (json_object_object_get_ex(census->by_channel, topic->name, &count)) {
        (void)json_object_int_inc(count, 1);
        return;
    }
    census->bytes += 6 * topic->name_length; /* as long as escapes can make it */
    if (census->bytes <= DOCUMENT_LIST_BYTES_MAX) {
        json_object_object_add(census->by_channel, topic->name, json_object_new_int64(1));
    }
}

static bool is_open_connection(const struct replay *replay) {
    switch (replay->state) {
    case REPLAY_HELD:
    case REPLAY_UNCHECKED:
    case REPLAY_CHECKING:
        return false;
    case REPLAY_READY:
    case REPLAY_STARVED:
    case REPLAY_PAGING:
    case REPLAY_LIVE:
        break;
    }
    return replay->form == WIRE_FORM_CONNECTIONS;
}

static void count_handler(struct census *census, const struct handler *handler) {
    const struct replay *replay;
    for (replay = handler->replays; replay != NULL; replay = replay->hh.next) {
        if (is_open_connection(replay)) {
            census->connections++;
            for (size_t i = 0; i < replay->topic_count; i++) {
                count_channel(census, replay->topics[i]);
            }
        }
    }
}

void document_connections(const struct broker *broker, struct buf *out) {
    struct census census = {.by_channel = json_object_new_object()};
    const struct handler *handler;
    TAILQ_FOREACH(handler, &broker->handlers, link) {
        count_handler(&census, handler);
    }
    struct json_object *object = json_object_new_object();
    add_count(object, "count", census.connections);
    add_count(object, "activeConnections", census.connections);
    add_count(object, "totalConnections", census.connections);
    json_object_object_add(object, "byChannel", census.by_channel);
    write_out(object, out);
}
