#include "event.h"

#include "json.h"
#include "sse.h"
#include "topic.h"
#include "utf8.h"

/* The members that are used, unparsed; text.length 0: absent. */
struct members {
    struct json_value topic, data, event, id, retry, comment, text, tenant;
};

struct member_name {
    const char *name;
    size_t place; /* in struct members */
};

#define MEMBER(name, member) \
    { name, offsetof(struct members, member) }

static const struct member_name envelope_names[] = {
    MEMBER("topic", topic), MEMBER("data", data),    MEMBER("event", event),
    MEMBER("id", id),       MEMBER("retry", retry),  MEMBER("comment", comment),
    MEMBER("text", text),   MEMBER("tenant", tenant)};

/* The members of the envelope that they stand for. */
static const struct member_name forge_names[] = {MEMBER("channel", topic),
                                                 MEMBER("tenant_id", tenant),
                                                 MEMBER("payload", data), MEMBER("type", event)};
static const struct member_name recheck_names[] = {MEMBER("recheck", topic),
                                                   MEMBER("tenant", tenant)};

static void collect(struct slice object, const struct member_name *names, size_t count,
                    struct members *members) {
    struct json_members iterator = {.object = object};
    struct json_value key;
    struct json_value value;
    while (json_next_member(&iterator, &key, &value)) {
        for (size_t i = 0; i < count; i++) {
            if (json_string_is(key, names[i].name)) {
                memcpy((char *)members + names[i].place, &value, sizeof value);
            }
        }
    }
}

static bool is_absent(struct json_value value) {
    return value.text.length == 0 || value.type == JSON_NULL;
}

/* Decodes an optional string; absent is empty. False if it is not a string. */
static bool read_string(struct json_value value, struct buf *out) {
    out->length = 0;
    if (is_absent(value)) {
        return true;
    }
    if (value.type != JSON_STRING) {
        return false;
    }
    json_string_decode(value, out);
    return true;
}

static const char bad_topic[] =
    "\"topic\" must be a string of 1 to 255 bytes without control characters";
static const char bad_type[] =
    "\"event\" must be a string of at most 255 bytes without control characters";
static const char reserved_type[] =
    "\"event\" is one of " EVENT_TYPES_RESERVED_TEXT ": the stream's own";
static const char bad_comment[] = "\"comment\" must be a string";
static const char too_large[] = "it has more than 1048576 bytes";
static const char bad_id[] = "\"id\" must be 1 to 64 of [A-Za-z0-9_.-]";
static const char bad_tenant[] = "\"tenant\" must be 1 to 64 of [A-Za-z0-9_.-], or empty";

static bool check_names(struct event_parser *parser, const char **reason) {
    struct slice topic = buf_slice(&parser->topic);
    struct slice tenant = buf_slice(&parser->tenant);
    if (!tenant_is_valid(tenant)) {
        *reason = bad_tenant;
        return false;
    }
    parser->key = topic_key_make(parser->room, tenant, topic);
    if (topic_key_is_none(parser->key)) {
        *reason = bad_topic;
        return false;
    }
    if (topic_is_pattern(topic) && !slice_is(topic, TOPIC_BROADCAST)) {
        *reason = "\"topic\" ends in \"*\": that is a pattern, and no topic";
        return false;
    }
    if (parser->type.length > 0 && !event_type_is_valid(buf_slice(&parser->type))) {
        *reason = bad_type;
        return false;
    }
    if (parser->publisher_id.length > 0 &&
        !publisher_id_is_valid(buf_slice(&parser->publisher_id))) {
        *reason = bad_id;
        return false;
    }
    return true;
}

static bool check_type(const struct event_parser *parser, const char **reason) {
    if (event_type_is_reserved(buf_slice(&parser->type))) {
        *reason = reserved_type;
        return false;
    }
    return true;
}

static bool read_names(struct event_parser *parser, const struct members *members,
                       const char **reason) {
    if (!read_string(members->topic, &parser->topic)) {
        *reason = bad_topic;
    } else if (!read_string(members->tenant, &parser->tenant)) {
        *reason = bad_tenant;
    } else if (!read_string(members->event, &parser->type)) {
        *reason = bad_type;
    } else if (!read_string(members->id, &parser->publisher_id) ||
               (!is_absent(members->id) && parser->publisher_id.length == 0)) {
        *reason = bad_id;
    } else if (!read_string(members->comment, &parser->comment)) {
        *reason = bad_comment;
    } else {
        return check_names(parser, reason);
    }
    return false;
}

static bool read_retry(const struct members *members, struct sse_event *sse, const char **reason) {
    uint64_t retry_ms;
    if (is_absent(members->retry)) {
        return true;
    }
    if (!json_parse_unsigned(members->retry, EVENT_RETRY_MAX_MS, &retry_ms)) {
        *reason = "\"retry\" must be a whole number from 0 to 3600000";
        return false;
    }
    sse->has_retry = true;
    sse->retry_ms = (uint32_t)retry_ms;
    return true;
}

static bool is_text(const struct members *members) {
    return slice_is(members->text.text, "true") && members->data.type == JSON_STRING;
}

static bool read_data(struct event_parser *parser, const struct members *members,
                      const char **reason) {
    parser->data.length = 0;
    if (members->data.text.length == 0) {
        *reason = "\"data\" is missing";
        return false;
    }
    if (!is_absent(members->text) && members->text.type != JSON_BOOL) {
        *reason = "\"text\" must be true or false";
        return false;
    }
    if (is_text(members)) {
        json_string_decode(members->data, &parser->data);
    } else {
        json_compact(members->data, &parser->data);
    }
    return true;
}

