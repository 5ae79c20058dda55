#include "stream_query.h"

#include "http.h"
#include "topic.h"
#include "url.h"
#include "utf8.h"

#include <stdio.h>
#include <stdlib.h>

enum { STREAM_QUERY_USER_BYTES_MAX = 255 };

/* What is wrong with a name, in the words of each API. */
struct complaints {
    const char *broken; /* cannot be decoded */
    const char *invalid;
    const char *too_many;
};

static void add_key(struct stream_query *wanted, struct topic_key key) {
    struct names *topics = &wanted->topics;
    if (!names_contain(topics, key)) {
        char *kept = memcpy(wanted->room[topics->count], key.bytes.at, key.bytes.length);
        topics->keys[topics->count++] = (struct topic_key){{kept, key.bytes.length}};
    }
}

static const char *add_name(struct stream_query *wanted, struct slice name,
                            const struct complaints *complaints) {
    char room[TOPIC_KEY_BYTES_MAX];
    bool may_be_pattern = wanted->form == STREAM_FORM_EVENTS;
    struct topic_key key = may_be_pattern ? topic_key_of_name(room, wanted->tenant, name)
                                          : topic_key_make(room, wanted->tenant, name);
    if (topic_key_is_none(key)) {
        return complaints->invalid;
    }
    if (wanted->topics.count == NAMES_ASKED_MAX && !names_contain(&wanted->topics, key)) {
        return complaints->too_many;
    }
    add_key(wanted, key);
    return NULL;
}

/* Adds the names between commas; empty ones are ignored. */
static const char *add_names(struct stream_query *wanted, struct slice list,
                             const struct complaints *complaints) {
    const char *wrong = NULL;
    bool has_comma;
    while (list.length > 0 && wrong == NULL) {
        struct slice name = slice_take_until(&list, ',', &has_comma);
        wrong = name.length == 0 ? NULL : add_name(wanted, name, complaints);
    }
    return wrong;
}

/* A decoded query is not longer than the query, so text has room for it. */
static bool decode(struct stream_query *wanted, size_t *used, struct slice value,
                   struct slice *decoded) {
    check(wanted->text != NULL);
    char *room = wanted->text + *used;
    size_t length;
    if (!url_decode_value(value, room, value.length, &length)) {
        return false;
    }
    *decoded = (struct slice){room, length};
    *used += length;
    return true;
}

static const char *parse_user(struct stream_query *wanted, const char *query, size_t *used) {
    struct slice value;
    if (!url_next_value(&query, "userId", &value)) {
        return "userId is missing";
    }
    bool is_valid = decode(wanted, used, value, &wanted->user) && wanted->user.length >= 1 &&
                    wanted->user.length <= STREAM_QUERY_USER_BYTES_MAX &&
                    utf8_is_printable(wanted->user);
    return is_valid ? NULL : "userId must be 1 to 255 bytes of UTF-8 without control characters";
}

/* All values of that name. */
static const char *parse_names(struct stream_query *wanted, const char *query, const char *name,
                               size_t *used, const struct complaints *complaints) {
    struct slice value;
    struct slice list;
    const char *wrong = NULL;
    while (wrong == NULL && url_next_value(&query, name, &value)) {
        wrong = decode(wanted, used, value, &list) ? add_names(wanted, list, complaints)
                                                   : complaints->broken;
    }
    return wrong;
}

/* The room is not cleared: it is large, and only keys point into it. */
static void begin(struct stream_query *wanted, enum stream_form form, const char *query,
                  const struct identity *identity) {
    check(identity->is_known);
    wanted->form = form;
    wanted->tenant = identity->tenant;
    wanted->user = (struct slice){0};
    wanted->topics.count = 0;
    wanted->text = query == NULL ? NULL : must_alloc(strlen(query) + 1);
}

void stream_query_of_topic(struct stream_query *wanted, struct slice name,
                           const struct identity *identity) {
    char room[TOPIC_KEY_BYTES_MAX];
    begin(wanted, STREAM_FORM_TOPIC, NULL, identity);
    add_key(wanted, topic_key_make(room, wanted->tenant, name));
}

