/* The channels that the broker listens to: those of topics, of markers and of hints. Pure. */
#pragma once

#include "buf.h"
#include "topic.h"

#define CHANNEL_OF_MARKERS "pgsse_marker"

enum { CHANNELS_MAX = TOPIC_CHANNELS + 3 };

struct channels {
    size_t count;
    const char *names[CHANNELS_MAX]; /* sorted by their bytes */
    char topics[TOPIC_CHANNELS][TOPIC_CHANNEL_BYTES];
};

void channels_init(struct channels *channels);

/* Appends each name with the text `before` in front of it and the text `after` following it. */
void channels_print(const struct channels *channels, const char *before, const char *after,
                    struct buf *out);

/* Whether hints come on that channel: see schema.h. */
bool channels_is_hint(const char *channel) must_check;
