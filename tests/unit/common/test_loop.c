/* The event loop: the phases of a turn, the order of timers, and that stopped parts are not
 * called. */
#include "loop.h"
#include "support.h"

#include <signal.h>

/* What happened, letter by letter. */
static char trace[4096];

static void note(char what) {
    size_t length = strlen(trace);
    assert_true(length < sizeof trace - 1);
    trace[length] = what;
    trace[length + 1] = '\0';
}

static struct loop *loop_begin(void) {
    trace[0] = '\0';
    return loop_create();
}

/* --- timers ----------------------------------------------------------------------------------- */

struct alarm {
    struct loop_timer timer;
    struct loop *loop;
    struct alarm *other;
    int64_t delay_ms;
    char name;
};

static void on_alarm(struct loop_timer *timer) {
    note(container_of(timer, struct alarm, timer)->name);
}

static void test_timers_in_order_of_time(void **state) {
    struct loop *loop = loop_begin();
    struct alarm alarms[] = {
        {.name = 'd', .delay_ms = 20}, {.name = 'a', .delay_ms = 0}, {.name = 'c', .delay_ms = 10},
        {.name = 'e', .delay_ms = 30}, {.name = 'b', .delay_ms = 5},
    };
    for (size_t i = 0; i < length_of(alarms); i++) {
        loop_timer_start(loop, &alarms[i].timer, alarms[i].delay_ms, on_alarm);
        assert_true(loop_timer_is_started(&alarms[i].timer));
    }
    run_for(loop, 40);
    assert_string_equal(trace, "abcde");
    assert_false(loop_timer_is_started(&alarms[0].timer));
    loop_destroy(&loop);
    assert_null(loop);
}

static void test_timer_is_not_early(void **state) {
    struct loop *loop = loop_begin();
    int64_t before = clock_ms();
    run_for(loop, 25);
    assert_true(clock_ms() - before >= 24);
    loop_destroy(&loop);
}

static void test_timer_moved_and_stopped(void **state) {
    struct loop *loop = loop_begin();
    struct alarm a = {.name = 'a'};
    struct alarm b = {.name = 'b'};
    struct alarm c = {.name = 'c'};
    loop_timer_start(loop, &a.timer, 1, on_alarm);
    loop_timer_start(loop, &b.timer, 2, on_alarm);
    loop_timer_start(loop, &c.timer, 3, on_alarm);
    loop_timer_start(loop, &a.timer, 10, on_alarm);
    loop_timer_stop(loop, &b.timer);
    loop_timer_stop(loop, &b.timer);
    run_for(loop, 20);
    assert_string_equal(trace, "ca");
    loop_destroy(&loop);
}

static void on_stop_other(struct loop_timer *timer) {
    struct alarm *alarm = container_of(timer, struct alarm, timer);
    note(alarm->name);
    loop_timer_stop(alarm->loop, &alarm->other->timer);
}

/* Both are due in the same turn; the first one called stops the second. */
static void test_timer_stopped_by_another_that_is_due(void **state) {
    struct loop *loop = loop_begin();
    struct alarm second = {.name = 'b'};
    struct alarm first = {.name = 'a', .loop = loop, .other = &second};
    loop_timer_start(loop, &first.timer, 0, on_stop_other);
    loop_timer_start(loop, &second.timer, 1, on_alarm);
    usleep(3000);
    run_for(loop, 10);
    assert_string_equal(trace, "a");
    loop_destroy(&loop);
}

static void on_again(struct loop_timer *timer) {
    struct alarm *alarm = container_of(timer, struct alarm, timer);
    note(alarm->name);
    if (strlen(trace) < 3) {
        loop_timer_start(alarm->loop, timer, 1, on_again);
    } else {
        loop_stop(alarm->loop);
    }
}

