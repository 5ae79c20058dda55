#include "envelope.h"

#include "body.h"
#include "reply.h"

#include <inttypes.h>

/* Here null is none, too. */
static bool read_type(const struct body_member *event, struct buf *type, const char **reason) {
    bool is_none = !body_has(event) || event->value.type == JSON_NULL;
    return is_none || body_read_type(event, type, reason);
}

static void build_answer(struct envelope *envelope, const char *topic, struct json_value data) {
    static const char before[] = "{\"topic\":\"";
    struct buf *answer = &envelope->answer;
    buf_printf(answer, "%s%s\",\"data\":", before, topic);
    size_t start = answer->length;
    json_compact(data, answer);
    size_t length = answer->length - start;
    buf_append_text(answer, "}");
    envelope->topic = (struct slice){answer->bytes + sizeof before - 1, strlen(topic)};
    envelope->data = (struct slice){answer->bytes + start, length};
}

static void build_payload(struct envelope *envelope, const char *topic, uint64_t nonce) {
    struct buf *payload = &envelope->payload;
    buf_printf(payload, "{\"topic\":\"%s\",\"data\":", topic);
    buf_append_slice(payload, envelope->data);
    if (envelope->type.length > 0) {
        buf_append_text(payload, ",\"event\":");
        json_quote(buf_slice(&envelope->type), payload);
    }
    buf_printf(payload, ",\"nonce\":\"%016" PRIx64 "\"}", nonce);
}

unsigned envelope_build(struct envelope *envelope, const char *topic, struct slice body,
                        uint64_t nonce, const char **reason) {
    struct body_member members[] = {{.name = "data"}, {.name = "event"}};
    const struct body_member *data = &members[0];
    if (!body_parse(body, members, length_of(members), reason)) {
        return REPLY_BAD_REQUEST;
    }
    if (!body_has(data) || data->value.type == JSON_NULL) {
        *reason = "\"data\" is missing or null";
        return REPLY_BAD_REQUEST;
    }
    if (!read_type(&members[1], &envelope->type, reason)) {
        return REPLY_BAD_REQUEST;
    }
    build_answer(envelope, topic, data->value);
    build_payload(envelope, topic, nonce);
    topic_channel(slice_of(topic), envelope->channel);
    return REPLY_OK;
}

void envelope_release(struct envelope *envelope) {
    buf_release(&envelope->payload);
    buf_release(&envelope->type);
    buf_release(&envelope->answer);
}
