/* The list of topics, with the figures of each, in a health document. */
#pragma once

#include "buf.h"

struct survey;

/* In a tenant's place, where no name of a tenant can be: the topics of all. */
#define LISTING_ALL_TENANTS "*"

/* The list ends there, even if more topics are asked for. */
enum { LISTING_BYTES_MAX = 512 * 1024 };

/* Appends limit topics of the tenant at most, subscribed ones first, then the others, the most
 * recently active first. A newline is before each of them (see wire.h), so that shorter lists can
 * be cut from the list. Returns how many were appended. The survey must be DONE. */
size_t listing_append(const struct survey *survey, struct slice tenant, uint32_t limit,
                      struct buf *out);
