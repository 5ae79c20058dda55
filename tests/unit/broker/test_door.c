/* The broker's socket: who may come in, where it is, and that it is gone afterwards. */
#include "broker_rig.h"

#include "sock.h"

static bool try_open(struct rig *rig, char reason[BROKER_REASON_BYTES]) {
    reason[0] = '\0';
    return door_open(&rig->broker->door, rig->broker, reason, BROKER_REASON_BYTES);
}

static void socket_path(const struct rig *rig, char path[128]) {
    snprintf(path, 128, "%s/broker.sock", rig->directory.path);
}

static void test_our_own_user_may_come_in(void **state) {
    (void)state;
    struct rig rig;
    char path[128];
    char reason[BROKER_REASON_BYTES];
    rig_begin(&rig);
    assert_true(try_open(&rig, reason));
    socket_path(&rig, path);
    int fd = sock_connect(path);
    assert_true(fd >= 0);
    run_turns(rig.loop, 2);
    assert_int_equal(rig.broker->handler_count, 1);
    assert_int_equal(TAILQ_FIRST(&rig.broker->handlers)->pid, getpid());
    close(fd);
    rig_end(&rig);
}

/* As if we were not on the list: the connection is closed, and no handler is made of it. */
static void test_others_may_not(void **state) {
    (void)state;
    struct rig rig;
    char path[128];
    char reason[BROKER_REASON_BYTES];
    char byte;
    rig_begin(&rig);
    assert_true(try_open(&rig, reason));
    rig.broker->door.user_count = 0;
    socket_path(&rig, path);
    int fd = sock_connect(path);
    run_turns(rig.loop, 2);
    assert_int_equal(rig.broker->handler_count, 0);
    assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
    close(fd);
    rig_end(&rig);
}

static void test_handler_users(void **state) {
    (void)state;
    static const struct {
        const char *users;
        size_t count; /* besides root and ourselves; SIZE_MAX: refused */
    } cases[] = {{"", 0},          {"nobody", 1}, {"nobody, daemon", 2},
                 {" nobody ,", 1}, {",,", 0},     {"nobody,no-such-user-here", SIZE_MAX},
                 {"0", SIZE_MAX}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct rig rig;
        char reason[BROKER_REASON_BYTES];
        const char *why;
        rig_begin(&rig);
        assert_true(config_set(&rig.config, "handler_users", cases[i].users, &why));
        bool is_open = try_open(&rig, reason);
        if (is_open != (cases[i].count != SIZE_MAX)) {
            fail_msg("handler_users = '%s': %s", cases[i].users, reason);
        }
        if (is_open) {
            assert_int_equal(rig.broker->door.user_count, 2 + cases[i].count);
        } else {
            assert_non_null(strstr(reason, "handler_users"));
        }
        rig_end(&rig);
    }
}

static void test_directory_that_is_too_deep(void **state) {
    (void)state;
    struct rig rig;
    char reason[BROKER_REASON_BYTES];
    const char *why;
    char *deep = repeated('x', 120);
    deep[0] = '/';
    rig_begin(&rig);
    assert_true(config_set(&rig.config, "socket_dir", deep, &why));
    assert_false(try_open(&rig, reason));
    assert_non_null(strstr(reason, "107"));
    free(deep);
    char *endless = repeated('x', 5000);
    endless[0] = '/';
    assert_true(config_set(&rig.config, "socket_dir", endless, &why));
    assert_false(try_open(&rig, reason));
    assert_true(strlen(reason) < BROKER_REASON_BYTES);
    free(endless);
    rig_end(&rig);
}

static void test_directory_that_is_not_there(void **state) {
    (void)state;
    struct rig rig;
    char reason[BROKER_REASON_BYTES];
    const char *why;
    rig_begin(&rig);
    assert_true(config_set(&rig.config, "socket_dir", "/nowhere/at/all", &why));
    assert_false(try_open(&rig, reason));
    assert_non_null(strstr(reason, "/nowhere/at/all"));
    door_close(&rig.broker->door);
    rig_end(&rig);
}

static void test_closed_door_leaves_no_socket(void **state) {
    (void)state;
    struct rig rig;
    char path[128];
    char reason[BROKER_REASON_BYTES];
    rig_begin(&rig);
    assert_true(try_open(&rig, reason));
    socket_path(&rig, path);
    assert_int_equal(access(path, F_OK), 0);
    door_close(&rig.broker->door);
    door_close(&rig.broker->door);
    assert_int_equal(access(path, F_OK), -1);
    rig_end(&rig);
}

RUN_TESTS(TEST(test_our_own_user_may_come_in), TEST(test_others_may_not), TEST(test_handler_users),
          TEST(test_directory_that_is_too_deep), TEST(test_directory_that_is_not_there),
          TEST(test_closed_door_leaves_no_socket))
