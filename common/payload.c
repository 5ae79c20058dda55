#include "payload.h"

#include <stdlib.h>

struct payload *payload_create(const void *bytes, size_t length) {
    check(length <= UINT32_MAX);
    struct payload *payload = must_alloc(sizeof *payload + length);
    payload->references = 1;
    payload->length = (uint32_t)length;
    if (length > 0) {
        memcpy(payload->bytes, bytes, length);
    }
    return payload;
}

struct payload *payload_ref(struct payload *payload) {
    check(payload->references > 0 && payload->references < UINT32_MAX);
    payload->references++;
    return payload;
}

void payload_unref(struct payload **place) {
    struct payload *payload = *place;
    *place = NULL;
    check(payload->references > 0);
    if (--payload->references == 0) {
        free(payload);
    }
}
