/* UTF-8 as in RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
#pragma once

#include "buf.h"

bool utf8_is_valid(struct slice text) must_check;

/* Valid UTF-8 without control characters: U+0000 to U+001F, U+007F, U+0080 to U+009F. */
bool utf8_is_printable(struct slice text) must_check;

/* Writes the code point (at most 0x10FFFF, no surrogate) to out, which has room for 4 bytes.
 * Returns how many it wrote. */
size_t utf8_encode(uint32_t code_point, char *out);

/* Appends the text; each byte that belongs to no character becomes U+FFFD. */
void utf8_repair(struct slice text, struct buf *out);
