/* The program that is run when something happens to the connection to Postgres.
 *
 * It is run without a shell, in a process group of its own, with the event's name as its one
 * argument, /dev/null as its input, and its output goes where our log goes. It inherits our
 * environment without the variables that hold secrets (config_is_secret_variable), and finds there
 * what happened; what does not apply is empty:
 *
 *   PGSSE_EVENT        the event's name, as in the argument
 *   PGSSE_TIME         when it happened, RFC 3339 in UTC
 *   PGSSE_REASON       why, one line
 *   PGSSE_ATTEMPT      the number of the attempt, from 1
 *   PGSSE_QUEUE_USAGE  of Postgres' NOTIFY queue, 0 to 1
 *
 * One run at a time, in the order of the events. At most HOOK_WAITING_MAX events wait; one more
 * drops the oldest. A run that takes longer than the time limit is killed. When a run ends, the
 * processes that are left in its process group are killed. A hook that fails is logged and counted
 * and has no other effect. */
#pragma once

#include "log.h"
#include "loop.h"

#include <sys/types.h>

enum { HOOK_WAITING_MAX = 16, HOOK_REASON_BYTES = 256 };

enum hook_event {
    HOOK_CONNECT,
    HOOK_DISCONNECT,
    HOOK_RECONNECT_ATTEMPT,
    HOOK_RECONNECT_SUCCESS,
    HOOK_RECONNECT_FAILED,
    HOOK_ERROR,
    HOOK_QUEUE_WARNING,
};

/* What a run is told of its event besides the time. */
struct hook_facts {
    const char *reason; /* NULL: none */
    uint64_t attempt;   /* 0: none */
    double queue_usage; /* 0: none */
};

/* An event whose run has not begun. */
struct hook_run {
    enum hook_event event;
    int64_t wall_ms;
    char reason[HOOK_REASON_BYTES];
    uint64_t attempt;
    double queue_usage;
};

enum hook_state {
    HOOK_RESTING,
    HOOK_RUNNING,
    HOOK_ENDED, /* until the end of this turn */
};

struct hook_totals {
    uint64_t runs;
    uint64_t failures; /* not started, killed, or ended with a status other than 0 */
    uint64_t dropped;
    int64_t last_ms; /* wall clock, of the last run's start; 0: none yet */
};

struct hook {
    struct loop *loop;   /* borrowed */
    const char *program; /* borrowed; "": no hook */
    int64_t time_limit_ms;
    enum hook_state state;
    enum hook_event event; /* RUNNING: of this run, as are pid and is_overdue */
    pid_t pid;
    bool is_overdue;
    struct loop_io io;       /* on the pidfd, which is readable when the program has ended */
    int fd;                  /* the pidfd, owned; -1: the kernel gave none */
    struct loop_timer look;  /* without a pidfd: when to look whether it has ended */
    struct loop_timer limit; /* for this run */
    struct loop_timer hurry; /* finishing: after this, only the newest waiting event is still run */
    struct loop_task turn_end;
    struct hook_run waiting[HOOK_WAITING_MAX]; /* a ring */
    size_t waiting_first;
    size_t waiting_count;
    void *owner;                  /* finishing: argument of on_done */
    void (*on_done)(void *owner); /* NULL: not finishing */
    struct hook_totals totals;
    struct log_limit log_limit;
};

/* True if the program can be run. If not, *reason is good until the next strerror. */
bool hook_program_is_valid(const char *program, const char **reason) must_check;

/* Also resets SIGCHLD, so that the broker can wait for its children even if its parent ignored
 * SIGCHLD. */
void hook_init(struct hook *hook, struct loop *loop, const char *program, int64_t time_limit_ms);

/* Kills the program that runs, waits for its end, and forgets the waiting events. Call loop_reap
 * after it. */
void hook_release(struct hook *hook);

/* The run begins at the end of this turn at the earliest. The facts are copied. */
void hook_tell(struct hook *hook, enum hook_event event, const struct hook_facts *facts);

/* on_done is called from the loop after the hook has run for all events told before. Later events
 * are ignored. When the time limit is over, the waiting events are left out but for the newest one:
 * so finishing takes at most twice the time limit. */
void hook_finish(struct hook *hook, void *owner, void (*on_done)(void *owner));
