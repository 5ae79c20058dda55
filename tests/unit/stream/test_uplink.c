/* The connection to the broker: greeting, frames in pieces, losses, and coming back. The test plays
 * the broker. */
#include "log.h"
#include "sock.h"
#include "support.h"
#include "uplink.h"

static struct rig {
    struct loop *loop;
    struct directory directory;
    char path[128];
    int listen_fd;
    int peer; /* the broker's end */
    struct buf input;
    struct uplink uplink;
    int ups;
    int downs;
    int foreign;
    int frames;
    bool refuses_frames;
    bool stops_in_frame;
    char types[256];
} rig;

static void on_up(void *self) {
    rig.ups++;
}

static void on_down(void *self) {
    rig.downs++;
}

static bool on_frame(void *self, const struct wire_frame *frame) {
    rig.types[rig.frames++] = (char)frame->type;
    if (rig.stops_in_frame) {
        uplink_stop(&rig.uplink);
    }
    return !rig.refuses_frames;
}

static void on_foreign_version(void *self) {
    rig.foreign++;
}

static void rig_listen(void) {
    const char *reason;
    rig.listen_fd = sock_listen(rig.path, 0600, &reason);
    assert_true(rig.listen_fd >= 0);
}

static void rig_end(void) {
    if (rig.uplink.state != UPLINK_STOPPED) {
        uplink_stop(&rig.uplink);
    }
    loop_reap(rig.loop);
    loop_destroy(&rig.loop);
    if (rig.peer >= 0) {
        close(rig.peer);
    }
    if (rig.listen_fd >= 0) {
        close(rig.listen_fd);
    }
    buf_release(&rig.input);
    directory_remove(&rig.directory);
}

static void rig_start(void) {
    struct uplink_owner owner = {&rig, on_up, on_down, on_frame, on_foreign_version};
    fixture_begin(rig_end);
    rig = (struct rig){.listen_fd = -1, .peer = -1};
    log_init("pgsse-unit", LOG_LEVEL_ERROR);
    directory_make(&rig.directory);
    snprintf(rig.path, sizeof rig.path, "%s/broker.sock", rig.directory.path);
    rig.loop = loop_create();
    uplink_start(&rig.uplink, rig.loop, rig.directory.path, &owner);
}

static void rig_accept(void) {
    for (int i = 0; i < 300 && (rig.peer = sock_accept(rig.listen_fd)) < 0; i++) {
        run_for(rig.loop, 10);
    }
    assert_true(rig.peer >= 0);
    buf_release(&rig.input);
    run_turns(rig.loop, 2);
}

static void rig_close_peer(void) {
    close(rig.peer);
    rig.peer = -1;
    run_turns(rig.loop, 3);
}

static void say_bytes(struct slice bytes) {
    send_all(rig.peer, bytes);
    run_turns(rig.loop, 3);
}

static void say(struct payload *frame) {
    say_bytes((struct slice){frame->bytes, frame->length});
    payload_unref(&frame);
}

static bool hear(struct wire_frame *frame) {
    run_turns(rig.loop, 2);
    (void)(drain_all(rig.peer, &rig.input) == true);
    struct slice left = buf_slice(&rig.input);
    return left.length > 0 && wire_next(&left, WIRE_REQUEST_BYTES_MAX, frame) == WIRE_NEXT_FRAME;
}

static void rig_up(void) {
    rig_start();
    rig_listen();
    rig_accept();
    say(wire_encode_hello(WIRE_WELCOME, 5));
    assert_true(uplink_is_up(&rig.uplink));
    assert_int_equal(rig.ups, 1);
}

static void test_greeting(void **state) {
    struct wire_frame frame;
    struct wire_hello hello;
    rig_start();
    rig_listen();
    rig_accept();
    assert_true(hear(&frame));
    assert_int_equal(frame.type, WIRE_HELLO);
    assert_true(wire_decode_hello(frame.body, &hello));
    assert_int_equal(hello.version, WIRE_VERSION);
    assert_int_equal(hello.pid, getpid());
    assert_false(uplink_is_up(&rig.uplink));
    assert_false(uplink_is_away(&rig.uplink)); /* not yet there */
    say(wire_encode_hello(WIRE_WELCOME, 5));
    assert_true(uplink_is_up(&rig.uplink));
    assert_int_equal(rig.ups, 1);
}

