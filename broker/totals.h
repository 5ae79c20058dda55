/* The totals: figures about the whole machine, each with its name, for every document that shows
 * them. What a document does with a kind of figure is the document's. Pure. */
#pragma once

#include "overview.h"

struct survey;

enum total_kind {
    TOTAL_COUNT,
    TOTAL_DIFFERENCE, /* may be below 0 */
    TOTAL_FLAG,       /* 0 or 1 */
    TOTAL_TIME,       /* wall clock, in ms; 0: never, or not now */
    TOTAL_NUMBER,     /* in `number`, with a fraction; below 0: not known */
};

struct total {
    const char *name; /* static: as in health */
    enum total_kind kind;
    int64_t value;
    double number;
};

enum { TOTALS_MAX = 64 };

/* Fills totals, in the order of health, and returns their number. The survey must be DONE. */
size_t totals_list(const struct overview *overview, const struct survey *survey,
                   struct total totals[TOTALS_MAX]) must_check;
