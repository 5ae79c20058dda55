#include "report.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void report_progress(const char *format, ...) {
    va_list args;

    if (!isatty(STDERR_FILENO)) {
        return;
    }
    fputs("\r\033[K", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fflush(stderr);
}

void report_value(struct report_outcome *outcome, double value) {
    outcome->has_value = true;
    outcome->value = value;
}

void report_fail(struct report_outcome *outcome, const char *fault) {
    outcome->has_value = false;
    snprintf(outcome->fault, sizeof(outcome->fault), "%s", fault);
}

void report_note(struct report_outcome *outcome, const char *format, ...) {
    char line[300];
    size_t length = strlen(outcome->notes);
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    snprintf(outcome->notes + length, sizeof(outcome->notes) - length, "%11s%s\n", "", line);
}

void report_head(void) {
    printf("%ld cores, shared with the generator and Postgres\n\n", sysconf(_SC_NPROCESSORS_ONLN));
    printf("%-10s %10s %-36s  %s\n", "scenario", "measured", "", "goal");
}

static int compare_outcomes(const void *left, const void *right) {
    const struct report_outcome *a = left;
    const struct report_outcome *b = right;

    if (a->has_value != b->has_value) {
        return a->has_value ? 1 : -1;
    }
    return (a->value > b->value) - (a->value < b->value);
}

static bool is_met(const struct report_row *row, double value) {
    switch (row->kind) {
    case REPORT_AT_MOST:
        return value <= row->goal;
    case REPORT_AT_LEAST:
        return value >= row->goal;
    }
    return false;
}

static const char *goal_words(enum report_goal kind) {
    switch (kind) {
    case REPORT_AT_MOST:
        return "at most";
    case REPORT_AT_LEAST:
        return "at least";
    }
    return "";
}

static int decimals(double value) {
    return value < 100 ? 2 : 0;
}

static void print_measured(const struct report_row *row, const struct report_outcome *outcomes,
                           int count) {
    const struct report_outcome *middle = &outcomes[count / 2];

    printf("%-10s %10.*f %-36s  %s %.*f: %s\n", row->name, decimals(middle->value), middle->value,
           row->unit, goal_words(row->kind), decimals(row->goal), row->goal,
           is_met(row, middle->value) ? "ok" : "MISSED");
    fputs(middle->notes, stdout);
    if (count > 1) {
        printf("           (the median of %d runs, %.*f to %.*f)\n", count,
               decimals(outcomes[0].value), outcomes[0].value, decimals(outcomes[count - 1].value),
               outcomes[count - 1].value);
    }
}

bool report_print(const struct report_row *row, struct report_outcome *outcomes, int count) {
    bool is_sound = true;
    int faulty = 0;

    report_progress("%s", "");
    qsort(outcomes, (size_t)count, sizeof(*outcomes), compare_outcomes);
    for (int i = 0; i < count; i++) {
        if (outcomes[i].has_value) {
            continue;
        }
        printf("%-10s %10s   %s\n", row->name, "FAILED", outcomes[i].fault);
        is_sound = false;
        faulty++;
    }
    if (faulty < count) {
        print_measured(row, outcomes + faulty, count - faulty);
    }
    fflush(stdout);
    return is_sound;
}