/* The broker may come later than the handler. */
static void test_keeps_trying(void **state) {
    rig_start();
    run_for(rig.loop, 200);
    assert_int_equal(rig.uplink.state, UPLINK_WAITING);
    assert_true(rig.uplink.failures > 1);
    assert_true(uplink_is_away(&rig.uplink));
    rig_listen();
    rig_accept();
    say(wire_encode_hello(WIRE_WELCOME, 5));
    assert_true(uplink_is_up(&rig.uplink));
    assert_int_equal(rig.downs, 0);
    assert_int_equal(rig.uplink.failures, 0);
    assert_false(uplink_is_away(&rig.uplink));
}

static void test_comes_back_after_a_loss(void **state) {
    rig_up();
    rig_close_peer();
    assert_false(uplink_is_up(&rig.uplink));
    assert_int_equal(rig.downs, 1);
    rig_accept();
    say(wire_encode_hello(WIRE_WELCOME, 6));
    assert_true(uplink_is_up(&rig.uplink));
    assert_int_equal(rig.ups, 2);
    assert_int_equal(rig.downs, 1);
}

/* Lost before WELCOME: nobody was told that it is up, so nobody is told that it is down. */
static void test_lost_while_greeting(void **state) {
    rig_start();
    rig_listen();
    rig_accept();
    rig_close_peer();
    assert_int_equal(rig.ups, 0);
    assert_int_equal(rig.downs, 0);
    assert_int_equal(rig.uplink.state, UPLINK_WAITING);
}

static void test_frames_split_at_every_byte(void **state) {
    struct wire_position message = {1, {0, "abcdefghijklm", 5}};
    struct payload *frame = wire_encode_position(WIRE_SUBSCRIBED, &message);
    rig_up();
    for (size_t at = 1; at < frame->length; at++) {
        say_bytes((struct slice){frame->bytes, at});
        assert_int_equal(rig.frames, (int)at - 1);
        say_bytes((struct slice){frame->bytes + at, frame->length - at});
        assert_int_equal(rig.frames, (int)at);
    }
    assert_true(uplink_is_up(&rig.uplink));
    payload_unref(&frame);
}

static void test_frames_in_order(void **state) {
    struct buf bytes = {0};
    struct payload *first = wire_encode_ask_report(1);
    struct payload *second = wire_encode_refused(&(struct wire_refused){1, 403, LITERAL("no")});
    rig_up();
    for (int i = 0; i < 20; i++) {
        struct payload *frame = i % 3 == 0 ? second : first;
        buf_append(&bytes, frame->bytes, frame->length);
    }
    say_bytes(buf_slice(&bytes));
    assert_int_equal(rig.frames, 20);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(rig.types[i], i % 3 == 0 ? WIRE_REFUSED : WIRE_ASK_REPORT);
    }
    payload_unref(&first);
    payload_unref(&second);
    buf_release(&bytes);
}

struct offence {
    const char *about;
    struct slice bytes;
    bool before_welcome;
};

static void test_offences(void **state) {
    static const struct offence offences[] = {
        {"garbage instead of WELCOME", LITERAL("HTTP/1.1 200 OK\r\n\r\n"), true},
        {"a frame before WELCOME", LITERAL("\x04\0\0\0\x49\x01\0\0\0"), true},
        {"WELCOME with another magic",
         LITERAL("\x0a\0\0\0\x41"
                 "pgsX\x07\0\x01\0\0\0"),
         true},
        {"a short WELCOME",
         LITERAL("\x02\0\0\0\x41"
                 "pg"),
         true},
        {"WELCOME twice",
         LITERAL("\x0a\0\0\0\x41"
                 "pgss\x08\0\x01\0\0\0"),
         false},
        {"a frame of 4 GiB", LITERAL("\xff\xff\xff\xff\x41"), false},
        {"one byte over the limit", LITERAL("\x01\0\0\x01\x41"), false},
        {"GOODBYE",
         LITERAL("\x07\0\0\0\x4a"
                 "\x03\0\0\0"
                 "bye"),
         false},
        {"a broken GOODBYE",
         LITERAL("\x02\0\0\0\x4a"
                 "\xff\xff"),
         false},
    };
    for (size_t i = 0; i < length_of(offences); i++) {
        if (offences[i].before_welcome) {
            rig_start();
            rig_listen();
            rig_accept();
        } else {
            rig_up();
        }
        say_bytes(offences[i].bytes);
        (void)(drain_all(rig.peer, &rig.input) == true);
        if (rig.uplink.state != UPLINK_WAITING || drain_all(rig.peer, &rig.input) ||
            rig.downs != (offences[i].before_welcome ? 0 : 1)) {
            fail_msg("%s: state %d, %d times down", offences[i].about, (int)rig.uplink.state,
                     rig.downs);
        }
    }
}

