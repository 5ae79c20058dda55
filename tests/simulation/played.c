#include "played.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/types.h>
#include <time.h>

enum { PLAYED_SPINS_MAX = 20000 }; /* turns of the loop without time */

static const int64_t begin_us = 1000000000;
static const int64_t wall_us = INT64_C(1700000000000000);

static uint64_t state;
static int64_t now_us = 1000000000;
static unsigned spins;
bool trace_is_on;

/* splitmix64 */
static uint64_t next_random(void) {
    uint64_t mixed = (state += UINT64_C(0x9e3779b97f4a7c15));
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ (mixed >> 31);
}

void played_begin(uint64_t seed) {
    state = seed * 7919;
}

uint32_t draw(uint32_t bound) {
    return bound == 0 ? 0 : (uint32_t)(next_random() % bound);
}

int64_t played_us(void) {
    return now_us - begin_us;
}

int64_t played_wall_us(void) {
    return now_us + wall_us;
}

void trace(const char *format, ...) {
    va_list arguments;
    if (!trace_is_on) {
        return;
    }
    printf("%10.3f ", (double)played_us() / 1e6);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
}

/* --- in the place of the kernel's ------------------------------------------------------------- */

int __wrap_clock_gettime(clockid_t id, struct timespec *time);
ssize_t __wrap_getrandom(void *bytes, size_t length, unsigned flags);
int __real_epoll_wait(int fd, struct epoll_event *events, int most, int timeout_ms);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int most, int timeout_ms);

int __wrap_clock_gettime(clockid_t id, struct timespec *time) {
    int64_t us = now_us + (id == CLOCK_REALTIME ? wall_us : 0);
    time->tv_sec = us / 1000000;
    time->tv_nsec = us % 1000000 * 1000;
    return 0;
}

ssize_t __wrap_getrandom(void *bytes, size_t length, unsigned flags) {
    unsigned char *to = bytes;
    (void)flags;
    for (size_t i = 0; i < length; i++) {
        to[i] = (unsigned char)next_random();
    }
    return (ssize_t)length;
}

/* What is ready comes in any order. A loop that never rests is a fault of its own. */
int __wrap_epoll_wait(int fd, struct epoll_event *events, int most, int timeout_ms) {
    int count = __real_epoll_wait(fd, events, most, 0);
    if (count == 0 && timeout_ms > 0) {
        now_us += (int64_t)timeout_ms * 1000;
        spins = 0;
    }
    if (++spins > PLAYED_SPINS_MAX) {
        die(3, "the loop spins");
    }
    for (int i = count - 1; i > 0; i--) {
        int other = (int)draw((uint32_t)i + 1);
        struct epoll_event swap = events[i];
        events[i] = events[other];
        events[other] = swap;
    }
    return count;
}
