#include "position.h"

#include "decimal.h"
#include "topic.h"

#include <inttypes.h>
#include <stdio.h>

static bool parse_number(struct slice text, uint64_t *value) {
    return decimal_parse(text, DECIMAL_DIGITS_MAX, UINT64_MAX, value);
}

static bool parse_parts(struct slice text, struct position *position) {
    bool has_marker;
    bool has_since;
    struct slice durable = slice_take_until(&text, '.', &has_marker);
    if (!parse_number(durable, &position->durable)) {
        return false;
    }
    if (!has_marker) {
        return true;
    }
    struct slice marker = slice_take_until(&text, '.', &has_since);
    if (!has_since || !marker_is_valid(marker) || !parse_number(text, &position->since)) {
        return false;
    }
    memcpy(position->marker, marker.at, MARKER_BYTES);
    return true;
}

enum position_kind position_parse(struct slice text, struct position *position) {
    *position = (struct position){0};
    text = slice_trim(text, " \t");
    if (text.length == 0) {
        return POSITION_NONE;
    }
    bool has_publisher_id;
    struct slice own = slice_take_until(&text, '~', &has_publisher_id);
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

void marker_from_bytes(char marker[MARKER_BYTES + 1], const unsigned char bytes[MARKER_BYTES]) {
    for (size_t i = 0; i < MARKER_BYTES; i++) {
        marker[i] = marker_alphabet[bytes[i] % (sizeof marker_alphabet - 1)];
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