static void test_timer_starts_itself_again(void **state) {
    struct loop *loop = loop_begin();
    struct alarm alarm = {.name = 'x', .loop = loop};
    loop_timer_start(loop, &alarm.timer, 1, on_again);
    loop_run(loop);
    assert_string_equal(trace, "xxx");
    loop_destroy(&loop);
}

static void on_at_once_again(struct loop_timer *timer) {
    struct alarm *alarm = container_of(timer, struct alarm, timer);
    note(alarm->name);
    if (strlen(trace) < 6) { /* limited, so that a mistake does not hang the test */
        loop_timer_start(alarm->loop, timer, 0, on_at_once_again);
    }
}

/* A timer without delay that starts itself again lets the rest of the turn come in between. */
static void test_timer_started_by_a_timer_is_for_a_later_turn(void **state) {
    struct loop *loop = loop_begin();
    struct alarm alarm = {.name = 'x', .loop = loop};
    loop_timer_start(loop, &alarm.timer, 0, on_at_once_again);
    run_for(loop, 0);
    assert_string_equal(trace, "x");
    run_for(loop, 20);
    assert_string_equal(trace, "xxxxxx");
    loop_destroy(&loop);
}

struct many {
    struct loop_timer timer;
    size_t *fired;
    int64_t *last_due_ms;
};

static void on_one_of_many(struct loop_timer *timer) {
    struct many *one = container_of(timer, struct many, timer);
    assert_true(timer->due_ms >= *one->last_due_ms);
    *one->last_due_ms = timer->due_ms;
    (*one->fired)++;
}

/* Thousands of timers, started, moved and stopped at random: those that are left fire once, in
 * order. */
static void test_many_timers(void **state) {
    enum { COUNT = 5000 };
    uint32_t random = 4711;
    size_t fired = 0;
    size_t started = 0;
    int64_t last_due_ms = 0;
    struct loop *loop = loop_begin();
    struct many *all = must_zalloc(COUNT * sizeof *all);
    for (size_t i = 0; i < 4 * COUNT; i++) {
        struct many *one = &all[next_random(&random) % COUNT];
        one->fired = &fired;
        one->last_due_ms = &last_due_ms;
        if (next_random(&random) % 4 == 0) {
            loop_timer_stop(loop, &one->timer);
        } else {
            loop_timer_start(loop, &one->timer, next_random(&random) % 20, on_one_of_many);
        }
    }
    for (size_t i = 0; i < COUNT; i++) {
        started += loop_timer_is_started(&all[i].timer) ? 1 : 0;
    }
    run_for(loop, 40);
    assert_true(started > COUNT / 2);
    assert_int_equal(fired, started);
    free(all);
    loop_destroy(&loop);
}

static void test_now_stands_still_within_a_turn(void **state) {
    struct loop *loop = loop_begin();
    run_for(loop, 0);
    int64_t now_ms = loop_now_ms(loop);
    usleep(3000);
    assert_int_equal(loop_now_ms(loop), now_ms);
    run_for(loop, 0);
    assert_true(loop_now_ms(loop) > now_ms);
    loop_destroy(&loop);
}

/* --- descriptors ------------------------------------------------------------------------------ */

struct end {
    struct loop_io io;
    struct loop *loop;
    struct end *other;
    unsigned ready;
    char name;
};

static void on_note(struct loop_io *io, unsigned ready) {
    struct end *end = container_of(io, struct end, io);
    end->ready = ready;
    note(end->name);
}

static void on_read(struct loop_io *io, unsigned ready) {
    char byte;
    on_note(io, ready);
    while (recv(io->fd, &byte, 1, MSG_DONTWAIT) > 0) {
    }
}

