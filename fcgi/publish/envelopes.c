#include "envelopes.h"

#include "http.h"

#include <stdio.h>
#include <stdlib.h>

static char message[320]; /* the last *reason that is not static */

/* Where an event stands in the body. */
struct place {
    const char *unit;
    size_t number;
};

static unsigned refuse(unsigned status, struct place place, const char *why, const char **reason) {
    snprintf(message, sizeof message, "%s %zu: %s", place.unit, place.number, why);
    *reason = message;
    return status;
}

static unsigned refuse_text(const char *what, struct json_error error, const char **reason) {
    snprintf(message, sizeof message, "%s is not JSON: %s (at byte %zu)", what, error.message,
             error.at);
    *reason = message;
    return HTTP_BAD_REQUEST;
}

/* The list grows by half, so that few events do not take the memory of a thousand. */
static struct envelope *add(struct envelopes *envelopes) {
    if (envelopes->count == envelopes->room) {
        envelopes->room += envelopes->room / 2 + 4;
        envelopes->list = must_realloc(envelopes->list, envelopes->room * sizeof *envelopes->list);
    }
    struct envelope *envelope = &envelopes->list[envelopes->count++];
    *envelope = (struct envelope){0};
    return envelope;
}

static unsigned read_one(struct envelopes *envelopes, struct json_value value,
                         struct envelope_stamp *stamp, struct place place, const char **reason) {
    const char *why;
    if (envelopes->count == ENVELOPES_MAX) {
        return refuse(HTTP_TOO_LARGE, place, "there are more than 1000 events", reason);
    }
    struct envelope *envelope = add(envelopes);
    envelope->unit = place.unit;
    envelope->number = place.number;
    bool is_good = envelope_of_one(envelope, value, stamp, &why);
    stamp->nonce++;
    return is_good ? HTTP_OK : refuse(HTTP_BAD_REQUEST, place, why, reason);
}

static unsigned read_array(struct envelopes *envelopes, struct slice body,
                           struct envelope_stamp *stamp, const char **reason) {
    struct json_value value;
    struct json_error error;
    unsigned status = HTTP_OK;
    if (!json_parse(body, &value, &error)) {
        return refuse_text("the body", error, reason);
    }
    struct json_elements elements = {.array = value.text};
    struct place place = {"event", 1};
    while (status == HTTP_OK && json_next_element(&elements, &value)) {
        status = read_one(envelopes, value, stamp, place, reason);
        place.number++;
    }
    return status;
}

/* As JSON has it. */
static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static size_t space_before(struct slice text) {
    size_t length = 0;
    while (length < text.length && is_space(text.at[length])) {
        length++;
    }
    return length;
}

static unsigned read_line(struct envelopes *envelopes, struct slice line,
                          struct envelope_stamp *stamp, size_t number, const char **reason) {
    struct json_value value;
    struct json_error error;
    if (!json_parse(line, &value, &error)) {
        char what[32];
        snprintf(what, sizeof what, "line %zu", number);
        return refuse_text(what, error, reason);
    }
    return read_one(envelopes, value, stamp, (struct place){"line", number}, reason);
}

static unsigned read_lines(struct envelopes *envelopes, struct slice body,
                           struct envelope_stamp *stamp, const char **reason) {
    unsigned status = HTTP_OK;
    bool has_end;
    for (size_t number = 1; body.length > 0 && status == HTTP_OK; number++) {
        struct slice line = slice_take_until(&body, '\n', &has_end);
        if (space_before(line) < line.length) {
            status = read_line(envelopes, line, stamp, number, reason);
        }
    }
    return status;
}

unsigned envelopes_parse(struct envelopes *envelopes, struct slice body,
                         struct envelope_stamp *stamp, const char **reason) {
    size_t start = space_before(body);
    bool is_array = start < body.length && body.at[start] == '[';
    unsigned status = is_array ? read_array(envelopes, body, stamp, reason)
                               : read_lines(envelopes, body, stamp, reason);
    if (status == HTTP_OK && envelopes->count == 0) {
        *reason = "there is no event in the body";
        status = HTTP_BAD_REQUEST;
    }
    return status;
}

void envelopes_release(struct envelopes *envelopes) {
    for (size_t i = 0; i < envelopes->count; i++) {
        envelope_release(&envelopes->list[i]);
    }
    free(envelopes->list);
    *envelopes = (struct envelopes){0};
}
