#include "gap.h"

struct gap gap_of(uint64_t id, struct topic_key topic) {
    struct gap gap = {.id = id, .key_length = topic.bytes.length};
    check(topic.bytes.length <= sizeof gap.key);
    if (!topic_key_is_none(topic)) {
        memcpy(gap.key, topic.bytes.at, topic.bytes.length);
    }
    return gap;
}

struct topic_key gap_topic(const struct gap *gap) {
    return (struct topic_key){{gap->key, gap->key_length}};
}

bool gap_is_about(const struct gap *gap, const struct topic *topic) {
    return gap->key_length == 0 || topic_key_covers(topic_key_of(topic), gap_topic(gap));
}
