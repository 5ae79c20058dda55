#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "stats.h"
#include "unzip.h"

/* One HTTP response that carries an event stream, read as it comes: header, chunked coding (or
 * none), lines, blocks. Pure: no sockets, no allocation. Nothing is kept but the line that the
 * bytes at hand did not finish.
 *
 * The bench's events carry {"n":1,"t":2}: n counts from 1 within a topic, without a gap, t is the
 * publisher's clock (absent where nobody asks). That is how loss and order are seen. */

/* Room for the longest id that a server of ours writes, and a NUL. */
#define FRAMES_ID_BYTES 128

/* What all streams of one pool saw together. */
struct frames_tally {
    uint64_t greeted;    /* streams that have read their greeting */
    uint64_t events;     /* complete blocks with data of ours */
    uint64_t lost;       /* numbers that were jumped over */
    uint64_t disordered; /* numbers that came again, or too late */
    uint64_t refreshes;  /* the server's "you may have missed something" */
    uint64_t closes;     /* the server's goodbye */
    uint64_t foreign;    /* responses and data that no server of ours sends */
    uint64_t comments;
    uint64_t body_bytes;            /* as they came, compressed or not */
    uint64_t target;                /* the number that streams are waited for to reach */
    uint64_t at_target;             /* streams that have reached it */
    int last_status;                /* the last HTTP status that was not 200, or 0 */
    char position[FRAMES_ID_BYTES]; /* the last one that a stream was told as such, or "" */
    struct stats *delays_us; /* borrowed; where the age of each stamped event goes; may be NULL */
};

enum frames_state {
    FRAMES_STATUS,
    FRAMES_HEADER,
    FRAMES_CHUNK_SIZE,
    FRAMES_CHUNK_EXTENSION,
    FRAMES_CHUNK,
    FRAMES_CHUNK_END,
    FRAMES_PLAIN,
    FRAMES_DONE,
};

enum frames_type {
    FRAMES_TYPE_MESSAGE,
    FRAMES_TYPE_POSITION,
    FRAMES_TYPE_REFRESH,
    FRAMES_TYPE_CLOSE,
};

/* A line is cut to this: no line that matters here is longer. */
#define FRAMES_LINE_BYTES 160

/* Zeroed memory is a stream that has read nothing. */
struct frames {
    struct unzip *unzip; /* the owner of the frames owns it; NULL: it is plain */
    struct buf *record;  /* borrowed; gets the decoded body; may be NULL */
    bool begins_late;    /* its first event may have any number */
    uint64_t first_number;
    enum frames_state state;
    enum frames_type type;
    bool is_chunked;
    bool is_greeted;
    bool has_data;
    uint32_t chunk_left;
    uint32_t line_bytes;
    uint64_t last_number;
    uint64_t number; /* of the block under way */
    int64_t stamp_ns;
    char line[FRAMES_LINE_BYTES];
};

/* Reads what came at now_ns, and adds it to the tally. */
void frames_feed(struct frames *frames, struct frames_tally *tally, const char *bytes,
                 size_t length, int64_t now_ns);
