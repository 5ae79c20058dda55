/* Percent-escapes: decoded once, and what is broken is refused. */
#include "support.h"
#include "url.h"

static void test_decode(void **state) {
    static const struct {
        const char *text;
        struct slice decoded;
        bool is_good;
    } cases[] = {
        {"", LITERAL(""), true},
        {"abc", LITERAL("abc"), true},
        {"a%20b", LITERAL("a b"), true},
        {"%41%62", LITERAL("Ab"), true},
        {"%c3%A9", LITERAL("\xc3\xa9"), true},
        {"%00", LITERAL("\0"), true},
        {"%ff", LITERAL("\xff"), true},
        {"a+b", LITERAL("a+b"), true},
        {"%2541", LITERAL("%41"), true},
        {"%2F%2f", LITERAL("//"), true},
        {"%", LITERAL(""), false},
        {"%4", LITERAL(""), false},
        {"a%", LITERAL(""), false},
        {"a%4", LITERAL(""), false},
        {"%zz", LITERAL(""), false},
        {"%4g", LITERAL(""), false},
        {"%g4", LITERAL(""), false},
        {"%%41", LITERAL(""), false},
        {"% 41", LITERAL(""), false},
        {"%-1", LITERAL(""), false},
        {"%\xc3\xa9", LITERAL(""), false},
        {"%@0", LITERAL(""), false},
        {"%`0", LITERAL(""), false},
        {"%:0", LITERAL(""), false},
        {"%/0", LITERAL(""), false},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        char *memory;
        char decoded[64];
        size_t length = 77;
        bool is_good =
            url_decode(exact(slice_of(cases[i].text), &memory), decoded, sizeof decoded, &length);
        if (is_good != cases[i].is_good) {
            fail_msg("'%s'", cases[i].text);
        }
        if (is_good) {
            expect_slice((struct slice){decoded, length}, cases[i].decoded, cases[i].text);
        }
        free(memory);
    }
}

static void test_plus_is_a_space_in_queries(void **state) {
    char decoded[16];
    size_t length;
    assert_true(url_decode_value(LITERAL("a+b%2b+"), decoded, sizeof decoded, &length));
    expect_text((struct slice){decoded, length}, "a b+ ");
    assert_int_equal(url_query_value("x=1+2", "x", decoded, sizeof decoded, &length),
                     URL_VALUE_FOUND);
    expect_text((struct slice){decoded, length}, "1 2");
    assert_false(url_decode_value(LITERAL("+%"), decoded, sizeof decoded, &length));
}

static void test_decode_fits_exactly(void **state) {
    for (size_t size = 0; size < 8; size++) {
        char *decoded = must_alloc(size > 0 ? size : 1);
        size_t length;
        bool fits = url_decode(LITERAL("ab%63de"), decoded, size, &length);
        assert_int_equal(fits, size >= 5);
        if (fits) {
            expect_slice((struct slice){decoded, length}, LITERAL("abcde"), "decoded");
        }
        free(decoded);
    }
}

static void test_query_value(void **state) {
    static const struct {
        const char *query;
        const char *value; /* NULL: none */
    } cases[] = {
        {"", NULL},
        {"name", NULL},
        {"name=", ""},
        {"name=v", "v"},
        {"name=a%20b", "a b"},
        {"name=a=b", "a=b"},
        {"x=1&name=v", "v"},
        {"name=v&x=1", "v"},
        {"name=1&name=2", "1"},
        {"nam=v", NULL},
        {"names=v", NULL},
        {"aname=v", NULL},
        {"Name=v", NULL},
        {"x=name=v", NULL},
        {"&&name=v&&", "v"},
        {"&", NULL},
        {"=v", NULL},
        {"name&name=v", "v"},
        {"x=%zz&name=v", "v"},
        {"na%6de=v", NULL},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        char decoded[32];
        size_t length = 0;
        bool is_there = url_query_value(cases[i].query, "name", decoded, sizeof decoded, &length) ==
                        URL_VALUE_FOUND;
        if (is_there != (cases[i].value != NULL)) {
            fail_msg("'%s'", cases[i].query);
        }
        if (is_there) {
            expect_slice((struct slice){decoded, length}, slice_of(cases[i].value), cases[i].query);
        }
    }
}

/* There, but not to be read: a broken escape anywhere in it, or too long. */
static void test_broken_query_value(void **state) {
    static const char *const queries[] = {"name=%zz",        "name=%",        "name=%4",
                                          "name=%41%",       "name=x%",       "x=1&name=%zz",
                                          "name=%zz&name=v", "name=123456789"};
    for (size_t i = 0; i < length_of(queries); i++) {
        char decoded[8];
        size_t length;
        assert_int_equal(url_query_value(queries[i], "name", decoded, sizeof decoded, &length),
                         URL_VALUE_BROKEN);
    }
}

RUN_TESTS(TEST(test_plus_is_a_space_in_queries), TEST(test_decode), TEST(test_decode_fits_exactly),
          TEST(test_query_value), TEST(test_broken_query_value))
