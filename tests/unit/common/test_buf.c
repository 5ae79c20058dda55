/* A growing run of bytes. */
#include "buf.h"
#include "support.h"

static void test_starts_empty(void **state) {
    struct buf buf = {0};
    assert_int_equal(buf_slice(&buf).length, 0);
    buf_append(&buf, NULL, 0);
    buf_append_slice(&buf, (struct slice){0});
    buf_append_text(&buf, "");
    buf_consume(&buf, 0);
    assert_int_equal(buf.length, 0);
    buf_release(&buf);
    buf_release(&buf);
}

static void test_append(void **state) {
    struct buf buf = {0};
    buf_append(&buf, "a\0b", 3);
    buf_append_text(&buf, "cd");
    buf_append_slice(&buf, LITERAL("e"));
    expect_slice(buf_slice(&buf), LITERAL("a\0bcde"), "appended");
    buf_release(&buf);
    assert_null(buf.bytes);
    assert_int_equal(buf.size, 0);
}

static void test_grows_by_single_bytes(void **state) {
    struct buf buf = {0};
    for (size_t i = 0; i < 100000; i++) {
        char byte = (char)(i * 7);
        buf_append(&buf, &byte, 1);
    }
    assert_int_equal(buf.length, 100000);
    for (size_t i = 0; i < 100000; i++) {
        if (buf.bytes[i] != (char)(i * 7)) {
            fail_msg("byte %zu", i);
        }
    }
    buf_release(&buf);
}

static void test_reserve_keeps_what_is_there(void **state) {
    struct buf buf = {0};
    buf_append_text(&buf, "abc");
    char *room = buf_reserve(&buf, 10000);
    assert_int_equal(buf.length, 3);
    memset(room, 'x', 10000);
    assert_memory_equal(buf.bytes, "abc", 3);
    buf.length += 2;
    expect_buf(&buf, "abcxx");
}

static void test_printf(void **state) {
    struct buf buf = {0};
    buf_append_text(&buf, "<");
    buf_printf(&buf, "%d%s", -5, "x");
    buf_printf(&buf, "%s", "");
    buf_append_text(&buf, ">");
    expect_buf(&buf, "<-5x>");
}

/* Lengths around the sizes that it grows to. */
static void test_printf_at_the_edges(void **state) {
    for (int length = 120; length <= 260; length++) {
        struct buf buf = {0};
        buf_printf(&buf, "%*s", length, "x");
        assert_int_equal(buf.length, length);
        assert_int_equal(buf.bytes[length - 1], 'x');
        buf_append_text(&buf, "y");
        assert_int_equal(buf.bytes[length], 'y');
        buf_release(&buf);
    }
}

static void test_consume(void **state) {
    struct buf buf = {0};
    buf_append_text(&buf, "abcdef");
    buf_consume(&buf, 0);
    expect_text(buf_slice(&buf), "abcdef");
    buf_consume(&buf, 1);
    expect_text(buf_slice(&buf), "bcdef");
    buf_consume(&buf, 4);
    expect_text(buf_slice(&buf), "f");
    buf_append_text(&buf, "g");
    expect_text(buf_slice(&buf), "fg");
    buf_release(&buf);
}

static void test_consumed_to_nothing_gives_memory_back(void **state) {
    struct buf buf = {0};
    buf_append_text(&buf, "abc");
    buf_consume(&buf, 3);
    assert_null(buf.bytes);
    assert_int_equal(buf.length, 0);
    assert_int_equal(buf.size, 0);
    buf_append_text(&buf, "again");
    expect_buf(&buf, "again");
}

RUN_TESTS(TEST(test_starts_empty), TEST(test_append), TEST(test_grows_by_single_bytes),
          TEST(test_reserve_keeps_what_is_there), TEST(test_printf), TEST(test_printf_at_the_edges),
          TEST(test_consume), TEST(test_consumed_to_nothing_gives_memory_back))
