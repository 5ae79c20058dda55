#include "pg_array.h"

#include <inttypes.h>

void pg_array_begin(struct buf *array) {
    array->length = 0;
    buf_append_text(array, "{");
}

static void separate(struct buf *array) {
    if (array->length > 1) {
        buf_append_text(array, ",");
    }
}

void pg_array_add(struct buf *array, struct slice text) {
    separate(array);
    if (text.at == NULL) {
        buf_append_text(array, "NULL");
        return;
    }
    char *room = buf_reserve(array, 2 * text.length + 2);
    size_t used = 0;
    room[used++] = '"';
    for (size_t i = 0; i < text.length; i++) {
        if (text.at[i] == '"' || text.at[i] == '\\') {
            room[used++] = '\\';
        }
        room[used++] = text.at[i];
    }
    room[used++] = '"';
    array->length += used;
}

void pg_array_add_number(struct buf *array, uint64_t number) {
    separate(array);
    buf_printf(array, "%" PRIu64, number);
}

void pg_array_end(struct buf *array) {
    buf_append(array, "}", sizeof "}");
}
