#include "loop.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { LOOP_BATCH = 256, LOOP_WAIT_MAX_MS = 60000 };

TAILQ_HEAD(task_list, loop_task);

struct loop {
    int epoll_fd;
    bool is_stopping;
    bool is_firing; /* in the timers phase */
    int64_t now_ms;
    struct epoll_event ready[LOOP_BATCH];
    int ready_count;          /* in the batch that is being dispatched */
    int ready_next;           /* the next one of the batch to be called */
    struct loop_timer **heap; /* heap[1] is due first; owned array of borrowed timers */
    size_t heap_count;
    size_t heap_size;
    struct task_list flush_tasks;
    struct task_list reap_tasks;
    struct loop_io signal_io;
    void *signal_owner;
    void (*on_signal)(void *owner, int signal);
};

struct loop *loop_create(void) {
    struct loop *loop = must_zalloc(sizeof *loop);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    check(loop->epoll_fd >= 0);
    loop->now_ms = clock_ms();
    loop->signal_io = LOOP_IO_INIT;
    TAILQ_INIT(&loop->flush_tasks);
    TAILQ_INIT(&loop->reap_tasks);
    return loop;
}

void loop_destroy(struct loop **place) {
    struct loop *loop = *place;
    *place = NULL;
    check(TAILQ_EMPTY(&loop->flush_tasks) && TAILQ_EMPTY(&loop->reap_tasks));
    check(loop->heap_count == 0);
    if (loop->signal_io.fd >= 0) {
        close(loop->signal_io.fd);
    }
    close(loop->epoll_fd);
    free(loop->heap);
    free(loop);
}

int64_t loop_now_ms(const struct loop *loop) {
    return loop->now_ms;
}

void loop_stop(struct loop *loop) {
    loop->is_stopping = true;
}

/* --- descriptors ------------------------------------------------------------------------- */

static uint32_t epoll_events_of(unsigned interest) {
    uint32_t events = 0;
    events |= (interest & LOOP_READ) != 0 ? EPOLLIN | EPOLLRDHUP : 0u;
    events |= (interest & LOOP_WRITE) != 0 ? EPOLLOUT : 0u;
    events |= (interest & LOOP_EDGE) != 0 ? EPOLLET : 0u;
    return events;
}

static unsigned ready_of(uint32_t events) {
    unsigned ready = 0;
    ready |= (events & EPOLLIN) != 0 ? LOOP_READ : 0u;
    ready |= (events & EPOLLOUT) != 0 ? LOOP_WRITE : 0u;
    ready |= (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0 ? LOOP_CLOSED : 0u;
    return ready;
}

static void io_control(struct loop *loop, int operation, struct loop_io *io) {
    struct epoll_event event = {.events = epoll_events_of(io->interest), .data.ptr = io};
    check(epoll_ctl(loop->epoll_fd, operation, io->fd, &event) == 0);
}

void loop_io_start(struct loop *loop, struct loop_io *io, int fd, unsigned interest,
                   void (*on_ready)(struct loop_io *io, unsigned ready)) {
    check(fd >= 0 && io->fd == -1);
    *io = (struct loop_io){.fd = fd, .interest = interest, .on_ready = on_ready};
    io_control(loop, EPOLL_CTL_ADD, io);
}

void loop_io_change(struct loop *loop, struct loop_io *io, unsigned interest) {
    check(io->fd >= 0);
    if (io->interest != interest) {
        io->interest = interest;
        io_control(loop, EPOLL_CTL_MOD, io);
    }
}

void loop_io_stop(struct loop *loop, struct loop_io *io) {
    if (io->fd == -1) {
        return;
    }
    /* libpq may have closed its socket already: then the kernel has removed it from the epoll
     * set. */
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, io->fd, NULL) != 0) {
        check(errno == EBADF || errno == ENOENT);
    }
    io->fd = -1;
    for (int i = loop->ready_next; i < loop->ready_count; i++) {
        if (loop->ready[i].data.ptr == io) {
            loop->ready[i].data.ptr = NULL;
        }
    }
}

/* --- timers: a binary heap --------------------------------------------------------------- */

static void heap_put(struct loop *loop, size_t place, struct loop_timer *timer) {
    loop->heap[place] = timer;
    timer->place = place;
}

static void heap_rise(struct loop *loop, size_t place, struct loop_timer *timer) {
    while (place > 1 && loop->heap[place / 2]->due_ms > timer->due_ms) {
        heap_put(loop, place, loop->heap[place / 2]);
        place /= 2;
    }
    heap_put(loop, place, timer);
}

static void heap_sink(struct loop *loop, size_t place, struct loop_timer *timer) {
    for (;;) {
        size_t child = 2 * place;
        if (child > loop->heap_count) {
            break;
        }
        if (child < loop->heap_count && loop->heap[child + 1]->due_ms < loop->heap[child]->due_ms) {
            child++;
        }
        if (loop->heap[child]->due_ms >= timer->due_ms) {
            break;
        }
        heap_put(loop, place, loop->heap[child]);
        place = child;
    }
    heap_put(loop, place, timer);
}

