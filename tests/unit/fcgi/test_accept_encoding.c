/* Accept-Encoding: who gets gzip. */
#include "accept_encoding.h"

#include "support.h"

static const struct encoding_case {
    const char *header;
    bool has_gzip;
} cases[] = {
    /* what clients send */
    {"gzip, deflate", true},
    {"gzip, deflate, br, zstd", true},
    {"gzip", true},
    {"gzip;q=1.0, identity; q=0.5, *;q=0", true},
    {"compress;q=0.5, gzip;q=1.0", true},
    {"", false},
    {"identity", false},
    {"br, deflate", false},
    /* names */
    {"GZip", true},
    {"x-gzip", true},
    {"X-GZIP;Q=0.1", true},
    {"gzipped", false},
    {"gzi", false},
    {"x-gzip2, xgzip", false},
    {" \t gzip \t ", true},
    {",, ,gzip,,", true},
    {"gzip ;q=1", true},
    {"gzip deflate", false},
    /* weights */
    {"gzip;q=0", false},
    {"gzip;q=0.0", false},
    {"gzip;q=0.", false},
    {"gzip;q=0.000", false},
    {"gzip;q=0.001", true},
    {"gzip;q=1.", true},
    {"gzip;q=1.000", true},
    {"gzip; q = 0.5", true},
    {"gzip;level=9", true},
    {"gzip;level=9;q=0", false},
    {"gzip;q=1;q=0", false},
    /* weights that are none */
    {"gzip;q=", false},
    {"gzip;q", false},
    {"gzip;q=x", false},
    {"gzip;q=-1", false},
    {"gzip;q=+1", false},
    {"gzip;q=2", false},
    {"gzip;q=1.001", false},
    {"gzip;q=0.0001", false},
    {"gzip;q=0,5", false},
    {"gzip;q=.5", false},
    {"gzip;q=1e0", false},
    {"gzip;q=\"1\"", false},
    {"gzip;", true},
    {"gzip;;;", true},
    /* any other */
    {"*", true},
    {"*;q=0", false},
    {"*;q=0, gzip", true},
    {"*, gzip;q=0", false},
    {"identity;q=0.5, *;q=0.1", false},
    {"identity;q=0, *;q=0.1", true},
    {"br, *;q=0.5", true},
    /* identity */
    {"identity;q=1, gzip;q=0.5", false},
    {"identity;q=0.5, gzip;q=0.5", true},
    {"identity, gzip", true},
    {"identity;q=0", false},
    /* several */
    {"gzip, gzip;q=0", false},
    {"gzip;q=0, gzip", false},
    {"gzip;q=0, x-gzip", false},
    {"gzip;q=0.4, identity;q=0.5, gzip;q=0.6", false},
    /* garbage */
    {";;,=;q=", false},
    {"=", false},
    {";gzip", false},
    {"\xff\xfe, gzip", true},
};

static void test_cases(void **state) {
    for (size_t i = 0; i < length_of(cases); i++) {
        char *memory;
        struct slice header = exact(slice_of(cases[i].header), &memory);
        if (accept_encoding_has_gzip(header) != cases[i].has_gzip) {
            fail_msg("'%s'", cases[i].header);
        }
        free(memory);
    }
}

/* Any bytes, of any length: there is an answer. */
static void test_any_bytes(void **state) {
    static const char alphabet[] = "gzip,;q=01.* \tx-";
    uint32_t chance = 1;
    size_t accepted = 0;
    for (int i = 0; i < 200000; i++) {
        char text[24];
        size_t length = next_random(&chance) % sizeof text;
        for (size_t at = 0; at < length; at++) {
            text[at] = alphabet[next_random(&chance) % (sizeof alphabet - 1)];
        }
        char *memory;
        accepted += accept_encoding_has_gzip(exact((struct slice){text, length}, &memory)) ? 1 : 0;
        free(memory);
    }
    assert_true(accepted > 0);
}

RUN_TESTS(TEST(test_cases), TEST(test_any_bytes))
