#include "markers.h"

#include "json.h"

#include <inttypes.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

/* Changes whenever the way of counting changes. */
static const char counting_version[] = "2\n";

static uint64_t fnv1a_64(uint64_t hash, struct slice text) {
    for (size_t i = 0; i < text.length; i++) {
        hash = (hash ^ (unsigned char)text.at[i]) * 1099511628211u;
    }
    return hash;
}

static void forget(struct markers *markers, struct marker *marker) {
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): what is listed is in the table */
    HASH_DEL(markers->by_name, marker);
    TAILQ_REMOVE(&markers->by_age, marker, link);
    free(marker);
}

static void forget_old(struct markers *markers, int64_t now_ms) {
    struct marker *oldest;
    while ((oldest = TAILQ_FIRST(&markers->by_age)) != NULL &&
           (now_ms - oldest->heard_ms > markers->memory_ms ||
            HASH_COUNT(markers->by_name) >= MARKERS_MAX)) {
        forget(markers, oldest);
    }
}

/* False if the name was heard before. */
static bool remember(struct markers *markers, const char *name, int64_t now_ms) {
    struct marker *marker;
    HASH_FIND(hh, markers->by_name, name, MARKER_BYTES, marker);
    if (marker != NULL) {
        marker->is_ambiguous = true;
        return false;
    }
    forget_old(markers, now_ms);
    marker = must_zalloc(sizeof *marker);
    memcpy(marker->name, name, MARKER_BYTES);
    marker->place = markers->count;
    marker->end = MARKER_UNENDED;
    marker->heard_ms = now_ms;
    HASH_ADD(hh, markers->by_name, name, MARKER_BYTES, marker);
    TAILQ_INSERT_TAIL(&markers->by_age, marker, link);
    return true;
}

/* From here on positions are written with a new name that nobody else knows. */
static void write_from_private(struct markers *markers, int64_t now_ms) {
    marker_draw(markers->written);
    check(remember(markers, markers->written, now_ms));
    markers->written_place = markers->count;
    markers->is_public = false;
}

static void set_set(struct markers *markers, struct slice set) {
    const struct slice version = {counting_version, sizeof counting_version - 1};
    uint64_t hash = fnv1a_64(14695981039346656037u, version);
    snprintf(markers->set, sizeof markers->set, "%016" PRIx64, fnv1a_64(hash, set));
}

void markers_init(struct markers *markers, int64_t memory_ms, struct slice set, int64_t now_ms) {
    *markers = (struct markers){.memory_ms = memory_ms, .trusted_us = UINT64_MAX};
    set_set(markers, set);
    TAILQ_INIT(&markers->by_age);
    write_from_private(markers, now_ms);
}

void markers_release(struct markers *markers) {
    struct marker *marker;
    while ((marker = TAILQ_FIRST(&markers->by_age)) != NULL) {
        forget(markers, marker);
    }
}

/* No later place can be counted from the markers that were heard before. */
static void end_all(struct markers *markers) {
    struct marker *marker;
    TAILQ_FOREACH_REVERSE(marker, &markers->by_age, marker_list, link) {
        if (marker->end != MARKER_UNENDED) {
            break; /* all older markers have ended, too */
        }
        marker->end = markers->count;
    }
}

void markers_change_set(struct markers *markers, struct slice set, int64_t now_ms) {
    end_all(markers);
    set_set(markers, set);
    markers->expected[0] = '\0';
    markers->trusted_us = UINT64_MAX;
    write_from_private(markers, now_ms);
}

void markers_break(struct markers *markers, int64_t now_ms) {
    end_all(markers);
    markers->count++;
    markers->expected[0] = '\0';
    markers->trusted_us = UINT64_MAX;
    write_from_private(markers, now_ms);
}

void markers_trust(struct markers *markers, uint64_t server_us) {
    markers->trusted_us = server_us;
}

void markers_count(struct markers *markers) {
    markers->count++;
}

void markers_draw(struct markers *markers, char head[MARKER_HEAD_BYTES]) {
    marker_draw(markers->expected);
    int length = snprintf(head, MARKER_HEAD_BYTES, "{\"marker\":\"%s\",\"set\":\"%s\"",
                          markers->expected, markers->set);
    check(length > 0 && length < MARKER_HEAD_BYTES);
}