/* Returns HTTP_OK if the request may read all that it names. */
static unsigned check_rights(const struct names *topics, const struct identity *identity,
                             const char **reason) {
    for (size_t i = 0; i < topics->count; i++) {
        if (!identity_may_read(identity, topic_key_name(topics->keys[i]))) {
            *reason = IDENTITY_UNREADABLE;
            return HTTP_FORBIDDEN;
        }
    }
    return HTTP_OK;
}

/* --- the events API --------------------------------------------------------------------------- */

/* The key of the topic of the user who was authenticated; none if nobody was, or if no topic can
 * have that name. */
static struct topic_key own_topic(char room[TOPIC_KEY_BYTES_MAX], const struct identity *identity) {
    char name[TOPIC_BYTES_MAX + 1];
    int length = snprintf(name, sizeof name, TOPIC_USER_PREFIX "%s", identity->user);
    struct slice text = {name, length < 0 ? 0 : (size_t)length};
    if (!identity_is_authenticated(identity) || text.length > TOPIC_BYTES_MAX ||
        topic_is_pattern(text)) {
        return (struct topic_key){0};
    }
    return topic_key_make(room, identity->tenant, text);
}

static bool wants_labels(const char *query) {
    struct slice value;
    return url_next_value(&query, "with_topic", &value) && slice_is(value, "1");
}

unsigned stream_query_of_events(struct stream_query *wanted, const char *query,
                                const struct identity *identity, const char **reason) {
    static const struct complaints complaints = {
        "topics cannot be decoded",
        "topics: each must be 1 to 255 bytes of UTF-8 without control characters",
        "topics: there are more than 64"};
    char room[TOPIC_KEY_BYTES_MAX];
    size_t used = 0;
    struct topic_key own = own_topic(room, identity);
    begin(wanted, STREAM_FORM_EVENTS, query, identity);
    *reason = parse_names(wanted, query, "topics", &used, &complaints);
    if (*reason == NULL) {
        *reason = parse_names(wanted, query, "topic", &used, &complaints);
    }
    if (*reason != NULL) {
        return HTTP_BAD_REQUEST;
    }
    if (check_rights(&wanted->topics, identity, reason) != HTTP_OK) {
        return HTTP_FORBIDDEN;
    }
    if (wanted->topics.count == 0) {
        char all[TOPIC_KEY_BYTES_MAX];
        add_key(wanted, topic_key_of_name(all, wanted->tenant, slice_of("*")));
    }
    if (!topic_key_is_none(own)) {
        add_key(wanted, own);
    }
    add_key(wanted, topic_key_make(room, wanted->tenant, slice_of(TOPIC_BROADCAST)));
    wanted->form = wants_labels(query) ? STREAM_FORM_LABELLED : STREAM_FORM_EVENTS;
    return HTTP_OK;
}

/* --- the durable API -------------------------------------------------------------------------- */

static const char *parse_channels(struct stream_query *wanted, const char *query, size_t *used) {
    static const struct complaints complaints = {
        "channels cannot be decoded",
        "channels: each must be 1 to 255 bytes of UTF-8 without control characters",
        "channels: there are more than 64"};
    const char *wrong = parse_names(wanted, query, "channels", used, &complaints);
    return wrong != NULL || wanted->topics.count > 0 ? wrong : "channels is missing";
}

unsigned stream_query_of_user(struct stream_query *wanted, const char *query,
                              const struct identity *identity, const char **reason) {
    size_t used = 0;
    begin(wanted, STREAM_FORM_USER, query, identity);
    *reason = parse_user(wanted, query, &used);
    if (*reason == NULL) {
        *reason = parse_channels(wanted, query, &used);
    }
    if (*reason != NULL) {
        return HTTP_BAD_REQUEST;
    }
    if (!identity_may_be(identity, wanted->user)) {
        *reason = "userId is not the user who was authenticated";
        return HTTP_FORBIDDEN;
    }
    return check_rights(&wanted->topics, identity, reason);
}

void stream_query_release(struct stream_query *wanted) {
    free(wanted->text);
    wanted->text = NULL;
}
