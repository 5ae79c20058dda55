/* One client's way out: its own bytes and those of its feed, in order, as FastCGI records.
 *
 * Own bytes (headers, first block, replayed events, heartbeats, the end) go between the feed's
 * frames, never into one; a record that was begun is finished before anything else. Each record
 * holds bytes of one kind. One call writes all that waits, up to what the socket takes. */
#pragma once

#include "buf.h"
#include "feed.h"
#include "record.h"

enum outlet_source { OUTLET_OWN, OUTLET_FEED, OUTLET_TRAILER };

/* Which of the own bytes are events: they count as delivered when they are out. */
struct outlet_events;

struct outlet {
    struct buf own;
    struct outlet_events *events; /* owned; NULL: own holds none */
    struct feed *feed;            /* borrowed; NULL: not (or no longer) attached */
    struct feed_cursor cursor;
    uint64_t written_bytes; /* in all: whether a write got anywhere */
    uint16_t request_id;
    bool is_ending;            /* the trailer follows */
    enum outlet_source source; /* of the record begun */
    uint16_t record_bytes;     /* its content, in all */
    uint16_t record_left;      /* of its content, still to be written */
    uint8_t header_left;       /* of its header; or of the trailer */
    bool is_begun;
};

void outlet_init(struct outlet *outlet, uint16_t request_id);
void outlet_release(struct outlet *outlet);

/* From the feed's head on, its frames go to this client. */
void outlet_attach(struct outlet *outlet, struct feed *feed);

/* Adds an event to the own bytes. The topic is borrowed until it is out. */
void outlet_append_event(struct outlet *outlet, struct slice frame, struct fan_topic *topic);

/* The number of the first frame of the feed of which nothing is out, nor is the record begun that
 * it stands in: from there on frames can be dropped. */
uint64_t outlet_first_unbegun(const struct outlet *outlet) must_check;

/* How many bytes at the end of own can still be taken back: they are in no record begun. */
size_t outlet_own_unbegun(const struct outlet *outlet) must_check;

/* Leaves the feed. What was begun becomes own bytes, in its place; the rest is dropped. */
void outlet_detach(struct outlet *outlet);

/* What is in own is the last; then comes the trailer. Only without a feed. */
void outlet_end(struct outlet *outlet);

/* Nothing waits to be written. */
bool outlet_is_empty(const struct outlet *outlet);

/* Bytes that wait. */
uint64_t outlet_queued_bytes(const struct outlet *outlet);

enum outlet_result {
    OUTLET_DRAINED, /* all that waited is out */
    OUTLET_BLOCKED, /* the socket takes no more now */
    OUTLET_DONE,    /* the trailer is out, too: close */
    OUTLET_BROKEN,  /* the web server is gone; errno tells */
};

/* Counts what was delivered on the topics of the frames that went out whole. */
enum outlet_result outlet_write(struct outlet *outlet, int fd) must_check;
