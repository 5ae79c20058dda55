/* The shared stream of bytes: frames in, cursors along, memory back. */
#include "feed.h"
#include "support.h"

static void append(struct feed *feed, const char *text) {
    feed_append(feed, slice_of(text), &(const struct feed_mark){0});
}

/* The cursor takes everything that is there. */
static void take(const struct feed *feed, struct feed_cursor *cursor, size_t limit,
                 struct buf *into) {
    while (cursor->at < feed->head) {
        uint64_t next;
        size_t span = feed_span(feed, cursor->at, cursor->frame, limit, &next);
        buf_append(into, feed_at(feed, cursor->at), span);
        cursor->at += span;
        cursor->frame = next;
    }
}

static void test_starts_empty_without_memory(void **state) {
    struct feed feed;
    feed_init(&feed);
    assert_null(feed.bytes);
    assert_null(feed.marks);
    struct feed_cursor cursor = feed_cursor_at_head(&feed);
    assert_true(feed_is_at_boundary(&feed, &cursor));
    feed_release(&feed);
}

static void test_cursor_gets_what_comes_after_it(void **state) {
    struct feed feed;
    struct buf first = {0};
    struct buf second = {0};
    feed_init(&feed);
    struct feed_cursor early = feed_cursor_at_head(&feed);
    append(&feed, "one");
    append(&feed, "two");
    struct feed_cursor late = feed_cursor_at_head(&feed);
    append(&feed, "three");
    take(&feed, &early, 100, &first);
    take(&feed, &late, 100, &second);
    expect_buf(&first, "onetwothree");
    expect_buf(&second, "three");
    feed_release(&feed);
}

static void test_marks_know_end_and_topic(void **state) {
    struct feed feed;
    char place;
    struct tally *topic = (struct tally *)(void *)&place;
    feed_init(&feed);
    feed_append(&feed, LITERAL("one"), &(const struct feed_mark){.tally = topic, .end = 99});
    append(&feed, "four");
    assert_true(feed_mark(&feed, 0)->end == 3 && feed_mark(&feed, 0)->tally == topic);
    assert_true(feed_mark(&feed, 1)->end == 7 && feed_mark(&feed, 1)->tally == NULL);
    feed_release(&feed);
}

/* Wherever the marks stand in memory. */
static void test_marks_keep_what_they_were_given(void **state) {
    struct feed feed;
    feed_init(&feed);
    for (uint64_t frame = 0; frame < 100; frame++) {
        struct feed_mark mark = {.reason = (enum sse_refresh_reason)(frame % SSE_REFRESH_REASONS),
                                 .is_durable = frame % 3 == 0,
                                 .before = {7 * frame, "abcdefghijklm", frame}};
        feed_append(&feed, LITERAL("one"), &mark);
        feed_trim(&feed, frame < 30 ? 0 : frame - 30);
        for (uint64_t kept = feed.first; kept < feed.next; kept++) {
            const struct feed_mark *got = feed_mark(&feed, kept);
            assert_int_equal(got->reason, kept % SSE_REFRESH_REASONS);
            assert_int_equal(got->is_durable, kept % 3 == 0);
            assert_int_equal(got->before.durable, 7 * kept);
            assert_int_equal(got->before.since, kept);
        }
    }
    feed_release(&feed);
}

static void test_take_back(void **state) {
    struct feed feed;
    struct feed_mark mark;
    struct buf got = {0};
    feed_init(&feed);
    struct feed_cursor cursor = feed_cursor_at_head(&feed);
    for (int i = 0; i < 3; i++) { /* an empty feed, one with frames, one that was trimmed */
        append(&feed, "gone");
        feed_take_back(&feed, &mark);
        assert_int_equal(mark.end, feed.head + 4);
        append(&feed, "kept");
        take(&feed, &cursor, 100, &got);
        feed_trim(&feed, i == 0 ? 0 : cursor.frame);
    }
    expect_buf(&got, "keptkeptkept");
    assert_int_equal(feed.next, 3);
    feed_release(&feed);
}

static void test_span_takes_whole_frames(void **state) {
    static const struct {
        size_t limit;
        size_t span;
        uint64_t next_frame;
    } cases[] = {{3, 3, 1}, {4, 3, 1}, {6, 3, 1}, {7, 7, 2}, {11, 7, 2}, {12, 12, 3}, {100, 12, 3}};
    struct feed feed;
    feed_init(&feed);
    append(&feed, "one");
    append(&feed, "four");
    append(&feed, "fives");
    for (size_t i = 0; i < length_of(cases); i++) {
        uint64_t next = 77;
        assert_int_equal(feed_span(&feed, 0, 0, cases[i].limit, &next), cases[i].span);
        assert_int_equal(next, cases[i].next_frame);
    }
    feed_release(&feed);
}

/* A frame longer than a piece goes out in pieces of its own, and the next one begins a new one. */
static void test_span_of_a_frame_longer_than_a_piece(void **state) {
    struct feed feed;
    uint64_t next;
    feed_init(&feed);
    append(&feed, "0123456789");
    append(&feed, "ab");
    append(&feed, "cd");
    assert_int_equal(feed_span(&feed, 0, 0, 4, &next), 4);
    assert_int_equal(next, 0);
    assert_int_equal(feed_span(&feed, 4, 0, 4, &next), 4);
    assert_int_equal(next, 0);
    /* its end and what follows may share a piece */
    assert_int_equal(feed_span(&feed, 8, 0, 4, &next), 4);
    assert_int_equal(next, 2);
    assert_int_equal(feed_span(&feed, 8, 0, 3, &next), 2);
    assert_int_equal(next, 1);
    assert_int_equal(feed_span(&feed, 0, 0, 10, &next), 10);
    assert_int_equal(next, 1);
    assert_int_equal(feed_span(&feed, 0, 0, 9, &next), 9);
    assert_int_equal(next, 0);
    feed_release(&feed);
}

