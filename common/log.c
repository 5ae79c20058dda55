#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LOG_LINE_BYTES = 2048, LOG_LIMIT_MS = 1000 };

static const char *log_program = "pgsse";
static enum log_level log_threshold = LOG_LEVEL_INFO;

static const char *const level_names[] = {
    [LOG_LEVEL_ERROR] = "error",
    [LOG_LEVEL_WARNING] = "warning",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_DEBUG] = "debug",
};

void log_init(const char *program, enum log_level level) {
    log_program = program;
    log_threshold = level;
}

/* Appends text to the line at length, control characters as \xHH, and ends the line. */
static size_t append_escaped(char *line, size_t length, size_t size, const char *text) {
    for (; *text != '\0' && length + 6 < size; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte < 0x20 || byte == 0x7f) {
            length += (size_t)snprintf(line + length, size - length, "\\x%02x", byte);
        } else {
            line[length++] = *text;
        }
    }
    line[length++] = '\n';
    return length;
}

static void write_line(enum log_level level, const char *text) {
    char line[LOG_LINE_BYTES];
    size_t length = wall_print(wall_ms(), line);
    length += (size_t)snprintf(line + length, sizeof line - length, " %s[%d] %s: ", log_program,
                               (int)getpid(), level_names[level]);
    length = append_escaped(line, length, sizeof line, text);
    /* One write, so that lines of several processes do not mix. Its result is ignored: there is no
     * place to report that the log cannot be written. */
    ssize_t written = write(STDERR_FILENO, line, length);
    (void)written;
}

static void printf_like(2, 0)
    write_formatted(enum log_level level, const char *format, va_list arguments) {
    char text[LOG_LINE_BYTES];
    vsnprintf(text, sizeof text, format, arguments);
    write_line(level, text);
}

void log_write(enum log_level level, const char *format, ...) {
    if (level > log_threshold) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    write_formatted(level, format, arguments);
    va_end(arguments);
}

void log_limited(struct log_limit *limit, enum log_level level, const char *format, ...) {
    int64_t now_ms = clock_ms();
    if (now_ms < limit->next_ms) {
        limit->suppressed++;
        return;
    }
    if (limit->suppressed > 0) {
        log_write(level, "%llu more like the next one were left out",
                  (unsigned long long)limit->suppressed);
    }
    limit->suppressed = 0;
    limit->next_ms = now_ms + LOG_LIMIT_MS;
    if (level <= log_threshold) {
        va_list arguments;
        va_start(arguments, format);
        write_formatted(level, format, arguments);
        va_end(arguments);
    }
}

_Noreturn void die(int status, const char *format, ...) {
    char text[LOG_LINE_BYTES];
    char line[LOG_LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    size_t length = append_escaped(line, 0, sizeof line, text);
    fprintf(stderr, "%s: %.*s", log_program, (int)length, line);
    exit(status);
}
