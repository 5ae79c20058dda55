/* Shared bytes: copied, counted, freed with the last reference (ASan checks that). */
#include "payload.h"
#include "support.h"

static void test_is_a_copy(void **state) {
    char bytes[] = "abc";
    struct payload *payload = payload_create(bytes, 4);
    bytes[0] = 'x';
    assert_int_equal(payload->length, 4);
    assert_int_equal(payload->references, 1);
    assert_memory_equal(payload->bytes, "abc", 4);
    payload_unref(&payload);
    assert_null(payload);
}

static void test_empty(void **state) {
    struct payload *payload = payload_create(NULL, 0);
    assert_int_equal(payload->length, 0);
    payload_unref(&payload);
    assert_null(payload);
}

static void test_lives_until_the_last_holder_goes(void **state) {
    struct payload *first = payload_create("abc", 3);
    struct payload *second = payload_ref(first);
    struct payload *third = payload_ref(first);
    assert_ptr_equal(first, second);
    payload_unref(&first);
    payload_unref(&third);
    assert_null(first);
    assert_int_equal(second->references, 1);
    assert_memory_equal(second->bytes, "abc", 3);
    payload_unref(&second);
}

RUN_TESTS(TEST(test_is_a_copy), TEST(test_empty), TEST(test_lives_until_the_last_holder_goes))
