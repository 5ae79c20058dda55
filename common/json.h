/* A strict JSON parser: RFC 8259, UTF-8, at most 128 levels deep.
 *
 * It scans the caller's bytes and returns slices of them; it copies and allocates nothing. Values
 * keep every byte. Compacting only removes the white space outside strings, so a number of 30
 * digits, 1.0, key order and duplicate keys survive. (The documents that pgsse itself makes are
 * made with json-c.) */
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

/* Parses one document with nothing but white space around it. On success *value is that document,
 * which is valid as a whole; on failure *error says why. */
bool json_parse(struct slice text, struct json_value *value, struct json_error *error) must_check;

/* The members of an object that json_parse accepted, in order: start with a zero offset. False
 * after the last one. The key is a string value, quotes included. */
struct json_members {
    struct slice object;
    size_t offset;
};
bool json_next_member(struct json_members *members, struct json_value *key,
                      struct json_value *value) must_check;

/* The elements of an array that json_parse accepted, in order: start with a zero offset. False
 * after the last one. */
struct json_elements {
    struct slice array;
    size_t offset;
};
bool json_next_element(struct json_elements *elements, struct json_value *value) must_check;

/* True if the string, with escapes resolved, is exactly that ASCII text. */
bool json_string_is(struct json_value string, const char *text) must_check;

/* Appends the string's text in UTF-8, escapes resolved. Half of a surrogate pair, which JSON allows
 * and UTF-8 does not, becomes U+FFFD. */
void json_string_decode(struct json_value string, struct buf *out);

/* An unsigned integer without sign, fraction or exponent, of at most limit. */
bool json_parse_unsigned(struct json_value number, uint64_t limit, uint64_t *result) must_check;

/* Appends the value without the white space outside its strings. */
void json_compact(struct json_value value, struct buf *out);

/* Appends text, valid UTF-8, as a JSON string with quotes. */
void json_quote(struct slice text, struct buf *out);