void loop_timer_start(struct loop *loop, struct loop_timer *timer, int64_t delay_ms,
                      void (*on_due)(struct loop_timer *timer)) {
    check(delay_ms >= 0);
    loop_timer_stop(loop, timer);
    timer->due_ms = loop->now_ms + (loop->is_firing && delay_ms == 0 ? 1 : delay_ms);
    timer->on_due = on_due;
    if (loop->heap_count + 2 > loop->heap_size) {
        loop->heap_size = loop->heap_size == 0 ? 64 : 2 * loop->heap_size;
        loop->heap = must_realloc(loop->heap, loop->heap_size * sizeof(struct loop_timer *));
    }
    loop->heap_count++;
    heap_rise(loop, loop->heap_count, timer);
}

void loop_timer_stop(struct loop *loop, struct loop_timer *timer) {
    size_t place = timer->place;
    if (place == 0) {
        return;
    }
    timer->place = 0;
    struct loop_timer *last = loop->heap[loop->heap_count--];
    if (last == timer) {
        return;
    }
    if (place > 1 && loop->heap[place / 2]->due_ms > last->due_ms) {
        heap_rise(loop, place, last);
    } else {
        heap_sink(loop, place, last);
    }
}

/* --- tasks ------------------------------------------------------------------------------- */

static void task_queue(struct task_list *list, struct loop_task *task,
                       void (*run)(struct loop_task *task)) {
    if (!task->is_queued) {
        task->is_queued = true;
        task->run = run;
        TAILQ_INSERT_TAIL(list, task, link);
    }
}

void loop_flush_soon(struct loop *loop, struct loop_task *task,
                     void (*run)(struct loop_task *task)) {
    task_queue(&loop->flush_tasks, task, run);
}

void loop_flush_cancel(struct loop *loop, struct loop_task *task) {
    if (task->is_queued) {
        TAILQ_REMOVE(&loop->flush_tasks, task, link);
        task->is_queued = false;
    }
}

void loop_reap_soon(struct loop *loop, struct loop_task *task,
                    void (*run)(struct loop_task *task)) {
    task_queue(&loop->reap_tasks, task, run);
}

static void tasks_run(struct task_list *list) {
    struct loop_task *task;
    while ((task = TAILQ_FIRST(list)) != NULL) {
        TAILQ_REMOVE(list, task, link);
        task->is_queued = false;
        task->run(task);
    }
}

void loop_reap(struct loop *loop) {
    tasks_run(&loop->reap_tasks);
}

/* --- the turn ---------------------------------------------------------------------------- */

static int wait_ms(const struct loop *loop) {
    if (!TAILQ_EMPTY(&loop->flush_tasks) || !TAILQ_EMPTY(&loop->reap_tasks)) {
        return 0; /* tasks were queued before the first turn */
    }
    if (loop->heap_count == 0) {
        return LOOP_WAIT_MAX_MS;
    }
    int64_t left_ms = loop->heap[1]->due_ms - clock_ms();
    if (left_ms < 0) {
        return 0;
    }
    return left_ms < LOOP_WAIT_MAX_MS ? (int)left_ms : LOOP_WAIT_MAX_MS;
}

static void phase_wait(struct loop *loop) {
    int count = epoll_wait(loop->epoll_fd, loop->ready, LOOP_BATCH, wait_ms(loop));
    check(count >= 0 || errno == EINTR);
    loop->ready_count = count < 0 ? 0 : count;
    loop->now_ms = clock_ms();
}

static void phase_dispatch(struct loop *loop) {
    loop->ready_next = 0;
    while (loop->ready_next < loop->ready_count) {
        const struct epoll_event *event = &loop->ready[loop->ready_next++];
        struct loop_io *io = event->data.ptr;
        if (io != NULL) {
            io->on_ready(io, ready_of(event->events));
        }
    }
    loop->ready_count = 0;
}

static void phase_timers(struct loop *loop) {
    loop->is_firing = true;
    while (loop->heap_count > 0 && loop->heap[1]->due_ms <= loop->now_ms) {
        struct loop_timer *timer = loop->heap[1];
        loop_timer_stop(loop, timer);
        timer->on_due(timer);
    }
    loop->is_firing = false;
}

void loop_run(struct loop *loop) {
    while (!loop->is_stopping) {
        phase_wait(loop);
        phase_dispatch(loop);
        phase_timers(loop);
        tasks_run(&loop->flush_tasks);
        loop_reap(loop);
    }
    loop->is_stopping = false;
}

/* --- signals ----------------------------------------------------------------------------- */

static void on_signal_ready(struct loop_io *io, unsigned ready) {
    (void)ready;
    struct loop *loop = container_of(io, struct loop, signal_io);
    struct signalfd_siginfo info;
    while (read(io->fd, &info, sizeof info) == (ssize_t)sizeof info) {
        loop->on_signal(loop->signal_owner, (int)info.ssi_signo);
    }
}

void loop_on_signal(struct loop *loop, void *owner, void (*on_signal)(void *owner, int signal)) {
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGINT);
    sigaddset(&wanted, SIGHUP);
    check(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    check(sigprocmask(SIG_BLOCK, &wanted, NULL) == 0);
    int fd = signalfd(-1, &wanted, SFD_NONBLOCK | SFD_CLOEXEC);
    check(fd >= 0);
    loop->signal_owner = owner;
    loop->on_signal = on_signal;
    loop_io_start(loop, &loop->signal_io, fd, LOOP_READ, on_signal_ready);
}
