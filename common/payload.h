/* Bytes that are encoded once and then shared: immutable, with a reference count, freed with the
 * last reference. For one thread. */
#pragma once

#include "base.h"

struct payload {
    uint32_t references;
    uint32_t length;
    char bytes[];
};

/* A copy of bytes with one reference, the caller's. */
struct payload *payload_create(const void *bytes, size_t length) must_check;

/* Adds one reference and returns payload. */
struct payload *payload_ref(struct payload *payload);

/* Gives one reference back; *payload becomes NULL. */
void payload_unref(struct payload **payload);
