/* Percent-escapes of URLs (RFC 3986, section 2.1), and queries as forms write them. Pure. */
#pragma once

#include "base.h"

/* Decodes a segment of a path, once. False for a broken escape, or when it does not fit into size
 * bytes. */
bool url_decode(struct slice text, char *decoded, size_t size, size_t *length) must_check;

/* The same for a value of a query, where '+' is a space. */
bool url_decode_value(struct slice text, char *decoded, size_t size, size_t *length) must_check;

enum url_value {
    URL_VALUE_ABSENT,
    URL_VALUE_FOUND,
    URL_VALUE_BROKEN, /* it is there, but cannot be decoded */
};

/* Takes the next "name=value" and all before it off a query string. The value is not decoded. */
bool url_next_value(const char **query, const char *name, struct slice *value) must_check;

/* Decodes the value of the first "name=value" in a query string. */
enum url_value url_query_value(const char *query, const char *name, char *decoded, size_t size,
                               size_t *length) must_check;
