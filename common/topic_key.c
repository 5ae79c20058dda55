#include "topic_key.h"

#include <stdlib.h>

static const char separator = '\n';

static struct topic_key write_key(char *room, struct slice tenant, struct slice name) {
    if (!tenant_is_valid(tenant) || !topic_is_valid(name)) {
        return (struct topic_key){0};
    }
    if (tenant.length > 0) {
        memcpy(room, tenant.at, tenant.length);
    }
    room[tenant.length] = separator;
    memcpy(room + tenant.length + 1, name.at, name.length);
    return (struct topic_key){{room, tenant.length + 1 + name.length}};
}

struct topic_key topic_key_make(char room[TOPIC_KEY_BYTES_MAX], struct slice tenant,
                                struct slice name) {
    return write_key(room, tenant, name);
}

struct topic_key topic_key_of_name(char room[TOPIC_KEY_BYTES_MAX], struct slice tenant,
                                   struct slice name) {
    if (!topic_is_pattern(name)) {
        return write_key(room, tenant, name);
    }
    struct topic_key key = write_key(room + 1, tenant, name);
    if (topic_key_is_none(key)) {
        return key;
    }
    room[0] = '*';
    return (struct topic_key){{room, key.bytes.length + 1}};
}

static const char *find_separator(struct slice bytes) {
    return bytes.length == 0 ? NULL : memchr(bytes.at, separator, bytes.length);
}

bool topic_key_parse(struct slice bytes, struct topic_key *key) {
    *key = (struct topic_key){bytes};
    return find_separator(bytes) != NULL && tenant_is_valid(topic_key_tenant(*key)) &&
           topic_is_valid(topic_key_name(*key)) &&
           (!topic_key_is_pattern(*key) || topic_is_pattern(topic_key_name(*key)));
}

struct slice topic_key_tenant(struct topic_key key) {
    const char *end = find_separator(key.bytes);
    const char *start = key.bytes.at + (topic_key_is_pattern(key) ? 1 : 0);
    check(end != NULL);
    return (struct slice){start, (size_t)(end - start)};
}

struct slice topic_key_name(struct topic_key key) {
    struct slice tenant = topic_key_tenant(key);
    const char *start = tenant.at + tenant.length + 1;
    return (struct slice){start, key.bytes.length - (size_t)(start - key.bytes.at)};
}

bool topic_key_covers(struct topic_key name, struct topic_key topic) {
    if (!topic_key_is_pattern(name)) {
        return topic_key_equals(name, topic);
    }
    struct slice start = {name.bytes.at + 1, name.bytes.length - 2}; /* without both '*' */
    return slice_begins_with(topic.bytes, start) && !topic_is_of_user(topic_key_name(topic));
}

int topic_key_compare(struct topic_key a, struct topic_key b) {
    size_t common = a.bytes.length < b.bytes.length ? a.bytes.length : b.bytes.length;
    int order = memcmp(a.bytes.at, b.bytes.at, common);
    return order != 0 ? order
                      : (a.bytes.length > b.bytes.length) - (a.bytes.length < b.bytes.length);
}

bool names_contain(const struct names *names, struct topic_key key) {
    for (size_t i = 0; i < names->count; i++) {
        if (topic_key_equals(names->keys[i], key)) {
            return true;
        }
    }
    return false;
}

bool names_have_pattern(const struct names *names) {
    for (size_t i = 0; i < names->count; i++) {
        if (topic_key_is_pattern(names->keys[i])) {
            return true;
        }
    }
    return false;
}

static int compare(const void *a, const void *b) {
    const struct topic_key *left = a;
    const struct topic_key *right = b;
    return topic_key_compare(*left, *right);
}

void names_sort(struct names *names) {
    qsort(names->keys, names->count, sizeof *names->keys, compare);
}
