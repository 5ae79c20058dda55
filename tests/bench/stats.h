#pragma once

#include <stddef.h>

/* A bag of samples of fixed capacity, allocated before the measuring begins. */
struct stats {
    double *samples; /* owned */
    size_t count;
    size_t capacity;
};

void stats_init(struct stats *stats, size_t capacity);
void stats_release(struct stats *stats);

/* What does not fit any more is dropped. */
void stats_add(struct stats *stats, double sample);

/* The sample below which `share` (0 to 1) of all lie, nearest rank; 0 when there is none. Sorts. */
double stats_percentile(struct stats *stats, double share);
