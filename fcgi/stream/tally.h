/* What was done on a topic since the last report to the broker. Each frame of a feed points to the
 * tally of its topic, so that the file that writes or drops the frame can count it. Pure. */
#pragma once

#include "buf.h"
#include "topic_key.h"

struct tally {
    uint64_t delivered;
    uint64_t dropped_events;
    uint64_t dropped_clients;
    uint64_t pending_events; /* gauges, of the report under way */
    uint64_t queued_bytes;
    bool was_pending;       /* the last report said so: the next one must say that it is over */
    bool has_other_streams; /* the broker may not know how many there are */
    uint32_t streams;       /* that are counted with this topic: each with one of its topics */
};

static inline void tally_add_stream(struct tally *tally) {
    tally->streams++;
    tally->has_other_streams = true;
}

static inline void tally_remove_stream(struct tally *tally) {
    tally->streams--;
    tally->has_other_streams = true;
}

/* An event is written whole. NULL: the frame was no event. */
static inline void tally_delivered(struct tally *tally) {
    if (tally != NULL) {
        tally->delivered++;
    }
}

/* True if the broker does not know all of it yet. */
bool tally_has_changed(const struct tally *tally) must_check;

/* Adds the topic to a report, and counts from 0 again. Returns false, and adds nothing, if the
 * report is full. */
bool tally_report(struct tally *tally, struct topic_key topic, struct buf *report) must_check;
