#pragma once

#include <stdbool.h>

#include "base.h"

/* What one run of a scenario gave. A scenario that has a fault has no value. */
struct report_outcome {
    bool has_value;
    double value;
    char notes[600]; /* the figures behind the value, a line each, indented */
    char fault[300]; /* what went wrong: lost events, errors; empty when nothing did */
};

enum report_goal { REPORT_AT_MOST, REPORT_AT_LEAST };

struct report_row {
    const char *name;
    const char *unit;
    enum report_goal kind;
    double goal;
};

void report_value(struct report_outcome *outcome, double value);
void report_fail(struct report_outcome *outcome, const char *fault);

/* Adds a line to the notes; what does not fit is cut. */
void report_note(struct report_outcome *outcome, const char *format, ...) printf_like(2, 3);

/* A line that is overwritten by the next one, on a terminal only. */
void report_progress(const char *format, ...) printf_like(1, 2);

void report_head(void);

/* Prints the row of the outcome in the middle of `count` runs of one scenario, worst fault first;
 * sorts them. False when one of them had a fault. */
must_check bool report_print(const struct report_row *row, struct report_outcome *outcomes,
                             int count);
