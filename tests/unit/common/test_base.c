/* Slices, and small parts of every parser. */
#include "support.h"

static void test_begins_with(void **state) {
    assert_true(slice_begins_with(LITERAL("abc"), LITERAL("ab")));
    assert_true(slice_begins_with(LITERAL("ab"), LITERAL("ab")));
    assert_true(slice_begins_with(LITERAL("ab"), (struct slice){0}));
    assert_true(slice_begins_with((struct slice){0}, (struct slice){0}));
    assert_false(slice_begins_with(LITERAL("a"), LITERAL("ab")));
    assert_false(slice_begins_with(LITERAL("xab"), LITERAL("ab")));
}

/* What is taken, and what is left. */
static void test_take_until(void **state) {
    static const struct {
        struct slice text;
        const char *taken;
        const char *left;
        bool was_found;
    } cases[] = {{LITERAL("a,b,c"), "a", "b,c", true},
                 {LITERAL("a,"), "a", "", true},
                 {LITERAL(",b"), "", "b", true},
                 {LITERAL(","), "", "", true},
                 {LITERAL("a"), "a", "", false},
                 {LITERAL(""), "", "", false},
                 {{NULL, 0}, "", "", false}};
    for (size_t i = 0; i < length_of(cases); i++) {
        char *memory;
        bool was_found;
        struct slice text =
            cases[i].text.at == NULL ? cases[i].text : exact(cases[i].text, &memory);
        char *own = cases[i].text.at == NULL ? NULL : memory;
        expect_text(slice_take_until(&text, ',', &was_found), cases[i].taken);
        expect_text(text, cases[i].left);
        assert_int_equal(was_found, cases[i].was_found);
        free(own);
    }
}

static void test_trim(void **state) {
    static const struct {
        struct slice text;
        const char *trimmed;
    } cases[] = {{LITERAL("a"), "a"},     {LITERAL(" \ta b\t "), "a b"},
                 {LITERAL("a\n"), "a\n"}, {LITERAL(" \t "), ""},
                 {LITERAL(""), ""},       {{NULL, 0}, ""}};
    for (size_t i = 0; i < length_of(cases); i++) {
        char *memory;
        struct slice text =
            cases[i].text.at == NULL ? cases[i].text : exact(cases[i].text, &memory);
        char *own = cases[i].text.at == NULL ? NULL : memory;
        expect_text(slice_trim(text, " \t"), cases[i].trimmed);
        free(own);
    }
    struct slice with_nul = slice_trim(LITERAL("\0 \0"), " ");
    assert_int_equal(with_nul.length, 3); /* NUL is trimmed by nobody */
}

static void test_hex_digit(void **state) {
    static const char digits[] = "0123456789abcdef";
    static const char upper[] = "0123456789ABCDEF";
    for (int c = -128; c < 256; c++) {
        const char *found = c > 0 ? strchr(digits, c) : NULL;
        const char *found_upper = c > 0 ? strchr(upper, c) : NULL;
        int value = found != NULL         ? (int)(found - digits)
                    : found_upper != NULL ? (int)(found_upper - upper)
                                          : -1;
        assert_int_equal(hex_digit(c), value);
    }
}

static void test_text_of(void **state) {
#define LARGEST 107
    assert_string_equal("at most " text_of(LARGEST), "at most 107");
}

RUN_TESTS(TEST(test_begins_with), TEST(test_take_until), TEST(test_trim), TEST(test_hex_digit),
          TEST(test_text_of))