static bool parse_object(struct slice text, const struct member_name *names, size_t count,
                         struct members *members, const char **reason) {
    struct json_value document;
    struct json_error error;
    if (text.length > EVENT_BYTES_MAX) {
        *reason = too_large;
        return false;
    }
    if (!json_parse(text, &document, &error)) {
        *reason = error.message;
        return false;
    }
    if (document.type != JSON_OBJECT) {
        *reason = "not a JSON object";
        return false;
    }
    collect(document.text, names, count, members);
    return true;
}

static void build(struct event_parser *parser, struct sse_event *sse, struct event *event) {
    sse->comment = buf_slice(&parser->comment);
    sse->type = buf_slice(&parser->type);
    sse->data = buf_slice(&parser->data);
    parser->body.length = 0;
    event->id_at = sse_event_body(&parser->body, sse);
    event->body = buf_slice(&parser->body);
    event->topic = parser->key;
    event->is_text = false;
    event->is_live_only = false;
    event->publisher_id = buf_slice(&parser->publisher_id);
}

static void copy(struct buf *place, struct slice text) {
    place->length = 0;
    buf_append_slice(place, text);
}

bool event_parse(struct event_parser *parser, struct slice text, struct event *event,
                 const char **reason) {
    struct members members = {0};
    struct sse_event sse = {0};
    if (!parse_object(text, envelope_names, length_of(envelope_names), &members, reason) ||
        !read_names(parser, &members, reason) || !check_type(parser, reason) ||
        !read_retry(&members, &sse, reason) || !read_data(parser, &members, reason)) {
        return false;
    }
    build(parser, &sse, event);
    event->is_text = is_text(&members);
    return true;
}

/* A sentinel of this publisher's, which needs no payload. */
static bool is_control(struct slice type) {
    return slice_is(type, "close") || slice_is(type, "refresh");
}

bool event_parse_forge(struct event_parser *parser, struct slice text, bool takes_control,
                       struct event *event, const char **reason) {
    struct members members = {0};
    struct sse_event sse = {0};
    if (!parse_object(text, forge_names, length_of(forge_names), &members, reason)) {
        return false;
    }
    if (is_absent(members.tenant) || slice_is(members.tenant.text, "\"\"")) {
        *reason = "\"tenant_id\" is missing";
        return false;
    }
    if (!read_names(parser, &members, reason)) {
        return false;
    }
    if (slice_is(buf_slice(&parser->topic), TOPIC_BROADCAST)) {
        *reason = "\"channel\" is \"*\": this publisher has no broadcasts";
        return false;
    }
    bool has_control = takes_control && is_control(buf_slice(&parser->type));
    if (has_control && members.data.text.length == 0) {
        members.data = (struct json_value){JSON_OBJECT, slice_of("{}")};
    }
    if ((!has_control && !check_type(parser, reason)) || !read_data(parser, &members, reason)) {
        return false;
    }
    build(parser, &sse, event);
    event->is_live_only = slice_is(buf_slice(&parser->type), "close");
    return true;
}

bool event_of_text(struct event_parser *parser, struct topic_key topic, struct slice text,
                   struct event *event) {
    struct sse_event sse = {0};
    bool is_utf8 = utf8_is_valid(text);
    parser->type.length = 0;
    parser->publisher_id.length = 0;
    parser->comment.length = 0;
    parser->data.length = 0;
    utf8_repair(text, &parser->data);
    parser->key = topic;
    build(parser, &sse, event);
    event->is_text = true;
    return !is_utf8;
}

static bool parse_row(const struct event_row *row, struct json_value *data, const char **reason) {
    struct json_error error;
    if (row->data.length + row->comment.length > EVENT_BYTES_MAX) {
        *reason = too_large;
        return false;
    }
    if (row->data.length == 0) {
        *reason = "its data is too large, or missing"; /* pgsse.page cuts large data */
        return false;
    }
    if (!json_parse(row->data, data, &error)) {
        *reason = error.message;
        return false;
    }
    *reason = bad_comment;
    return utf8_is_valid(row->comment);
}

bool event_from_row(struct event_parser *parser, const struct event_row *row, struct event *event,
                    const char **reason) {
    struct json_value data;
    struct sse_event sse = {0};
    if (!parse_row(row, &data, reason)) {
        return false;
    }
    struct members members = {
        .data = data,
        .retry = {JSON_NUMBER, row->retry},
        .text = {JSON_BOOL, slice_of(row->is_text ? "true" : "false")},
    };
    copy(&parser->tenant, row->tenant);
    copy(&parser->topic, row->topic);
    copy(&parser->type, row->type);
    copy(&parser->publisher_id, row->publisher_id);
    copy(&parser->comment, row->comment);
    if (!check_names(parser, reason) || !check_type(parser, reason) ||
        !read_retry(&members, &sse, reason) || !read_data(parser, &members, reason)) {
        return false;
    }
    build(parser, &sse, event);
    event->is_text = is_text(&members);
    return true;
}

struct topic_key event_row_topic(const struct event_row *row, char room[TOPIC_KEY_BYTES_MAX]) {
    return topic_key_make(room, row->tenant, row->topic);
}

bool event_parse_recheck(struct slice text, struct buf *tenant, struct buf *user) {
    struct members members = {0};
    const char *reason;
    return parse_object(text, recheck_names, length_of(recheck_names), &members, &reason) &&
           members.topic.type == JSON_STRING && read_string(members.topic, user) &&
           read_string(members.tenant, tenant) && tenant_is_valid(buf_slice(tenant));
}

void event_parser_release(struct event_parser *parser) {
    buf_release(&parser->tenant);
    buf_release(&parser->topic);
    buf_release(&parser->type);
    buf_release(&parser->publisher_id);
    buf_release(&parser->comment);
    buf_release(&parser->data);
    buf_release(&parser->body);
}
