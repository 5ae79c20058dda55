/* Blocks of a gzip stream: what can be put together, and what zlib says of it. */
#include "gzip.h"

#include "inflating.h"

static struct gzip_window *window;
static struct gzip_window *workplace;

static void rig_end(void) {
    gzip_window_destroy(&window);
    gzip_window_destroy(&workplace);
}

static void rig_begin(void) {
    fixture_begin(rig_end);
    window = gzip_window_create();
    workplace = gzip_window_create();
}

/* An event like others, of about that length. */
static struct slice event_text(struct buf *text, uint32_t *chance, size_t length) {
    text->length = 0;
    buf_printf(text, "id: 7.abcdefghijklm.%u\ndata: {", next_random(chance) % 1000);
    while (text->length < length) {
        buf_printf(text, "\"price\":%u,", next_random(chance) % 100000);
    }
    buf_append_text(text, "\"x\":1}\n\n");
    return buf_slice(text);
}

static struct slice noise(struct buf *text, uint32_t *chance, size_t length) {
    text->length = 0;
    while (text->length < length) {
        char byte = (char)next_random(chance);
        buf_append(text, &byte, 1);
    }
    return buf_slice(text);
}

static bool decodes_alone(struct slice block, struct slice wanted) {
    struct inflating inflating = {0};
    bool is_good = inflating_take_as(&inflating, block, -15) &&
                   slice_equals(buf_slice(&inflating.text), wanted);
    inflating_release(&inflating);
    return is_good;
}

/* Each block can be decoded whole when it has come, and the end is right. Blocks of a window follow
 * each other; after others the window is reset. */
static void test_blocks_of_all_kinds_are_one_stream(void **state) {
    struct inflating inflating = {0};
    struct gzip_sum sum = {0};
    struct buf text = {0};
    struct buf out = {0};
    uint32_t chance = 1;
    rig_begin();
    gzip_begin(&out);
    for (int i = 0; i < 2000; i++) {
        size_t length = next_random(&chance) % (i % 100 == 0 ? 100000 : 300);
        struct slice plain = event_text(&text, &chance, length);
        gzip_sum_add(&sum, plain);
        switch (next_random(&chance) % 8) {
        case 0:
            gzip_alone(workplace, plain, &out);
            gzip_window_reset(window);
            break;
        case 1:
            gzip_store(plain, &out);
            gzip_window_reset(window);
            break;
        default:
            gzip_window_block(window, plain, &out);
            break;
        }
        size_t before = inflating.text.length;
        inflating_take(&inflating, buf_slice(&out));
        struct slice got = {inflating.text.bytes + before, inflating.text.length - before};
        assert_true(slice_equals(got, plain));
        out.length = 0;
    }
    gzip_end(&out, &sum);
    inflating_take(&inflating, buf_slice(&out));
    assert_true(inflating.is_ended);
    inflating_release(&inflating);
    buf_release(&out);
    buf_release(&text);
}

/* The length in the end is the rest of a division by 2^32. */
static void test_the_end_of_a_long_stream(void **state) {
    struct buf out = {0};
    struct gzip_sum sum = {.length = (UINT64_C(5) << 32) + 7, .crc = 0x04030201};
    gzip_end(&out, &sum);
    expect_slice(buf_slice(&out), LITERAL("\x03\0\x01\x02\x03\x04\x07\0\0\0"), "the end");
    buf_release(&out);
}

static void test_a_wrong_sum_is_seen(void **state) {
    struct inflating inflating = {0};
    struct buf out = {0};
    struct gzip_sum sum = {0};
    rig_begin();
    gzip_begin(&out);
    gzip_alone(workplace, LITERAL("data: 1\n\n"), &out);
    gzip_sum_add(&sum, LITERAL("data: 2\n\n"));
    gzip_end(&out, &sum);
    assert_false(inflating_take_as(&inflating, buf_slice(&out), 31));
    inflating_release(&inflating);
    buf_release(&out);
}

static void test_history_is_used_and_needed(void **state) {
    struct buf text = {0};
    struct buf first = {0};
    struct buf second = {0};
    struct buf fresh = {0};
    uint32_t chance = 2;
    rig_begin();
    struct slice plain = event_text(&text, &chance, 600);
    gzip_window_block(window, plain, &first);
    gzip_window_block(window, plain, &second);
    assert_true(decodes_alone(buf_slice(&first), plain));
    assert_false(decodes_alone(buf_slice(&second), plain));
    assert_true(second.length < first.length / 4);
    gzip_window_reset(window);
    gzip_window_block(window, plain, &fresh);
    assert_true(decodes_alone(buf_slice(&fresh), plain));
    buf_release(&first);
    buf_release(&second);
    buf_release(&fresh);
    buf_release(&text);
}

/* What does not shrink is stored: it grows by 5 bytes, or a little more if it is long. */
static void test_alone(void **state) {
    static const size_t lengths[] = {1, 2, 10, 100, 5000, 65535, 65536, 1000000};
    struct buf text = {0};
    uint32_t chance = 3;
    rig_begin();
    for (size_t i = 0; i < length_of(lengths); i++) {
        for (int kind = 0; kind < 2; kind++) {
            struct buf out = {0};
            struct slice plain = kind == 0 ? event_text(&text, &chance, lengths[i])
                                           : noise(&text, &chance, lengths[i]);
            gzip_alone(workplace, plain, &out);
            assert_true(decodes_alone(buf_slice(&out), plain));
            assert_true(out.length <= plain.length + 5 + plain.length / 400);
            assert_true(kind == 1 || plain.length < 1000 || out.length < plain.length * 2 / 3);
            buf_release(&out);
        }
    }
    buf_release(&text);
}

/* Sums of parts are the sum of the whole, wherever it is cut. */
static void test_sums(void **state) {
    struct buf text = {0};
    uint32_t chance = 4;
    struct slice whole = noise(&text, &chance, 3000);
    struct gzip_sum wanted = {0};
    gzip_sum_add(&wanted, whole);
    for (size_t cut = 0; cut <= whole.length; cut += 1 + next_random(&chance) % 40) {
        struct gzip_sum first = {0};
        struct gzip_sum second = {0};
        gzip_sum_add(&first, (struct slice){whole.at, cut});
        gzip_sum_add(&second, (struct slice){whole.at + cut, whole.length - cut});
        struct gzip_sum rest = gzip_sum_after(&wanted, &first);
        assert_true(rest.length == second.length && rest.crc == second.crc);
        gzip_sum_join(&first, &second);
        assert_true(first.length == wanted.length && first.crc == wanted.crc);
    }
    buf_release(&text);
}

RUN_TESTS(TEST(test_blocks_of_all_kinds_are_one_stream), TEST(test_the_end_of_a_long_stream),
          TEST(test_a_wrong_sum_is_seen), TEST(test_history_is_used_and_needed), TEST(test_alone),
          TEST(test_sums))
