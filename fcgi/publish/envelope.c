#include "envelope.h"

#include "body.h"
#include "names.h"

#include <inttypes.h>

enum { EVENT_MEMBERS = 2 + FIELDS_COUNT };

/* For the list that body_parse gets: what is read of every event. */
#define EVENT_MEMBERS_LIST {.name = "data"}, {.name = "event"}, FIELDS_MEMBERS

static bool read_event(struct envelope *envelope, const struct body_member members[EVENT_MEMBERS],
                       const char **reason) {
    if (!body_has_data(&members[0], reason) ||
        !body_read_optional_type(&members[1], &envelope->type, reason) ||
        !fields_read(&envelope->fields, &members[2], reason)) {
        return false;
    }
    json_compact(members[0].value, &envelope->data);
    return true;
}

static void build_text(struct envelope *envelope, const struct envelope_stamp *stamp) {
    struct buf *text = &envelope->text;
    buf_append_text(text, "{\"topic\":");
    json_quote(buf_slice(&envelope->topic), text);
    buf_append_text(text, ",\"data\":");
    buf_append_slice(text, buf_slice(&envelope->data));
    if (envelope->type.length > 0) {
        buf_append_text(text, ",\"event\":");
        json_quote(buf_slice(&envelope->type), text);
    }
    fields_append(&envelope->fields, text);
    if (stamp->tenant.length > 0) {
        buf_append_text(text, ",\"tenant\":");
        json_quote(stamp->tenant, text);
    }
    buf_printf(text, ",\"nonce\":\"%016" PRIx64 "\"}", stamp->nonce);
    topic_channel(buf_slice(&envelope->topic), envelope->channel);
}

bool envelope_of_topic(struct envelope *envelope, const char *topic, struct slice body,
                       const struct envelope_stamp *stamp, const char **reason) {
    struct body_member members[] = {EVENT_MEMBERS_LIST, {.name = "tenant"}};
    if (!body_parse(body, members, length_of(members), reason) ||
        !body_lacks_tenant(&members[EVENT_MEMBERS], reason) ||
        !read_event(envelope, members, reason)) {
        return false;
    }
    buf_append_text(&envelope->topic, topic);
    build_text(envelope, stamp);
    return true;
}

bool envelope_of_one(struct envelope *envelope, struct json_value value,
                     const struct envelope_stamp *stamp, const char **reason) {
    struct body_member members[] = {EVENT_MEMBERS_LIST, {.name = "tenant"}, {.name = "topic"}};
    const struct body_member *others = &members[EVENT_MEMBERS];
    if (!body_members(value, members, length_of(members), reason) ||
        !body_lacks_tenant(&others[0], reason) ||
        !body_read_topic(&others[1], &envelope->topic, reason) ||
        !read_event(envelope, members, reason)) {
        return false;
    }
    build_text(envelope, stamp);
    return true;
}

/* As in the durable API, the user 1 and the user "1" are the same. */
static bool read_user(const struct body_member *user, struct buf *topic, const char **reason) {
    buf_append_text(topic, TOPIC_USER_PREFIX);
    size_t before = topic->length;
    if (user->value.type == JSON_STRING) {
        json_string_decode(user->value, topic);
    } else if (user->value.type == JSON_NUMBER) {
        buf_append_slice(topic, user->value.text);
    }
    struct slice name = {topic->bytes + before, topic->length - before};
    return (name.length > 0 && topic_is_valid(buf_slice(topic)) && !topic_is_pattern(name) &&
            (user->value.type == JSON_STRING || names_is_number(name))) ||
           body_complain(user,
                         "must be a whole number, or a string of 1 to 250 bytes of UTF-8 without "
                         "control characters that does not end in \"*\"",
                         reason);
}

static bool read_receiver(struct envelope *envelope, const struct body_member *topic,
                          const struct body_member *user, const char **reason) {
    if (body_is_given(topic) && body_is_given(user)) {
        return body_complain(user, "must not be given together with \"topic\"", reason);
    }
    if (body_is_given(user)) {
        return read_user(user, &envelope->topic, reason);
    }
    if (body_is_given(topic)) {
        return body_read_topic(topic, &envelope->topic, reason);
    }
    buf_append_text(&envelope->topic, TOPIC_BROADCAST);
    return true;
}

bool envelope_of_sse(struct envelope *envelope, struct slice body,
                     const struct envelope_stamp *stamp, const char **reason) {
    struct body_member members[] = {
        EVENT_MEMBERS_LIST, {.name = "tenant"}, {.name = "topic"}, {.name = "user"}};
    const struct body_member *text = &members[EVENT_MEMBERS - 1];
    const struct body_member *others = &members[EVENT_MEMBERS];
    if (!body_parse(body, members, length_of(members), reason) ||
        !body_lacks_tenant(&others[0], reason) ||
        !read_receiver(envelope, &others[1], &others[2], reason) ||
        !read_event(envelope, members, reason)) {
        return false;
    }
    if (!body_is_given(text)) {
        envelope->fields.is_text = members[0].value.type == JSON_STRING;
    }
    build_text(envelope, stamp);
    return true;
}

void envelope_release(struct envelope *envelope) {
    buf_release(&envelope->topic);
    buf_release(&envelope->data);
    buf_release(&envelope->type);
    buf_release(&envelope->text);
    fields_release(&envelope->fields);
}
