/* Which bytes are UTF-8 by RFC 3629, and which characters are control characters. */
#include "support.h"
#include "utf8.h"

static bool is_valid(struct slice text) {
    char *memory;
    bool valid = utf8_is_valid(exact(text, &memory));
    free(memory);
    return valid;
}

static bool is_printable(struct slice text) {
    char *memory;
    bool printable = utf8_is_printable(exact(text, &memory));
    free(memory);
    return printable;
}

struct text_case {
    const char *about;
    struct slice text;
    bool is_valid;
    bool is_printable;
};

static const struct text_case cases[] = {
    {"empty", LITERAL(""), true, true},
    {"ASCII", LITERAL("az~ "), true, true},
    {"NUL", LITERAL("\0"), true, false},
    {"U+001F", LITERAL("\x1f"), true, false},
    {"a tab", LITERAL("a\tb"), true, false},
    {"DEL", LITERAL("\x7f"), true, false},
    {"U+0080, the first of two bytes", LITERAL("\xc2\x80"), true, false},
    {"U+0085, next line", LITERAL("\xc2\x85"), true, false},
    {"U+009F", LITERAL("\xc2\x9f"), true, false},
    {"U+00A0", LITERAL("\xc2\xa0"), true, true},
    {"U+07FF, the last of two bytes", LITERAL("\xdf\xbf"), true, true},
    {"U+0800, the first of three bytes", LITERAL("\xe0\xa0\x80"), true, true},
    {"U+2028", LITERAL("\xe2\x80\xa8"), true, true},
    {"U+D7FF, before the surrogates", LITERAL("\xed\x9f\xbf"), true, true},
    {"U+E000, behind the surrogates", LITERAL("\xee\x80\x80"), true, true},
    {"U+FEFF", LITERAL("\xef\xbb\xbf"), true, true},
    {"U+FFFF", LITERAL("\xef\xbf\xbf"), true, true},
    {"U+10000, the first of four bytes", LITERAL("\xf0\x90\x80\x80"), true, true},
    {"U+10FFFF, the last one", LITERAL("\xf4\x8f\xbf\xbf"), true, true},
    {"U+110000", LITERAL("\xf4\x90\x80\x80"), false, false},
    {"above f4", LITERAL("\xf5\x80\x80\x80"), false, false},
    {"ff", LITERAL("\xff"), false, false},
    {"fe", LITERAL("\xfe\x80\x80\x80\x80\x80\x80"), false, false},
    {"five bytes", LITERAL("\xf8\x88\x80\x80\x80"), false, false},
    {"six bytes", LITERAL("\xfc\x84\x80\x80\x80\x80"), false, false},
    {"overlong NUL", LITERAL("\xc0\x80"), false, false},
    {"overlong slash", LITERAL("\xc0\xaf"), false, false},
    {"overlong U+007F", LITERAL("\xc1\xbf"), false, false},
    {"overlong slash in three", LITERAL("\xe0\x80\xaf"), false, false},
    {"overlong U+07FF in three", LITERAL("\xe0\x9f\xbf"), false, false},
    {"overlong slash in four", LITERAL("\xf0\x80\x80\xaf"), false, false},
    {"overlong U+FFFF in four", LITERAL("\xf0\x8f\xbf\xbf"), false, false},
    {"U+D800", LITERAL("\xed\xa0\x80"), false, false},
    {"U+DBFF", LITERAL("\xed\xaf\xbf"), false, false},
    {"U+DC00", LITERAL("\xed\xb0\x80"), false, false},
    {"U+DFFF", LITERAL("\xed\xbf\xbf"), false, false},
    {"a surrogate pair (CESU-8)", LITERAL("\xed\xa0\xbd\xed\xb8\x80"), false, false},
    {"continuation alone", LITERAL("\x80"), false, false},
    {"continuation behind ASCII", LITERAL("a\xbf"), false, false},
    {"ASCII in the middle of two", LITERAL("\xc3("), false, false},
    {"ASCII in the middle of three", LITERAL("\xe2\x28\xa1"), false, false},
    {"ASCII at the end of three", LITERAL("\xe2\x82("), false, false},
    {"a new start in the middle of four", LITERAL("\xf0\x9f\xc3\xa9"), false, false},
    {"good, bad, good", LITERAL("\xc3\xa9\xff\xc3\xa9"), false, false},
    {"Latin 1", LITERAL("caf\xe9"), false, false},
};

