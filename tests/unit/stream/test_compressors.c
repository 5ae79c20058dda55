/* The compressors of a process: how many there are, and who has them. */
#include "compressors.h"

#include "inflating.h"

static struct compressors rig;
static struct compressor *slots[COMPRESSORS_MAX + 2];

static void rig_end(void) {
    for (size_t i = 0; i < length_of(slots); i++) {
        compressors_give_back(&rig, &slots[i]);
    }
    compressors_release(&rig);
}

static void rig_begin(void) {
    fixture_begin(rig_end);
    memset(slots, 0, sizeof slots);
    compressors_init(&rig);
}

static void take_all(int64_t now_ms) {
    for (size_t i = 0; i < COMPRESSORS_MAX; i++) {
        compressors_take(&rig, &slots[i], now_ms);
        assert_non_null(slots[i]);
    }
}

static void test_no_more_than_there_may_be(void **state) {
    rig_begin();
    take_all(5);
    compressors_take(&rig, &slots[COMPRESSORS_MAX], 5);
    assert_null(slots[COMPRESSORS_MAX]);
    assert_int_equal(rig.count, COMPRESSORS_MAX);
    compressors_give_back(&rig, &slots[7]);
    assert_null(slots[7]);
    compressors_give_back(&rig, &slots[7]); /* harmless */
    compressors_take(&rig, &slots[COMPRESSORS_MAX], 5);
    assert_non_null(slots[COMPRESSORS_MAX]);
    assert_int_equal(rig.count, COMPRESSORS_MAX);
}

/* The one that was idle for the longest time changes hands, and not before its time. */
static void test_idle_ones_change_hands(void **state) {
    struct buf out = {0};
    rig_begin();
    take_all(0);
    for (size_t i = 0; i < COMPRESSORS_MAX; i++) {
        gzip_window_block(slots[i]->window, LITERAL("data: something\n\n"), &out);
        compressors_note_use(&rig, slots[i], i == 3 ? 10 : 20);
    }
    out.length = 0;
    struct compressor *oldest = slots[3];
    compressors_note_use(&rig, slots[0], 21);
    compressors_take(&rig, &slots[COMPRESSORS_MAX], 10 + COMPRESSORS_IDLE_MS - 1);
    assert_null(slots[COMPRESSORS_MAX]);
    compressors_note_use(&rig, slots[1], 22);
    compressors_note_use(&rig, slots[2], 23);
    compressors_take(&rig, &slots[COMPRESSORS_MAX], 20 + COMPRESSORS_IDLE_MS);
    assert_ptr_equal(slots[COMPRESSORS_MAX], oldest);
    assert_null(slots[3]);
    gzip_window_block(oldest->window, LITERAL("data: something\n\n"), &out);
    struct inflating inflating = {0};
    assert_true(inflating_take_as(&inflating, buf_slice(&out), -15)); /* it has no history */
    assert_int_equal(inflating.text.length, 17);
    compressors_take(&rig, &slots[3], 20 + COMPRESSORS_IDLE_MS);
    assert_non_null(slots[3]);
    assert_null(slots[4]);
    inflating_release(&inflating);
    buf_release(&out);
}

static void test_the_workplace_is_made_when_it_is_needed(void **state) {
    struct buf out = {0};
    rig_begin();
    assert_null(rig.workplace);
    compressors_alone(&rig, LITERAL("data: 1\n\n"), &out);
    assert_non_null(rig.workplace);
    buf_release(&out);
}

/* Beyond the budget bytes are stored as they are, until it is renewed. */
static void test_alone_has_a_budget(void **state) {
    enum { PIECE = 200 * 1024, PIECES = COMPRESSORS_ALONE_BYTES / PIECE };
    struct buf out = {0};
    struct inflating inflating = {0};
    char *text = repeated('x', PIECE);
    struct slice piece = {text, PIECE};
    rig_begin();
    rig.alone_since_ms = clock_ms() + 60000; /* however long the test takes */
    for (int i = 0; i < PIECES; i++) {
        compressors_alone(&rig, piece, &out);
    }
    assert_in_range(out.length, 1, PIECE / 10);
    size_t before = out.length;
    compressors_alone(&rig, piece, &out);
    compressors_alone(&rig, piece, &out);
    assert_in_range(out.length - before, 2 * PIECE, 2 * PIECE + 100);
    rig.alone_since_ms = clock_ms() - COMPRESSORS_ALONE_MS;
    before = out.length;
    compressors_alone(&rig, piece, &out);
    assert_in_range(out.length - before, 1, PIECE / 100);
    assert_true(inflating_take_as(&inflating, buf_slice(&out), -15));
    assert_int_equal(inflating.text.length, (PIECES + 3) * PIECE);
    inflating_release(&inflating);
    buf_release(&out);
    free(text);
}

RUN_TESTS(TEST(test_no_more_than_there_may_be), TEST(test_idle_ones_change_hands),
          TEST(test_the_workplace_is_made_when_it_is_needed), TEST(test_alone_has_a_budget))
