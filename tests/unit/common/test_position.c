/* Positions: what is parsed, what is refused, and that what is printed comes back. */
#include "position.h"
#include "support.h"

#define M13 "abcdefghijklm"
#define M64 "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_."

struct position_case {
    const char *text;
    enum position_kind kind;
    struct position position;
};

static const struct position_case cases[] = {
    {"", POSITION_NONE, {0}},
    {" ", POSITION_NONE, {0}},
    {" \t ", POSITION_NONE, {0}},
    {"0", POSITION_ALL, {0}},
    {" 0 ", POSITION_ALL, {0}},
    {"1", POSITION_KNOWN, {.durable = 1}},
    {"9999999999999999999", POSITION_KNOWN, {.durable = 9999999999999999999u}},
    {"0." M13 ".0", POSITION_KNOWN, {0, M13, 0}},
    {"0." M13 ".17", POSITION_KNOWN, {0, M13, 17}},
    {"12.0000000000000.34", POSITION_KNOWN, {12, "0000000000000", 34}},
    {"0.zzzzzzzzzzzzz.9999999999999999999",
     POSITION_KNOWN,
     {0, "zzzzzzzzzzzzz", 9999999999999999999u}},
    {"  5." M13 ".6\t", POSITION_KNOWN, {5, M13, 6}},
    {"0." M13 ".17~x", POSITION_KNOWN, {0, M13, 17}},
    {"0." M13 ".17~A-Z_0.9", POSITION_KNOWN, {0, M13, 17}},
    {"0." M13 ".17~" M64, POSITION_KNOWN, {0, M13, 17}},
    {"7~own", POSITION_KNOWN, {.durable = 7}},

    /* signs, spaces, other numbers */
    {"+1", POSITION_MALFORMED, {0}},
    {"-1", POSITION_MALFORMED, {0}},
    {"1 2", POSITION_MALFORMED, {0}},
    {"0x1", POSITION_MALFORMED, {0}},
    {"1e5", POSITION_MALFORMED, {0}},
    {"a", POSITION_MALFORMED, {0}},
    {"\n0", POSITION_MALFORMED, {0}},
    {"0\r\n", POSITION_MALFORMED, {0}},
    {"0. " M13 ".17", POSITION_MALFORMED, {0}},
    {"0." M13 ".+17", POSITION_MALFORMED, {0}},
    {"0." M13 ".-1", POSITION_MALFORMED, {0}},
    {"0." M13 ". 17", POSITION_MALFORMED, {0}},
    {"0 ." M13 ".17", POSITION_MALFORMED, {0}},
    {"\xd9\xa1", POSITION_MALFORMED, {0}},
    /* 20 digits */
    {"10000000000000000000", POSITION_MALFORMED, {0}},
    {"00000000000000000001", POSITION_MALFORMED, {0}},
    {"18446744073709551616", POSITION_MALFORMED, {0}},
    {"0." M13 ".10000000000000000000", POSITION_MALFORMED, {0}},
    /* missing parts, and too many parts */
    {".", POSITION_MALFORMED, {0}},
    {"..", POSITION_MALFORMED, {0}},
    {"0.", POSITION_MALFORMED, {0}},
    {"0..", POSITION_MALFORMED, {0}},
    {"0..17", POSITION_MALFORMED, {0}},
    {"0." M13, POSITION_MALFORMED, {0}},
    {"0." M13 ".", POSITION_MALFORMED, {0}},
    {"." M13 ".17", POSITION_MALFORMED, {0}},
    {M13 ".17", POSITION_MALFORMED, {0}},
    {"0." M13 ".17.", POSITION_MALFORMED, {0}},
    {"0." M13 ".17.18", POSITION_MALFORMED, {0}},
    {"1.2", POSITION_MALFORMED, {0}},
    /* markers */
    {"0.abcdefghijkl.17", POSITION_MALFORMED, {0}},
    {"0.abcdefghijklmn.17", POSITION_MALFORMED, {0}},
    {"0.Abcdefghijklm.17", POSITION_MALFORMED, {0}},
    {"0.abcdefghijkl_.17", POSITION_MALFORMED, {0}},
    {"0.abcdefghijkl-.17", POSITION_MALFORMED, {0}},
    {"0.abcdefghijk\xc3\xa9.17", POSITION_MALFORMED, {0}},
    /* the publisher's own id */
    {"~", POSITION_MALFORMED, {0}},
    {"~x", POSITION_MALFORMED, {0}},
    {"7~", POSITION_MALFORMED, {0}},
    {"7~a b", POSITION_MALFORMED, {0}},
    {"7~a~b", POSITION_MALFORMED, {0}},
    {"7~a\n", POSITION_MALFORMED, {0}},
    {"7~" M64 "x", POSITION_MALFORMED, {0}},
    {"7~\xc3\xa9", POSITION_MALFORMED, {0}},
};

