#include "body.h"

#include "names.h"
#include "topic.h"

#include <stdio.h>

static char message[256]; /* the last *reason that is not static */

bool body_complain(const struct body_member *member, const char *text, const char **reason) {
    snprintf(message, sizeof message, "\"%s\" %s", member->name, text);
    *reason = message;
    return false;
}

static void collect(struct slice object, struct body_member *members, size_t count) {
    struct json_members iterator = {.object = object};
    struct json_value key;
    struct json_value value;
    while (json_next_member(&iterator, &key, &value)) {
        for (size_t i = 0; i < count; i++) {
            if (json_string_is(key, members[i].name)) {
                members[i].value = value;
            }
        }
    }
}

bool body_members(struct json_value value, struct body_member *members, size_t count,
                  const char **reason) {
    if (value.type != JSON_OBJECT) {
        *reason = "it is not an object";
        return false;
    }
    collect(value.text, members, count);
    return true;
}

bool body_parse(struct slice body, struct body_member *members, size_t count, const char **reason) {
    struct json_value document;
    struct json_error error;
    if (body.length == 0) {
        *reason = "the body is empty";
        return false;
    }
    if (!json_parse(body, &document, &error)) {
        snprintf(message, sizeof message, "the body is not JSON: %s (at byte %zu)", error.message,
                 error.at);
        *reason = message;
        return false;
    }
    if (document.type != JSON_OBJECT) {
        *reason = "the body is not a JSON object";
        return false;
    }
    collect(document.text, members, count);
    return true;
}

bool body_read_type(const struct body_member *member, struct buf *type, const char **reason) {
    if (member->value.type != JSON_STRING) {
        return body_complain(member, "must be a string", reason);
    }
    json_string_decode(member->value, type);
    if (type->length > 0 && !event_type_is_valid(buf_slice(type))) {
        return body_complain(member, "must have at most 255 bytes and no control characters",
                             reason);
    }
    if (event_type_is_reserved(buf_slice(type))) {
        return body_complain(member, "is one of " EVENT_TYPES_RESERVED_TEXT ": the stream's own",
                             reason);
    }
    return true;
}

bool body_read_optional_type(const struct body_member *member, struct buf *type,
                             const char **reason) {
    return !body_is_given(member) || body_read_type(member, type, reason);
}

bool body_has_data(const struct body_member *member, const char **reason) {
    return body_is_given(member) || body_complain(member, "is missing or null", reason);
}

bool body_read_channel(const struct body_member *member, struct buf *channel, const char **reason) {
    if (!body_has(member)) {
        return body_complain(member, "is missing", reason);
    }
    if (member->value.type != JSON_STRING) {
        return body_complain(member, "must be a string", reason);
    }
    json_string_decode(member->value, channel);
    return names_is_channel(buf_slice(channel)) ||
           body_complain(member, NAMES_CHANNEL_TEXT, reason);
}

bool body_read_topic(const struct body_member *member, struct buf *topic, const char **reason) {
    if (!body_read_channel(member, topic, reason)) {
        return false;
    }
    struct slice name = buf_slice(topic);
    return !topic_is_pattern(name) || slice_is(name, TOPIC_BROADCAST) ||
           body_complain(member, "must not end in \"*\": that is a pattern", reason);
}

bool body_lacks_tenant(const struct body_member *member, const char **reason) {
    return !body_is_given(member) ||
           body_complain(member, "must not be given: the web server sets it", reason);
}
