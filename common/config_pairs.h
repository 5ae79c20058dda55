/* Pairs of keys whose values may contradict each other. Pure.
 *
 * Each key has its own limits (config.c). The pairs here are those in which one value makes the
 * other meaningless or harmful: they end the program at its start. A pair that works, but probably
 * not as it was meant, is a warning. All other pairs work in every combination. */
#pragma once

#include "config.h"

enum config_pair_kind {
    CONFIG_PAIR_CONTRADICTS, /* cannot work: the program ends */
    CONFIG_PAIR_IS_ODD,      /* a warning */
};

struct config_pair {
    const char *one;
    const char *other;
    enum config_pair_kind kind;
    bool (*is_wrong)(const struct config *config);
    const char *why; /* is printed after the names and values of both */
};

/* The first pair from number *next on that is wrong, or NULL; *next is then the number after it.
 * Begin with 0. */
const struct config_pair *config_next_wrong_pair(const struct config *config,
                                                 size_t *next) must_check;