static void test_read_is_level_triggered(void **state) {
    int fds[2];
    struct loop *loop = loop_begin();
    struct end end = {.io = LOOP_IO_INIT, .name = 'r'};
    plain_pair(fds);
    loop_io_start(loop, &end.io, fds[0], LOOP_READ, on_note);
    run_turns(loop, 2);
    assert_string_equal(trace, "");
    send_all(fds[1], LITERAL("x"));
    run_turns(loop, 3);
    assert_string_equal(trace, "rrr");
    assert_int_equal(end.ready, LOOP_READ);
    loop_io_stop(loop, &end.io);
    assert_int_equal(end.io.fd, -1);
    run_turns(loop, 2);
    assert_string_equal(trace, "rrr");
    close(fds[0]);
    close(fds[1]);
    loop_destroy(&loop);
}

static void test_edge_tells_of_new_bytes_once(void **state) {
    int fds[2];
    struct loop *loop = loop_begin();
    struct end end = {.io = LOOP_IO_INIT, .name = 'e'};
    plain_pair(fds);
    loop_io_start(loop, &end.io, fds[0], LOOP_READ | LOOP_EDGE, on_note);
    send_all(fds[1], LITERAL("x"));
    run_turns(loop, 3);
    assert_string_equal(trace, "e");
    send_all(fds[1], LITERAL("y"));
    run_turns(loop, 3);
    assert_string_equal(trace, "ee");
    loop_io_stop(loop, &end.io);
    close(fds[0]);
    close(fds[1]);
    loop_destroy(&loop);
}

static void test_closed(void **state) {
    int fds[2];
    struct loop *loop = loop_begin();
    struct end end = {.io = LOOP_IO_INIT, .name = 'c'};
    plain_pair(fds);
    loop_io_start(loop, &end.io, fds[0], LOOP_READ, on_note);
    close(fds[1]);
    run_turns(loop, 1);
    assert_true((end.ready & LOOP_CLOSED) != 0);
    loop_io_stop(loop, &end.io);
    close(fds[0]);
    loop_destroy(&loop);
}

static void test_change_of_interest(void **state) {
    int fds[2];
    struct loop *loop = loop_begin();
    struct end end = {.io = LOOP_IO_INIT, .name = 'x'};
    plain_pair(fds);
    loop_io_start(loop, &end.io, fds[0], LOOP_READ, on_note);
    send_all(fds[1], LITERAL("x"));
    loop_io_change(loop, &end.io, 0);
    run_turns(loop, 2);
    assert_string_equal(trace, "");
    loop_io_change(loop, &end.io, LOOP_WRITE);
    run_turns(loop, 1);
    assert_int_equal(end.ready, LOOP_WRITE);
    loop_io_change(loop, &end.io, LOOP_READ | LOOP_WRITE);
    run_turns(loop, 1);
    assert_int_equal(end.ready, LOOP_READ | LOOP_WRITE);
    loop_io_stop(loop, &end.io);
    close(fds[0]);
    close(fds[1]);
    loop_destroy(&loop);
}

static void test_io_stop_is_harmless_when_not_started(void **state) {
    struct loop *loop = loop_begin();
    struct end end = {.io = LOOP_IO_INIT};
    loop_io_stop(loop, &end.io);
    assert_int_equal(end.io.fd, -1);
    loop_destroy(&loop);
}

/* libpq closes its socket before the loop is told. */
static void test_io_stop_after_the_descriptor_was_closed(void **state) {
    int fds[2];
    struct loop *loop = loop_begin();
    struct end end = {.io = LOOP_IO_INIT, .name = 'x'};
    plain_pair(fds);
    loop_io_start(loop, &end.io, fds[0], LOOP_READ, on_note);
    close(fds[0]);
    loop_io_stop(loop, &end.io);
    run_turns(loop, 1);
    assert_string_equal(trace, "");
    close(fds[1]);
    loop_destroy(&loop);
}

static void on_stop_each_other(struct loop_io *io, unsigned ready) {
    struct end *end = container_of(io, struct end, io);
    note(end->name);
    loop_io_stop(end->loop, &end->other->io);
    loop_io_stop(end->loop, io);
}

