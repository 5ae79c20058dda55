#include "overflow.h"

#include <stdlib.h>

struct overflow {
    struct fan_loss loss;
    size_t frame_bytes; /* of the refresh: the last own bytes */
};

bool overflow_is_due(const struct outlet *outlet, uint64_t limit_bytes) {
    return outlet->feed != NULL && outlet->feed->next - outlet->cursor.frame > 1 &&
           outlet_queued_bytes(outlet) > limit_bytes &&
           outlet_first_unbegun(outlet) < outlet->feed->next;
}

void overflow_destroy(struct overflow **overflow) {
    free(*overflow);
    *overflow = NULL;
}

/* Takes the refresh that waits back, as long as nothing of it is out; else begins a new one. */
static struct overflow *reopened(struct overflow **place, struct outlet *outlet) {
    struct overflow *overflow = *place;
    if (overflow != NULL && outlet_own_unbegun(outlet) >= overflow->frame_bytes) {
        outlet->own.length -= overflow->frame_bytes;
        return overflow;
    }
    overflow_destroy(place);
    *place = must_zalloc(sizeof **place);
    (*place)->loss.reason = SSE_REFRESH_OVERFLOW;
    return *place;
}

void overflow_skip(struct overflow **place, struct outlet *outlet, struct audience *audience) {
    struct overflow *overflow = reopened(place, outlet);
    audience_count_dropped(audience, outlet, &overflow->loss);
    outlet_detach(outlet);
    size_t before = outlet->own.length;
    audience_append_refresh(audience, &outlet->own, &audience->last, overflow->loss.reason,
                            overflow->loss.dropped);
    overflow->frame_bytes = outlet->own.length - before;
    outlet_attach(outlet, &audience->feed);
    audience_trim_soon(audience);
}
