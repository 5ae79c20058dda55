/* The event loop of the broker and of both handlers: one thread, epoll, level-triggered.
 *
 * Every turn has the same phases, in this order:
 *
 *   1. wait      sleep until a descriptor is ready or the next timer is due
 *   2. dispatch  call on_ready of each descriptor that is ready
 *   3. timers    call on_due of each timer that is due
 *   4. flush     run the tasks of loop_flush_soon, once each: this is where output is written
 *   5. reap      run the tasks of loop_reap_soon: they free what was stopped during this turn
 *
 * The guarantee: a part that was stopped (loop_io_stop, loop_timer_stop, loop_flush_cancel) is not
 * called any more, not even if it was ready or due in this turn. loop_io_stop also takes the
 * descriptor out of epoll. So the descriptor may be closed after that at any time, and its number
 * may be used again in the same turn. Memory is another matter: callers on the stack may still use
 * the owner of what has stopped. So an owner that ends in one of its own callbacks stops its parts
 * at once, and is freed in a reap task.
 *
 * All parts are embedded in their owner; container_of finds it. This is the one file that knows
 * epoll. */
#pragma once

#include "base.h"

#include <sys/queue.h>

struct loop;

struct loop *loop_create(void);
/* *loop becomes NULL. Everything in it must have been stopped and freed. */
void loop_destroy(struct loop **loop);

/* Runs turns until loop_stop is called. The current turn is finished, flush and reap included. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* Monotonic milliseconds, read once a turn, after waiting. */
int64_t loop_now_ms(const struct loop *loop);

/* --- descriptors ------------------------------------------------------------------------- */

enum loop_interest {
    LOOP_READ = 1, /* bytes, and the end of them */
    LOOP_WRITE = 2,
    LOOP_EDGE = 4,   /* report new bytes only once; for owners that leave bytes unread */
    LOOP_CLOSED = 8, /* only in `ready`: the peer is gone, or an error is pending */
};

/* Does not own the descriptor: close it after loop_io_stop. */
struct loop_io {
    int fd; /* -1: not started */
    unsigned interest;
    void (*on_ready)(struct loop_io *io, unsigned ready);
};

#define LOOP_IO_INIT ((struct loop_io){.fd = -1})

void loop_io_start(struct loop *loop, struct loop_io *io, int fd, unsigned interest,
                   void (*on_ready)(struct loop_io *io, unsigned ready));
void loop_io_change(struct loop *loop, struct loop_io *io, unsigned interest);
/* Harmless when not started. on_ready is not called again, not even in this turn. */
void loop_io_stop(struct loop *loop, struct loop_io *io);

/* --- timers ------------------------------------------------------------------------------ */

/* Zero-initialised. One shot: on_due may start it again. */
struct loop_timer {
    int64_t due_ms;
    size_t place; /* in the heap, from 1; 0: not started */
    void (*on_due)(struct loop_timer *timer);
};

/* Starting a started timer moves it. delay_ms >= 0. A timer that is started in the timers phase is
 * due in a later turn at the earliest, so that the phase ends. */
void loop_timer_start(struct loop *loop, struct loop_timer *timer, int64_t delay_ms,
                      void (*on_due)(struct loop_timer *timer));
void loop_timer_stop(struct loop *loop, struct loop_timer *timer);

static inline bool loop_timer_is_started(const struct loop_timer *timer) {
    return timer->place != 0;
}

/* --- tasks ------------------------------------------------------------------------------- */

/* Zero-initialised. Queued at most once at a time. */
struct loop_task {
    TAILQ_ENTRY(loop_task) link;
    bool is_queued;
    void (*run)(struct loop_task *task);
};

/* run is called once in the flush phase of this turn, however often this is called. */
void loop_flush_soon(struct loop *loop, struct loop_task *task,
                     void (*run)(struct loop_task *task));
void loop_flush_cancel(struct loop *loop, struct loop_task *task);

/* run is called once in the reap phase of this turn and may free the task's owner. */
void loop_reap_soon(struct loop *loop, struct loop_task *task, void (*run)(struct loop_task *task));

/* Runs the reap phase alone. Only after the loop has stopped, when the program ends. */
void loop_reap(struct loop *loop);

/* --- signals ----------------------------------------------------------------------------- */

/* Blocks SIGTERM, SIGINT and SIGHUP for the process and hands them to on_signal in the dispatch
 * phase; SIGPIPE is ignored. Called once. */
void loop_on_signal(struct loop *loop, void *owner, void (*on_signal)(void *owner, int signal));
