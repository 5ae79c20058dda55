/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#pragma once

#include "base.h"

bool utf8_is_valid(struct slice text) must_check;

/* Valid UTF-8 without control characters: U+0000 to U+001F, U+007F, U+0080 to U+009F. */
bool utf8_is_printable(struct slice text) must_check;

/* Writes the code point, at most 0x10FFFF and no surrogate, to 4 bytes of room; returns how many
 * of them it took. */
size_t utf8_encode(uint32_t code_point, char *out);
