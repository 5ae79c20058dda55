#include "hook.h"

#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { HOOK_LOOK_MS = 50, HOOK_FACTS = 5, HOOK_FACT_BYTES = HOOK_REASON_BYTES + 32 };

static void turn_end_soon(struct hook *hook);

static const char *event_name(enum hook_event event) {
    switch (event) {
    case HOOK_CONNECT:
        return "connect";
    case HOOK_DISCONNECT:
        return "disconnect";
    case HOOK_RECONNECT_ATTEMPT:
        return "reconnect_attempt";
    case HOOK_RECONNECT_SUCCESS:
        return "reconnect_success";
    case HOOK_RECONNECT_FAILED:
        return "reconnect_failed";
    case HOOK_ERROR:
        return "error";
    case HOOK_QUEUE_WARNING:
        return "queue_warning";
    }
    return "";
}

bool hook_program_is_valid(const char *program, const char **reason) {
    struct stat status;
    if (stat(program, &status) != 0 || faccessat(AT_FDCWD, program, X_OK, AT_EACCESS) != 0) {
        *reason = strerror(errno);
        return false;
    }
    *reason = "not a file";
    return S_ISREG(status.st_mode);
}

/* --- the environment --------------------------------------------------------------------- */

struct environment {
    char facts[HOOK_FACTS][HOOK_FACT_BYTES]; /* "NAME=value" */
    char **entries;                          /* owned; what they point to is not */
};

static void write_facts(struct environment *environment, const struct hook_run *run) {
    char time[WALL_TEXT_BYTES];
    char attempt[24] = "";
    char usage[32] = "";
    (void)wall_print(run->wall_ms, time);
    if (run->attempt > 0) {
        snprintf(attempt, sizeof attempt, "%llu", (unsigned long long)run->attempt);
    }
    if (run->queue_usage > 0) {
        snprintf(usage, sizeof usage, "%.7f", run->queue_usage);
    }
    const char *const facts[HOOK_FACTS][2] = {{"EVENT", event_name(run->event)},
                                              {"TIME", time},
                                              {"REASON", run->reason},
                                              {"ATTEMPT", attempt},
                                              {"QUEUE_USAGE", usage}};
    for (size_t i = 0; i < HOOK_FACTS; i++) {
        snprintf(environment->facts[i], HOOK_FACT_BYTES, "PGSSE_%s=%s", facts[i][0], facts[i][1]);
    }
}

/* A variable is inherited unless it is secret or is set by the broker for the hook. */
static bool is_inherited(const struct environment *environment, const char *entry) {
    struct slice name = {entry, strcspn(entry, "=")};
    for (size_t i = 0; i < HOOK_FACTS; i++) {
        const char *fact = environment->facts[i];
        if (slice_equals(name, (struct slice){fact, strcspn(fact, "=")})) {
            return false;
        }
    }
    return !config_is_secret_variable(name);
}

static void environment_build(struct environment *environment, const struct hook_run *run) {
    size_t count = 0;
    while (environ[count] != NULL) {
        count++;
    }
    environment->entries = must_zalloc((count + HOOK_FACTS + 1) * sizeof(char *));
    write_facts(environment, run);
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (is_inherited(environment, environ[i])) {
            environment->entries[used++] = environ[i];
        }
    }
    for (size_t i = 0; i < HOOK_FACTS; i++) {
        environment->entries[used++] = environment->facts[i];
    }
}

/* --- starting ---------------------------------------------------------------------------- */

/* The hook starts with default signals, whatever the broker blocks or ignores. */
static void attributes_init(posix_spawnattr_t *attributes) {
    sigset_t none;
    sigset_t ours;
    sigemptyset(&none);
    sigemptyset(&ours);
    sigaddset(&ours, SIGPIPE);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGINT);
    check(posix_spawnattr_init(attributes) == 0);
    check(posix_spawnattr_setsigmask(attributes, &none) == 0);
    check(posix_spawnattr_setsigdefault(attributes, &ours) == 0);
    check(posix_spawnattr_setpgroup(attributes, 0) == 0);
    check(posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                   POSIX_SPAWN_SETPGROUP) == 0);
}

/* The broker's descriptors are closed on exec, but its parent may have left others open: close
 * them, too. */
