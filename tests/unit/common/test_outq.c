/* A queue of payloads for one socket: order, partial writes, a full socket, a broken one. */
#include "outq.h"
#include "support.h"

static struct payload *numbered(uint32_t number, size_t length) {
    struct buf text = {0};
    buf_printf(&text, "<%u:", number);
    while (text.length < length) {
        buf_append_text(&text, "#");
    }
    buf_append_text(&text, ">");
    struct payload *payload = payload_create(text.bytes, text.length);
    buf_release(&text);
    return payload;
}

static size_t waiting_bytes(const struct outq *queue) {
    size_t bytes = 0;
    for (size_t i = 0; i < queue->count; i++) {
        bytes += outq_at(queue, i)->length;
    }
    return bytes - queue->first_written;
}

static void test_empty(void **state) {
    int fds[2];
    struct outq queue = {0};
    plain_pair(fds);
    assert_int_equal(outq_write(&queue, fds[0]), OUTQ_EMPTY);
    outq_release(&queue);
    outq_release(&queue);
    close(fds[0]);
    close(fds[1]);
}

static void test_order_and_bytes(void **state) {
    int fds[2];
    struct outq queue = {0};
    struct buf wanted = {0};
    struct buf got = {0};
    plain_pair(fds);
    for (uint32_t i = 0; i < 600; i++) { /* more than one call's vectors */
        struct payload *payload = numbered(i, i % 7);
        buf_append(&wanted, payload->bytes, payload->length);
        outq_queue(&queue, payload);
    }
    assert_int_equal(queue.count, 600);
    assert_int_equal(queue.queued_bytes, wanted.length);
    assert_int_equal(outq_write(&queue, fds[0]), OUTQ_EMPTY);
    assert_int_equal(queue.count, 0);
    assert_int_equal(queue.queued_bytes, 0);
    assert_true(drain_all(fds[1], &got));
    expect_slice(buf_slice(&got), buf_slice(&wanted), "what came out");
    buf_release(&got);
    buf_release(&wanted);
    outq_release(&queue);
    close(fds[0]);
    close(fds[1]);
}

static void test_at_is_in_order_of_writing(void **state) {
    struct outq queue = {0};
    for (uint32_t i = 0; i < 100; i++) {
        outq_queue(&queue, numbered(i, 0));
    }
    for (uint32_t i = 0; i < 100; i++) {
        struct payload *wanted = numbered(i, 0);
        assert_int_equal(outq_at(&queue, i)->length, wanted->length);
        assert_memory_equal(outq_at(&queue, i)->bytes, wanted->bytes, wanted->length);
        payload_unref(&wanted);
    }
    outq_release(&queue);
}

static void test_largest(void **state) {
    int fds[2];
    struct outq queue = {0};
    struct buf got = {0};
    plain_pair(fds);
    assert_int_equal(outq_largest_bytes(&queue), 0);
    outq_queue(&queue, numbered(1, 10));
    size_t small = queue.queued_bytes;
    assert_int_equal(outq_largest_bytes(&queue), small);
    outq_queue(&queue, numbered(2, 8 * 1024 * 1024));
    size_t large = queue.queued_bytes - small;
    for (uint32_t i = 3; i < 40; i++) { /* the ring grows meanwhile */
        outq_queue(&queue, numbered(i, 10));
        assert_int_equal(outq_largest_bytes(&queue), large);
    }
    assert_int_equal(outq_write(&queue, fds[0]), OUTQ_BLOCKED);
    assert_int_equal(queue.count, 38); /* the large one is partly written */
    assert_int_equal(outq_largest_bytes(&queue), large - queue.first_written);
    size_t before = queue.queued_bytes; /* smaller, but larger than what is left of the large one */
    outq_queue(&queue, numbered(40, 8 * 1024 * 1024 - 1));
    assert_int_equal(outq_largest_bytes(&queue), queue.queued_bytes - before);
    while (outq_write(&queue, fds[0]) == OUTQ_BLOCKED) {
        assert_true(drain_all(fds[1], &got));
        got.length = 0;
    }
    assert_int_equal(outq_largest_bytes(&queue), 0);
    outq_queue(&queue, numbered(41, 100));
    outq_queue(&queue, numbered(42, 10));
    assert_int_equal(outq_largest_bytes(&queue), queue.queued_bytes - outq_at(&queue, 1)->length);
    outq_release(&queue);
    buf_release(&got);
    close(fds[0]);
    close(fds[1]);
}

