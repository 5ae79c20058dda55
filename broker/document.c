#include "document.h"

#include "http.h"
#include "survey.h"
#include "totals.h"
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

static void add_total(struct json_object *object, const struct total *total) {
    switch (total->kind) {
    case TOTAL_COUNT:
        add_count(object, total->name, (uint64_t)total->value);
        return;
    case TOTAL_DIFFERENCE:
        json_object_object_add(object, total->name, json_object_new_int64(total->value));
        return;
    case TOTAL_FLAG:
        add_bool(object, total->name, total->value != 0);
        return;
    case TOTAL_TIME:
        add_time(object, total->name, total->value);
        return;
    case TOTAL_NUMBER:
        add_number(object, total->name, total->number);
        return;
    }
}

static struct json_object *totals_document(const struct overview *overview,
                                           const struct survey *survey, enum document_scope scope) {
    struct json_object *object = json_object_new_object();
    const struct table *table = &overview->journal->table;
    struct total totals[TOTALS_MAX];
    size_t count = totals_list(overview, survey, totals);
    for (size_t i = 0; i < count; i++) {
        add_total(object, &totals[i]);
    }
    add_fault(object, "durable_absent", scope,
              table->state == TABLE_ABSENT ? TABLE_IS_ABSENT : NULL, table->reason);
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