/* Both are ready in one batch; whichever is called first, the other is not called any more. */
static void test_io_stopped_within_the_same_batch(void **state) {
    int a[2];
    int b[2];
    struct loop *loop = loop_begin();
    struct end first = {.io = LOOP_IO_INIT, .name = 'x', .loop = loop};
    struct end second = {.io = LOOP_IO_INIT, .name = 'x', .loop = loop, .other = &first};
    first.other = &second;
    plain_pair(a);
    plain_pair(b);
    loop_io_start(loop, &first.io, a[0], LOOP_READ, on_stop_each_other);
    loop_io_start(loop, &second.io, b[0], LOOP_READ, on_stop_each_other);
    send_all(a[1], LITERAL("x"));
    send_all(b[1], LITERAL("x"));
    run_turns(loop, 2);
    assert_string_equal(trace, "x");
    close(a[0]);
    close(a[1]);
    close(b[0]);
    close(b[1]);
    loop_destroy(&loop);
}

static void on_move(struct loop_io *io, unsigned ready) {
    struct end *end = container_of(io, struct end, io);
    int fd = end->other->io.fd;
    note(end->name);
    if (fd >= 0) { /* takes its place, as a new part at the same address would */
        loop_io_stop(end->loop, &end->other->io);
        loop_io_start(end->loop, &end->other->io, fd, LOOP_READ, on_read);
        loop_io_stop(end->loop, io);
    }
}

/* An io that is stopped and started again within a batch is called in the next turn only. */
static void test_io_restarted_within_the_same_batch(void **state) {
    int a[2];
    int b[2];
    struct loop *loop = loop_begin();
    struct end first = {.io = LOOP_IO_INIT, .name = 'x', .loop = loop};
    struct end second = {.io = LOOP_IO_INIT, .name = 'x', .loop = loop, .other = &first};
    first.other = &second;
    plain_pair(a);
    plain_pair(b);
    loop_io_start(loop, &first.io, a[0], LOOP_READ, on_move);
    loop_io_start(loop, &second.io, b[0], LOOP_READ, on_move);
    send_all(a[1], LITERAL("x"));
    send_all(b[1], LITERAL("x"));
    run_turns(loop, 1);
    assert_string_equal(trace, "x");
    run_turns(loop, 2);
    assert_string_equal(trace, "xx");
    loop_io_stop(loop, &first.io);
    loop_io_stop(loop, &second.io);
    close(a[0]);
    close(a[1]);
    close(b[0]);
    close(b[1]);
    loop_destroy(&loop);
}

/* --- phases ----------------------------------------------------------------------------------- */

struct part {
    struct loop_io io;
    struct loop_timer timer;
    struct loop_task flush;
    struct loop_task reap;
    struct loop *loop;
};

static void on_part_reap(struct loop_task *task) {
    note('r');
}

static void on_part_flush(struct loop_task *task) {
    struct part *part = container_of(task, struct part, flush);
    note('f');
    loop_reap_soon(part->loop, &part->reap, on_part_reap);
}

static void on_part_due(struct loop_timer *timer) {
    struct part *part = container_of(timer, struct part, timer);
    note('t');
    loop_reap_soon(part->loop, &part->reap, on_part_reap);
    loop_flush_soon(part->loop, &part->flush, on_part_flush);
    loop_stop(part->loop); /* the turn is still finished */
}

static void on_part_ready(struct loop_io *io, unsigned ready) {
    struct part *part = container_of(io, struct part, io);
    note('d');
    loop_io_stop(part->loop, io);
    loop_flush_soon(part->loop, &part->flush, on_part_flush);
    loop_flush_soon(part->loop, &part->flush, on_part_flush);
}

static void test_phases_in_order(void **state) {
    int fds[2];
    struct loop *loop = loop_begin();
    struct part part = {.io = LOOP_IO_INIT, .loop = loop};
    plain_pair(fds);
    send_all(fds[1], LITERAL("x"));
    loop_io_start(loop, &part.io, fds[0], LOOP_READ, on_part_ready);
    loop_timer_start(loop, &part.timer, 0, on_part_due);
    loop_run(loop);
    assert_string_equal(trace, "dtfr");
    close(fds[0]);
    close(fds[1]);
    loop_destroy(&loop);
}

