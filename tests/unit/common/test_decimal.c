/* Whole numbers in decimal. */
#include "decimal.h"
#include "support.h"

enum { DIGITS_MAX = 32 };

static void test_numbers(void **state) {
    static const struct {
        const char *text;
        uint64_t max;
        uint64_t number;
    } cases[] = {{"0", INT64_MAX, 0},
                 {"007", INT64_MAX, 7},
                 {"9223372036854775807", INT64_MAX, INT64_MAX},
                 {"9223372036854775808", INT64_MAX, INT64_MAX},
                 {"18446744073709551615", UINT64_MAX, UINT64_MAX},
                 {"18446744073709551616", UINT64_MAX, UINT64_MAX},
                 {"99999999999999999999999999999999", INT64_MAX, INT64_MAX},
                 {"1000", 1000, 1000},
                 {"1001", 1000, 1000},
                 {"10000000", 1000, 1000},
                 {"10", 0, 0}};
    for (size_t i = 0; i < length_of(cases); i++) {
        uint64_t number;
        assert_true(decimal_parse(slice_of(cases[i].text), DIGITS_MAX, cases[i].max, &number));
        assert_true(number == cases[i].number);
    }
}

static void test_no_numbers(void **state) {
    static const char *const cases[] = {"", "-1", "+1", " 1", "1 ", "1.0", "0x1", "a", "1/", "1:"};
    for (size_t i = 0; i < length_of(cases); i++) {
        uint64_t number;
        assert_false(decimal_parse(slice_of(cases[i]), DIGITS_MAX, UINT64_MAX, &number));
    }
}

static void test_digits(void **state) {
    uint64_t number;
    assert_true(decimal_parse(LITERAL("123"), 3, UINT64_MAX, &number));
    assert_false(decimal_parse(LITERAL("1234"), 3, UINT64_MAX, &number));
    assert_false(decimal_parse(LITERAL("0001"), 3, UINT64_MAX, &number));
}

RUN_TESTS(TEST(test_numbers), TEST(test_no_numbers), TEST(test_digits))
