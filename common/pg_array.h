/* A Postgres array as the text of a parameter: {"a","b"}. Pure: appends to a buf. */
#pragma once

#include "buf.h"

/* The buf's content is replaced. */
void pg_array_begin(struct buf *array);

/* text holds no NUL. */
void pg_array_add(struct buf *array, struct slice text);
void pg_array_add_number(struct buf *array, uint64_t number);

/* Ends it with a NUL, which counts for its length. */
void pg_array_end(struct buf *array);
