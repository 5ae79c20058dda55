#include "topic.h"

#include "utf8.h"

#include <stdio.h>

static char ascii_lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

bool topic_is_valid(struct slice name) {
    return name.length >= 1 && name.length <= TOPIC_BYTES_MAX && utf8_is_printable(name);
}

bool topic_is_pattern(struct slice name) {
    return name.length > 0 && name.at[name.length - 1] == '*';
}

bool topic_is_of_user(struct slice name) {
    return slice_begins_with(name, slice_of(TOPIC_USER_PREFIX));
}

bool topic_parse_path(struct slice name, char lowered[TOPIC_PATH_BYTES_MAX + 1]) {
    if (name.length < 1 || name.length > TOPIC_PATH_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < name.length; i++) {
        char c = ascii_lower(name.at[i]);
        bool fits = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
        if (!fits) {
            return false;
        }
        lowered[i] = c;
    }
    lowered[name.length] = '\0';
    return true;
}

static bool is_word(struct slice text, size_t bytes_max) {
    if (text.length < 1 || text.length > bytes_max) {
        return false;
    }
    for (size_t i = 0; i < text.length; i++) {
        char c = ascii_lower(text.at[i]);
        bool fits =
            (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
        if (!fits) {
            return false;
        }
    }
    return true;
}

bool tenant_is_valid(struct slice tenant) {
    return tenant.length == 0 || is_word(tenant, TENANT_BYTES_MAX);
}

bool publisher_id_is_valid(struct slice id) {
    return is_word(id, PUBLISHER_ID_BYTES_MAX);
}

static uint32_t fnv1a_32(struct slice name) {
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < name.length; i++) {
        hash = (hash ^ (unsigned char)ascii_lower(name.at[i])) * 16777619u;
    }
    return hash;
}

void topic_channel(struct slice name, char channel[TOPIC_CHANNEL_BYTES]) {
    topic_channel_at(fnv1a_32(name) % TOPIC_CHANNELS, channel);
}

void topic_channel_at(unsigned i, char channel[TOPIC_CHANNEL_BYTES]) {
    check(i < TOPIC_CHANNELS);
    snprintf(channel, TOPIC_CHANNEL_BYTES, "topic_broadcast_%u", i % TOPIC_CHANNELS);
}

bool event_type_is_valid(struct slice type) {
    return type.length >= 1 && type.length <= EVENT_TYPE_BYTES_MAX && utf8_is_printable(type);
}

bool event_type_is_reserved(struct slice type) {
    static const char *const reserved[] = {"refresh",  "close", "error", "open",
                                           "position", "end",   "state"};
    for (size_t i = 0; i < length_of(reserved); i++) {
        if (slice_is(type, reserved[i])) {
            return true;
        }
    }
    return false;
}
