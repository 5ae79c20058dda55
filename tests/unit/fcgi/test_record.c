/* FastCGI records: what we write, and how far a request has come in. */
#include "record.h"
#include "support.h"

static void test_header(void **state) {
    char header[RECORD_HEADER_BYTES];
    record_header(header, 0x1234, 1);
    assert_memory_equal(header, "\x01\x06\x12\x34\x00\x01\x00\x00", 8);
    record_header(header, 0xffff, RECORD_CONTENT_MAX);
    assert_memory_equal(header, "\x01\x06\xff\xff\x40\x00\x00\x00", 8);
}

static void test_trailer(void **state) {
    char trailer[RECORD_TRAILER_BYTES];
    memset(trailer, 'x', sizeof trailer);
    record_trailer(trailer, 0x1234);
    assert_memory_equal(trailer,
                        "\x01\x06\x12\x34\0\0\0\0"
                        "\x01\x03\x12\x34\0\x08\0\0"
                        "\0\0\0\0\0\0\0\0",
                        24);
}

/* --- requests -----------------------------------------------------------------------------------
 */

#define BEGIN(id)                \
    "\x01\x01\0" id "\0\x08\0\0" \
    "\0\x01\x01\0\0\0\0\0"
#define PARAMS(id)                 \
    "\x01\x04\0" id "\0\x05\x03\0" \
    "\x01\x02"                     \
    "abb"                          \
    "pad"
#define PARAMS_END(id) "\x01\x04\0" id "\0\0\0\0"
#define BODY(id)                 \
    "\x01\x05\0" id "\0\x04\0\0" \
    "{\"a\""
#define BODY_END(id) "\x01\x05\0" id "\0\0\0\0"

#define HEAD BEGIN("\x01") PARAMS("\x01") PARAMS_END("\x01")

static enum record_verdict scan_of(struct slice bytes, size_t piece) {
    struct record_scan scan;
    enum record_verdict verdict = RECORD_REQUEST_PARTIAL;
    record_scan_init(&scan);
    while (bytes.length > 0 && verdict == RECORD_REQUEST_PARTIAL) {
        char *memory;
        size_t length = bytes.length < piece ? bytes.length : piece;
        struct slice part = exact((struct slice){bytes.at, length}, &memory);
        verdict = record_scan_feed(&scan, part.at, part.length);
        free(memory);
        bytes = (struct slice){bytes.at + length, bytes.length - length};
    }
    return verdict;
}

struct scan_case {
    const char *about;
    struct slice bytes;
    enum record_verdict verdict;
};

#define COMPLETE RECORD_REQUEST_COMPLETE
#define PARTIAL  RECORD_REQUEST_PARTIAL
#define BAD      RECORD_REQUEST_BAD

static const struct scan_case cases[] = {
    {"nothing", LITERAL(""), PARTIAL},
    {"a request", LITERAL(HEAD), PARTIAL},
    {"a request and its empty body", LITERAL(HEAD BODY_END("\x01")), COMPLETE},
    {"a request and its body", LITERAL(HEAD BODY("\x01") BODY_END("\x01")), COMPLETE},
    {"a body without end", LITERAL(HEAD BODY("\x01") BODY("\x01")), PARTIAL},
    {"no parameters at all", LITERAL(BEGIN("\x01") PARAMS_END("\x01")), PARTIAL},
    {"parameters in several records",
     LITERAL(BEGIN("\x01") PARAMS("\x01") PARAMS("\x01") PARAMS("\x01") PARAMS_END("\x01")),
     PARTIAL},
    {"begun only", LITERAL(BEGIN("\x01")), PARTIAL},
    {"begun twice", LITERAL(BEGIN("\x01") BEGIN("\x01")), BAD},
    {"parameters first", LITERAL(PARAMS("\x01")), BAD},
    {"body first", LITERAL(BODY("\x01")), BAD},
    {"body before the parameters end", LITERAL(BEGIN("\x01") PARAMS("\x01") BODY("\x01")), BAD},
    {"another request's parameters", LITERAL(BEGIN("\x01") PARAMS("\x02")), BAD},
    {"another request's body", LITERAL(HEAD BODY("\x02")), BAD},
    {"request 0", LITERAL("\x01\x01\0\0\0\x08\0\0"), BAD},
    {"BEGIN of 7 bytes", LITERAL("\x01\x01\0\x01\0\x07\0\0"), BAD},
    {"BEGIN of 9 bytes", LITERAL("\x01\x01\0\x01\0\x09\0\0"), BAD},
    {"GET_VALUES", LITERAL("\x01\x09\0\0\0\0\0\0"), BAD},
    {"GET_VALUES with an id", LITERAL("\x01\x09\0\x01\0\0\0\0"), BAD},
    {"an unknown management record", LITERAL("\x01\x0b\0\0\0\x08\0\0"), BAD},
    {"a management record in the middle", LITERAL(BEGIN("\x01") "\x01\x09\0\0\0\0\0\0"), BAD},
    {"ABORT_REQUEST", LITERAL(BEGIN("\x01") "\x01\x02\0\x01\0\0\0\0"), BAD},
    {"END_REQUEST", LITERAL("\x01\x03\0\x01\0\x08\0\0"), BAD},
    {"STDOUT", LITERAL("\x01\x06\0\x01\0\x08\0\0"), BAD},
    {"type 0", LITERAL("\x01\0\0\x01\0\x08\0\0"), BAD},
    {"type 129", LITERAL("\x01\x81\0\x01\0\x08\0\0"), BAD},
    {"version 0", LITERAL("\0\x01\0\x01\0\x08\0\0"), BAD},
    {"version 2", LITERAL("\x02\x01\0\x01\0\x08\0\0"), BAD},
    {"version 2 in the middle", LITERAL(BEGIN("\x01") "\x02\x04\0\x01\0\0\0\0"), BAD},
    {"HTTP", LITERAL("GET / HTTP/1.1\r\n"), BAD},
    {"one byte of HTTP", LITERAL("G"), BAD},
    {"one good byte", LITERAL("\x01"), PARTIAL},
    {"half a header", LITERAL("\x01\x01\0\x01"), PARTIAL},
};

