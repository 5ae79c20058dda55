/* One client's way out: its own bytes and those of its feed, in order, as FastCGI records.
 *
 * Own bytes (headers, first block, heartbeats, the end) go between the feed's frames, never into
 * one; a record that was begun is finished before anything else. Each record holds bytes of one
 * kind. One call writes all that waits, up to what the socket takes. */
#pragma once

#include "buf.h"
#include "feed.h"
#include "record.h"

enum outlet_source { OUTLET_OWN, OUTLET_FEED, OUTLET_TRAILER };

struct outlet {
    struct buf own;
    struct feed *feed; /* borrowed; NULL: not (or no longer) attached */
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

/* Leaves the feed. Frames that wait for this client become its own bytes, in their place: all of
 * them, or only the one that was begun, so that the rest is dropped. Those kept whole count as
 * delivered from here on. */
enum outlet_kept { OUTLET_KEEP_ALL, OUTLET_KEEP_BEGUN };
void outlet_detach(struct outlet *outlet, enum outlet_kept kept);

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
