#include "record.h"

enum {
    FCGI_VERSION = 1,
    FCGI_BEGIN = 1,
    FCGI_END = 3,
    FCGI_PARAMETERS = 4,
    FCGI_IN = 5,
    FCGI_OUT = 6
};

static void header_of(char header[RECORD_HEADER_BYTES], unsigned type, uint16_t request_id,
                      size_t content_bytes) {
    header[0] = FCGI_VERSION;
    header[1] = (char)type;
    header[2] = (char)(request_id >> 8);
    header[3] = (char)request_id;
    header[4] = (char)(content_bytes >> 8);
    header[5] = (char)content_bytes;
    header[6] = 0; /* no padding */
    header[7] = 0;
}

void record_header(char header[RECORD_HEADER_BYTES], uint16_t request_id, size_t content_bytes) {
    check(content_bytes >= 1 && content_bytes <= RECORD_CONTENT_MAX);
    header_of(header, FCGI_OUT, request_id, content_bytes);
}

void record_trailer(char trailer[RECORD_TRAILER_BYTES], uint16_t request_id) {
    memset(trailer, 0, RECORD_TRAILER_BYTES);
    header_of(trailer, FCGI_OUT, request_id, 0);
    header_of(trailer + RECORD_HEADER_BYTES, FCGI_END, request_id, 8);
}

static unsigned u16_at(const char *bytes) {
    return (unsigned)(unsigned char)bytes[0] << 8 | (unsigned char)bytes[1];
}

void record_scan_init(struct record_scan *scan) {
    *scan = (struct record_scan){.stage = RECORD_AT_BEGIN};
}

/* True if the header, which is complete, may come at this stage. */
static bool is_expected(const struct record_scan *scan) {
    static const unsigned expected[] = {
        [RECORD_AT_BEGIN] = FCGI_BEGIN,
        [RECORD_AT_PARAMETERS] = FCGI_PARAMETERS,
        [RECORD_AT_BODY] = FCGI_IN,
        [RECORD_AT_END] = 0, /* nothing is */
    };
    unsigned request_id = u16_at(scan->header + 2);
    bool is_known = scan->stage == RECORD_AT_BEGIN ? u16_at(scan->header + 4) == 8
                                                   : request_id == scan->request_id;
    return (unsigned)scan->header[1] == expected[scan->stage] && request_id != 0 && is_known;
}

/* An empty PARAMS or STDIN record ends its part of the request, with its padding. */
static void begin_record(struct record_scan *scan) {
    unsigned content = u16_at(scan->header + 4);
    scan->request_id = u16_at(scan->header + 2);
    scan->header_bytes = 0;
    scan->content_bytes = content + (unsigned char)scan->header[6];
    if (scan->stage == RECORD_AT_BEGIN) {
        scan->stage = RECORD_AT_PARAMETERS;
    } else if (content == 0) {
        scan->stage = scan->stage == RECORD_AT_BODY ? RECORD_AT_END : RECORD_AT_BODY;
    }
}

enum record_verdict record_scan_feed(struct record_scan *scan, const char *bytes, size_t length) {
    while (length > 0 && !(scan->stage == RECORD_AT_END && scan->content_bytes == 0)) {
        bool is_content = scan->content_bytes > 0;
        size_t wanted = is_content ? scan->content_bytes : sizeof scan->header - scan->header_bytes;
        size_t taken = length < wanted ? length : wanted;
        if (is_content) {
            scan->content_bytes -= taken;
        } else {
            memcpy(scan->header + scan->header_bytes, bytes, taken);
            scan->header_bytes += taken;
        }
        if (!is_content && scan->header[0] != FCGI_VERSION) {
            return RECORD_REQUEST_BAD;
        }
        if (scan->header_bytes == sizeof scan->header) {
            if (!is_expected(scan)) {
                return RECORD_REQUEST_BAD;
            }
            begin_record(scan);
        }
        bytes += taken;
        length -= taken;
    }
    return scan->stage == RECORD_AT_END && scan->content_bytes == 0 ? RECORD_REQUEST_COMPLETE
                                                                    : RECORD_REQUEST_PARTIAL;
}
