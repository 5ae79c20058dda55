/* How many descriptors the process may have open (RLIMIT_NOFILE), and what it does when they run
 * short.
 *
 * A program says at its start how many it may need. The last ones are a reserve: streams and
 * handlers are refused before the reserve is used, so that health, publishing and the connections
 * to Postgres still work. Nothing has to be counted: the kernel gives out the lowest free number,
 * so if a new descriptor has the number N, at least N others are open. */
#pragma once

#include "base.h"

enum { DESCRIPTORS_RESERVE = 96 }; /* or a quarter of the limit, if that is less */

/* Raises the soft limit to wanted plus the reserve, as far as the hard limit allows. If the hard
 * limit is too low, logs one line that begins with `what`. */
void descriptors_prepare(int64_t wanted, const char *what);

/* New descriptors with this number or a higher one belong to the reserve. */
int descriptors_reserved_from(void) must_check;
