#pragma once

#include <stddef.h>

#include "base.h"

/* Ends the program with status 1 and one line on stderr. For what makes measuring pointless: no
 * memory, no database, a wrong argument. Not for what a server under load does wrong: that is a
 * figure. */
_Noreturn void fault_die(const char *format, ...) printf_like(1, 2);

/* Zeroed memory, owned by the caller; never NULL. */
void *fault_calloc(size_t count, size_t size);
