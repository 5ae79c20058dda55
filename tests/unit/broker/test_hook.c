/* The hook: real programs, small shell scripts in a directory of the test's own. */
#include "hook.h"
#include "support.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { PATIENCE_MS = 10000, LONG_MS = 60000 };

static struct rig {
    struct loop *loop;
    struct hook hook;
    struct directory directory;
    char program[96];
    char output[96];
    bool is_done;
} rig;

static void rig_end(void) {
    hook_release(&rig.hook);
    loop_reap(rig.loop);
    loop_destroy(&rig.loop);
    directory_remove(&rig.directory);
}

/* body is a shell script, with $out as the file to write to; NULL: there is no hook. */
static void rig_begin(const char *body, int64_t time_limit_ms) {
    fixture_begin(rig_end);
    rig = (struct rig){.loop = loop_create()};
    directory_make(&rig.directory);
    log_init("pgsse-unit", LOG_LEVEL_ERROR);
    snprintf(rig.output, sizeof rig.output, "%s/out", rig.directory.path);
    if (body != NULL) {
        snprintf(rig.program, sizeof rig.program, "%s/hook", rig.directory.path);
        FILE *file = fopen(rig.program, "we");
        assert_non_null(file);
        fprintf(file, "#!/bin/sh\nout=%s\n%s\n", rig.output, body);
        fclose(file);
        assert_int_equal(chmod(rig.program, 0755), 0);
    }
    hook_init(&rig.hook, rig.loop, rig.program, time_limit_ms);
}

static void tell(enum hook_event event, const char *reason) {
    struct hook_facts facts = {.reason = reason};
    hook_tell(&rig.hook, event, &facts);
}

static bool is_idle(void) {
    return rig.hook.state == HOOK_RESTING && rig.hook.waiting_count == 0;
}

static void run_till_idle(void) {
    int64_t end_ms = clock_ms() + PATIENCE_MS;
    run_for(rig.loop, 1);
    while (!is_idle()) {
        assert_true(clock_ms() < end_ms);
        run_for(rig.loop, 2);
    }
}

/* What the runs wrote so far. */
static const char *output(void) {
    static char text[8192];
    FILE *file = fopen(rig.output, "re");
    size_t length = file == NULL ? 0 : fread(text, 1, sizeof text - 1, file);
    text[length] = '\0';
    if (file != NULL) {
        fclose(file);
    }
    return text;
}

static void run_till_written(const char *part) {
    int64_t end_ms = clock_ms() + PATIENCE_MS;
    while (strstr(output(), part) == NULL) {
        assert_true(clock_ms() < end_ms);
        run_for(rig.loop, 2);
    }
}

static void expect_output(const char *wanted) {
    assert_string_equal(output(), wanted);
}

static void expect_totals(uint64_t runs, uint64_t failures, uint64_t dropped) {
    assert_int_equal(rig.hook.totals.runs, runs);
    assert_int_equal(rig.hook.totals.failures, failures);
    assert_int_equal(rig.hook.totals.dropped, dropped);
}

