/* Answers on their way: records, slow readers, those who leave. */
#include "log.h"
#include "record.h"
#include "response.h"
#include "support.h"

enum { STALL_MS = 60 };

struct rig {
    struct loop *loop;
    struct responses responses;
};

static void rig_begin(struct rig *rig) {
    log_init("pgsse-unit", LOG_LEVEL_ERROR);
    rig->loop = loop_create();
    responses_start(&rig->responses, rig->loop, STALL_MS);
}

static void rig_end(struct rig *rig) {
    responses_stop(&rig->responses);
    assert_true(responses_are_empty(&rig->responses));
    assert_true(rig->responses.waiting_bytes == 0);
    loop_reap(rig->loop);
    loop_destroy(&rig->loop);
}

/* Taken out of records, which are checked on the way; true when they end with the trailer. */
static bool unpack(struct slice records, struct buf *content) {
    const unsigned char *at = (const unsigned char *)records.at;
    size_t left = records.length;
    while (left >= RECORD_HEADER_BYTES + RECORD_TRAILER_BYTES) {
        size_t length = (size_t)at[4] << 8 | at[5];
        assert_int_equal(at[1], 6); /* STDOUT */
        assert_int_equal(at[2] << 8 | at[3], 7);
        assert_true(length >= 1 && length <= RECORD_CONTENT_MAX);
        assert_true(left >= RECORD_HEADER_BYTES + length);
        buf_append(content, at + RECORD_HEADER_BYTES, length);
        at += RECORD_HEADER_BYTES + length;
        left -= RECORD_HEADER_BYTES + length;
    }
    char trailer[RECORD_TRAILER_BYTES];
    record_trailer(trailer, 7);
    return left == sizeof trailer && memcmp(at, trailer, left) == 0;
}

/* Bytes that tell their place. */
static struct buf pattern(size_t length) {
    struct buf buf = {0};
    char *bytes = buf_reserve(&buf, length + 1);
    for (size_t i = 0; i < length; i++) {
        bytes[i] = (char)(i * 2654435761u >> 13);
    }
    buf.length = length;
    return buf;
}

static void test_records(void **state) {
    static const size_t lengths[] = {1,
                                     RECORD_CONTENT_MAX - 1,
                                     RECORD_CONTENT_MAX,
                                     RECORD_CONTENT_MAX + 1,
                                     5 * RECORD_CONTENT_MAX,
                                     100000};
    for (size_t i = 0; i < length_of(lengths); i++) {
        struct buf answer = pattern(lengths[i]);
        struct buf records = {0};
        struct buf content = {0};
        response_append_records(&records, 7, buf_slice(&answer));
        assert_true(unpack(buf_slice(&records), &content));
        expect_slice(buf_slice(&content), buf_slice(&answer), "content");
        buf_release(&answer);
        buf_release(&records);
        buf_release(&content);
    }
}

static void expect_whole(const struct buf *got, const struct buf *answer) {
    struct buf content = {0};
    assert_true(unpack(buf_slice(got), &content));
    assert_true(slice_equals(buf_slice(&content), buf_slice(answer)));
    buf_release(&content);
}

static void test_small_goes_at_once(void **state) {
    struct rig rig;
    struct buf answer = pattern(300);
    struct buf got = {0};
    int fds[2];
    plain_pair(fds);
    rig_begin(&rig);
    responses_send(&rig.responses, fds[0], 7, buf_slice(&answer));
    assert_true(responses_are_empty(&rig.responses));
    assert_false(is_open_fd(fds[0]));
    assert_false(drain_all(fds[1], &got)); /* it was closed */
    expect_whole(&got, &answer);
    rig_end(&rig);
    close(fds[1]);
    buf_release(&answer);
    buf_release(&got);
}

static void test_large_goes_as_it_is_read(void **state) {
    struct rig rig;
    struct buf answer = pattern(3000000);
    struct buf got = {0};
    int fds[2];
    small_pair(fds);
    rig_begin(&rig);
    responses_send(&rig.responses, fds[0], 7, buf_slice(&answer));
    memset(answer.bytes, 0, 100); /* it is the caller's again */
    assert_false(responses_are_empty(&rig.responses));
    for (int turns = 0; turns < 100000 && !responses_are_empty(&rig.responses); turns++) {
        assert_true(drain(fds[1], &got, 7777));
        run_for(rig.loop, 0);
    }
    assert_false(drain_all(fds[1], &got));
    struct buf wanted = pattern(3000000);
    expect_whole(&got, &wanted);
    assert_false(is_open_fd(fds[0]));
    rig_end(&rig);
    close(fds[1]);
    buf_release(&answer);
    buf_release(&wanted);
    buf_release(&got);
}

