#include "channels.h"

#include "schema.h"

#include <stdlib.h>

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void channels_init(struct channels *channels) {
    *channels = (struct channels){.count = CHANNELS_MAX};
    for (unsigned i = 0; i < TOPIC_CHANNELS; i++) {
        topic_channel_at(i, channels->topics[i]);
        channels->names[i] = channels->topics[i];
    }
    channels->names[TOPIC_CHANNELS] = CHANNEL_OF_MARKERS;
    channels->names[TOPIC_CHANNELS + 1] = SCHEMA_HINT_CHANNEL;
    channels->names[TOPIC_CHANNELS + 2] = SCHEMA_OLD_HINT_CHANNEL;
    qsort(channels->names, channels->count, sizeof channels->names[0], compare_names);
}

void channels_print(const struct channels *channels, const char *before, const char *after,
                    struct buf *out) {
    for (size_t i = 0; i < channels->count; i++) {
        buf_printf(out, "%s%s%s", before, channels->names[i], after);
    }
}

bool channels_is_hint(const char *channel) {
    return strcmp(channel, SCHEMA_HINT_CHANNEL) == 0 ||
           strcmp(channel, SCHEMA_OLD_HINT_CHANNEL) == 0;
}
