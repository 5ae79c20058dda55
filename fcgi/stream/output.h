/* What one client is sent: its own bytes and the frames of its feed, in order, as FastCGI records.
 *
 * Own bytes (headers, first block, replayed events, heartbeats, the end) go between the feed's
 * frames, never into one. A record that is begun is finished first. Each record holds bytes of one
 * source. One call writes all that waits, as far as the socket takes it.
 *
 * From output_start_gzip on all content is one gzip stream. The feed's frames come compressed, once
 * for all readers (gzip_group.h). Own bytes collect as plain text, the draft. They are
 * compressed into one block when they are to be written, or when a copy of a frame or the end
 * follows them. Since the next
 * frame of the feed may refer to the last ones, own bytes end the attachment: the client is a
 * newcomer of the feed's gzip_group, and is attached again where a reset is. */
#pragma once

#include "buf.h"
#include "feed.h"
#include "gzip_stream.h"
#include "record.h"

enum output_source { OUTPUT_OWN, OUTPUT_FEED, OUTPUT_TRAILER };

/* Which of the own bytes are events: they count as delivered when they are written. */
struct output_events;

struct output {
    struct buf own;               /* only output.c touches it: see output_own */
    struct output_events *events; /* owned; NULL: own holds none */
    struct gzip_stream *gzip;     /* owned; NULL: all is plain */
    struct feed *feed;            /* borrowed; NULL: not (or no longer) attached */
    struct feed_cursor cursor;
    uint16_t request_id;
    bool is_ending;            /* the trailer comes after own */
    bool has_sent_feed;        /* a byte of a frame is written, or a copy of one is among the own
                                  bytes: all of it follows, with its id */
    enum output_source source; /* of the record begun */
    uint16_t record_bytes;     /* its content, in all */
    uint16_t record_left;      /* of its content, still to be written */
    uint8_t header_left;       /* of its header; or of the trailer */
    bool is_begun;
    bool has_written; /* the last write made progress */
    bool is_blocked;  /* the last write found that the socket takes no more */
};

void output_init(struct output *output, uint16_t request_id);
void output_release(struct output *output);

/* From here on, content is compressed. What was appended before, headers, stays as it is. */
void output_start_gzip(struct output *output, struct compressors *compressors);

/* Frames that are appended to the feed from now on go to this client. A feed with a gzip_group must
 * be clean. */
void output_attach(struct output *output, struct feed *feed);

static inline bool output_is_attached(const struct output *output) {
    return output->feed != NULL;
}

/* The buffer that own bytes are appended to, plain: in a gzip stream it is the draft. Every byte
 * for this client alone, headers included, goes through here or through output_append_event; all
 * others come from the feed. (output_detach copies bytes of the feed into own ones,
 * output_append_copy adds frames of it, and overflow.c takes own ones back.) A gzip stream that is
 * attached leaves its feed: no frame may wait there. */
struct buf *output_own(struct output *output);

/* Removes so many bytes from the end of own; at most output_own_unbegun. */
void output_take_back_own(struct output *output, size_t bytes);

/* Adds an event to the own bytes. The tally is borrowed until the event is written. */
void output_append_event(struct output *output, struct slice frame, struct tally *tally);

/* Adds a frame of the feed of its group, to which it is not attached: compressed alone, with the
 * sum of its plain bytes. Tally: see there; NULL: a refresh. */
void output_append_copy(struct output *output, struct slice block, const struct gzip_sum *sum,
                        struct tally *tally);

/* The number of the feed's first frame that is not begun: no byte of it is written, and it is not
 * in the record that is begun. Frames from there on can be dropped. */
uint64_t output_first_unbegun(const struct output *output) must_check;

/* How many bytes at the end of own can still be taken back: they are not in the record that is
 * begun, nor compressed. */
size_t output_own_unbegun(const struct output *output) must_check;

/* Leaves the feed. Frames that are begun become own bytes, in their place; the rest is dropped. */
void output_detach(struct output *output);

/* After what is in own comes only the trailer. To be called without a feed. */
void output_end(struct output *output);

/* Nothing waits to be written. */
bool output_is_empty(const struct output *output);

enum output_result {
    OUTPUT_DRAINED, /* all that waited is written */
    OUTPUT_BLOCKED, /* the socket takes no more now */
    OUTPUT_DONE,    /* the trailer is written, too: close */
    OUTPUT_BROKEN,  /* the web server is gone; errno tells */
};

/* Writes what waits. A frame that is written whole counts as delivered on its tally. */
enum output_result output_write(struct output *output, int fd) must_check;
