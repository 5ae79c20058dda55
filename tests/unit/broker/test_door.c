/* The broker's socket: which users may connect, where it is, and that it is removed. */
#include "broker_rig.h"

#include "sock.h"

#include <sys/resource.h>

static bool try_open(char reason[BROKER_REASON_BYTES]) {
    reason[0] = '\0';
    return door_open(&rig.broker->door, &rig.broker->handlers, reason, BROKER_REASON_BYTES);
}

static void socket_path(char path[128]) {
    snprintf(path, 128, "%s/broker.sock", rig.directory.path);
}

static void test_our_own_user_may_come_in(void **state) {
    char path[128];
    char reason[BROKER_REASON_BYTES];
    rig_begin();
    assert_true(try_open(reason));
    socket_path(path);
    int fd = sock_connect(path);
    assert_true(fd >= 0);
    run_turns(rig.loop, 2);
    assert_int_equal(rig_handler_count(), 1);
    assert_int_equal(rig_handler()->pid, getpid());
    close(fd);
}

/* With us not on the list: the connection is closed and becomes no handler. */
static void test_others_may_not(void **state) {
    char path[128];
    char reason[BROKER_REASON_BYTES];
    char byte;
    rig_begin();
    assert_true(try_open(reason));
    rig.broker->door.user_count = 0;
    socket_path(path);
    int fd = sock_connect(path);
    run_turns(rig.loop, 2);
    assert_int_equal(rig_handler_count(), 0);
    assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
    close(fd);
}

/* Handlers do not get the last descriptors: they are for reconnects to Postgres. */
static void test_descriptors_are_short(void **state) {
    char path[128];
    char reason[BROKER_REASON_BYTES];
    char byte;
    struct rlimit before;
    rig_begin();
    assert_true(try_open(reason));
    socket_path(path);
    int fd = sock_connect(path);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit few = {(rlim_t)fd + 2, before.rlim_max}; /* the next one is the last */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    run_turns(rig.loop, 2);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(rig_handler_count(), 0);
    assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
    close(fd);
}

static void test_handler_users(void **state) {
    static const struct {
        const char *users;
        size_t count; /* besides root and ourselves; SIZE_MAX: refused */
    } cases[] = {{"", 0},          {"nobody", 1}, {"nobody, daemon", 2},
                 {" nobody ,", 1}, {",,", 0},     {"nobody,no-such-user-here", SIZE_MAX},
                 {"0", SIZE_MAX}};
    for (size_t i = 0; i < length_of(cases); i++) {
        char reason[BROKER_REASON_BYTES];
        const char *why;
        rig_begin();
        assert_true(config_set(&rig.config, "handler_users", cases[i].users, &why));
        bool is_open = try_open(reason);
        if (is_open != (cases[i].count != SIZE_MAX)) {
            fail_msg("handler_users = '%s': %s", cases[i].users, reason);
        }
        if (is_open) {
            assert_int_equal(rig.broker->door.user_count, 2 + cases[i].count);
        } else {
            assert_non_null(strstr(reason, "handler_users"));
        }
    }
}

static void test_directory_that_is_too_deep(void **state) {
    char reason[BROKER_REASON_BYTES];
    const char *why;
    char *deep = repeated('x', 120);
    deep[0] = '/';
    rig_begin();
    assert_true(config_set(&rig.config, "socket_dir", deep, &why));
    assert_false(try_open(reason));
    assert_non_null(strstr(reason, "107"));
    free(deep);
    char *endless = repeated('x', 5000);
    endless[0] = '/';
    assert_true(config_set(&rig.config, "socket_dir", endless, &why));
    assert_false(try_open(reason));
    assert_true(strlen(reason) < BROKER_REASON_BYTES);
    free(endless);
}

static void test_directory_that_is_not_there(void **state) {
    char reason[BROKER_REASON_BYTES];
    const char *why;
    rig_begin();
    assert_true(config_set(&rig.config, "socket_dir", "/nowhere/at/all", &why));
    assert_false(try_open(reason));
    assert_non_null(strstr(reason, "/nowhere/at/all"));
    door_close(&rig.broker->door);
}

static void test_closed_door_leaves_no_socket(void **state) {
    char path[128];
    char reason[BROKER_REASON_BYTES];
    rig_begin();
    assert_true(try_open(reason));
    socket_path(path);
    assert_int_equal(access(path, F_OK), 0);
    door_close(&rig.broker->door);
    door_close(&rig.broker->door);
    assert_int_equal(access(path, F_OK), -1);
}

RUN_TESTS(TEST(test_our_own_user_may_come_in), TEST(test_others_may_not),
          TEST(test_descriptors_are_short), TEST(test_handler_users),
          TEST(test_directory_that_is_too_deep), TEST(test_directory_that_is_not_there),
          TEST(test_closed_door_leaves_no_socket))
