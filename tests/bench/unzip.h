#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base.h"

/* gzip, as a client reads it, and as a server that compresses for each client alone would write
 * it. */
struct unzip;

struct unzip *unzip_create(void);
void unzip_destroy(struct unzip **unzip);

/* Where decoded bytes go; they are good until it returns. */
typedef void unzip_take(void *owner, const char *bytes, size_t length);

/* False: that is no gzip. */
must_check bool unzip_feed(struct unzip *unzip, const char *bytes, size_t length, unzip_take *take,
                           void *owner);

/* How long a gzip stream with zlib's own defaults becomes in which each block of the event stream is
 * flushed. */
uint64_t unzip_length_alone(struct slice text);
