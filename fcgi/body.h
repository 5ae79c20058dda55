/* The body of a POST: one JSON object, and those members of it that are asked for. Pure.
 *
 * Functions return false with *reason, a sentence that names the member, good until the next call
 * of any of them. */
#pragma once

#include "buf.h"
#include "json.h"

struct body_member {
    const char *name;
    struct json_value value; /* set by body_parse, a slice of the body; text.length 0: absent */
};

/* Other members are ignored; of several of one name the last counts. */
bool body_parse(struct slice body, struct body_member *members, size_t count,
                const char **reason) must_check;

static inline bool body_has(const struct body_member *member) {
    return member->value.text.length > 0;
}

/* false, for a return: "name" and what there is to say about it. */
bool body_complain(const struct body_member *member, const char *text,
                   const char **reason) must_check;

/* Appends the text of a string that is to be an event type. "" is none, and appends nothing. */
bool body_read_type(const struct body_member *member, struct buf *type,
                    const char **reason) must_check;

/* Appends the text of a string that is to be a channel. */
bool body_read_channel(const struct body_member *member, struct buf *channel,
                       const char **reason) must_check;
