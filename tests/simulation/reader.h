/* A browser, as the strictest one is: it remembers the id of a block that has data, comes back with
 * it, and hears nothing but what it reads. */
#pragma once

#include "buf.h"
#include "judge.h"

#include <zlib.h>

struct reader {
    struct claim claim;
    int topic;         /* of a topic stream */
    char patterns[24]; /* of a topic stream instead: see real_stream_prepare; "": none */
    int user;          /* of a user stream, with all topics that it wants */
    int broker;        /* that its handler belongs to */
    int fd;            /* owned; -1: it is not connected */
    int64_t again_us;
    bool is_slow;     /* reads little, and seldom */
    bool begins_at_0; /* asks for all that is kept */
    bool asks_first;  /* for a position, with HEAD */
    bool is_asking;   /* now */
    bool is_forged;   /* its id is none that anybody gave out */
    unsigned tables;  /* that there had been when it was last told of another one */
    bool takes_gzip;
    bool is_gzip;    /* the stream that is open; then: */
    bool is_decoded; /* to its end, with the right checksum */
    z_stream decoder;
    bool has_status;
    bool is_calm; /* nothing can be missed in this world */
    bool is_over;
    unsigned status;
    char id[160]; /* "": none */
    struct buf records;
    struct buf content; /* decoded */
};

/* Connects to that socket of a handler of that broker. */
void reader_open(struct reader *reader, const char *path, int broker);
void reader_pump(struct reader *reader);
void reader_leave(struct reader *reader);

/* As a page that is loaded anew: its position is gone, too. */
void reader_forget(struct reader *reader);

/* Comes back with an id that nobody can know: it has to be told. */
void reader_forge(struct reader *reader);
