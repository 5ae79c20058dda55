/* The channels that the broker listens to: those of topics, of markers and of hints, and raw
 * channels, which the configuration maps to topics. Pure.
 *
 * Raw channels are written as `orders, cache_invalidate -> cache, "Weird.Name" -> weird`. A name is
 * what LISTEN takes: an identifier, whose ASCII letters are folded to lower case, or any text in
 * double quotes, with each quote in it doubled. Then the topic may follow, which else is the
 * channel's name. It is quoted in the same way if it has a comma, or spaces around it. */
#pragma once

#include "buf.h"
#include "topic.h"
#include "topic_key.h"

#define CHANNEL_OF_MARKERS "pgsse_marker"

enum {
    CHANNEL_BYTES_MAX = 63, /* of Postgres, as it is built by default */
    CHANNELS_RAW_MAX = 1000,
    CHANNELS_OWN = TOPIC_CHANNELS + 3,
    CHANNELS_REASON_BYTES = 512,
};

enum channel_kind { CHANNEL_TOPICS, CHANNEL_MARKERS, CHANNEL_HINTS, CHANNEL_FORGE, CHANNEL_RAW };

struct channel {
    enum channel_kind kind;
    char name[CHANNEL_BYTES_MAX + 1];
    char room[TOPIC_KEY_BYTES_MAX]; /* RAW: what topic points into */
    size_t topic_length;
};

/* Zero-initialised: there are none. */
struct channels {
    size_t count;
    struct channel *list; /* owned; sorted by the bytes of their names */
};

/* Our own and those of the text. has_forge: what comes on forge_events are events (see event.h),
 * and not hints only. False, with *reason (of CHANNELS_REASON_BYTES) that names the entry, if the
 * text is no list of raw channels; *channels is then as it was. */
bool channels_parse(struct channels *channels, const char *raw, bool has_forge,
                    char *reason) must_check;
void channels_release(struct channels *channels);

/* NULL: it is none of them. */
const struct channel *channels_find(const struct channels *channels, const char *name) must_check;

/* The topic of a raw channel. */
struct topic_key channel_topic(const struct channel *channel) must_check;

bool channels_are_equal(const struct channels *a, const struct channels *b) must_check;

/* Appends a statement "LISTEN ...;" for each. */
void channels_print_listen(const struct channels *channels, struct buf *out);

/* Appends the names, with a space between two. */
void channels_print_names(const struct channels *channels, struct buf *out);

/* Appends what distinguishes this set from others: two sets count the same notifications, and mean
 * the same topics, if and only if this is the same. */
void channels_print_set(const struct channels *channels, struct buf *out);
