#include "user_channel.h"

#include "body.h"
#include "http.h"
#include "names.h"
#include "topic.h"
#include "url.h"

static void end_text(struct buf *text) {
    buf_append(text, "", 1);
    text->length--;
}

/* --- from a body ------------------------------------------------------------------------------ */

static bool read_user(const struct body_member *member, struct user_channel *user_channel,
                      const char **reason) {
    if (!body_has(member)) {
        return body_complain(member, "is missing", reason);
    }
    user_channel->is_number = member->value.type == JSON_NUMBER;
    if (user_channel->is_number) {
        buf_append_slice(&user_channel->user, member->value.text);
    } else if (member->value.type == JSON_STRING) {
        json_string_decode(member->value, &user_channel->user);
    }
    struct slice user = buf_slice(&user_channel->user);
    bool is_sound = user_channel->is_number ? names_is_number(user) : names_is_user(user);
    return is_sound || body_complain(member, NAMES_USER_TEXT, reason);
}

unsigned user_channel_parse(struct user_channel *user_channel, struct slice body,
                            const char **reason) {
    struct body_member members[] = {{.name = "userId"}, {.name = "channel"}, {.name = "tenant"}};
    if (!body_parse(body, members, length_of(members), reason) ||
        !body_lacks_tenant(&members[2], reason) || !read_user(&members[0], user_channel, reason) ||
        !body_read_channel(&members[1], &user_channel->channel, reason)) {
        return HTTP_BAD_REQUEST;
    }
    end_text(&user_channel->user);
    end_text(&user_channel->channel);
    return HTTP_OK;
}

/* --- from a query ----------------------------------------------------------------------------- */

unsigned user_channel_parse_query(struct user_channel *user_channel, const char *query,
                                  const char **reason) {
    char user[TOPIC_BYTES_MAX];
    size_t length = 0;
    enum url_value found = url_query_value(query, "userId", user, sizeof user, &length);
    if (found == URL_VALUE_ABSENT) {
        *reason = "\"userId\" is missing";
        return HTTP_BAD_REQUEST;
    }
    if (found == URL_VALUE_BROKEN || !names_is_user((struct slice){user, length})) {
        *reason = "\"userId\" " NAMES_USER_TEXT;
        return HTTP_BAD_REQUEST;
    }
    buf_append(&user_channel->user, user, length);
    user_channel->is_number = names_is_number(buf_slice(&user_channel->user));
    end_text(&user_channel->user);
    return HTTP_OK;
}

void user_channel_release(struct user_channel *user_channel) {
    buf_release(&user_channel->user);
    buf_release(&user_channel->channel);
}

/* --- answers ---------------------------------------------------------------------------------- */

static void append_user(const struct user_channel *user_channel, struct buf *out) {
    buf_append_text(out, "\"userId\":");
    if (user_channel->is_number) {
        buf_append_slice(out, buf_slice(&user_channel->user));
    } else {
        json_quote(buf_slice(&user_channel->user), out);
    }
}

void user_channel_append_status(const struct user_channel *user_channel, const char *status,
                                struct buf *out) {
    buf_printf(out, "{\"status\":\"%s\",", status);
    append_user(user_channel, out);
    buf_append_text(out, ",\"channel\":");
    json_quote(buf_slice(&user_channel->channel), out);
    buf_append_text(out, "}");
}

void user_channel_begin_list(const struct user_channel *user_channel, struct buf *out) {
    buf_append_text(out, "{");
    append_user(user_channel, out);
    buf_append_text(out, ",\"channels\":[");
}

void user_channel_append_channel(struct slice channel, bool is_first, struct buf *out) {
    buf_append_text(out, is_first ? "" : ",");
    json_quote(channel, out);
}

void user_channel_end_list(struct buf *out) {
    buf_append_text(out, "]}");
}