static void test_flush_runs_once_a_turn(void **state) {
    struct loop *loop = loop_begin();
    struct part part = {.loop = loop};
    for (int i = 0; i < 5; i++) {
        loop_flush_soon(loop, &part.flush, on_part_flush);
    }
    run_turns(loop, 3);
    assert_string_equal(trace, "fr");
    loop_flush_soon(loop, &part.flush, on_part_flush);
    run_turns(loop, 1);
    assert_string_equal(trace, "frfr");
    loop_destroy(&loop);
}

static void test_flush_cancelled(void **state) {
    struct loop *loop = loop_begin();
    struct part part = {.loop = loop};
    loop_flush_cancel(loop, &part.flush);
    loop_flush_soon(loop, &part.flush, on_part_flush);
    loop_flush_cancel(loop, &part.flush);
    run_turns(loop, 2);
    assert_string_equal(trace, "");
    loop_flush_soon(loop, &part.flush, on_part_flush);
    run_turns(loop, 1);
    assert_string_equal(trace, "fr");
    loop_destroy(&loop);
}

/* With tasks queued before it, the first turn does not sleep. */
static void test_flush_before_the_first_turn(void **state) {
    struct loop *loop = loop_begin();
    struct part part = {.loop = loop};
    int64_t before = clock_ms();
    loop_timer_start(loop, &part.timer, 60000, on_part_due);
    loop_flush_soon(loop, &part.flush, on_part_flush);
    run_for(loop, 0);
    assert_string_equal(trace, "fr");
    assert_true(clock_ms() - before < 1000);
    loop_timer_stop(loop, &part.timer);
    loop_destroy(&loop);
}

static void test_reap_at_the_end_of_life(void **state) {
    struct loop *loop = loop_begin();
    struct part part = {.loop = loop};
    loop_reap_soon(loop, &part.reap, on_part_reap);
    loop_reap_soon(loop, &part.reap, on_part_reap);
    loop_reap(loop);
    assert_string_equal(trace, "r");
    loop_destroy(&loop);
}

/* --- signals ---------------------------------------------------------------------------------- */

static void on_signal(void *owner, int signal) {
    note(signal == SIGTERM ? 'T' : signal == SIGINT ? 'I' : '?');
    loop_stop(owner);
}

static void test_signals(void **state) {
    struct loop *loop = loop_begin();
    loop_on_signal(loop, loop, on_signal);
    assert_int_equal(raise(SIGTERM), 0);
    loop_run(loop);
    assert_int_equal(raise(SIGINT), 0);
    loop_run(loop);
    assert_string_equal(trace, "TI");
    loop_destroy(&loop);
}

RUN_TESTS(TEST(test_timers_in_order_of_time), TEST(test_timer_is_not_early),
          TEST(test_timer_moved_and_stopped), TEST(test_timer_stopped_by_another_that_is_due),
          TEST(test_timer_starts_itself_again),
          TEST(test_timer_started_by_a_timer_is_for_a_later_turn), TEST(test_many_timers),
          TEST(test_now_stands_still_within_a_turn), TEST(test_read_is_level_triggered),
          TEST(test_edge_tells_of_new_bytes_once), TEST(test_closed), TEST(test_change_of_interest),
          TEST(test_io_stop_is_harmless_when_not_started),
          TEST(test_io_stop_after_the_descriptor_was_closed),
          TEST(test_io_stopped_within_the_same_batch),
          TEST(test_io_restarted_within_the_same_batch), TEST(test_phases_in_order),
          TEST(test_flush_runs_once_a_turn), TEST(test_flush_cancelled),
          TEST(test_flush_before_the_first_turn), TEST(test_reap_at_the_end_of_life),
          TEST(test_signals))
