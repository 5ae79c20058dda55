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

/* Of a value that json_parse has accepted. Other members are ignored; of several with the same name
 * the last counts. */
bool body_members(struct json_value value, struct body_member *members, size_t count,
                  const char **reason) must_check;

/* The same of a whole body. */
bool body_parse(struct slice body, struct body_member *members, size_t count,
                const char **reason) must_check;

static inline bool body_has(const struct body_member *member) {
    return member->value.text.length > 0;
}

/* For members where null is as good as absent. */
static inline bool body_is_given(const struct body_member *member) {
    return body_has(member) && member->value.type != JSON_NULL;
}

/* Sets *reason to the name in quotes and the text. Returns false, for the caller to return. */
bool body_complain(const struct body_member *member, const char *text,
                   const char **reason) must_check;

/* False if there is a "tenant": the web server says whose topics they are, and not the body. */
bool body_lacks_tenant(const struct body_member *member, const char **reason) must_check;

/* Reads a string as an event type, and appends its text. "" is no type. */
bool body_read_type(const struct body_member *member, struct buf *type,
                    const char **reason) must_check;

/* The same where no type need be given. */
bool body_read_optional_type(const struct body_member *member, struct buf *type,
                             const char **reason) must_check;

/* True if there is something to publish: any JSON but null. */
bool body_has_data(const struct body_member *member, const char **reason) must_check;

/* Reads a string as a channel, and appends its text. */
bool body_read_channel(const struct body_member *member, struct buf *channel,
                       const char **reason) must_check;

/* The same, but refuses patterns other than TOPIC_BROADCAST. */
bool body_read_topic(const struct body_member *member, struct buf *topic,
                     const char **reason) must_check;
