#include "document.h"

#include "http.h"
#include "survey.h"
#include "utf8.h"

#include <json-c/json.h>

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

/* A value below 0 is not known: null. */
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

/* Text of another origin: bytes that are not UTF-8 become U+FFFD. */
static void add_foreign_text(struct json_object *object, const char *name, const char *text) {
    struct buf clean = {0};
    utf8_repair(slice_of(text), &clean);
    json_object_object_add(object, name,
                           json_object_new_string_len(clean.bytes, (int)clean.length));
    buf_release(&clean);
}

/* --- health ---------------------------------------------------------------------------------- */

/* The frames that wait for handlers now. */
struct queued {
    uint64_t handlers;
    uint64_t frames;
    uint64_t bytes;
};

static struct queued sum_queues(const struct overview *overview) {
    struct queued queued = {0};
    const struct delivery *handler;
    TAILQ_FOREACH(handler, overview->handlers, link) {
        queued.handlers++;
        queued.frames += handler->outbox.queue.count;
        queued.bytes += handler->outbox.queue.queued_bytes;
    }
    return queued;
}

/* Only here is decided what a document may say about a fault. */
static void add_fault(struct json_object *object, const char *name, enum document_scope scope,
                      const char *kind, const char *text) {
    if (kind == NULL) {
        add_text(object, name, NULL);
        return;
    }
    switch (scope) {
    case DOCUMENT_PUBLIC:
        add_text(object, name, kind);
        return;
    case DOCUMENT_LOCAL:
        add_foreign_text(object, name, text);
        return;
    }
}

static struct json_object *totals_document(const struct overview *overview,
                                           const struct survey *survey, enum document_scope scope) {
    struct json_object *object = json_object_new_object();
    const struct journal *journal = overview->journal;
    const struct condition *condition = overview->condition;
    const struct intake *intake = overview->intake;
    const struct history *history = &journal->history;
    const struct hook_totals *hook = &condition->hook.totals;
    const struct traffic *total = &journal->topics.total;
    struct queued queued = sum_queues(overview);
    add_count(object, "topics", topics_count(&journal->topics));
    add_count(object, "subscribers", survey->subscribers);
    add_count(object, "handlers", queued.handlers);
    add_count(object, "dispatch_depth", queued.frames);
    add_count(object, "pending_to_clients", survey->client_events);
    add_count(object, "published", total->published);
    add_count(object, "broadcast", total->broadcast);
    add_count(object, "delivered_frames", total->delivered);
    add_count(object, "dropped_clients", total->dropped_clients);
    add_count(object, "dropped_events", total->dropped_events);
    add_count(object, "total_memory_usage_bytes",
              history->bytes + survey->memory_bytes + queued.bytes + survey->client_bytes);
    add_count(object, "history_events", history->count);
    add_count(object, "history_bytes", history->bytes);
    add_count(object, "history_dropped", history->dropped);
    add_count(object, "idle_topics", survey->idle_topics);
    add_bool(object, "listen_connected", condition->is_listening);
    add_time(object, "listen_connected_since",
             condition->is_listening ? condition->listening_since_ms : 0);
    add_bool(object, "notify_connected", canary_is_connected(&journal->canary));
    add_bool(object, "table_connected", table_is_connected(&journal->table));
    add_count(object, "durable_head", journal->table.head);
    add_fault(object, "durable_absent", scope,
              journal->table.state == TABLE_ABSENT ? TABLE_IS_ABSENT : NULL, journal->table.reason);
    add_count(object, "reconnects", condition->reconnects);
    add_count(object, "reconnect_attempts", condition->reconnect_attempts);
    add_count(object, "notifications", intake->notifications);
    add_count(object, "bad_notifications", intake->bad_notifications);
    add_count(object, "odd_topics", intake->unnameable_topics);
    add_count(object, "errors", condition->errors);
    add_time(object, "last_error_at", condition->last_error_ms);
    add_number(object, "queue_usage", journal->canary.queue_usage);
    add_count(object, "queue_warnings", condition->queue_warnings);
    add_time(object, "last_queue_warning_at", condition->last_queue_warning_ms);
    add_count(object, "hook_runs", hook->runs);
    add_count(object, "hook_failures", hook->failures);
    add_count(object, "hook_dropped", hook->dropped);
    add_time(object, "last_hook_at", hook->last_ms);
    add_number(object, "canary_ms", journal->canary.round_trip_ms);
    return object;
}

