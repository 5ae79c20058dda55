/* Whole numbers in decimal, without a sign. Pure. */
#pragma once

#include "base.h"

enum { DECIMAL_DIGITS_MAX = 19 }; /* 10^19 - 1 still fits into 64 bits */

/* Digits alone: at least one, and at most digits_max. *value is max for all that is larger. */
bool decimal_parse(struct slice text, size_t digits_max, uint64_t max, uint64_t *value) must_check;
