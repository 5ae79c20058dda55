#include "durable.h"

#include "body.h"
#include "reply.h"

static bool read_members(struct durable *durable, const struct body_member members[3],
                         const char **reason) {
    const struct body_member *type = &members[1];
    const struct body_member *payload = &members[2];
    if (!body_read_channel(&members[0], &durable->channel, reason)) {
        return false;
    }
    if (!body_has(type)) {
        return body_complain(type, "is missing", reason);
    }
    if (!body_read_type(type, &durable->type, reason)) {
        return false;
    }
    return body_has(payload) || body_complain(payload, "is missing", reason);
}

unsigned durable_parse(struct durable *durable, struct slice body, const char **reason) {
    struct body_member members[] = {
        {.name = "channel"}, {.name = "eventType"}, {.name = "payload"}};
    if (!body_parse(body, members, length_of(members), reason) ||
        !read_members(durable, members, reason)) {
        return REPLY_BAD_REQUEST;
    }
    json_compact(members[2].value, &durable->payload);
    return REPLY_OK;
}

void durable_release(struct durable *durable) {
    buf_release(&durable->channel);
    buf_release(&durable->type);
    buf_release(&durable->payload);
}