static void write_out(struct json_object *object, struct buf *out) {
    size_t length;
    const char *text = json_object_to_json_string_length(object, JSON_C_TO_STRING_PLAIN, &length);
    check(text != NULL);
    buf_append(out, text, length);
    json_object_put(object);
}

void document_health(const struct overview *overview, const struct survey *survey,
                     enum document_scope scope, struct slice list, struct buf *out) {
    const struct condition *condition = overview->condition;
    struct json_object *object = json_object_new_object();
    add_text(object, "status", condition->degraded_kind == NULL ? "ok" : "degraded");
    add_fault(object, "reason", scope, condition->degraded_kind, condition->degraded_reason);
    add_time(object, "degraded_since", condition->degraded_since_ms);
    add_time(object, "now", wall_ms());
    add_time(object, "last_notification_at", overview->intake->last_ms);
    add_text(object, "version", PGSSE_VERSION);
    json_object_object_add(object, "totals", totals_document(overview, survey, scope));
    write_out(object, out);
    out->length--; /* without the closing brace */
    buf_append_text(out, ",\"topics\":[");
    buf_append_slice(out, list);
    buf_append_text(out, WIRE_HEALTH_END);
}

uint16_t document_health_status(const struct overview *overview) {
    return overview->condition->is_listening ? HTTP_OK : HTTP_UNAVAILABLE;
}

void document_short_health(const struct overview *overview, struct buf *out) {
    const char *fault = overview->condition->degraded_kind;
    struct json_object *object = json_object_new_object();
    add_text(object, "status", fault != NULL ? "degraded" : "ok");
    add_text(object, "message", fault != NULL ? fault : "all is well");
    add_time(object, "timestamp", wall_ms());
    write_out(object, out);
}

/* --- user streams ---------------------------------------------------------------------------- */

void document_user_streams(const struct survey *survey, struct slice tenant, struct buf *out) {
    const struct topic_tenant *found = survey_tenant(survey, tenant);
    unsigned long long count = found == NULL ? 0 : found->user_streams;
    buf_printf(out,
               "{\"count\":%llu,\"activeConnections\":%llu,\"totalConnections\":%llu,"
               "\"byChannel\":{",
               count, count, count);
    if (found != NULL) {
        buf_append_slice(out, buf_slice(&found->channels));
    }
    buf_append_text(out, "}}");
}

/* --- streams ---------------------------------------------------------------------------------- */

static void add_machine_stats(struct json_object *object, const struct survey *survey) {
    const struct overview *overview = survey->overview;
    add_count(object, "connected_clients", overview_streams(overview));
    add_count(object, "active_topics", survey->active_topics);
    add_count(object, "dropped_messages", overview->journal->topics.total.dropped_events);
}

static void add_tenant_stats(struct json_object *object, const struct topic_tenant *tenant) {
    add_count(object, "connected_clients", tenant == NULL ? 0 : tenant->streams);
    add_count(object, "active_topics", tenant == NULL ? 0 : tenant->active_topics);
    add_count(object, "dropped_messages", tenant == NULL ? 0 : tenant->dropped_events);
}

void document_stream_stats(const struct survey *survey, struct slice tenant, struct buf *out) {
    struct json_object *object = json_object_new_object();
    if (tenant.length == 0) {
        add_machine_stats(object, survey);
    } else {
        add_tenant_stats(object, survey_tenant(survey, tenant));
    }
    add_time(object, "timestamp", wall_ms());
    write_out(object, out);
}
