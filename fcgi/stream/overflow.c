#include "overflow.h"

#include <stdlib.h>

struct overflow {
    struct fan_loss loss;
    size_t frame_bytes; /* of the refresh: the last own bytes */
};

bool overflow_is_due(const struct output *output, uint64_t limit_bytes) {
    const struct feed *feed = output->feed;
    uint64_t frame = output->cursor.frame;
    return feed != NULL && frame < feed->next &&
           feed->head - feed_mark(feed, frame)->end > limit_bytes &&
           output_first_unbegun(output) < feed->next;
}

bool overflow_has_durable(const struct output *output) {
    const struct feed *feed = output->feed;
    for (uint64_t frame = output_first_unbegun(output); frame < feed->next; frame++) {
        if (feed_mark(feed, frame)->is_durable) {
            return true;
        }
    }
    return false;
}

void overflow_destroy(struct overflow **overflow) {
    free(*overflow);
    *overflow = NULL;
}

/* Takes the waiting refresh back if no byte of it is written; else begins a new one. */
static struct overflow *reopened(struct overflow **slot, struct output *output) {
    struct overflow *overflow = *slot;
    if (overflow != NULL && output_own_unbegun(output) >= overflow->frame_bytes) {
        output_take_back_own(output, overflow->frame_bytes);
        return overflow;
    }
    overflow_destroy(slot);
    *slot = must_zalloc(sizeof **slot);
    (*slot)->loss.reason = SSE_REFRESH_OVERFLOW;
    return *slot;
}

void overflow_skip(struct overflow **slot, struct output *output, struct audience *audience) {
    struct overflow *overflow = reopened(slot, output);
    audience_count_dropped(audience, output, &overflow->loss);
    output_detach(output);
    struct buf *own = output_own(output);
    size_t before = own->length;
    audience_append_refresh(audience, own, &audience->last, overflow->loss.reason,
                            overflow->loss.dropped);
    overflow->frame_bytes = own->length - before;
    audience_attach(audience, output);
    audience_trim_soon(audience);
}