/* --- hearing ----------------------------------------------------------------------------- */

struct marker_text {
    struct json_value marker, set, pid, at;
};

static bool parse_marker(struct slice payload, struct marker_text *text) {
    struct json_value document;
    struct json_error error;
    if (!json_parse(payload, &document, &error) || document.type != JSON_OBJECT) {
        return false;
    }
    *text = (struct marker_text){0};
    struct json_members members = {.object = document.text};
    struct json_value key;
    struct json_value value;
    while (json_next_member(&members, &key, &value)) {
        if (json_string_is(key, "marker")) {
            text->marker = value;
        } else if (json_string_is(key, "set")) {
            text->set = value;
        } else if (json_string_is(key, "pid")) {
            text->pid = value;
        } else if (json_string_is(key, "at")) {
            text->at = value;
        }
    }
    return text->marker.type == JSON_STRING && text->set.type == JSON_STRING;
}

static bool is_genuine(const struct markers *markers, const struct marker_text *text,
                       int sender_pid, uint64_t *at_us) {
    uint64_t pid;
    return marker_is_valid(
               (struct slice){text->marker.text.at + 1, text->marker.text.length - 2}) &&
           json_string_is(text->set, markers->set) &&
           json_parse_unsigned(text->pid, INT32_MAX, &pid) && pid == (uint64_t)sender_pid &&
           json_parse_unsigned(text->at, INT64_MAX, at_us);
}

static void derive_name(char name[MARKER_BYTES + 1], struct slice random, int sender_pid,
                        uint64_t at_us) {
    char text[MARKER_BYTES + sizeof " 2147483647 9223372036854775807"];
    unsigned char digest[SHA256_DIGEST_LENGTH];
    int length = snprintf(text, sizeof text, "%.*s %d %" PRIu64, (int)random.length, random.at,
                          sender_pid, at_us);
    check(length > 0 && (size_t)length < sizeof text);
    SHA256((const unsigned char *)text, (size_t)length, digest);
    marker_from_bytes(name, digest);
}

/* If somebody repeats the name that positions are written with, they would mean another place: take
 * a new name. */
static void stop_writing(struct markers *markers, const char *name, int64_t now_ms) {
    if (memcmp(markers->written, name, MARKER_BYTES) == 0) {
        write_from_private(markers, now_ms);
    }
}

enum marker_verdict markers_hear(struct markers *markers, struct slice payload, int sender_pid,
                                 int64_t now_ms) {
    struct marker_text text;
    uint64_t at_us;
    if (!parse_marker(payload, &text) || !is_genuine(markers, &text, sender_pid, &at_us)) {
        return MARKER_BAD;
    }
    bool is_own = json_string_is(text.marker, markers->expected);
    if (!is_own && at_us < markers->trusted_us) {
        return MARKER_EARLY;
    }
    char name[MARKER_BYTES + 1];
    derive_name(name, (struct slice){text.marker.text.at + 1, MARKER_BYTES}, sender_pid, at_us);
    if (!remember(markers, name, now_ms)) {
        stop_writing(markers, name, now_ms);
        return MARKER_BAD;
    }
    if (!is_own) {
        return MARKER_FOREIGN;
    }
    memcpy(markers->written, name, sizeof markers->written);
    markers->written_place = markers->count;
    markers->is_public = true;
    markers->expected[0] = '\0';
    return MARKER_OWN;
}

void markers_position(const struct markers *markers, struct position *position) {
    *position = (struct position){.since = markers->count - markers->written_place};
    memcpy(position->marker, markers->written, sizeof position->marker);
}

bool markers_resolve(const struct markers *markers, const struct position *position,
                     uint64_t *place) {
    struct marker *marker;
    HASH_FIND(hh, markers->by_name, position->marker, MARKER_BYTES, marker);
    if (marker == NULL || marker->is_ambiguous) {
        return false;
    }
    uint64_t end = marker->end < markers->count ? marker->end : markers->count;
    *place = marker->place + position->since;
    return position->since <= end - marker->place;
}
