#include "envelope.h"

#include "json.h"
#include "reply.h"

#include <inttypes.h>
#include <stdio.h>

struct members {
    struct json_value data; /* text.length 0: absent */
    struct json_value event;
};

static void collect(struct slice object, struct members *members) {
    struct json_members iterator = {.object = object};
    struct json_value key;
    struct json_value value;
    *members = (struct members){0};
    while (json_next_member(&iterator, &key, &value)) {
        if (json_string_is(key, "data")) {
            members->data = value;
        } else if (json_string_is(key, "event")) {
            members->event = value;
        }
    }
}

static bool parse_body(struct slice body, struct members *members, const char **reason) {
    static char message[128];
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
    collect(document.text, members);
    return true;
}

/* An empty type is none. */
static bool read_type(struct json_value event, struct buf *type, const char **reason) {
    if (event.text.length == 0 || event.type == JSON_NULL) {
        return true;
    }
    if (event.type != JSON_STRING) {
        *reason = "\"event\" must be a string";
        return false;
    }
    json_string_decode(event, type);
    if (type->length > 0 && !event_type_is_valid(buf_slice(type))) {
        *reason = "\"event\" must have at most 255 bytes and no control characters";
        return false;
    }
    if (event_type_is_reserved(buf_slice(type))) {
        *reason = "\"event\": refresh, close, error and open are the stream's own";
        return false;
    }
    return true;
}

static void build_payload(struct buf *payload, const char *topic, struct slice data,
                          struct slice type, uint64_t nonce) {
    buf_printf(payload, "{\"topic\":\"%s\",\"data\":", topic);
    buf_append_slice(payload, data);
    if (type.length > 0) {
        buf_append_text(payload, ",\"event\":");
        json_quote(type, payload);
    }
    buf_printf(payload, ",\"nonce\":\"%016" PRIx64 "\"}", nonce);
    buf_append(payload, "", 1);
    payload->length--;
}

static void build_answer(struct buf *answer, const char *topic, struct slice data) {
    buf_printf(answer, "{\"topic\":\"%s\",\"data\":", topic);
    buf_append_slice(answer, data);
    buf_append_text(answer, "}");
}

unsigned envelope_build(struct envelope *envelope, const char *topic, struct slice body,
                        uint64_t nonce, size_t max_payload_bytes, const char **reason) {
    struct members members;
    struct buf data = {0};
    struct buf type = {0};
    unsigned status = REPLY_BAD_REQUEST;
    if (!parse_body(body, &members, reason)) {
        return status;
    }
    if (members.data.text.length == 0 || members.data.type == JSON_NULL) {
        *reason = "\"data\" is missing or null";
    } else if (read_type(members.event, &type, reason)) {
        json_compact(members.data, &data);
        build_payload(&envelope->payload, topic, buf_slice(&data), buf_slice(&type), nonce);
        build_answer(&envelope->answer, topic, buf_slice(&data));
        topic_channel(slice_of(topic), envelope->channel);
        bool fits = envelope->payload.length <= max_payload_bytes;
        status = fits ? REPLY_OK : REPLY_TOO_LARGE;
        *reason = "the event is larger than a notification may be (max_notify_bytes)";
    }
    buf_release(&data);
    buf_release(&type);
    return status;
}

void envelope_release(struct envelope *envelope) {
    buf_release(&envelope->payload);
    buf_release(&envelope->answer);
}