static void test_requests(void **state) {
    for (size_t i = 0; i < length_of(cases); i++) {
        for (size_t piece = 1; piece <= 64; piece++) {
            if (scan_of(cases[i].bytes, piece) != cases[i].verdict) {
                fail_msg("%s, in pieces of %zu", cases[i].about, piece);
            }
        }
    }
}

static void test_truncated_at_every_byte(void **state) {
    static const char whole[] = HEAD BODY("\x01") BODY_END("\x01");
    for (size_t length = 0; length < sizeof whole; length++) {
        struct slice part = {whole, length};
        assert_int_equal(scan_of(part, 1000), length == sizeof whole - 1 ? COMPLETE : PARTIAL);
    }
}

static void test_every_other_type(void **state) {
    for (unsigned type = 0; type < 256; type++) {
        char bytes[] = "\x01\x01\0\x01\0\x08\0\0"
                       "\0\x01\x01\0\0\0\0\0"
                       "\x01?\0\x01\0\0\0\0";
        struct slice first = {bytes, 8};
        struct slice both = {bytes, sizeof bytes - 1};
        bytes[17] = (char)type;
        assert_int_equal(scan_of(both, 1000), type == 4 ? PARTIAL : BAD);
        bytes[1] = (char)type;
        assert_int_equal(scan_of(first, 1000), type == 1 ? PARTIAL : BAD);
    }
}

/* The largest content and padding that a header can announce. */
static void test_largest_record(void **state) {
    struct buf bytes = {0};
    char *filler = repeated('x', 65535 + 255);
    buf_append(&bytes, BEGIN("\x01"), 16);
    buf_append(&bytes, "\x01\x04\0\x01\xff\xff\xff\0", 8);
    buf_append(&bytes, filler, 65535 + 255);
    buf_append(&bytes, PARAMS_END("\x01") BODY_END("\x01"), 16);
    assert_int_equal(scan_of(buf_slice(&bytes), 1000), COMPLETE);
    bytes.length--;
    assert_int_equal(scan_of(buf_slice(&bytes), 1000), PARTIAL);
    free(filler);
    buf_release(&bytes);
}

static void test_request_ids_of_two_bytes(void **state) {
    static const char same[] = "\x01\x01\x12\x34\0\x08\0\0"
                               "\0\x01\0\0\0\0\0\0"
                               "\x01\x04\x12\x34\0\0\0\0"
                               "\x01\x05\x12\x34\0\0\0\0";
    static const char other[] = "\x01\x01\x12\x34\0\x08\0\0"
                                "\0\x01\0\0\0\0\0\0"
                                "\x01\x04\x13\x34\0\0\0\0";
    assert_int_equal(scan_of(LITERAL(same), 1000), COMPLETE);
    assert_int_equal(scan_of(LITERAL(other), 1000), BAD);
}

/* The records that end a part may be padded, too: complete means that the padding is there. */
static void test_padding_of_empty_records(void **state) {
    static const char whole[] = BEGIN("\x01") "\x01\x04\0\x01\0\0\x03\0"
                                              "pad" BODY("\x01") "\x01\x05\0\x01\0\0\xff\0";
    struct buf padded = {0};
    char *padding = repeated('p', 255);
    buf_append(&padded, whole, sizeof whole - 1);
    buf_append_text(&padded, padding);
    for (size_t length = 0; length <= padded.length; length++) {
        struct slice part = {padded.bytes, length};
        assert_int_equal(scan_of(part, 7), length == padded.length ? COMPLETE : PARTIAL);
    }
    free(padding);
    buf_release(&padded);
}

RUN_TESTS(TEST(test_header), TEST(test_trailer), TEST(test_requests),
          TEST(test_truncated_at_every_byte), TEST(test_every_other_type),
          TEST(test_largest_record), TEST(test_request_ids_of_two_bytes),
          TEST(test_padding_of_empty_records))
