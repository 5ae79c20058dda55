#include "wish.h"

#include "reply.h"
#include "topic.h"
#include "url.h"
#include "utf8.h"

#include <stdlib.h>

enum { WISH_USER_BYTES_MAX = 255 };

/* Takes the value of the next "name=value" off the query, as it was sent. */
static bool next_value(const char **query, const char *name, struct slice *value) {
    size_t name_length = strlen(name);
    while (**query != '\0') {
        const char *pair = *query;
        size_t length = strcspn(pair, "&");
        *query = pair + length + (pair[length] == '&' ? 1 : 0);
        if (length > name_length && pair[name_length] == '=' &&
            memcmp(pair, name, name_length) == 0) {
            *value = (struct slice){pair + name_length + 1, length - name_length - 1};
            return true;
        }
    }
    return false;
}

static bool has_topic(const struct wire_topics *topics, struct slice name) {
    for (size_t i = 0; i < topics->count; i++) {
        if (slice_equals(topics->names[i], name)) {
            return true;
        }
    }
    return false;
}

static const char *add_topic(struct wire_topics *topics, struct slice name) {
    if (!topic_is_valid(name)) {
        return "channels: each must be 1 to 255 bytes of UTF-8 without control characters";
    }
    if (has_topic(topics, name)) {
        return NULL;
    }
    if (topics->count == WIRE_TOPICS_MAX) {
        return "channels: there are more than 64";
    }
    topics->names[topics->count++] = name;
    return NULL;
}

static const char *add_topics(struct wire_topics *topics, struct slice list) {
    const char *end = list.at + list.length;
    for (;;) {
        const char *comma = memchr(list.at, ',', (size_t)(end - list.at));
        const char *name_end = comma == NULL ? end : comma;
        const char *wrong =
            add_topic(topics, (struct slice){list.at, (size_t)(name_end - list.at)});
        if (wrong != NULL || comma == NULL) {
            return wrong;
        }
        list.at = comma + 1;
    }
}

/* Decoded, a query is no longer than it was: room for all of it is enough. */
static bool decode(struct wish *wish, size_t *used, struct slice value, struct slice *decoded) {
    char *room = wish->text + *used;
    size_t length;
    if (!url_decode(value, room, value.length, &length)) {
        return false;
    }
    *decoded = (struct slice){room, length};
    *used += length;
    return true;
}

static const char *parse_user(struct wish *wish, const char *query, size_t *used) {
    struct slice value;
    if (!next_value(&query, "userId", &value)) {
        return "userId is missing";
    }
    bool is_valid = decode(wish, used, value, &wish->user) && wish->user.length >= 1 &&
                    wish->user.length <= WISH_USER_BYTES_MAX && utf8_is_printable(wish->user);
    return is_valid ? NULL : "userId must be 1 to 255 bytes of UTF-8 without control characters";
}

static const char *parse_topics(struct wish *wish, const char *query, size_t *used) {
    struct slice value;
    struct slice list;
    const char *wrong = NULL;
    while (wrong == NULL && next_value(&query, "channels", &value)) {
        wrong = decode(wish, used, value, &list) ? add_topics(&wish->topics, list)
                                                 : "channels cannot be decoded";
    }
    return wrong != NULL || wish->topics.count > 0 ? wrong : "channels is missing";
}

unsigned wish_parse(struct wish *wish, const char *query, const char *authenticated,
                    const char **reason) {
    size_t used = 0;
    *wish = (struct wish){.text = must_alloc(strlen(query) + 1)};
    *reason = parse_user(wish, query, &used);
    if (*reason == NULL) {
        *reason = parse_topics(wish, query, &used);
    }
    if (*reason != NULL) {
        return REPLY_BAD_REQUEST;
    }
    if (authenticated[0] != '\0' && !slice_is(wish->user, authenticated)) {
        *reason = "userId is not the user who was authenticated";
        return REPLY_FORBIDDEN;
    }
    return REPLY_OK;
}

void wish_release(struct wish *wish) {
    free(wish->text);
    *wish = (struct wish){0};
}
