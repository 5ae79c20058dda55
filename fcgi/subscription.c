#include "subscription.h"

#include "body.h"
#include "names.h"
#include "reply.h"
#include "topic.h"
#include "url.h"

static void end_text(struct buf *text) {
    buf_append(text, "", 1);
    text->length--;
}

/* --- from a body ------------------------------------------------------------------------------ */

static bool read_user(const struct body_member *member, struct subscription *subscription,
                      const char **reason) {
    if (!body_has(member)) {
        return body_complain(member, "is missing", reason);
    }
    subscription->is_number = member->value.type == JSON_NUMBER;
    if (subscription->is_number) {
        buf_append_slice(&subscription->user, member->value.text);
    } else if (member->value.type == JSON_STRING) {
        json_string_decode(member->value, &subscription->user);
    }
    struct slice user = buf_slice(&subscription->user);
    bool is_sound = subscription->is_number ? names_is_number(user) : names_is_user(user);
    return is_sound || body_complain(member, NAMES_USER_TEXT, reason);
}

unsigned subscription_parse(struct subscription *subscription, struct slice body,
                            const char **reason) {
    struct body_member members[] = {{.name = "userId"}, {.name = "channel"}};
    if (!body_parse(body, members, length_of(members), reason) ||
        !read_user(&members[0], subscription, reason) ||
        !body_read_channel(&members[1], &subscription->channel, reason)) {
        return REPLY_BAD_REQUEST;
    }
    end_text(&subscription->user);
    end_text(&subscription->channel);
    return REPLY_OK;
}

/* --- from a query ----------------------------------------------------------------------------- */

unsigned subscription_parse_query(struct subscription *subscription, const char *query,
                                  const char **reason) {
    char user[TOPIC_BYTES_MAX];
    size_t length = 0;
    enum url_value found = url_query_value(query, "userId", user, sizeof user, &length);
    if (found == URL_VALUE_ABSENT) {
        *reason = "\"userId\" is missing";
        return REPLY_BAD_REQUEST;
    }
    if (found == URL_VALUE_BROKEN || !names_is_user((struct slice){user, length})) {
        *reason = "\"userId\" " NAMES_USER_TEXT;
        return REPLY_BAD_REQUEST;
    }
    buf_append(&subscription->user, user, length);
    subscription->is_number = names_is_number(buf_slice(&subscription->user));
    end_text(&subscription->user);
    return REPLY_OK;
}

void subscription_release(struct subscription *subscription) {
    buf_release(&subscription->user);
    buf_release(&subscription->channel);
}

/* --- answers ---------------------------------------------------------------------------------- */

static void append_user(const struct subscription *subscription, struct buf *out) {
    buf_append_text(out, "\"userId\":");
    if (subscription->is_number) {
        buf_append_slice(out, buf_slice(&subscription->user));
    } else {
        json_quote(buf_slice(&subscription->user), out);
    }
}

void subscription_append_status(const struct subscription *subscription, const char *status,
                                struct buf *out) {
    buf_printf(out, "{\"status\":\"%s\",", status);
    append_user(subscription, out);
    buf_append_text(out, ",\"channel\":");
    json_quote(buf_slice(&subscription->channel), out);
    buf_append_text(out, "}");
}

void subscription_begin_list(const struct subscription *subscription, struct buf *out) {
    buf_append_text(out, "{");
    append_user(subscription, out);
    buf_append_text(out, ",\"channels\":[");
}

void subscription_append_channel(struct slice channel, bool is_first, struct buf *out) {
    buf_append_text(out, is_first ? "" : ",");
    json_quote(channel, out);
}

void subscription_end_list(struct buf *out) {
    buf_append_text(out, "]}");
}
