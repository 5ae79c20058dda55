/* Channels and users. */
#include "names.h"
#include "support.h"

static void test_names(void **state) {
    static const struct {
        struct slice name;
        bool is_channel;
        bool is_user;
    } cases[] = {
        {LITERAL("c"), true, true},
        {LITERAL("Orders 2026/*"), true, true},
        {LITERAL("\xc3\xa9\xf0\x9f\x98\x80"), true, true},
        {LITERAL("'; DROP TABLE x; --"), true, true},
        {LITERAL("a,b"), false, true},
        {LITERAL(","), false, true},
        {LITERAL(""), false, false},
        {LITERAL("a\nb"), false, false},
        {LITERAL("a\0b"), false, false},
        {LITERAL("\x7f"), false, false},
        {LITERAL("\xc2\x85"), false, false},
        {LITERAL("\xff"), false, false},
        {LITERAL("\xed\xa0\x80"), false, false},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        if (names_is_channel(cases[i].name) != cases[i].is_channel ||
            names_is_user(cases[i].name) != cases[i].is_user) {
            fail_msg("'%.*s'", (int)cases[i].name.length, cases[i].name.at);
        }
    }
}

static void test_lengths(void **state) {
    char *name = repeated('n', 256);
    assert_true(names_is_channel((struct slice){name, 255}));
    assert_false(names_is_channel((struct slice){name, 256}));
    assert_true(names_is_user((struct slice){name, 255}));
    assert_false(names_is_user((struct slice){name, 256}));
    free(name);
    char *digits = repeated('1', 256);
    assert_true(names_is_number((struct slice){digits, 255}));
    assert_false(names_is_number((struct slice){digits, 256}));
    free(digits);
}

static void test_numbers(void **state) {
    static const struct {
        const char *text;
        bool is_number;
    } cases[] = {{"0", true},
                 {"1", true},
                 {"10", true},
                 {"-1", true},
                 {"123456789012345678901", true},
                 {"", false},
                 {"-", false},
                 {"-0", false},
                 {"01", false},
                 {"00", false},
                 {"+1", false},
                 {"1.0", false},
                 {"1e3", false},
                 {" 1", false},
                 {"x", false},
                 {"--1", false}};
    for (size_t i = 0; i < length_of(cases); i++) {
        if (names_is_number(slice_of(cases[i].text)) != cases[i].is_number) {
            fail_msg("'%s'", cases[i].text);
        }
    }
}

RUN_TESTS(TEST(test_names), TEST(test_lengths), TEST(test_numbers))
