/* One end of the socket between broker and handler: frames in pieces, offences, and closing. The
 * test is the other end. */
#include "frame_socket.h"
#include "support.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BODY_BYTES_MAX = 64 };

static struct rig {
    struct loop *loop;
    struct frame_socket socket;
    int peer;
    unsigned frames;
    unsigned refused; /* the number of the frame that breaks the protocol */
    unsigned closes;  /* the number of the frame that closes the socket */
    bool is_good;     /* the last read */
    const char *offence;
    int reason;
} rig;

static bool on_frame(void *self, const struct wire_frame *frame) {
    uint64_t token;
    assert_int_equal(frame->type, WIRE_ASK_POSITION);
    assert_true(wire_decode_ask_position(frame->body, &token));
    assert_int_equal(token, ++rig.frames);
    if (rig.frames == rig.closes) {
        frame_socket_close(&rig.socket);
        frame_socket_close(&rig.socket); /* harmless */
    }
    return rig.frames != rig.refused;
}

static void on_ready(struct loop_io *io, unsigned ready) {
    if ((ready & LOOP_READ) != 0) {
        rig.is_good = frame_socket_read(&rig.socket, &rig, on_frame, &rig.offence);
        rig.reason = errno;
    }
}

static void rig_end(void) {
    frame_socket_close(&rig.socket);
    loop_reap(rig.loop);
    loop_destroy(&rig.loop);
    close(rig.peer);
}

static void rig_begin(void) {
    int fds[2];
    fixture_begin(rig_end);
    rig = (struct rig){.loop = loop_create(), .is_good = true};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    rig.peer = fds[1];
    frame_socket_open(&rig.socket, rig.loop, fds[0], BODY_BYTES_MAX, on_ready);
}

static void say(const char *bytes, size_t length) {
    send_all(rig.peer, (struct slice){bytes, length});
    run_turns(rig.loop, 1);
}

/* Frames with the tokens 1 to count. */
static struct buf frames_of(unsigned count) {
    struct buf all = {0};
    for (unsigned i = 1; i <= count; i++) {
        struct payload *frame = wire_encode_ask_position(i);
        buf_append(&all, frame->bytes, frame->length);
        payload_unref(&frame);
    }
    return all;
}

static void test_frames_split_at_every_byte(void **state) {
    struct buf all = frames_of(3);
    for (size_t at = 1; at < all.length; at++) {
        rig_begin();
        say(all.bytes, at);
        assert_int_equal(rig.frames, at / (all.length / 3));
        assert_int_equal(rig.socket.input.length, at % (all.length / 3));
        say(all.bytes + at, all.length - at);
        assert_true(rig.is_good && rig.frames == 3 && rig.socket.input.length == 0);
    }
    buf_release(&all);
}

static void test_offences(void **state) {
    struct buf all = frames_of(3);
    rig_begin();
    rig.refused = 2;
    say(all.bytes, all.length);
    assert_false(rig.is_good);
    assert_int_equal(rig.frames, 2);
    assert_string_equal(rig.offence, "sent a frame that breaks the protocol");
    rig_begin();
    say("\x41\0\0\0\1", 5); /* a length of 65 */
    assert_false(rig.is_good);
    assert_string_equal(rig.offence, "sent a frame that is too long");
    buf_release(&all);
}

static void test_closed_by_a_frame(void **state) {
    struct buf all = frames_of(3);
    rig_begin();
    rig.closes = 1;
    say(all.bytes, all.length);
    assert_true(rig.is_good);
    assert_int_equal(rig.frames, 1);
    assert_int_equal(rig.socket.io.fd, -1);
    buf_release(&all);
}

static void test_the_end(void **state) {
    rig_begin();
    shutdown(rig.peer, SHUT_WR);
    run_turns(rig.loop, 1);
    assert_false(rig.is_good);
    assert_null(rig.offence);
    assert_int_equal(rig.reason, 0);
    rig_begin();
    say("", 0);
    assert_true(frame_socket_read(&rig.socket, &rig, on_frame, &rig.offence)); /* nothing came */
}

static void test_writing(void **state) {
    struct outq queue = {0};
    struct buf seen = {0};
    static const char bytes[4 * 1024 * 1024];
    rig_begin();
    outq_queue(&queue, payload_create(bytes, sizeof bytes));
    assert_int_equal(frame_socket_write(&rig.socket, &queue), OUTQ_BLOCKED);
    assert_int_equal(rig.socket.io.interest, LOOP_READ | LOOP_WRITE);
    while (seen.length < sizeof bytes) {
        assert_true(drain_all(rig.peer, &seen));
        assert_int_not_equal(frame_socket_write(&rig.socket, &queue), OUTQ_BROKEN);
    }
    assert_int_equal(rig.socket.io.interest, LOOP_READ);
    buf_release(&seen);
    outq_release(&queue);
}

RUN_TESTS(TEST(test_frames_split_at_every_byte), TEST(test_offences), TEST(test_closed_by_a_frame),
          TEST(test_the_end), TEST(test_writing))