static void actions_init(posix_spawn_file_actions_t *actions) {
    check(posix_spawn_file_actions_init(actions) == 0);
    check(posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0) == 0);
    check(posix_spawn_file_actions_adddup2(actions, STDERR_FILENO, STDOUT_FILENO) == 0);
    check(posix_spawn_file_actions_addclosefrom_np(actions, STDERR_FILENO + 1) == 0);
}

/* Returns 0 or an errno. */
static int spawn(const char *program, const struct hook_run *run, pid_t *pid) {
    char *const arguments[] = {(char *)program, (char *)event_name(run->event), NULL};
    struct environment environment;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t actions;
    environment_build(&environment, run);
    attributes_init(&attributes);
    actions_init(&actions);
    int error = posix_spawn(pid, program, &actions, &attributes, arguments, environment.entries);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    free(environment.entries);
    return error;
}

/* --- one run ----------------------------------------------------------------------------- */

static void note_end(struct hook *hook, const siginfo_t *end) {
    bool has_exited = end->si_code == CLD_EXITED;
    if (has_exited && end->si_status == 0) {
        return;
    }
    hook->totals.failures++;
    log_limited(&hook->log_limit, LOG_LEVEL_WARNING, "the hook for %s ended with %s %d%s",
                event_name(hook->event), has_exited ? "status" : "signal", end->si_status,
                hook->is_overdue ? ": it took too long" : "");
}

/* Kills the process group, and the program itself in case it has moved to another group. False if
 * that is not permitted, because the program runs as another user. */
static bool kill_run(const struct hook *hook) {
    bool is_killed = kill(-hook->pid, SIGKILL) == 0;
    return kill(hook->pid, SIGKILL) == 0 || is_killed;
}

static void run_end(struct hook *hook) {
    hook->state = HOOK_ENDED;
    loop_io_stop(hook->loop, &hook->io);
    loop_timer_stop(hook->loop, &hook->look);
    loop_timer_stop(hook->loop, &hook->limit);
    turn_end_soon(hook);
}

/* WNOWAIT leaves the program a zombie: until it is reaped, no other process or group can get its
 * number. */
static bool look_for_end(struct hook *hook) {
    siginfo_t end = {0};
    check(waitid(P_PID, (id_t)hook->pid, &end, WEXITED | WNOHANG | WNOWAIT) == 0);
    if (end.si_pid == 0) {
        return false;
    }
    (void)kill_run(hook);
    check(waitid(P_PID, (id_t)hook->pid, &end, WEXITED) == 0);
    note_end(hook, &end);
    run_end(hook);
    return true;
}

static void on_ended(struct loop_io *io, unsigned ready) {
    (void)ready;
    (void)look_for_end(container_of(io, struct hook, io));
}

static void on_look(struct loop_timer *timer) {
    struct hook *hook = container_of(timer, struct hook, look);
    if (!look_for_end(hook)) {
        loop_timer_start(hook->loop, timer, HOOK_LOOK_MS, on_look);
    }
}

static void on_limit(struct loop_timer *timer) {
    struct hook *hook = container_of(timer, struct hook, limit);
    hook->is_overdue = true;
    (void)kill_run(hook);
}

/* Without a pidfd (the kernel or a sandbox does not have it, or no descriptor is left) a timer
 * looks for the program's end. */
static void run_watch(struct hook *hook) {
    hook->fd = pidfd_open(hook->pid, 0);
    if (hook->fd >= 0) {
        loop_io_start(hook->loop, &hook->io, hook->fd, LOOP_READ, on_ended);
    } else {
        loop_timer_start(hook->loop, &hook->look, HOOK_LOOK_MS, on_look);
    }
    loop_timer_start(hook->loop, &hook->limit, hook->time_limit_ms, on_limit);
}

static void run_begin(struct hook *hook, const struct hook_run *run) {
    hook->event = run->event;
    hook->is_overdue = false;
    int error = spawn(hook->program, run, &hook->pid);
    if (error != 0) {
        hook->totals.failures++;
        log_limited(&hook->log_limit, LOG_LEVEL_WARNING, "the hook for %s cannot be started: %s",
                    event_name(run->event), strerror(error));
        return;
    }
    log_debug("the hook for %s runs as %d", event_name(run->event), (int)hook->pid);
    hook->state = HOOK_RUNNING;
    hook->totals.runs++;
    hook->totals.last_ms = wall_ms();
    run_watch(hook);
}

