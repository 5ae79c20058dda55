/* When the frames of a group refer to nothing, and when a group is reset. */
#include "gzip_group.h"

#include "support.h"

static struct compressors compressors;
static struct gzip_group *group;
static struct gzip_group *others[COMPRESSORS_MAX];
static struct buf block;

static void rig_end(void) {
    gzip_group_destroy(&group);
    for (size_t i = 0; i < length_of(others); i++) {
        gzip_group_destroy(&others[i]);
    }
    compressors_release(&compressors);
    buf_release(&block);
}

static void rig_begin(uint32_t readers) {
    fixture_begin(rig_end);
    compressors_init(&compressors);
    group = gzip_group_create(&compressors);
    group->readers = readers;
}

static void encode(struct gzip_group *of, int64_t now_ms) {
    block.length = 0;
    gzip_group_encode(of, LITERAL("data: something, again and again\n\n"), now_ms, &block);
}

static void test_clean_until_the_first_frame(void **state) {
    rig_begin(5);
    assert_true(gzip_group_is_clean(group));
    assert_null(group->compressor); /* a group that sends nothing costs nothing */
    encode(group, 0);
    assert_false(gzip_group_is_clean(group));
    gzip_group_reset(group);
    assert_true(gzip_group_is_clean(group));
    encode(group, 0);
    assert_false(gzip_group_is_clean(group));
    assert_int_equal(group->sum.length, 2 * strlen("data: something, again and again\n\n"));
}

static void test_reset_when_newcomers_have_cost_enough(void **state) {
    rig_begin(100);
    assert_true(gzip_group_is_reset_due(group, 1, 10)); /* it is clean: a reset costs nothing */
    encode(group, 0);
    for (int frames = 0; frames < 29; frames++) {
        assert_false(gzip_group_is_reset_due(group, 10, 10));
    }
    assert_true(gzip_group_is_reset_due(group, 10, 10));
    gzip_group_reset(group);
    encode(group, 0);
    assert_false(gzip_group_is_reset_due(group, 10, 10)); /* it is counted anew */
    assert_true(gzip_group_is_reset_due(group, 1000, 10));
}

static void test_reset_when_nobody_reads(void **state) {
    rig_begin(1);
    encode(group, 0);
    group->readers = 0;
    assert_true(gzip_group_is_reset_due(group, 1, 10));
}

/* Copies are never many bytes, however large the frames are. */
static void test_reset_before_copies_are_large(void **state) {
    rig_begin(100000);
    encode(group, 0);
    assert_true(gzip_group_is_reset_due(group, 1, 1024 * 1024));
    assert_false(gzip_group_is_reset_due(group, 4, 32 * 1024));
    assert_false(gzip_group_is_reset_due(group, 4, 32 * 1024));
    assert_true(gzip_group_is_reset_due(group, 1, 1));
}

/* All compressors are in use: each frame is compressed alone, so anybody may begin to read. */
static void test_without_a_compressor(void **state) {
    rig_begin(5);
    for (size_t i = 0; i < length_of(others); i++) {
        others[i] = gzip_group_create(&compressors);
        encode(others[i], 1000);
    }
    encode(group, 1000);
    size_t alone = block.length;
    encode(group, 1000);
    assert_int_equal(block.length, alone);
    assert_true(gzip_group_is_clean(group));
    assert_null(group->compressor);
    encode(group, 1000 + COMPRESSORS_IDLE_MS); /* one is idle */
    assert_non_null(group->compressor);
    assert_false(gzip_group_is_clean(group));
    assert_true(gzip_group_is_clean(others[0]));
    encode(others[0], 1000 + COMPRESSORS_IDLE_MS);
    assert_non_null(others[0]->compressor);
    assert_false(gzip_group_is_clean(others[0]));
    assert_true(gzip_group_is_clean(others[1]));
}

static void test_take_back(void **state) {
    rig_begin(5);
    encode(group, 0);
    struct gzip_sum before = group->sum;
    encode(group, 0);
    gzip_group_take_back(group, &before);
    assert_true(group->sum.length == before.length && group->sum.crc == before.crc);
    assert_true(gzip_group_is_clean(group));
}

RUN_TESTS(TEST(test_clean_until_the_first_frame), TEST(test_reset_when_newcomers_have_cost_enough),
          TEST(test_reset_when_nobody_reads), TEST(test_reset_before_copies_are_large),
          TEST(test_without_a_compressor), TEST(test_take_back))
