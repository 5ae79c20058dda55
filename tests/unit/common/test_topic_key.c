/* Keys of topics: which bytes are one, and what is in them. */
#include "support.h"

#include "topic_key.h"

static void test_make(void **state) {
    char *longest = repeated('x', TOPIC_BYTES_MAX);
    char *longest_tenant = repeated('t', TENANT_BYTES_MAX);
    const struct {
        struct slice tenant;
        struct slice name;
    } cases[] = {{LITERAL(""), LITERAL("a")},
                 {LITERAL("t"), LITERAL("a")},
                 {LITERAL("A-b_c.9"), LITERAL("größe: any text\\n")},
                 {slice_of(longest_tenant), slice_of(longest)}};
    for (size_t i = 0; i < length_of(cases); i++) {
        char room[TOPIC_KEY_BYTES_MAX];
        char *memory;
        struct topic_key parsed;
        struct topic_key key = topic_key_make(room, cases[i].tenant, cases[i].name);
        assert_false(topic_key_is_none(key));
        expect_slice(topic_key_tenant(key), cases[i].tenant, "tenant");
        expect_slice(topic_key_name(key), cases[i].name, "name");
        assert_true(topic_key_parse(exact(key.bytes, &memory), &parsed));
        assert_true(topic_key_equals(parsed, key));
        free(memory);
    }
    free(longest);
    free(longest_tenant);
}

static void test_what_is_no_tenant_or_name(void **state) {
    char *too_long = repeated('x', TOPIC_BYTES_MAX + 1);
    const struct {
        struct slice tenant;
        struct slice name;
    } cases[] = {
        {LITERAL(""), LITERAL("")},          {LITERAL(""), LITERAL("a\nb")},
        {LITERAL(""), LITERAL("\xff")},      {LITERAL(""), slice_of(too_long)},
        {LITERAL("a b"), LITERAL("a")},      {LITERAL("a\n"), LITERAL("a")},
        {LITERAL("\xc3\xa9"), LITERAL("a")}, {{too_long, TENANT_BYTES_MAX + 1}, LITERAL("a")},
        {LITERAL("a\0"), LITERAL("a")}};
    for (size_t i = 0; i < length_of(cases); i++) {
        char room[TOPIC_KEY_BYTES_MAX];
        assert_true(topic_key_is_none(topic_key_make(room, cases[i].tenant, cases[i].name)));
    }
    free(too_long);
}

static void test_what_is_no_key(void **state) {
    static const struct slice cases[] = {LITERAL(""),       LITERAL("a"),      LITERAL("\n"),
                                         LITERAL("t\n"),    LITERAL("a b\nc"), LITERAL("\n\n"),
                                         LITERAL("t\na\n"), LITERAL("\n\xff"), LITERAL("\na\0")};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct topic_key key;
        char *memory;
        assert_false(topic_key_parse(exact(cases[i], &memory), &key));
        free(memory);
    }
}

/* The same name in two tenants, and two ways to divide the same letters, are different topics. */
static void test_order(void **state) {
    static const struct slice sorted[] = {LITERAL("\na"),   LITERAL("\nab"), LITERAL("\nb"),
                                          LITERAL("a\na"),  LITERAL("a\nb"), LITERAL("a-\na"),
                                          LITERAL("aa\na"), LITERAL("ab\na")};
    struct names names = {.count = length_of(sorted)};
    for (size_t i = 0; i < length_of(sorted); i++) {
        for (size_t j = 0; j < length_of(sorted); j++) {
            int order =
                topic_key_compare((struct topic_key){sorted[i]}, (struct topic_key){sorted[j]});
            assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
        }
        names.keys[length_of(sorted) - 1 - i] = (struct topic_key){sorted[i]};
    }
    names_sort(&names);
    for (size_t i = 0; i < length_of(sorted); i++) {
        expect_slice(names.keys[i].bytes, sorted[i], "sorted");
        assert_true(names_contain(&names, (struct topic_key){sorted[i]}));
    }
    names.count--;
    assert_false(names_contain(&names, (struct topic_key){sorted[names.count]}));
}

/* --- patterns --------------------------------------------------------------------------------- */

