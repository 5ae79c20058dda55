#include "patterns.h"

static size_t length_between(struct topic_key pattern) {
    check(topic_key_is_pattern(pattern) && pattern.bytes.length >= 2);
    return pattern.bytes.length - 2;
}

void patterns_add(struct patterns *patterns, struct topic_key pattern) {
    patterns->counts[length_between(pattern)]++;
    patterns->count++;
}

void patterns_remove(struct patterns *patterns, struct topic_key pattern) {
    uint32_t *count = &patterns->counts[length_between(pattern)];
    check(*count > 0);
    (*count)--;
    patterns->count--;
}

/* The search starts at the length of the tenant and the newline, so only patterns of the topic's
 * own tenant can match. */
void patterns_search(const struct patterns *patterns, struct topic_key topic,
                     struct pattern_search *search) {
    search->patterns = patterns;
    if (patterns->count == 0) {
        search->topic_length = 0;
        search->length = 1; /* longer than the topic: nothing is found */
        return;
    }
    check(topic.bytes.length < TOPIC_KEY_BYTES_MAX && !topic_key_is_pattern(topic));
    struct slice name = topic_key_name(topic);
    search->topic_length = topic.bytes.length;
    search->length =
        topic_is_of_user(name) ? topic.bytes.length + 1 : (size_t)(name.at - topic.bytes.at);
    search->star_at = 0;
    search->room[0] = '*';
    memcpy(search->room + 1, topic.bytes.at, topic.bytes.length);
}

static void move_star(struct pattern_search *search, size_t at) {
    if (search->star_at > 0) {
        search->room[search->star_at] = search->replaced;
    }
    search->star_at = at;
    search->replaced = search->room[at];
    search->room[at] = '*';
}

bool patterns_next(struct pattern_search *search, struct topic_key *pattern) {
    while (search->length <= search->topic_length) {
        size_t length = search->length++;
        if (search->patterns->counts[length] > 0) {
            move_star(search, 1 + length);
            *pattern = (struct topic_key){{search->room, length + 2}};
            return true;
        }
    }
    return false;
}
