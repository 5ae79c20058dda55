/* Percent-escapes of URLs (RFC 3986, section 2.1). Pure. */
#pragma once

#include "base.h"

/* Decodes once. False for a broken escape, or when it does not fit into size bytes. */
bool url_decode(struct slice text, char *decoded, size_t size, size_t *length) must_check;

enum url_value {
    URL_VALUE_ABSENT,
    URL_VALUE_FOUND,
    URL_VALUE_BROKEN, /* it is there, but url_decode does not take it */
};

/* Decodes the value of the first "name=value" in a query string. */
enum url_value url_query_value(const char *query, const char *name, char *decoded, size_t size,
                               size_t *length) must_check;
