/* A Postgres array as the text of a parameter: {"a","b"}. Pure: appends to a buf. */
#pragma once

#include "buf.h"

/* Replaces the buf's content. */
void pg_array_begin(struct buf *array);

/* text holds no NUL; where its `at` is NULL, the element is SQL's NULL. */
void pg_array_add(struct buf *array, struct slice text);
void pg_array_add_number(struct buf *array, uint64_t number);

/* Ends the array with a NUL, which is part of the length. */
void pg_array_end(struct buf *array);
