#include "position.h"

#include <inttypes.h>
#include <stdio.h>

enum { DECIMAL_DIGITS_MAX = 19 }; /* 10^19 - 1 still fits into 64 bits */

static bool parse_decimal(struct slice text, uint64_t *value) {
    if (text.length < 1 || text.length > DECIMAL_DIGITS_MAX) {
        return false;
    }
    *value = 0;
    for (size_t i = 0; i < text.length; i++) {
        if (text.at[i] < '0' || text.at[i] > '9') {
            return false;
        }
        *value = *value * 10 + (uint64_t)(text.at[i] - '0');
    }
    return true;
}

/* Takes what stands before the first separator off *text, separator included; all of it where
 * there is none. */
static struct slice take_until(struct slice *text, char separator, bool *was_found) {
    const char *end = text->length == 0 ? NULL : memchr(text->at, separator, text->length);
    *was_found = end != NULL;
    struct slice taken = {text->at, end == NULL ? text->length : (size_t)(end - text->at)};
    size_t used = taken.length + (end == NULL ? 0 : 1);
    *text = (struct slice){text->length == 0 ? NULL : text->at + used, text->length - used};
    return taken;
}

static struct slice trimmed(struct slice text) {
    while (text.length > 0 && (text.at[0] == ' ' || text.at[0] == '\t')) {
        text = (struct slice){text.at + 1, text.length - 1};
    }
    while (text.length > 0 &&
           (text.at[text.length - 1] == ' ' || text.at[text.length - 1] == '\t')) {
        text.length--;
    }
    return text;
}

static bool parse_parts(struct slice text, struct position *position) {
    bool has_marker;
    bool has_since;
    struct slice durable = take_until(&text, '.', &has_marker);
    if (!parse_decimal(durable, &position->durable)) {
        return false;
    }
    if (!has_marker) {
        return true;
    }
    struct slice marker = take_until(&text, '.', &has_since);
    if (!has_since || !marker_is_valid(marker) || !parse_decimal(text, &position->since)) {
        return false;
    }
    memcpy(position->marker, marker.at, MARKER_BYTES);
    return true;
}

enum position_kind position_parse(struct slice text, struct position *position) {
    *position = (struct position){0};
    text = trimmed(text);
    if (text.length == 0) {
        return POSITION_NONE;
    }
    bool has_publisher_id;
    struct slice own = take_until(&text, '~', &has_publisher_id);
    if (own.length >= POSITION_TEXT_BYTES || (has_publisher_id && !publisher_id_is_valid(text)) ||
        !parse_parts(own, position)) {
        *position = (struct position){0};
        return POSITION_MALFORMED;
    }
    return slice_is(own, "0") ? POSITION_ALL : POSITION_KNOWN;
}

size_t position_print(const struct position *position, char text[POSITION_TEXT_BYTES]) {
    int length = position->marker[0] == '\0'
                     ? snprintf(text, POSITION_TEXT_BYTES, "%" PRIu64, position->durable)
                     : snprintf(text, POSITION_TEXT_BYTES, "%" PRIu64 ".%s.%" PRIu64,
                                position->durable, position->marker, position->since);
    check(length > 0 && length < POSITION_TEXT_BYTES);
    return (size_t)length;
}

struct position position_durable(const struct position *position) {
    return (struct position){.durable = position->durable};
}

bool position_is_start(const struct position *position) {
    return position->durable == 0 && position->marker[0] == '\0';
}

bool position_equals(const struct position *a, const struct position *b) {
    return a->durable == b->durable && a->since == b->since &&
           memcmp(a->marker, b->marker, sizeof a->marker) == 0;
}

static const char marker_alphabet[] = "0123456789abcdefghijklmnopqrstuvwxyz";

void marker_draw(char marker[MARKER_BYTES + 1]) {
    for (size_t i = 0; i < MARKER_BYTES; i++) {
        marker[i] = marker_alphabet[random_below(sizeof marker_alphabet - 1)];
    }
    marker[MARKER_BYTES] = '\0';
}

bool marker_is_valid(struct slice marker) {
    if (marker.length != MARKER_BYTES) {
        return false;
    }
    for (size_t i = 0; i < marker.length; i++) {
        if (marker.at[i] == '\0' || strchr(marker_alphabet, marker.at[i]) == NULL) {
            return false;
        }
    }
    return true;
}

bool publisher_id_is_valid(struct slice id) {
    if (id.length < 1 || id.length > PUBLISHER_ID_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < id.length; i++) {
        char c = id.at[i];
        bool fits = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '_' || c == '.' || c == '-';
        if (!fits) {
            return false;
        }
    }
    return true;
}