static void test_who_reads_nothing_is_given_up(void **state) {
    struct rig rig;
    struct buf answer = pattern(1000000);
    struct buf got = {0};
    int slow[2];
    int dead[2];
    small_pair(slow);
    small_pair(dead);
    rig_begin(&rig);
    responses_send(&rig.responses, slow[0], 7, buf_slice(&answer));
    responses_send(&rig.responses, dead[0], 7, buf_slice(&answer));
    for (int i = 0; i < 6; i++) {
        run_for(rig.loop, STALL_MS / 3);
        assert_true(drain(slow[1], &got, 20000));
        run_for(rig.loop, 1);
    }
    assert_false(is_open_fd(dead[0]));
    assert_true(is_open_fd(slow[0]));
    run_for(rig.loop, 2 * STALL_MS);
    assert_false(is_open_fd(slow[0]));
    assert_true(responses_are_empty(&rig.responses));
    rig_end(&rig);
    close(slow[1]);
    close(dead[1]);
    buf_release(&answer);
    buf_release(&got);
}

static void test_who_leaves(void **state) {
    struct rig rig;
    struct buf answer = pattern(1000000);
    int early[2];
    int late[2];
    plain_pair(early);
    small_pair(late);
    rig_begin(&rig);
    close(early[1]);
    responses_send(&rig.responses, early[0], 7, buf_slice(&answer));
    assert_false(is_open_fd(early[0]));
    responses_send(&rig.responses, late[0], 7, buf_slice(&answer));
    close(late[1]);
    run_turns(rig.loop, 3);
    assert_true(responses_are_empty(&rig.responses));
    assert_false(is_open_fd(late[0]));
    rig_end(&rig);
    buf_release(&answer);
}

/* Half a close is none: the web server tells so that its client has said all it has to say. */
static void test_half_closed_is_answered(void **state) {
    struct rig rig;
    struct buf answer = pattern(400000);
    struct buf got = {0};
    int fds[2];
    small_pair(fds);
    rig_begin(&rig);
    shutdown(fds[1], SHUT_WR);
    responses_send(&rig.responses, fds[0], 7, buf_slice(&answer));
    for (int turns = 0; turns < 100000 && !responses_are_empty(&rig.responses); turns++) {
        drain_all(fds[1], &got);
        run_for(rig.loop, 0);
    }
    drain_all(fds[1], &got);
    expect_whole(&got, &answer);
    rig_end(&rig);
    close(fds[1]);
    buf_release(&answer);
    buf_release(&got);
}

/* The memory of all is bounded: who has taken nothing for the longest time goes first. */
static void test_too_much_waits(void **state) {
    enum { MANY = 20, EACH = 4 * 1024 * 1024 };
    struct rig rig;
    struct buf answer = pattern(EACH);
    int fds[MANY][2];
    rig_begin(&rig);
    for (int i = 0; i < MANY; i++) {
        small_pair(fds[i]);
        responses_send(&rig.responses, fds[i][0], 7, buf_slice(&answer));
        assert_true(rig.responses.waiting_bytes <= RESPONSES_BYTES_MAX);
    }
    run_for(rig.loop, 0);
    assert_false(is_open_fd(fds[0][0]));
    assert_true(is_open_fd(fds[MANY - 1][0]));
    assert_true(rig.responses.waiting_bytes > RESPONSES_BYTES_MAX - 2 * EACH);
    rig_end(&rig);
    for (int i = 0; i < MANY; i++) {
        close(fds[i][1]);
    }
    buf_release(&answer);
}

RUN_TESTS(TEST(test_records), TEST(test_small_goes_at_once), TEST(test_large_goes_as_it_is_read),
          TEST(test_who_reads_nothing_is_given_up), TEST(test_who_leaves),
          TEST(test_half_closed_is_answered), TEST(test_too_much_waits))