static void expect_no_children(void) {
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

/* --- what a run is told ----------------------------------------------------------------------- */

static void test_facts(void **state) {
    static const struct {
        enum hook_event event;
        struct hook_facts facts;
        const char *wanted;
    } cases[] = {
        {HOOK_CONNECT, {.attempt = 1}, "1 connect connect [] 1 []\n"},
        {HOOK_DISCONNECT,
         {.reason = "it $(broke) 'off'"},
         "1 disconnect disconnect [it $(broke) 'off']  []\n"},
        {HOOK_RECONNECT_ATTEMPT,
         {.reason = "a", .attempt = 7},
         "1 reconnect_attempt reconnect_attempt [a] 7 []\n"},
        {HOOK_RECONNECT_SUCCESS, {.attempt = 8}, "1 reconnect_success reconnect_success [] 8 []\n"},
        {HOOK_RECONNECT_FAILED,
         {.reason = "b", .attempt = 9},
         "1 reconnect_failed reconnect_failed [b] 9 []\n"},
        {HOOK_ERROR, {.reason = "c"}, "1 error error [c]  []\n"},
        {HOOK_QUEUE_WARNING,
         {.reason = "d", .queue_usage = 0.625},
         "1 queue_warning queue_warning [d]  [0.6250000]\n"},
    };
    setenv("PGSSE_REASON", "of somebody else", 1);
    for (size_t i = 0; i < length_of(cases); i++) {
        rig_begin("echo \"$# $1 $PGSSE_EVENT [$PGSSE_REASON] $PGSSE_ATTEMPT "
                  "[$PGSSE_QUEUE_USAGE]\" >>$out",
                  LONG_MS);
        hook_tell(&rig.hook, cases[i].event, &cases[i].facts);
        run_till_idle();
        expect_output(cases[i].wanted);
        expect_totals(1, 0, 0);
        assert_true(rig.hook.totals.last_ms > 0);
    }
    unsetenv("PGSSE_REASON");
}

/* PGSSE_TIME is the event's time, not the run's, and is in the environment only once. */
static void test_time(void **state) {
    char wanted[WALL_TEXT_BYTES];
    rig_begin("tr '\\0' '\\n' </proc/$$/environ | grep ^PGSSE_TIME= >$out", LONG_MS);
    setenv("PGSSE_TIME", "never", 1);
    tell(HOOK_CONNECT, NULL);
    (void)wall_print(rig.hook.waiting[0].wall_ms, wanted);
    run_for(rig.loop, 20);
    run_till_idle();
    unsetenv("PGSSE_TIME");
    expect_slice((struct slice){output() + 11, strlen(output()) - 12}, slice_of(wanted), output());
}

static void test_environment_without_secrets(void **state) {
    static const char *const secrets[] = {"DATABASE_URL", "PGSSE_DATABASE_URL",
                                          "PGSSE_LISTEN_DATABASE_URL", "PGSSE_Database_Url",
                                          "PGPASSWORD"};
    rig_begin("env >$out", LONG_MS);
    setenv("HARMLESS", "kept=as it is", 1);
    setenv("PGSSE_SOCKET_DIR", "/somewhere", 1);
    for (size_t i = 0; i < length_of(secrets); i++) {
        setenv(secrets[i], "hunter2", 1);
    }
    tell(HOOK_CONNECT, NULL);
    run_till_idle();
    for (size_t i = 0; i < length_of(secrets); i++) {
        unsetenv(secrets[i]);
    }
    assert_null(strstr(output(), "hunter2"));
    assert_non_null(strstr(output(), "HARMLESS=kept=as it is\n"));
    assert_non_null(strstr(output(), "PGSSE_SOCKET_DIR=/somewhere\n"));
    assert_non_null(strstr(output(), "PATH="));
}

static uint64_t mask_of(const char *status, const char *name) {
    const char *line = strstr(status, name);
    assert_non_null(line);
    return strtoull(line + strlen(name), NULL, 16);
}

static void test_a_run_inherits_three_descriptors(void **state) {
    int stray = open("/dev/null", O_RDONLY); /* not closed on exec */
    assert_true(stray > 2);
    rig_begin("ls /proc/self/fd | tr '\\n' ' ' >$out\n"
              "readlink /proc/self/fd/0 >>$out\n"
              "[ /proc/self/fd/1 -ef /proc/self/fd/2 ] && echo same >>$out",
              LONG_MS);
    tell(HOOK_CONNECT, NULL);
    run_till_idle();
    close(stray);
    expect_output("0 1 2 3 /dev/null\nsame\n"); /* 3 is ls' own */
}

/* A shell would clear its mask by itself: this is cat. */
static void test_a_run_has_no_signal_blocked_or_ignored(void **state) {
    static const char script[] = "#!/bin/cat /proc/self/status\n";
    sigset_t terminate;
    sigset_t before;
    rig_begin("", LONG_MS);
    FILE *file = fopen(rig.program, "we");
    fputs(script, file);
    fclose(file);
    int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    int out = open(rig.output, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(dup2(out, STDERR_FILENO), STDERR_FILENO);
    sigemptyset(&terminate);
    sigaddset(&terminate, SIGTERM);
    assert_int_equal(sigprocmask(SIG_BLOCK, &terminate, &before), 0);
    assert_true(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    tell(HOOK_CONNECT, NULL);
    run_till_idle();
    assert_true(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    assert_int_equal(sigprocmask(SIG_SETMASK, &before, NULL), 0);
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    close(saved);
    close(out);
    assert_int_equal(mask_of(output(), "SigBlk:"), 0);
    assert_int_equal(mask_of(output(), "SigIgn:") & 1u << (SIGPIPE - 1), 0);
}

/* --- one at a time ---------------------------------------------------------------------------- */

static void test_one_at_a_time_in_order(void **state) {
    rig_begin("mkdir $out.lock || echo two at a time >>$out\n"
              "echo $1 $PGSSE_REASON >>$out\n"
              "rmdir $out.lock",
              LONG_MS);
    tell(HOOK_DISCONNECT, "a");
    tell(HOOK_ERROR, "b");
    run_turns(rig.loop, 1);
    tell(HOOK_ERROR, "c");
    tell(HOOK_CONNECT, "d");
    run_till_idle();
    expect_output("disconnect a\nerror b\nerror c\nconnect d\n");
    expect_totals(4, 0, 0);
}

static void test_too_many_drop_the_oldest(void **state) {
    enum { EXTRA = 3 };
    char wanted[256] = "first\n";
    size_t length = strlen(wanted);
    rig_begin("echo $PGSSE_REASON >>$out; while [ ! -e $out.go ]; do sleep 0.01; done", LONG_MS);
    tell(HOOK_ERROR, "first");
    run_till_written("first");
    for (int i = 0; i < HOOK_WAITING_MAX + EXTRA; i++) {
        char reason[16];
        snprintf(reason, sizeof reason, "%d", i);
        tell(HOOK_ERROR, reason);
        if (i >= EXTRA) {
            length += (size_t)snprintf(wanted + length, sizeof wanted - length, "%d\n", i);
        }
    }
    assert_int_equal(rig.hook.waiting_count, HOOK_WAITING_MAX);
    char go[128];
    snprintf(go, sizeof go, "%s.go", rig.output);
    fclose(fopen(go, "we"));
    run_till_idle();
    expect_output(wanted);
    expect_totals(HOOK_WAITING_MAX + 1, 0, EXTRA);
}

static void test_without_a_program(void **state) {
    rig_begin(NULL, LONG_MS);
    for (int i = 0; i < 2 * HOOK_WAITING_MAX; i++) {
        tell(HOOK_ERROR, "x");
    }
    run_turns(rig.loop, 2);
    expect_totals(0, 0, 0);
}

/* --- how a run ends --------------------------------------------------------------------------- */

static void test_failures_are_counted(void **state) {
    static const struct {
        const char *body;
        uint64_t failures;
    } cases[] = {{"exit 0", 0}, {"exit 3", 1}, {"kill -9 $$", 1}, {"kill -PIPE $$", 1}};
    for (size_t i = 0; i < length_of(cases); i++) {
        rig_begin(cases[i].body, LONG_MS);
        tell(HOOK_CONNECT, NULL);
        tell(HOOK_CONNECT, NULL);
        run_till_idle();
        expect_totals(2, 2 * cases[i].failures, 0);
        expect_no_children();
    }
}

static void test_one_that_cannot_be_started(void **state) {
    rig_begin("echo $1 >>$out", LONG_MS);
    char aside[128];
    snprintf(aside, sizeof aside, "%s.aside", rig.program);
    assert_int_equal(rename(rig.program, aside), 0);
    tell(HOOK_CONNECT, NULL);
    tell(HOOK_DISCONNECT, NULL);
    run_till_idle();
    expect_totals(0, 2, 0);
    assert_int_equal(rename(aside, rig.program), 0);
    tell(HOOK_ERROR, NULL);
    run_till_idle();
    expect_totals(1, 2, 0);
    expect_output("error\n");
}

/* Expects that the orphan was killed with SIGKILL. We see its end because it became our child when
 * its parent ended. */
static void expect_orphan_killed(void) {
    int status = 0;
    int64_t end_ms = clock_ms() + PATIENCE_MS;
    while (waitpid(-1, &status, WNOHANG) <= 0) {
        assert_true(clock_ms() < end_ms);
        usleep(1000);
    }
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    expect_no_children();
}

static void test_the_time_limit_ends_the_whole_group(void **state) {
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    rig_begin("trap '' TERM; sleep 1000 & echo begun >>$out; wait", 100);
    int64_t begun_ms = clock_ms();
    tell(HOOK_CONNECT, NULL);
    run_till_idle();
    assert_true(clock_ms() - begun_ms >= 100);
    expect_totals(1, 1, 0);
    expect_orphan_killed();
}

static void test_what_a_run_leaves_behind_ends_with_it(void **state) {
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    rig_begin("sleep 1000 & exit 0", LONG_MS);
    tell(HOOK_CONNECT, NULL);
    run_till_idle();
    expect_totals(1, 0, 0);
    expect_orphan_killed();
}

static void test_release_leaves_nothing_behind(void **state) {
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    rig_begin("sleep 1000 & echo $1 >>$out; wait", LONG_MS);
    tell(HOOK_CONNECT, NULL);
    tell(HOOK_DISCONNECT, NULL);
    run_till_written("connect\n");
    int fd = rig.hook.fd;
    hook_release(&rig.hook);
    loop_reap(rig.loop);
    assert_true(fd < 0 || !is_open_fd(fd));
    expect_orphan_killed();
    expect_output("connect\n");
}

/* pidfd_open fails, since no descriptor is left. */
static void test_without_a_pidfd(void **state) {
    enum { MOST = 64 };
    struct rlimit before;
    rig_begin("echo $1 >>$out; sleep 0.1; [ $1 = connect ]", LONG_MS);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit few = {.rlim_cur = MOST, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    int taken[MOST];
    int count = 0;
    while ((taken[count] = fcntl(0, F_DUPFD_CLOEXEC, 0)) >= 0) {
        count++;
    }
    tell(HOOK_CONNECT, NULL);
    tell(HOOK_ERROR, NULL);
    run_turns(rig.loop, 2);
    bool has_pidfd = rig.hook.fd >= 0;
    run_till_idle();
    while (count > 0) {
        close(taken[--count]);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_false(has_pidfd);
    expect_output("connect\nerror\n");
    expect_totals(2, 1, 0);
    expect_no_children();
}

/* The broker's parent may have ignored SIGCHLD. */
static void test_children_are_ours_to_wait_for(void **state) {
    assert_true(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    rig_begin("exit 3", LONG_MS);
    tell(HOOK_CONNECT, NULL);
    run_till_idle();
    expect_totals(1, 1, 0);
}

/* --- finishing -------------------------------------------------------------------------------- */

static void on_done(void *owner) {
    assert_false(rig.is_done);
    rig.is_done = true;
    loop_stop(rig.loop);
}

static void test_finishing_runs_everything(void **state) {
    rig_begin("echo $PGSSE_REASON >>$out", LONG_MS);
    tell(HOOK_ERROR, "a");
    tell(HOOK_ERROR, "b");
    tell(HOOK_RECONNECT_FAILED, "c");
    hook_finish(&rig.hook, &rig, on_done);
    tell(HOOK_ERROR, "too late");
    assert_false(rig.is_done);
    loop_run(rig.loop);
    assert_true(rig.is_done);
    expect_output("a\nb\nc\n");
}

static void test_finishing_without_a_program(void **state) {
    rig_begin(NULL, LONG_MS);
    tell(HOOK_RECONNECT_FAILED, "c");
    hook_finish(&rig.hook, &rig, on_done);
    assert_false(rig.is_done);
    loop_run(rig.loop);
    assert_true(rig.is_done);
}

/* A run that hangs neither prevents the last run nor delays the owner for long. */
static void test_finishing_comes_to_an_end(void **state) {
    rig_begin("echo $PGSSE_REASON >>$out; exec sleep 1000", 300);
    tell(HOOK_ERROR, "a");
    run_till_written("a\n");
    for (int i = 0; i < 5; i++) {
        tell(HOOK_ERROR, "b");
    }
    tell(HOOK_RECONNECT_FAILED, "c");
    int64_t begun_ms = clock_ms();
    hook_finish(&rig.hook, &rig, on_done);
    loop_run(rig.loop);
    assert_true(clock_ms() - begun_ms < 2 * 300 + 500);
    assert_true(rig.is_done);
    assert_non_null(strstr(output(), "c\n"));
    assert_int_equal(rig.hook.totals.runs + rig.hook.totals.dropped, 7);
    assert_true(rig.hook.totals.dropped >= 4);
    expect_no_children();
}

/* --- what can be a hook ----------------------------------------------------------------------- */

static void test_validity(void **state) {
    const char *reason;
    rig_begin("exit 0", LONG_MS);
    assert_true(hook_program_is_valid(rig.program, &reason));
    assert_false(hook_program_is_valid("/nowhere/hook", &reason));
    assert_string_equal(reason, strerror(ENOENT));
    assert_false(hook_program_is_valid(rig.directory.path, &reason));
    assert_string_equal(reason, "not a file");
    assert_int_equal(chmod(rig.program, 0644), 0);
    assert_false(hook_program_is_valid(rig.program, &reason));
    assert_string_equal(reason, strerror(EACCES));
}

RUN_TESTS(TEST(test_facts), TEST(test_time), TEST(test_environment_without_secrets),
          TEST(test_a_run_inherits_three_descriptors),
          TEST(test_a_run_has_no_signal_blocked_or_ignored), TEST(test_one_at_a_time_in_order),
          TEST(test_too_many_drop_the_oldest), TEST(test_without_a_program),
          TEST(test_failures_are_counted), TEST(test_one_that_cannot_be_started),
          TEST(test_the_time_limit_ends_the_whole_group),
          TEST(test_what_a_run_leaves_behind_ends_with_it),
          TEST(test_release_leaves_nothing_behind), TEST(test_without_a_pidfd),
          TEST(test_children_are_ours_to_wait_for), TEST(test_finishing_runs_everything),
          TEST(test_finishing_without_a_program), TEST(test_finishing_comes_to_an_end),
          TEST(test_validity))