static void test_parse(void **state) {
    for (size_t i = 0; i < length_of(cases); i++) {
        char *memory;
        struct position position;
        struct slice text = exact(slice_of(cases[i].text), &memory);
        enum position_kind kind = position_parse(text, &position);
        bool has_position = kind == POSITION_ALL || kind == POSITION_KNOWN;
        if (kind != cases[i].kind ||
            (has_position && !position_equals(&position, &cases[i].position))) {
            fail_msg("'%s': kind %d", cases[i].text, (int)kind);
        }
        free(memory);
    }
}

static void test_parse_no_text(void **state) {
    struct position position;
    assert_int_equal(position_parse((struct slice){NULL, 0}, &position), POSITION_NONE);
}

static void test_parse_nul_bytes(void **state) {
    static const struct slice texts[] = {LITERAL("\0"), LITERAL("0\0"),
                                         LITERAL("0.abcdefghijkl\0.1"), LITERAL("0." M13 ".1\0"),
                                         LITERAL("7~a\0")};
    for (size_t i = 0; i < length_of(texts); i++) {
        struct position position;
        assert_int_equal(position_parse(texts[i], &position), POSITION_MALFORMED);
    }
}

/* Leading zeros within 19 digits do not change the number. */
static void test_leading_zeros(void **state) {
    struct position position;
    assert_int_equal(position_parse(slice_of("007." M13 ".0000000000000000017"), &position),
                     POSITION_KNOWN);
    assert_int_equal(position.durable, 7);
    assert_int_equal(position.since, 17);
}

/* Only "0" means everything; anything longer is a position. */
static void test_everything_is_the_single_zero(void **state) {
    struct position position;
    assert_int_equal(position_parse(slice_of("0"), &position), POSITION_ALL);
    assert_int_not_equal(position_parse(slice_of("0." M13 ".0"), &position), POSITION_ALL);
}

static void test_very_long(void **state) {
    struct position position;
    char *text = repeated('1', 100000);
    assert_int_equal(position_parse(slice_of(text), &position), POSITION_MALFORMED);
    memset(text, ' ', 100000);
    assert_int_equal(position_parse(slice_of(text), &position), POSITION_NONE);
    free(text);
}

static void test_truncated_at_every_byte(void **state) {
    static const char whole[] = "12." M13 ".34~own";
    for (size_t length = 1; length < sizeof whole - 1; length++) {
        struct position position;
        char *memory;
        struct slice text = exact((struct slice){whole, length}, &memory);
        enum position_kind kind = position_parse(text, &position);
        bool is_plain = length <= 2;                 /* 1, 12 */
        bool is_pair = length >= 18 && length != 20; /* not "12.M.34~" */
        bool is_position = is_plain || (is_pair && length >= 18);
        if ((kind == POSITION_KNOWN) != is_position) {
            fail_msg("%.*s: kind %d", (int)length, whole, (int)kind);
        }
        free(memory);
    }
}

static void test_print(void **state) {
    static const struct {
        struct position position;
        const char *text;
    } printed[] = {
        {{0}, "0"},
        {{.durable = 17}, "17"},
        {{0, M13, 0}, "0." M13 ".0"},
        {{1, M13, 2}, "1." M13 ".2"},
        {{UINT64_MAX, "zzzzzzzzzzzzz", UINT64_MAX},
         "18446744073709551615.zzzzzzzzzzzzz.18446744073709551615"},
    };
    for (size_t i = 0; i < length_of(printed); i++) {
        char text[POSITION_TEXT_BYTES];
        size_t length = position_print(&printed[i].position, text);
        assert_string_equal(text, printed[i].text);
        assert_int_equal(length, strlen(text));
    }
}