/* --- what waits -------------------------------------------------------------------------- */

static struct hook_run *waiting_at(struct hook *hook, size_t index) {
    return &hook->waiting[(hook->waiting_first + index) % HOOK_WAITING_MAX];
}

/* The run is good until the next hook_tell. */
static const struct hook_run *waiting_pop(struct hook *hook) {
    const struct hook_run *run = waiting_at(hook, 0);
    hook->waiting_first = (hook->waiting_first + 1) % HOOK_WAITING_MAX;
    hook->waiting_count--;
    return run;
}

static void waiting_drop(struct hook *hook) {
    const struct hook_run *run = waiting_pop(hook);
    hook->totals.dropped++;
    log_limited(&hook->log_limit, LOG_LEVEL_WARNING,
                "the hook for %s is not run: too much waits for the one before",
                event_name(run->event));
}

/* Only here do runs begin. It is called in the reap phase, because only there the pidfd may be
 * closed. */
static void on_turn_end(struct loop_task *task) {
    struct hook *hook = container_of(task, struct hook, turn_end);
    if (hook->state == HOOK_ENDED) {
        if (hook->fd >= 0) {
            close(hook->fd);
        }
        hook->state = HOOK_RESTING;
    }
    while (hook->state == HOOK_RESTING && hook->waiting_count > 0) {
        run_begin(hook, waiting_pop(hook));
    }
    if (hook->state == HOOK_RESTING && hook->on_done != NULL) {
        void (*on_done)(void *owner) = hook->on_done;
        hook->on_done = NULL;
        loop_timer_stop(hook->loop, &hook->hurry);
        on_done(hook->owner);
    }
}

static void turn_end_soon(struct hook *hook) {
    loop_reap_soon(hook->loop, &hook->turn_end, on_turn_end);
}

void hook_tell(struct hook *hook, enum hook_event event, const struct hook_facts *facts) {
    if (hook->program[0] == '\0' || hook->on_done != NULL) {
        return;
    }
    if (hook->waiting_count == HOOK_WAITING_MAX) {
        waiting_drop(hook);
    }
    struct hook_run *run = waiting_at(hook, hook->waiting_count++);
    run->event = event;
    run->wall_ms = wall_ms();
    run->attempt = facts->attempt;
    run->queue_usage = facts->queue_usage;
    snprintf(run->reason, sizeof run->reason, "%s", facts->reason == NULL ? "" : facts->reason);
    turn_end_soon(hook);
}

/* --- life -------------------------------------------------------------------------------- */

static void on_hurry(struct loop_timer *timer) {
    struct hook *hook = container_of(timer, struct hook, hurry);
    if (hook->waiting_count == 0) {
        return; /* the last run is under way and has its own limit */
    }
    while (hook->waiting_count > 1) {
        waiting_drop(hook);
    }
    if (hook->state == HOOK_RUNNING) {
        on_limit(&hook->limit);
    }
}

void hook_finish(struct hook *hook, void *owner, void (*on_done)(void *owner)) {
    hook->owner = owner;
    hook->on_done = on_done;
    loop_timer_start(hook->loop, &hook->hurry, hook->time_limit_ms, on_hurry);
    turn_end_soon(hook);
}

void hook_init(struct hook *hook, struct loop *loop, const char *program, int64_t time_limit_ms) {
    *hook = (struct hook){.loop = loop,
                          .program = program,
                          .time_limit_ms = time_limit_ms,
                          .io = LOOP_IO_INIT,
                          .fd = -1};
    /* If SIGCHLD is ignored, the kernel reaps the children itself. */
    check(signal(SIGCHLD, SIG_DFL) != SIG_ERR);
}

void hook_release(struct hook *hook) {
    hook->waiting_count = 0;
    hook->on_done = NULL;
    loop_timer_stop(hook->loop, &hook->hurry);
    if (hook->state == HOOK_RUNNING) {
        siginfo_t end;
        if (kill_run(hook)) {
            check(waitid(P_PID, (id_t)hook->pid, &end, WEXITED) == 0);
        }
        run_end(hook);
    }
}
