/* The FastCGI records that an answer needs, and a scan of those that a request consists of. Pure.
 * (FastCGI specification 1.0, sections 3.3, 5.1 and 8.)
 *
 * A record is a header of 8 bytes and up to 65,535 bytes of content. An answer is any number of
 * STDOUT records, an empty one that ends the output, and END_REQUEST. Web servers forward whole
 * records only, so ours are small: RECORD_CONTENT_MAX. */
#pragma once

#include "base.h"

enum {
    RECORD_HEADER_BYTES = 8,
    RECORD_CONTENT_MAX = 16 * 1024,
    RECORD_TRAILER_BYTES = RECORD_HEADER_BYTES + RECORD_HEADER_BYTES + 8,
};

/* The header of a STDOUT record with that much content, 1 to RECORD_CONTENT_MAX bytes: an empty
 * record would end the output. */
void record_header(char header[RECORD_HEADER_BYTES], uint16_t request_id, size_t content_bytes);

/* The end of an answer: the empty STDOUT record and END_REQUEST with status 0. */
void record_trailer(char trailer[RECORD_TRAILER_BYTES], uint16_t request_id);

enum record_verdict {
    RECORD_REQUEST_COMPLETE, /* all of it is there, up to the end of the body */
    RECORD_REQUEST_PARTIAL,  /* what is there is sound; more has to come */
    RECORD_REQUEST_BAD,      /* not FastCGI, or a record that may not come here */
};

/* How far a request has come in. The scan gets the bytes of a connection in pieces of any size, and
 * finds the end of the request, so that libfcgi parses only complete requests. Management records
 * are bad: for some of them libfcgi writes past a buffer. */
struct record_scan {
    enum { RECORD_AT_BEGIN, RECORD_AT_PARAMETERS, RECORD_AT_BODY, RECORD_AT_END } stage;
    unsigned request_id;
    char header[RECORD_HEADER_BYTES];
    size_t header_bytes;  /* of header, seen so far */
    size_t content_bytes; /* of the record, padding included, still to come */
};

void record_scan_init(struct record_scan *scan);
enum record_verdict record_scan_feed(struct record_scan *scan, const char *bytes,
                                     size_t length) must_check;
