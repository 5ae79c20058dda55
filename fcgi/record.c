#include "record.h"

enum { FCGI_VERSION = 1, FCGI_BEGIN = 1, FCGI_END = 3, FCGI_PARAMETERS = 4, FCGI_OUT = 6 };

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

enum record_check record_check_request(const char *bytes, size_t length) {
    unsigned request_id = 0;
    for (size_t at = 0;;) {
        bool is_first = at == 0;
        if (length - at < RECORD_HEADER_BYTES) {
            bool may_begin = length == at || bytes[at] == FCGI_VERSION;
            return may_begin ? RECORD_REQUEST_PARTIAL : RECORD_REQUEST_BAD;
        }
        const char *header = bytes + at;
        unsigned type = (unsigned char)header[1];
        unsigned content = u16_at(header + 4);
        size_t whole = RECORD_HEADER_BYTES + content + (unsigned char)header[6];
        request_id = is_first ? u16_at(header + 2) : request_id;
        bool is_expected = is_first ? type == FCGI_BEGIN && content == 8 : type == FCGI_PARAMETERS;
        if (header[0] != FCGI_VERSION || !is_expected || request_id == 0 ||
            u16_at(header + 2) != request_id) {
            return RECORD_REQUEST_BAD;
        }
        if (length - at < whole) {
            return RECORD_REQUEST_PARTIAL;
        }
        if (type == FCGI_PARAMETERS && content == 0) {
            return RECORD_REQUEST_COMPLETE;
        }
        at += whole;
    }
}
