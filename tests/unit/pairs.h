/* Parameters of a request, as pairs of name and value that are ended by NULL: what a struct parameters
 * reads in unit tests. */
#pragma once

#include "support.h"

static const char *pairs_get(const void *source, const char *name) {
    const char *const *pairs = source;
    for (size_t i = 0; pairs[i] != NULL; i += 2) {
        if (strcmp(pairs[i], name) == 0) {
            return pairs[i + 1];
        }
    }
    return "";
}
