#include "durable.h"

#include "body.h"
#include "http.h"
#include "names.h"
#include "topic.h"

enum { DURABLE_MEMBERS = 5 + FIELDS_COUNT };

static bool read_members(struct durable *durable, const struct body_member members[DURABLE_MEMBERS],
                         const char **reason) {
    const struct body_member *type = &members[1];
    if (!body_read_channel(&members[0], &durable->channel, reason)) {
        return false;
    }
    if (topic_is_pattern(buf_slice(&durable->channel))) {
        return body_complain(&members[0], NAMES_PATTERN_TEXT, reason);
    }
    if (!body_has(type)) {
        return body_complain(type, "is missing", reason);
    }
    if (!body_read_type(type, &durable->type, reason)) {
        return false;
    }
    if (durable->type.length == 0) {
        return body_complain(type, "must not be empty", reason);
    }
    if (!body_has_data(&members[2], reason)) {
        return false;
    }
    if (body_has(&members[3])) {
        return body_complain(&members[3], "is \"eventType\" here", reason);
    }
    return body_lacks_tenant(&members[4], reason) &&
           fields_read(&durable->fields, &members[5], reason);
}

unsigned durable_parse(struct durable *durable, struct slice body, const char **reason) {
    struct body_member members[DURABLE_MEMBERS] = {{.name = "channel"}, {.name = "eventType"},
                                                   {.name = "payload"}, {.name = "event"},
                                                   {.name = "tenant"},  FIELDS_MEMBERS};
    if (!body_parse(body, members, length_of(members), reason) ||
        !read_members(durable, members, reason)) {
        return HTTP_BAD_REQUEST;
    }
    json_compact(members[2].value, &durable->data);
    return HTTP_OK;
}

void durable_release(struct durable *durable) {
    buf_release(&durable->channel);
    buf_release(&durable->type);
    buf_release(&durable->data);
    fields_release(&durable->fields);
}