static void test_shared_payloads_keep_their_other_holders(void **state) {
    int fds[2];
    struct outq queue = {0};
    struct payload *payload = payload_create("shared", 6);
    plain_pair(fds);
    outq_queue(&queue, payload_ref(payload));
    outq_queue(&queue, payload_ref(payload));
    assert_int_equal(payload->references, 3);
    assert_int_equal(outq_write(&queue, fds[0]), OUTQ_EMPTY);
    assert_int_equal(payload->references, 1);
    outq_queue(&queue, payload_ref(payload));
    outq_release(&queue);
    assert_int_equal(payload->references, 1);
    payload_unref(&payload);
    close(fds[0]);
    close(fds[1]);
}

/* A small socket and a reader that takes odd amounts, with payloads being added all the time. */
static void test_partial_writes_keep_order(void **state) {
    for (uint32_t seed = 1; seed <= 20; seed++) {
        int fds[2];
        uint32_t random = seed;
        struct outq queue = {0};
        struct buf wanted = {0};
        struct buf got = {0};
        bool was_blocked = false;
        small_pair(fds);
        for (uint32_t step = 0; step < 400; step++) {
            if (next_random(&random) % 3 > 0) {
                struct payload *payload = numbered(step, next_random(&random) % 5000);
                buf_append(&wanted, payload->bytes, payload->length);
                outq_queue(&queue, payload);
            }
            enum outq_result result = outq_write(&queue, fds[0]);
            assert_int_not_equal(result, OUTQ_BROKEN);
            assert_int_equal(result == OUTQ_EMPTY, queue.count == 0);
            assert_int_equal(queue.queued_bytes, waiting_bytes(&queue));
            was_blocked = was_blocked || (result == OUTQ_BLOCKED && queue.first_written > 0);
            assert_true(drain(fds[1], &got, next_random(&random) % 4000));
        }
        while (outq_write(&queue, fds[0]) == OUTQ_BLOCKED) {
            assert_true(drain_all(fds[1], &got));
        }
        assert_true(drain_all(fds[1], &got));
        if (!was_blocked || !slice_equals(buf_slice(&got), buf_slice(&wanted))) {
            fail_msg("seed %u: was blocked %d, %zu bytes of %zu", seed, was_blocked, got.length,
                     wanted.length);
        }
        buf_release(&got);
        buf_release(&wanted);
        outq_release(&queue);
        close(fds[0]);
        close(fds[1]);
    }
}

static void test_blocked_writes_nothing_more(void **state) {
    int fds[2];
    struct outq queue = {0};
    small_pair(fds);
    for (uint32_t i = 0; i < 100; i++) {
        outq_queue(&queue, numbered(i, 4000));
    }
    assert_int_equal(outq_write(&queue, fds[0]), OUTQ_BLOCKED);
    size_t queued = queue.queued_bytes;
    assert_true(queued > 0);
    assert_int_equal(outq_write(&queue, fds[0]), OUTQ_BLOCKED);
    assert_int_equal(queue.queued_bytes, queued);
    outq_release(&queue);
    assert_int_equal(queue.queued_bytes, 0);
    close(fds[0]);
    close(fds[1]);
}

static void test_broken(void **state) {
    int fds[2];
    struct outq queue = {0};
    plain_pair(fds);
    close(fds[1]);
    outq_queue(&queue, payload_create("x", 1));
    assert_int_equal(outq_write(&queue, fds[0]), OUTQ_BROKEN); /* and no SIGPIPE */
    assert_int_equal(errno, EPIPE);
    outq_release(&queue);
    close(fds[0]);
}

/* outq_write does not wait, even on a blocking socket. */
static void test_does_not_wait_on_a_blocking_socket(void **state) {
    int fds[2];
    struct outq queue = {0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    for (uint32_t i = 0; i < 2000; i++) {
        outq_queue(&queue, numbered(i, 4000));
    }
    assert_int_equal(outq_write(&queue, fds[0]), OUTQ_BLOCKED);
    outq_release(&queue);
    close(fds[0]);
    close(fds[1]);
}

RUN_TESTS(TEST(test_empty), TEST(test_order_and_bytes), TEST(test_at_is_in_order_of_writing),
          TEST(test_largest), TEST(test_shared_payloads_keep_their_other_holders),
          TEST(test_partial_writes_keep_order), TEST(test_blocked_writes_nothing_more),
          TEST(test_broken), TEST(test_does_not_wait_on_a_blocking_socket))
