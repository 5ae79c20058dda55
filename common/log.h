/* One line per message on standard error: time, program, level, text.
 *
 * A problem is logged once, where it is decided what to do about it. A message may contain bytes
 * from outside: control characters are escaped, so a message is always one line. Secrets are never
 * logged. */
#pragma once

#include "base.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* program is borrowed for ever. Messages above the level are dropped. Before this call, all up to
 * LOG_LEVEL_INFO are written, under the name "pgsse". */
void log_init(const char *program, enum log_level level);

void log_write(enum log_level level, const char *format, ...) printf_like(2, 3);

#define log_error(...)   log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* Limits a message that may come in floods to one a second. The next one that is written says how
 * many were left out. Zero-initialised. */
struct log_limit {
    int64_t next_ms;
    uint64_t suppressed;
};

void log_limited(struct log_limit *limit, enum log_level level, const char *format, ...)
    printf_like(3, 4);

/* A start-up failure: one line without time, then exit with that status. */
_Noreturn void die(int status, const char *format, ...) printf_like(2, 3);