static void test_frame_that_the_owner_refuses(void **state) {
    rig_up();
    rig.refuses_frames = true;
    struct payload *frame = wire_encode_ask_report(1);
    struct buf two = {0};
    buf_append(&two, frame->bytes, frame->length);
    buf_append(&two, frame->bytes, frame->length);
    say_bytes(buf_slice(&two));
    assert_int_equal(rig.frames, 1); /* what stands behind it is not read any more */
    assert_int_equal(rig.downs, 1);
    assert_int_equal(rig.uplink.state, UPLINK_WAITING);
    buf_release(&two);
    payload_unref(&frame);
}

static void test_stopped_in_a_callback(void **state) {
    rig_up();
    rig.stops_in_frame = true;
    struct payload *frame = wire_encode_ask_report(1);
    struct buf two = {0};
    buf_append(&two, frame->bytes, frame->length);
    buf_append(&two, frame->bytes, frame->length);
    say_bytes(buf_slice(&two));
    assert_int_equal(rig.frames, 1);
    assert_int_equal(rig.uplink.state, UPLINK_STOPPED);
    buf_release(&two);
    payload_unref(&frame);
}

static void test_foreign_version(void **state) {
    static const struct slice welcomes[] = {LITERAL("\x0a\0\0\0\x41pgss\x09\0\x01\0\0\0"),
                                            LITERAL("\x0a\0\0\0\x41pgss\x03\0\x01\0\0\0")};
    for (size_t i = 0; i < length_of(welcomes); i++) {
        rig_start();
        rig_listen();
        rig_accept();
        say_bytes(welcomes[i]);
        assert_int_equal(rig.foreign, 1);
        assert_int_equal(rig.ups, 0);
    }
}

static void test_what_is_sent_while_down_is_dropped(void **state) {
    struct wire_frame frame;
    rig_start();
    uplink_queue(&rig.uplink, wire_encode_ask_position(1));
    rig_listen();
    rig_accept();
    uplink_queue(&rig.uplink, wire_encode_ask_position(2));
    assert_true(hear(&frame));
    assert_int_equal(frame.type, WIRE_HELLO);
    buf_release(&rig.input);
    say(wire_encode_hello(WIRE_WELCOME, 5));
    assert_false(hear(&frame));
    uplink_queue(&rig.uplink, wire_encode_ask_position(3));
    assert_true(hear(&frame));
    uint64_t token;
    assert_int_equal(frame.type, WIRE_ASK_POSITION);
    assert_true(wire_decode_ask_position(frame.body, &token));
    assert_int_equal(token, 3);
}

/* 40 MB at once. */
static void say_much(void) {
    char *reason = repeated('x', 1000000);
    for (int i = 0; i < 40; i++) {
        uplink_queue(&rig.uplink, wire_encode_goodbye(reason));
    }
    free(reason);
    run_turns(rig.loop, 1);
}

/* When all clients ask at once: it takes what it takes, and more whenever it can. */
static void test_more_than_the_socket_takes(void **state) {
    rig_up();
    say_much();
    run_turns(rig.loop, 3);
    assert_true(uplink_is_up(&rig.uplink));
}

/* A broker that does not read is lost, not waited for with ever more memory. */
static void test_broker_that_does_not_read(void **state) {
    rig_up();
    say_much();
    rig.uplink.written_ms -= 6000;
    uplink_queue(&rig.uplink, wire_encode_goodbye("one more"));
    run_turns(rig.loop, 1);
    assert_false(uplink_is_up(&rig.uplink));
    assert_int_equal(rig.downs, 1);
}

RUN_TESTS(TEST(test_greeting), TEST(test_keeps_trying), TEST(test_comes_back_after_a_loss),
          TEST(test_lost_while_greeting), TEST(test_frames_split_at_every_byte),
          TEST(test_frames_in_order), TEST(test_offences), TEST(test_frame_that_the_owner_refuses),
          TEST(test_stopped_in_a_callback), TEST(test_foreign_version),
          TEST(test_what_is_sent_while_down_is_dropped), TEST(test_more_than_the_socket_takes),
          TEST(test_broker_that_does_not_read))
