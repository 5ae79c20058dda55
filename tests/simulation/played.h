/* Chance and time of the simulation: both follow from the seed alone.
 *
 * Time stands still while something is ready, and goes on to the next timer when nothing is:
 * clock_gettime, getrandom and epoll_wait are replaced by the linker (--wrap). */
#pragma once

#include "log.h"

void played_begin(uint64_t seed);

/* From 0 to bound - 1; 0 if bound is 0. */
uint32_t draw(uint32_t bound);

static inline bool one_in(uint32_t count) {
    return draw(count) == 0;
}

int64_t played_us(void);
int64_t played_wall_us(void);

/* What happens, if --trace was given. */
extern bool trace_is_on;
void trace(const char *format, ...) printf_like(1, 2);