static void test_names_that_end_in_a_star(void **state) {
    char *longest = repeated('*', TOPIC_BYTES_MAX);
    char *tenant = repeated('t', TENANT_BYTES_MAX);
    const struct {
        struct slice tenant;
        struct slice name;
        bool is_pattern;
    } cases[] = {{LITERAL(""), LITERAL("*"), true},
                 {LITERAL("t"), LITERAL("orders.*"), true},
                 {slice_of(tenant), slice_of(longest), true},
                 {LITERAL(""), LITERAL("a*b"), false},
                 {LITERAL(""), LITERAL("*a"), false}};
    for (size_t i = 0; i < length_of(cases); i++) {
        char room[TOPIC_KEY_BYTES_MAX];
        char *memory;
        struct topic_key parsed;
        struct topic_key key = topic_key_of_name(room, cases[i].tenant, cases[i].name);
        assert_int_equal(topic_key_is_pattern(key), cases[i].is_pattern);
        expect_slice(topic_key_tenant(key), cases[i].tenant, "tenant");
        expect_slice(topic_key_name(key), cases[i].name, "name");
        assert_true(topic_key_parse(exact(key.bytes, &memory), &parsed));
        assert_true(topic_key_equals(parsed, key));
        free(memory);
        /* as a topic it is another key */
        char other[TOPIC_KEY_BYTES_MAX];
        struct topic_key topic = topic_key_make(other, cases[i].tenant, cases[i].name);
        assert_false(topic_key_is_pattern(topic));
        assert_int_equal(topic_key_equals(topic, key), !cases[i].is_pattern);
    }
    char room[TOPIC_KEY_BYTES_MAX];
    assert_true(topic_key_is_none(topic_key_of_name(room, LITERAL("a b"), LITERAL("c*"))));
    assert_true(topic_key_is_none(topic_key_of_name(room, LITERAL(""), LITERAL("\n*"))));
    free(longest);
    free(tenant);
}

static void test_what_is_no_key_of_a_pattern(void **state) {
    static const struct slice cases[] = {LITERAL("*"),      LITERAL("*\n"),    LITERAL("*\na"),
                                         LITERAL("*t\na"),  LITERAL("**\na*"), LITERAL("*t*\na*"),
                                         LITERAL("*\n\n*"), LITERAL("t*\na*")};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct topic_key key;
        char *memory;
        assert_false(topic_key_parse(exact(cases[i], &memory), &key));
        free(memory);
    }
}

static void test_covers(void **state) {
    static const struct {
        struct slice name;
        struct slice topic;
        bool covers;
    } cases[] = {
        {LITERAL("\na"), LITERAL("\na"), true},
        {LITERAL("\na"), LITERAL("\nab"), false},
        {LITERAL("*\na*"), LITERAL("\na"), true},
        {LITERAL("*\na*"), LITERAL("\nabc"), true},
        {LITERAL("*\nab*"), LITERAL("\na"), false},
        {LITERAL("*\n*"), LITERAL("\nx"), true},
        {LITERAL("*\n*"), LITERAL("\n*"), true},
        {LITERAL("*\na*"), LITERAL("\n*"), false},
        {LITERAL("*t\n*"), LITERAL("t\na"), true},
        {LITERAL("*t\n*"), LITERAL("\na"), false},
        {LITERAL("*\n*"), LITERAL("t\na"), false},
        {LITERAL("*t\n*"), LITERAL("tt\na"), false},
        {LITERAL("*\n*"), LITERAL("\nuser:1"), false},
        {LITERAL("*\nuser:*"), LITERAL("\nuser:1"), false},
        {LITERAL("\nuser:1"), LITERAL("\nuser:1"), true},
        {LITERAL("*\n*"), LITERAL("\nuser"), true},
        {LITERAL("*\nus*"), LITERAL("\nuser:"), false},
        {LITERAL("*\na*"), LITERAL("*\na*"), false},
        {LITERAL("*\na**"), LITERAL("\na*"), true},
        {LITERAL("*\na**"), LITERAL("\nab"), false},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        char *name;
        char *topic;
        bool covers = topic_key_covers((struct topic_key){exact(cases[i].name, &name)},
                                       (struct topic_key){exact(cases[i].topic, &topic)});
        if (covers != cases[i].covers) {
            fail_msg("case %zu", i);
        }
        free(name);
        free(topic);
    }
}

static void test_names_with_patterns(void **state) {
    struct names names = {3, {key_of("b"), key_of("a"), key_of("c")}};
    assert_false(names_have_pattern(&names));
    names.keys[1] = key_of("a*");
    assert_true(names_have_pattern(&names));
    names.count = 1;
    assert_false(names_have_pattern(&names));
}

struct item {
    UT_hash_handle hh;
    struct topic_key key;
};

static void test_table(void **state) {
    struct item items[] = {{.key = key_of("a")}, {.key = {LITERAL("t\na")}}, {.key = key_of("ta")}};
    struct item *table = NULL;
    struct item *found;
    for (size_t i = 0; i < length_of(items); i++) {
        TOPIC_KEY_FIND(table, items[i].key, found);
        assert_null(found);
        TOPIC_KEY_ADD(table, items[i].key, &items[i]);
    }
    for (size_t i = 0; i < length_of(items); i++) {
        char *memory;
        unsigned hash;
        struct topic_key copy = {exact(items[i].key.bytes, &memory)};
        TOPIC_KEY_FIND(table, copy, found);
        assert_ptr_equal(found, &items[i]);
        TOPIC_KEY_HASH(copy, hash);
        assert_int_equal(hash, found->hh.hashv);
        free(memory);
    }
    HASH_CLEAR(hh, table);
}

RUN_TESTS(TEST(test_make), TEST(test_what_is_no_tenant_or_name), TEST(test_what_is_no_key),
          TEST(test_order), TEST(test_names_that_end_in_a_star),
          TEST(test_what_is_no_key_of_a_pattern), TEST(test_covers), TEST(test_names_with_patterns),
          TEST(test_table))
