/* What every file may use: checks that stay on in production, allocation that cannot fail, and a
 * pointer-and-length view of bytes. Includes nothing of pgsse.
 *
 * A bug aborts (check). Running out of memory aborts, too: every queue and table here is bounded,
 * so load alone cannot cause it. Everything else is returned to the caller. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define must_check        __attribute__((warn_unused_result))
#define printf_like(f, a) __attribute__((format(printf, f, a)))

#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))
#define length_of(array)                    (sizeof(array) / sizeof((array)[0]))

/* The value of a macro as a string literal, so that a text and its constant cannot differ. */
#define text_of(macro)          text_of_expanded(macro)
#define text_of_expanded(value) #value

/* Aborts with file, line and text of the condition if it does not hold. */
#define check(condition)                                  \
    do {                                                  \
        if (__builtin_expect(!(condition), 0)) {          \
            check_failed(__FILE__, __LINE__, #condition); \
        }                                                 \
    } while (0)

_Noreturn void check_failed(const char *file, int line, const char *condition);

/* As malloc, calloc, realloc and strndup, but they never return NULL. free() releases. */
void *must_alloc(size_t bytes) must_check __attribute__((malloc));
void *must_zalloc(size_t bytes) must_check __attribute__((malloc));
void *must_realloc(void *old, size_t bytes) must_check;
char *must_strdup(const char *text, size_t length) must_check __attribute__((malloc));

/* Borrowed bytes, not ended by NUL. at may be NULL when length is 0. */
struct slice {
    const char *at;
    size_t length;
};

static inline struct slice slice_of(const char *text) {
    return (struct slice){text, text == NULL ? 0 : strlen(text)};
}

static inline bool slice_equals(struct slice a, struct slice b) {
    return a.length == b.length && (a.length == 0 || memcmp(a.at, b.at, a.length) == 0);
}

static inline bool slice_is(struct slice a, const char *text) {
    return slice_equals(a, slice_of(text));
}

static inline bool slice_begins_with(struct slice a, struct slice start) {
    return a.length >= start.length &&
           (start.length == 0 || memcmp(a.at, start.at, start.length) == 0);
}

/* Takes the text before the first separator off *text, and removes the separator, too. Without a
 * separator it takes all. */
struct slice slice_take_until(struct slice *text, char separator, bool *was_found);

/* The text without those bytes (not NUL) at its beginning and end. */
struct slice slice_trim(struct slice text, const char *bytes) must_check;

/* The value of a hexadecimal digit, in either case; -1 if c is none. */
static inline int hex_digit(int c) {
    int lower = c | 0x20;
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* Milliseconds and microseconds of the monotonic clock; wall_ms is the time of day since 1970. */
int64_t clock_ms(void);
int64_t clock_us(void);
int64_t wall_ms(void);

/* A time of day as RFC 3339 in UTC with milliseconds; returns the length. */
enum { WALL_TEXT_BYTES = 32 };
size_t wall_print(int64_t wall, char text[WALL_TEXT_BYTES]);

/* Fills bytes from the kernel's random generator, which blocks only while the machine boots. */
void random_bytes(void *bytes, size_t length);

/* Evenly spread over 0 .. bound - 1; for jitter, not for secrets. bound > 0. */
uint32_t random_below(uint32_t bound);

/* value, changed at random by up to a fifth either way, so that many processes do not act at the
 * same moment. */
int64_t jittered(int64_t value);
