#include "stats.h"

#include <stdlib.h>

#include "fault.h"

void stats_init(struct stats *stats, size_t capacity) {
    stats->samples = fault_calloc(capacity, sizeof(*stats->samples));
    stats->count = 0;
    stats->capacity = capacity;
}

void stats_release(struct stats *stats) {
    free(stats->samples);
    *stats = (struct stats){0};
}

void stats_add(struct stats *stats, double sample) {
    if (stats->count < stats->capacity) {
        stats->samples[stats->count++] = sample;
    }
}

static int compare_samples(const void *left, const void *right) {
    double a = *(const double *)left;
    double b = *(const double *)right;

    return (a > b) - (a < b);
}

double stats_percentile(struct stats *stats, double share) {
    size_t rank;

    if (stats->count == 0) {
        return 0;
    }
    qsort(stats->samples, stats->count, sizeof(*stats->samples), compare_samples);
    rank = (size_t)(share * (double)stats->count);
    return stats->samples[rank < stats->count ? rank : stats->count - 1];
}
