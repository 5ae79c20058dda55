/* What a publisher may add to topic, type and data, the same in both APIs: "id", "retry",
 * "comment", "text". Pure. null counts as absent, as in a notification. */
#pragma once

#include "body.h"

struct fields {
    struct buf id;      /* the publisher's own; empty: none */
    struct buf retry;   /* ms, a decimal; empty: none */
    struct buf comment; /* empty: none */
    bool is_text;       /* data is a string and is sent as its text */
};

/* For the list that body_parse gets, in this order. */
#define FIELDS_MEMBERS                                        \
    {.name = "id"}, {.name = "retry"}, {.name = "comment"}, { \
        .name = "text"                                        \
    }
enum { FIELDS_COUNT = 4 };

/* Reads them from these members of a body. *fields is zero-initialised. False with *reason, see
 * body.h. */
bool fields_read(struct fields *fields, const struct body_member members[FIELDS_COUNT],
                 const char **reason) must_check;

/* Appends the fields that were given to the members of a JSON object. */
void fields_append(const struct fields *fields, struct buf *object);

void fields_release(struct fields *fields);
