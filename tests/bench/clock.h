#pragma once

#include <stdint.h>
#include <time.h>

/* One clock for every figure: CLOCK_MONOTONIC in nanoseconds, comparable between the threads of
 * this process and with the stamps that travel inside the events. */

#define CLOCK_NS_PER_MS INT64_C(1000000)
#define CLOCK_NS_PER_S  INT64_C(1000000000)

static inline int64_t clock_now_ns(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * CLOCK_NS_PER_S + now.tv_nsec;
}

static inline double clock_seconds(int64_t from_ns, int64_t until_ns) {
    return (double)(until_ns - from_ns) / (double)CLOCK_NS_PER_S;
}

static inline void clock_sleep_until(int64_t when_ns) {
    struct timespec when = {.tv_sec = when_ns / CLOCK_NS_PER_S,
                            .tv_nsec = when_ns % CLOCK_NS_PER_S};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) != 0) {
    }
}