static void test_round_trip(void **state) {
    static const uint64_t numbers[] = {0, 1, 9, 10, 4294967296, 9999999999999999999u};
    for (size_t d = 0; d < length_of(numbers); d++) {
        for (size_t s = 0; s < length_of(numbers); s++) {
            struct position position = {.durable = numbers[d], .since = numbers[s]};
            struct position parsed;
            char text[POSITION_TEXT_BYTES];
            marker_draw(position.marker);
            size_t length = position_print(&position, text);
            assert_int_equal(position_parse((struct slice){text, length}, &parsed), POSITION_KNOWN);
            assert_true(position_equals(&position, &parsed));
        }
    }
}

static void test_equals_looks_at_all_parts(void **state) {
    struct position a = {1, M13, 2};
    struct position durable = {2, M13, 2};
    struct position marker = {1, "abcdefghijkln", 2};
    struct position since = {1, M13, 3};
    struct position none = {.durable = 1, .since = 2};
    assert_true(position_equals(&a, &a));
    assert_false(position_equals(&a, &durable));
    assert_false(position_equals(&a, &marker));
    assert_false(position_equals(&a, &since));
    assert_false(position_equals(&a, &none));
}

static void test_markers_are_valid_and_differ(void **state) {
    char markers[100][MARKER_BYTES + 1];
    for (size_t i = 0; i < length_of(markers); i++) {
        marker_draw(markers[i]);
        assert_true(marker_is_valid(slice_of(markers[i])));
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(markers[i], markers[j]);
        }
    }
}

static void test_marker_is_valid(void **state) {
    assert_true(marker_is_valid(LITERAL("0123456789abc")));
    assert_true(marker_is_valid(LITERAL("zzzzzzzzzzzzz")));
    assert_false(marker_is_valid(LITERAL("")));
    assert_false(marker_is_valid(LITERAL("0123456789ab")));
    assert_false(marker_is_valid(LITERAL("0123456789abcd")));
    assert_false(marker_is_valid(LITERAL("0123456789abC")));
    assert_false(marker_is_valid(LITERAL("0123456789ab\0")));
    assert_false(marker_is_valid(LITERAL("0123456789ab{")));
    assert_false(marker_is_valid(LITERAL("0123456789ab`")));
}

static void test_publisher_id_every_byte(void **state) {
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    for (int c = 0; c < 256; c++) {
        char id = (char)c;
        assert_int_equal(publisher_id_is_valid((struct slice){&id, 1}),
                         c != 0 && strchr(good, c) != NULL);
    }
    assert_false(publisher_id_is_valid(LITERAL("")));
    assert_true(publisher_id_is_valid((struct slice){M64, 64}));
    assert_false(publisher_id_is_valid(slice_of(M64 "x")));
}

static void test_durable_place(void **state) {
    struct position both = {7, "abcdefghijklm", 3};
    struct position durable = position_durable(&both);
    char text[POSITION_TEXT_BYTES];
    assert_int_equal(position_print(&durable, text), 1);
    assert_string_equal(text, "7");
    assert_false(position_is_start(&durable));
    durable.durable = 0;
    assert_true(position_is_start(&durable));
    both.durable = 0;
    assert_false(position_is_start(&both));
}

RUN_TESTS(TEST(test_durable_place), TEST(test_parse), TEST(test_parse_no_text),
          TEST(test_parse_nul_bytes), TEST(test_leading_zeros),
          TEST(test_everything_is_the_single_zero), TEST(test_very_long),
          TEST(test_truncated_at_every_byte), TEST(test_print), TEST(test_round_trip),
          TEST(test_equals_looks_at_all_parts), TEST(test_markers_are_valid_and_differ),
          TEST(test_marker_is_valid), TEST(test_publisher_id_every_byte))
