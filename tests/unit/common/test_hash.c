/* The hash of tables: what it is without a key, that it has one, and what names that uthash's own
 * hash puts together do with it. */
#include "hash.h"
#include "support.h"

/* Comes first: no other test has set the key. It fails by chance once in 2^32 runs. */
static void test_a_program_has_a_key(void **state) {
    assert_int_not_equal(hash_of("a", 1), 0xf8ef50c1);
}

/* Expected: SipHash-1-3 of CPython 3.11 with PYTHONHASHSEED=0, hash(b"...") ^ hash(b"...") >> 32. */
static void test_known_hashes(void **state) {
    static const struct {
        struct slice bytes;
        uint32_t hash;
    } cases[] = {
        {LITERAL("a"), 0xf8ef50c1},
        {LITERAL("abcdefg"), 0xfdc1dfa8},
        {LITERAL("abcdefgh"), 0x34f5b176},
        {LITERAL("abcdefghi"), 0x29858246},
        {LITERAL("\ntopic-12345"), 0xeb0628c},
        {LITERAL("\310\377\200\310\377\200\310\377\200\310\377\200\310\377\200"), 0x424f52fa}};
    hash_set_key(0, 0);
    for (size_t i = 0; i < length_of(cases); i++) {
        assert_int_equal(hash_of(cases[i].bytes.at, cases[i].bytes.length), cases[i].hash);
    }
    char *same = repeated('x', 100);
    assert_int_equal(hash_of(same, 100), 0x3b1862);
    free(same);
}

static void test_the_key_counts(void **state) {
    static const uint64_t keys[][2] = {{0, 0}, {1, 0}, {0, 1}, {UINT64_C(1) << 63, 0}};
    for (size_t i = 0; i < length_of(keys); i++) {
        hash_set_key(keys[i][0], keys[i][1]);
        uint32_t one = hash_of("topic", 5);
        for (size_t j = 0; j < i; j++) {
            hash_set_key(keys[j][0], keys[j][1]);
            assert_int_not_equal(hash_of("topic", 5), one);
        }
    }
}

/* One bucket of 1,024 takes them all with uthash's own hash. */
static void test_names_chosen_to_meet(void **state) {
    enum { NAMES = 2000, BUCKETS = 1024, BUCKET_MAX = 16 };
    unsigned char buckets[BUCKETS] = {0};
    int found = 0;
    for (int i = 0; found < NAMES; i++) {
        char name[32];
        unsigned own;
        size_t length = (size_t)snprintf(name, sizeof name, "\nt%d", i);
        HASH_JEN(name, length, own);
        if (own % BUCKETS == 0) {
            found++;
            assert_in_range(++buckets[hash_of(name, length) % BUCKETS], 1, BUCKET_MAX);
        }
    }
}

RUN_TESTS(TEST(test_a_program_has_a_key), TEST(test_known_hashes), TEST(test_the_key_counts),
          TEST(test_names_chosen_to_meet))
