/* What is JSON and what is not: RFC 8259 to the letter, UTF-8, at most 128 levels deep.
 *
 * A scanner over bytes that belong to the caller: it answers with slices of them, copies nothing
 * and allocates nothing. Values keep every byte that they were sent with; compacting drops the
 * white space outside strings and nothing else, so a number of 30 digits, 1.0, key order and
 * duplicate keys survive. (Documents that pgsse itself writes or reads whole are json-c's.) */
#pragma once

#include "buf.h"

enum { JSON_DEPTH_MAX = 128 };

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json_value {
    enum json_type type;
    struct slice text; /* from its first byte to its last; a string's quotes included */
};

/* Why a text is not JSON. */
struct json_error {
    const char *message; /* static, without full stop */
    size_t at;           /* byte offset in the text */
};

/* One document with nothing but white space around it. On success *value is that document and all
 * that is in it is known to be valid; on failure *error tells. */
bool json_parse(struct slice text, struct json_value *value, struct json_error *error) must_check;

/* The members of an object that json_parse accepted, in order: start with a zero offset. False
 * after the last one. The key is a string value, quotes included. */
struct json_members {
    struct slice object;
    size_t offset;
};
bool json_next_member(struct json_members *members, struct json_value *key,
                      struct json_value *value) must_check;

/* Whether the string, escapes resolved, is exactly that ASCII text. */
bool json_string_is(struct json_value string, const char *text) must_check;

/* Appends the string's text in UTF-8, escapes resolved. Half of a surrogate pair, which JSON lets
 * pass and UTF-8 cannot hold, becomes U+FFFD. */
void json_string_decode(struct json_value string, struct buf *out);

/* An unsigned integer without sign, fraction or exponent, of at most limit. */
bool json_parse_unsigned(struct json_value number, uint64_t limit, uint64_t *result) must_check;

/* Appends the value without the white space outside its strings. */
void json_compact(struct json_value value, struct buf *out);

/* Appends text, valid UTF-8, as a JSON string with quotes. */
void json_quote(struct slice text, struct buf *out);
