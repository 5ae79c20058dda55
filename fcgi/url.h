/* Percent-escapes of URLs (RFC 3986, section 2.1). Pure. */
#pragma once

#include "base.h"

/* Decodes once. False for a broken escape, or when it does not fit into size bytes. */
bool url_decode(struct slice text, char *decoded, size_t size, size_t *length) must_check;

/* Decodes the value of the first "name=value" in a query string. False if there is none, or as
 * url_decode. */
bool url_query_value(const char *query, const char *name, char *decoded, size_t size,
                     size_t *length) must_check;
