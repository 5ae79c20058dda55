/* Slices. */
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

RUN_TESTS(TEST(test_begins_with), TEST(test_take_until))