static void test_cases(void **state) {
    for (size_t i = 0; i < length_of(cases); i++) {
        if (is_valid(cases[i].text) != cases[i].is_valid ||
            is_printable(cases[i].text) != cases[i].is_printable) {
            fail_msg("%s", cases[i].about);
        }
    }
}

/* One character of each length; only the complete one is valid. */
static void test_truncated_at_every_byte(void **state) {
    static const struct slice characters[] = {LITERAL("\xc3\xa9"), LITERAL("\xe2\x82\xac"),
                                              LITERAL("\xf0\x9f\x98\x80")};
    for (size_t i = 0; i < length_of(characters); i++) {
        for (size_t length = 1; length <= characters[i].length; length++) {
            struct slice part = {characters[i].at, length};
            assert_int_equal(is_valid(part), length == characters[i].length);
            assert_int_equal(is_printable(part), length == characters[i].length);
        }
    }
}

/* Every code point is encoded and decoded, and no longer sequence is accepted for it. */
static void test_encode_every_code_point(void **state) {
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        char out[4];
        if (c >= 0xd800 && c <= 0xdfff) {
            continue;
        }
        size_t length = utf8_encode(c, out);
        size_t wanted = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        struct slice text = {out, length};
        bool is_control = c < 0x20 || (c >= 0x7f && c < 0xa0);
        if (length != wanted || !utf8_is_valid(text) || utf8_is_printable(text) == is_control) {
            fail_msg("U+%04X", c);
        }
    }
}

static void test_encode_known_bytes(void **state) {
    static const struct {
        uint32_t code_point;
        struct slice bytes;
    } known[] = {{0x24, LITERAL("$")},
                 {0xe9, LITERAL("\xc3\xa9")},
                 {0x20ac, LITERAL("\xe2\x82\xac")},
                 {0x1f600, LITERAL("\xf0\x9f\x98\x80")}};
    for (size_t i = 0; i < length_of(known); i++) {
        char out[4];
        size_t length = utf8_encode(known[i].code_point, out);
        expect_slice((struct slice){out, length}, known[i].bytes, "encoded");
    }
}

/* All two-byte texts, against the definition. */
static void test_every_pair_of_bytes(void **state) {
    for (unsigned pair = 0; pair < 0x10000; pair++) {
        unsigned first = pair >> 8;
        unsigned second = pair & 0xff;
        char text[2] = {(char)first, (char)second};
        bool wanted = (first < 0x80 && second < 0x80) ||
                      (first >= 0xc2 && first <= 0xdf && (second & 0xc0) == 0x80);
        if (utf8_is_valid((struct slice){text, 2}) != wanted) {
            fail_msg("%02x %02x", first, second);
        }
    }
}

static void test_repair(void **state) {
    static const char *const repairs[][2] = {
        {"", ""},
        {"gr\xc3\xb6\xc3\x9f"
         "e",
         "gr\xc3\xb6\xc3\x9f"
         "e"},
        {"\xff", "\xef\xbf\xbd"},
        {"a\xc3", "a\xef\xbf\xbd"}, /* cut off */
        {"\xc3"
         "a\xe9 b",
         "\xef\xbf\xbd"
         "a\xef\xbf\xbd b"},                                      /* of another encoding */
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* half of a surrogate pair */
    };
    for (size_t i = 0; i < length_of(repairs); i++) {
        struct buf out = {0};
        utf8_repair(slice_of(repairs[i][0]), &out);
        assert_true(utf8_is_valid(buf_slice(&out)));
        expect_buf(&out, repairs[i][1]);
    }
}

RUN_TESTS(TEST(test_repair), TEST(test_cases), TEST(test_truncated_at_every_byte),
          TEST(test_encode_every_code_point), TEST(test_encode_known_bytes),
          TEST(test_every_pair_of_bytes))
