/* The request header Accept-Encoding (RFC 9110, section 12.5.3). Pure. */
#pragma once

#include "base.h"

/* True if the client accepts gzip, and does not prefer that nothing is encoded. What cannot be
 * understood counts as not accepted: a stream that is not encoded is right for everybody. Of
 * contradicting values the lowest counts. */
bool accept_encoding_has_gzip(struct slice header) must_check;
