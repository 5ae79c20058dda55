/* Hash tables: uthash, with a hash that strangers cannot foresee. Each file that has such a table
 * includes this.
 *
 * Keys of tables come from outside: names of topics, above all. With uthash's own hash anybody can
 * find thousands of names that share a bucket, and each lookup walks through all of them. So the
 * hash here has a key, drawn at random when the program starts: SipHash-1-3 (Aumasson and
 * Bernstein, 2012). */
#pragma once

#include "base.h"

#define HASH_FUNCTION(bytes, length, hash) ((hash) = hash_of((bytes), (length)))
#include <uthash.h>

uint32_t hash_of(const void *bytes, size_t length) must_check;

/* For programs that have to do the same each time. The tables must be empty. */
void hash_set_key(uint64_t first, uint64_t second);
