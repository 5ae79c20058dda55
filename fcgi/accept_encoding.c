#include "accept_encoding.h"

#include <ctype.h>

/* Weights are thousandths. */
enum { WEIGHT_ABSENT = -1, WEIGHT_NONE = 0, WEIGHT_FULL = 1000 };

static struct slice trimmed(struct slice text) {
    while (text.length > 0 && (text.at[0] == ' ' || text.at[0] == '\t')) {
        text = (struct slice){text.at + 1, text.length - 1};
    }
    while (text.length > 0 &&
           (text.at[text.length - 1] == ' ' || text.at[text.length - 1] == '\t')) {
        text.length--;
    }
    return text;
}

static bool is_word(struct slice text, const char *word) {
    return text.length == strlen(word) && strncasecmp(text.at, word, text.length) == 0;
}

/* 0 or 1, and at most three decimals; else WEIGHT_NONE. */
static int parse_weight(struct slice text) {
    if (text.length == 0 || text.length > 5 || (text.length > 1 && text.at[1] != '.')) {
        return WEIGHT_NONE;
    }
    int weight = 0;
    int unit = WEIGHT_FULL;
    for (size_t i = 0; i < text.length; i++) {
        if (i == 1) {
            continue;
        }
        if (!isdigit((unsigned char)text.at[i])) {
            return WEIGHT_NONE;
        }
        weight += (text.at[i] - '0') * unit;
        unit /= 10;
    }
    return weight <= WEIGHT_FULL ? weight : WEIGHT_NONE;
}

/* The parameters after a coding's name. */
static int weight_of(struct slice parameters) {
    int weight = WEIGHT_FULL;
    bool has_more = true;
    while (has_more) {
        struct slice parameter = trimmed(slice_take_until(&parameters, ';', &has_more));
        bool has_value;
        struct slice name = trimmed(slice_take_until(&parameter, '=', &has_value));
        if (is_word(name, "q")) {
            int own = has_value ? parse_weight(trimmed(parameter)) : WEIGHT_NONE;
            weight = own < weight ? own : weight;
        }
    }
    return weight;
}

static void lower(int *weight, int other) {
    *weight = *weight == WEIGHT_ABSENT || other < *weight ? other : *weight;
}

bool accept_encoding_has_gzip(struct slice header) {
    int gzip = WEIGHT_ABSENT;
    int identity = WEIGHT_ABSENT;
    int others = WEIGHT_ABSENT;
    bool has_more = true;
    while (has_more) {
        struct slice element = slice_take_until(&header, ',', &has_more);
        bool has_parameters;
        struct slice name = trimmed(slice_take_until(&element, ';', &has_parameters));
        int weight = has_parameters ? weight_of(element) : WEIGHT_FULL;
        if (is_word(name, "gzip") || is_word(name, "x-gzip")) {
            lower(&gzip, weight);
        } else if (is_word(name, "identity")) {
            lower(&identity, weight);
        } else if (is_word(name, "*")) {
            lower(&others, weight);
        }
    }
    gzip = gzip == WEIGHT_ABSENT ? others : gzip;
    return gzip > WEIGHT_NONE && gzip >= identity;
}
