#include "fields.h"

#include "position.h"
#include "topic.h"

#include <inttypes.h>

static bool read_id(const struct body_member *member, struct buf *id, const char **reason) {
    if (!body_is_given(member)) {
        return true;
    }
    if (member->value.type == JSON_STRING) {
        json_string_decode(member->value, id);
    }
    return publisher_id_is_valid(buf_slice(id)) ||
           body_complain(member, "must be a string of 1 to 64 of [A-Za-z0-9_.-]", reason);
}

static bool read_retry(const struct body_member *member, struct buf *retry, const char **reason) {
    uint64_t retry_ms;
    if (!body_is_given(member)) {
        return true;
    }
    if (!json_parse_unsigned(member->value, EVENT_RETRY_MAX_MS, &retry_ms)) {
        return body_complain(
            member, "must be a whole number from 0 to " text_of(EVENT_RETRY_MAX_MS), reason);
    }
    buf_printf(retry, "%" PRIu64, retry_ms);
    return true;
}

static bool read_comment(const struct body_member *member, struct buf *comment,
                         const char **reason) {
    if (!body_is_given(member)) {
        return true;
    }
    if (member->value.type != JSON_STRING) {
        return body_complain(member, "must be a string", reason);
    }
    json_string_decode(member->value, comment);
    bool has_nul = comment->length > 0 && memchr(comment->bytes, '\0', comment->length) != NULL;
    return !has_nul || body_complain(member, "must not hold NUL", reason);
}

static bool read_text(const struct body_member *member, bool *is_text, const char **reason) {
    if (body_is_given(member) && member->value.type != JSON_BOOL) {
        return body_complain(member, "must be true or false", reason);
    }
    *is_text = slice_is(member->value.text, "true");
    return true;
}

bool fields_read(struct fields *fields, const struct body_member members[FIELDS_COUNT],
                 const char **reason) {
    return read_id(&members[0], &fields->id, reason) &&
           read_retry(&members[1], &fields->retry, reason) &&
           read_comment(&members[2], &fields->comment, reason) &&
           read_text(&members[3], &fields->is_text, reason);
}

static void append_string(struct buf *object, const char *name, const struct buf *value) {
    if (value->length > 0) {
        buf_printf(object, ",\"%s\":", name);
        json_quote(buf_slice(value), object);
    }
}

void fields_append(const struct fields *fields, struct buf *object) {
    append_string(object, "id", &fields->id);
    if (fields->retry.length > 0) {
        buf_append_text(object, ",\"retry\":");
        buf_append_slice(object, buf_slice(&fields->retry));
    }
    append_string(object, "comment", &fields->comment);
    if (fields->is_text) {
        buf_append_text(object, ",\"text\":true");
    }
}

void fields_release(struct fields *fields) {
    buf_release(&fields->id);
    buf_release(&fields->retry);
    buf_release(&fields->comment);
}
