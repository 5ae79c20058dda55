#include "base.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

_Noreturn void check_failed(const char *file, int line, const char *condition) {
    fprintf(stderr, "pgsse: %s:%d: check failed: %s\n", file, line, condition);
    abort();
}

static void *not_null(void *memory, size_t bytes) {
    if (memory == NULL && bytes > 0) {
        fprintf(stderr, "pgsse: out of memory, %zu bytes wanted\n", bytes);
        abort();
    }
    return memory;
}

void *must_alloc(size_t bytes) {
    return not_null(malloc(bytes), bytes);
}

void *must_zalloc(size_t bytes) {
    return not_null(calloc(1, bytes), bytes);
}

void *must_realloc(void *old, size_t bytes) {
    return not_null(realloc(old, bytes), bytes);
}

char *must_strdup(const char *text, size_t length) {
    char *copy = must_alloc(length + 1);
    if (length > 0) {
        memcpy(copy, text, length);
    }
    copy[length] = '\0';
    return copy;
}

static int64_t clock_read_us(clockid_t id) {
    struct timespec now;
    check(clock_gettime(id, &now) == 0);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_us(void) {
    return clock_read_us(CLOCK_MONOTONIC);
}

int64_t clock_ms(void) {
    return clock_us() / 1000;
}

int64_t wall_ms(void) {
    return clock_read_us(CLOCK_REALTIME) / 1000;
}

size_t wall_print(int64_t wall, char text[WALL_TEXT_BYTES]) {
    time_t seconds = (time_t)(wall / 1000);
    struct tm parts;
    check(gmtime_r(&seconds, &parts) != NULL);
    size_t length = strftime(text, WALL_TEXT_BYTES, "%Y-%m-%dT%H:%M:%S", &parts);
    return length +
           (size_t)snprintf(text + length, WALL_TEXT_BYTES - length, ".%03dZ", (int)(wall % 1000));
}

void random_bytes(void *bytes, size_t length) {
    check(length <= 256); /* up to 256 bytes getrandom neither fails nor returns less */
    check(getrandom(bytes, length, 0) == (ssize_t)length);
}

uint32_t random_below(uint32_t bound) {
    check(bound > 0);
    uint64_t drawn;
    random_bytes(&drawn, sizeof drawn);
    return (uint32_t)(drawn % bound);
}

int64_t jittered(int64_t value) {
    int64_t fifth = value / 5;
    if (fifth <= 0) {
        return value;
    }
    return value - fifth + random_below((uint32_t)(2 * fifth + 1));
}

static bool is_one_of(char c, const char *bytes) {
    return c != '\0' && strchr(bytes, c) != NULL;
}

struct slice slice_trim(struct slice text, const char *bytes) {
    while (text.length > 0 && is_one_of(text.at[0], bytes)) {
        text = (struct slice){text.at + 1, text.length - 1};
    }
    while (text.length > 0 && is_one_of(text.at[text.length - 1], bytes)) {
        text.length--;
    }
    return text;
}

struct slice slice_take_until(struct slice *text, char separator, bool *was_found) {
    /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): it is NULL only when length is 0 */
    const char *end = text->length == 0 ? NULL : memchr(text->at, separator, text->length);
    *was_found = end != NULL;
    struct slice taken = {text->at, end == NULL ? text->length : (size_t)(end - text->at)};
    size_t used = taken.length + (end == NULL ? 0 : 1);
    *text = (struct slice){text->length == 0 ? NULL : text->at + used, text->length - used};
    return taken;
}
