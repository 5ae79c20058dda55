/* Connections that come, and what happens when there are no descriptors for them. */
#include "acceptor.h"
#include "log.h"
#include "sock.h"
#include "support.h"

#include <sys/resource.h>
#include <time.h>

enum { CLIENTS = 8, WATCHED_MS = 250, CPU_MS_MOST = 50 };

struct rig {
    struct loop *loop;
    struct acceptor acceptor;
    struct directory directory;
    char path[96];
    int listen_fd;
    int clients[CLIENTS];
    int accepted[CLIENTS];
    size_t accepted_count;
    struct rlimit limit;
};

static void on_connection(void *owner, int fd) {
    struct rig *rig = owner;
    assert_true(rig->accepted_count < CLIENTS);
    rig->accepted[rig->accepted_count++] = fd;
}

static void rig_begin(struct rig *rig) {
    const char *reason;
    *rig = (struct rig){0};
    log_init("pgsse-unit", LOG_LEVEL_ERROR);
    directory_make(&rig->directory);
    snprintf(rig->path, sizeof rig->path, "%s/sock", rig->directory.path);
    rig->loop = loop_create();
    rig->listen_fd = sock_listen(rig->path, 0600, &reason);
    assert_true(rig->listen_fd >= 0);
    acceptor_start(&rig->acceptor, rig->loop, rig->listen_fd, rig, on_connection);
    for (size_t i = 0; i < CLIENTS; i++) {
        rig->clients[i] = sock_connect(rig->path);
        assert_true(rig->clients[i] >= 0);
    }
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &rig->limit), 0);
}

static void rig_end(struct rig *rig) {
    acceptor_stop(&rig->acceptor);
    close(rig->listen_fd);
    for (size_t i = 0; i < CLIENTS; i++) {
        close(rig->clients[i]);
    }
    for (size_t i = 0; i < rig->accepted_count; i++) {
        close(rig->accepted[i]);
    }
    loop_destroy(&rig->loop);
    directory_remove(&rig->directory);
}

/* Leaves room for that many more descriptors. */
static void leave_room_for(struct rig *rig, int count) {
    int next = dup(0);
    assert_true(next >= 0);
    close(next);
    struct rlimit limit = {(rlim_t)(next + count), rig->limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static int64_t cpu_ms(void) {
    struct timespec spent;
    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent), 0);
    return (int64_t)spent.tv_sec * 1000 + spent.tv_nsec / 1000000;
}

static void test_all_are_taken(void **state) {
    struct rig rig;
    rig_begin(&rig);
    run_turns(rig.loop, 2);
    assert_int_equal(rig.accepted_count, CLIENTS);
    rig_end(&rig);
}

/* A connection without a free descriptor stays in the backlog, costs no time, and is accepted when
 * there is one. */
static void test_out_of_descriptors(void **state) {
    struct rig rig;
    rig_begin(&rig);
    leave_room_for(&rig, 3);
    int64_t before_ms = cpu_ms();
    run_for(rig.loop, WATCHED_MS);
    assert_true(cpu_ms() - before_ms < CPU_MS_MOST);
    assert_int_equal(rig.accepted_count, 3);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &rig.limit), 0);
    run_for(rig.loop, WATCHED_MS);
    assert_int_equal(rig.accepted_count, CLIENTS);
    rig_end(&rig);
}

/* Connections that come while it is paused wait in the backlog and cost no time. */
static void test_paused_while_it_rests(void **state) {
    struct rig rig;
    rig_begin(&rig);
    leave_room_for(&rig, 1);
    run_turns(rig.loop, 2);
    assert_int_equal(rig.accepted_count, 1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &rig.limit), 0);
    acceptor_set_paused(&rig.acceptor, true);
    int64_t before_ms = cpu_ms();
    run_for(rig.loop, WATCHED_MS);
    assert_true(cpu_ms() - before_ms < CPU_MS_MOST);
    assert_int_equal(rig.accepted_count, 1);
    acceptor_set_paused(&rig.acceptor, false);
    run_turns(rig.loop, 2);
    assert_int_equal(rig.accepted_count, CLIENTS);
    rig_end(&rig);
}

RUN_TESTS(TEST(test_all_are_taken), TEST(test_out_of_descriptors), TEST(test_paused_while_it_rests))
