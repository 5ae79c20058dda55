#include "fault.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void fault_die(const char *format, ...) {
    va_list args;

    fputs("pgsse-bench: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

void *fault_calloc(size_t count, size_t size) {
    void *memory = calloc(count, size);

    if (memory == NULL) {
        fault_die("out of memory");
    }
    return memory;
}
