/* The broker's parts that its documents (document.h) report on, all borrowed. The broker makes one
 * overview and hands it to health.h and all below it, which know nothing of the broker itself. */
#pragma once

#include "condition.h"
#include "delivery.h"

/* What the broker has received. */
struct intake {
    uint64_t notifications;
    uint64_t bad_notifications;      /* rows of the table included */
    uint64_t repaired_notifications; /* of raw channels: bytes that are no UTF-8 became U+FFFD */
    uint64_t unnameable_topics;      /* events on topics that no URL of the topics API can name */
    int64_t last_ms;                 /* wall clock, of the last notification; 0: none yet */
};

struct overview {
    struct journal *journal; /* a survey walks its topics */
    const struct intake *intake;
    const struct condition *condition;
    const struct delivery_list *handlers;
};

/* The open user streams of all handlers. */
static inline uint64_t overview_user_streams(const struct overview *overview) {
    const struct delivery *delivery;
    uint64_t count = 0;
    TAILQ_FOREACH(delivery, overview->handlers, link) {
        count += delivery->open_user_streams;
    }
    return count;
}

/* The open streams of all handlers, as they reported last. */
static inline uint64_t overview_streams(const struct overview *overview) {
    const struct delivery *delivery;
    uint64_t count = 0;
    TAILQ_FOREACH(delivery, overview->handlers, link) {
        count += delivery->streams;
    }
    return count;
}