static void test_boundaries(void **state) {
    struct feed feed;
    feed_init(&feed);
    append(&feed, "one");
    append(&feed, "four");
    static const struct {
        struct feed_cursor cursor;
        bool is_boundary;
    } cases[] = {{{0, 0}, true},  {{1, 0}, false}, {{2, 0}, false}, {{3, 1}, true},
                 {{4, 1}, false}, {{6, 1}, false}, {{7, 2}, true}};
    for (size_t i = 0; i < length_of(cases); i++) {
        assert_int_equal(feed_is_at_boundary(&feed, &cases[i].cursor), cases[i].is_boundary);
    }
    feed_release(&feed);
}

/* The oldest kept frame has a start, too, whatever was trimmed before it. */
static void test_boundaries_behind_a_trim(void **state) {
    struct feed feed;
    feed_init(&feed);
    append(&feed, "one");
    append(&feed, "four");
    append(&feed, "fives");
    feed_trim(&feed, 1);
    struct feed_cursor start = {3, 1};
    struct feed_cursor inside = {5, 1};
    for (int round = 0; round < 2; round++) {
        assert_true(feed_is_at_boundary(&feed, &start));
        assert_false(feed_is_at_boundary(&feed, &inside));
        assert_memory_equal(feed_at(&feed, 3), "fourfives", 9);
        for (int i = 0; i < 2000; i++) {
            append(&feed, "grows, and moves the bytes"); /* for the second round */
        }
    }
    feed_release(&feed);
}

static void test_memory_is_returned_when_empty(void **state) {
    struct feed feed;
    struct buf got = {0};
    feed_init(&feed);
    for (int round = 0; round < 3; round++) {
        struct feed_cursor cursor = feed_cursor_at_head(&feed);
        append(&feed, "something");
        assert_non_null(feed.bytes);
        take(&feed, &cursor, 4, &got);
        expect_buf(&got, "something");
        feed_trim(&feed, cursor.frame);
        assert_null(feed.bytes);
        assert_null(feed.marks);
        assert_int_equal(feed.size, 0);
        assert_int_equal(feed.marks_size, 0);
        assert_int_equal(cursor.at, feed.head);
        assert_true(feed_is_at_boundary(&feed, &cursor));
    }
    assert_int_equal(feed.head, 27); /* offsets go on over the life of the feed */
    feed_release(&feed);
}

/* A cursor that keeps up lets the feed stay small, however much goes through. */
static void test_memory_stays_bounded(void **state) {
    struct feed feed;
    char text[101];
    feed_init(&feed);
    memset(text, 'x', 100);
    text[100] = '\0';
    for (uint64_t i = 0; i < 100000; i++) {
        append(&feed, text);
        if (i >= 9) {
            feed_trim(&feed, i - 9); /* ten frames are always behind */
        }
    }
    assert_true(feed.size <= 8192);
    assert_true(feed.marks_size <= 64);
    feed_release(&feed);
}

/* Many cursors, frames of all sizes and trims by chance: each gets its bytes, exactly. */
static void test_random(void **state) {
    enum { CURSORS = 5 };
    for (uint32_t seed = 1; seed <= 60; seed++) {
        uint32_t random = seed;
        struct feed feed;
        struct buf all = {0};
        struct feed_cursor cursors[CURSORS];
        feed_init(&feed);
        for (size_t i = 0; i < CURSORS; i++) {
            cursors[i] = feed_cursor_at_head(&feed);
        }
        for (int step = 0; step < 500; step++) {
            size_t length = 1 + next_random(&random) % (next_random(&random) % 10 == 0 ? 3000 : 50);
            size_t start = all.length;
            bool is_appending = next_random(&random) % 3 > 0;
            for (size_t i = 0; is_appending && i < length; i++) {
                char byte = (char)next_random(&random);
                buf_append(&all, &byte, 1);
            }
            if (is_appending) {
                feed_append(&feed, (struct slice){all.bytes + start, length},
                            &(const struct feed_mark){0});
            }
            struct feed_cursor *cursor = &cursors[next_random(&random) % CURSORS];
            uint64_t oldest = feed.next;
            if (cursor->at < feed.head) {
                uint64_t next;
                size_t span = feed_span(&feed, cursor->at, cursor->frame,
                                        1 + next_random(&random) % 500, &next);
                if (memcmp(feed_at(&feed, cursor->at), all.bytes + cursor->at, span) != 0) {
                    fail_msg("seed %u, step %d", seed, step);
                }
                cursor->at += span;
                cursor->frame = next;
            }
            for (size_t i = 0; i < CURSORS; i++) {
                oldest = cursors[i].frame < oldest ? cursors[i].frame : oldest;
            }
            if (next_random(&random) % 2 == 0) {
                feed_trim(&feed, oldest);
            }
        }
        feed_release(&feed);
        buf_release(&all);
    }
}

RUN_TESTS(TEST(test_starts_empty_without_memory), TEST(test_cursor_gets_what_comes_after_it),
          TEST(test_marks_know_end_and_topic), TEST(test_marks_keep_what_they_were_given),
          TEST(test_take_back), TEST(test_span_takes_whole_frames),
          TEST(test_span_of_a_frame_longer_than_a_piece), TEST(test_boundaries),
          TEST(test_boundaries_behind_a_trim), TEST(test_memory_is_returned_when_empty),
          TEST(test_memory_stays_bounded), TEST(test_random))
