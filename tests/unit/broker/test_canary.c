/* LISTEN and the query connection, at the same server or not: which of them is given up, when,
 * and for what reason. The test replaces common/pg and plays Postgres. */
#include "broker_rig.h"
#include "listener.h"
#include "pg.h"

enum { BACKEND = 4711, TIMEOUT_MS = 20, CELLS = 4 };

struct pg {
    struct pg_owner owner;
    bool is_connected;
    const char *sql; /* under way, or NULL */
    char text[1024]; /* the same */
    char head[MARKER_HEAD_BYTES];
    char reason[256]; /* why it was dropped last */
    unsigned drops;
    unsigned renewals;
    void (*on_result)(void *self, const struct pg_result *result);
};

static struct pg *listening, *sending;

bool pg_dsn_is_valid(const char *dsn, const char **reason) {
    return true;
}

bool pg_encoding_is_served(const char *encoding) {
    return true;
}

const char *pg_encoding(const struct pg *pg) {
    return "UTF8";
}

struct pg *pg_create(struct loop *loop, const struct pg_settings *settings,
                     const struct pg_owner *owner) {
    struct pg *pg = must_zalloc(sizeof *pg);
    pg->owner = *owner;
    listening = strcmp(settings->name, "listen") == 0 ? pg : listening;
    sending = strcmp(settings->name, "query") == 0 ? pg : sending;
    return pg;
}

void pg_destroy(struct pg **place) {
    free(*place);
    *place = NULL;
}

void pg_start(struct pg *pg) {
}

void pg_stop(struct pg *pg) {
}

void pg_drop(struct pg *pg, const char *reason) {
    snprintf(pg->reason, sizeof pg->reason, "%s", reason);
    pg->sql = NULL;
    pg->is_connected = false;
    pg->drops++;
    pg->owner.on_lost(pg->owner.self, pg->reason);
}

void pg_renew(struct pg *pg) {
    pg->sql = NULL;
    pg->is_connected = false;
    pg->renewals++;
}

void pg_settled(struct pg *pg) {
}

bool pg_is_connected(const struct pg *pg) {
    return pg->is_connected;
}

bool pg_is_ready(const struct pg *pg) {
    return pg->is_connected && pg->sql == NULL;
}

int pg_session_pid(const struct pg *pg) {
    return BACKEND;
}

void pg_query(struct pg *pg, const char *sql, int parameter_count, const char *const *parameters,
              void (*on_result)(void *self, const struct pg_result *result)) {
    assert_true(pg_is_ready(pg));
    snprintf(pg->text, sizeof pg->text, "%s", sql);
    pg->sql = pg->text;
    pg->on_result = on_result;
    if (parameter_count == 1) {
        snprintf(pg->head, sizeof pg->head, "%s", parameters[0]);
    }
}

void pg_execute(struct pg *pg, const char *name, int parameter_count, const char *const *parameters,
                void (*on_result)(void *self, const struct pg_result *result)) {
    pg_query(pg, name, parameter_count, parameters, on_result);
}

void pg_set_timeout(struct pg *pg, int64_t timeout_ms) {
    (void)pg;
    (void)timeout_ms;
}

const char *pg_value(const struct pg_result *result, int row, int column) {
    assert_true(row == 0 && column >= 0 && column < CELLS);
    return ((const char *const *)result->handle)[column];
}

static void answer(struct pg *pg, const char *first, const char *second, const char *third) {
    const char *const cells[CELLS] = {first, second, third, "1767225600000000"};
    struct pg_result result = {.is_ok = true, .rows = 1, .handle = cells};
    assert_non_null(pg->sql);
    pg->sql = NULL;
    pg->on_result(pg->owner.self, &result);
}

/* --- scenes -------------------------------------------------------------------------------------
 */

#define HERE      "16384/20260101000000000000"
#define ELSEWHERE "16384/20260202000000000000"

static void connect_to(struct pg *pg) {
    pg->is_connected = true;
    pg->owner.on_connected(pg->owner.self);
}

/* All channels, as Postgres names them. */
static const char *channels_of(void) {
    static char text[1024];
    struct buf names = {0};
    channels_print_names(&rig.broker->channels, &names);
    snprintf(text, sizeof text, "%.*s", (int)names.length, names.bytes);
    buf_release(&names);
    return text;
}

static void verify_as(const char *channels, int pid, const char *server) {
    char text[16];
    snprintf(text, sizeof text, "%d", pid);
    assert_non_null(strstr(listening->sql, "pg_listening_channels"));
    answer(listening, channels == NULL ? channels_of() : channels, text, server);
}

/* LISTEN has committed; the session is not verified yet. */
static void listen_again(void) {
    connect_to(listening);
    assert_non_null(strstr(listening->sql, "LISTEN topic_broadcast_0"));
    answer(listening, "", "", "");
}

static void scene_begin(void) {
    rig_create_source = listener_create;
    rig_begin();
    rig.config.canary_timeout = TIMEOUT_MS;
    connect_to(sending);
    listen_again();
    assert_null(sending->sql);
    verify_as(NULL, BACKEND, HERE);
    assert_non_null(strstr(sending->sql, "pg_notify"));
}

static void marker_completes(const char *server) {
    answer(sending, "0", server, "");
}

static void hear_what_was_sent(void) {
    char payload[DRAWN_MARKER_BYTES];
    complete_marker(sending->head, BACKEND, DRAWN_MARKER_US, payload);
    rig_hear(CHANNEL_OF_MARKERS, slice_of(payload), BACKEND);
}

/* Until LISTEN is dropped; the ms that it took. */
static int64_t wait_dropped(bool is_busy) {
    int64_t begin_ms = loop_now_ms(rig.loop);
    unsigned before = listening->drops;
    while (listening->drops == before && loop_now_ms(rig.loop) - begin_ms < 100 * TIMEOUT_MS) {
        if (is_busy) {
            rig_notify("nonsense");
        }
        usleep(1000);
        run_turns(rig.loop, 1);
    }
    assert_int_equal(listening->drops, before + 1);
    return loop_now_ms(rig.loop) - begin_ms;
}

/* --- tests --------------------------------------------------------------------------------------
 */

static void test_marker_is_heard(void **state) {
    scene_begin();
    marker_completes(HERE);
    hear_what_was_sent();
    assert_true(rig.broker->journal.markers.is_public);
    verify_as(NULL, BACKEND, HERE);
    run_turns(rig.loop, 3);
    assert_int_equal(listening->drops + sending->drops + sending->renewals, 0);
}

/* The marker may come before the answer to its statement. */
static void test_marker_is_heard_first(void **state) {
    scene_begin();
    hear_what_was_sent();
    marker_completes(HERE);
    assert_int_equal(rig.broker->journal.canary.state, CANARY_RESTING);
    assert_int_equal(listening->drops, 0);
}

static void test_markers_go_elsewhere(void **state) {
    scene_begin();
    marker_completes(ELSEWHERE);
    assert_int_equal(listening->drops, 1);
    assert_non_null(strstr(listening->reason, "another server"));
    assert_int_equal(sending->renewals, 0); /* it has connected later than LISTEN */
    listen_again();
    assert_int_equal(sending->renewals, 1);
    verify_as(NULL, BACKEND, ELSEWHERE);
    connect_to(sending);
    marker_completes(ELSEWHERE);
    hear_what_was_sent();
    assert_int_equal(listening->drops, 1);
    assert_true(rig.broker->journal.markers.is_public);
}

/* No marker is sent before LISTEN is verified: until then the servers cannot be compared. */
static void test_no_marker_before_listen_is_verified(void **state) {
    scene_begin();
    pg_drop(listening, "the test pulled the plug");
    listen_again();
    connect_to(sending);
    assert_null(sending->sql);
    verify_as(NULL, BACKEND, HERE);
    assert_non_null(sending->sql);
}

/* Notifications give LISTEN more time, up to a bound. */
static void test_not_heard(void **state) {
    for (int busy = 0; busy < 2; busy++) {
        scene_begin();
        marker_completes(HERE);
        int64_t took_ms = wait_dropped(busy == 1);
        assert_non_null(strstr(listening->reason, "was not heard"));
        assert_null(strstr(listening->reason, "pooler"));
        assert_true(took_ms >= (busy == 1 ? CANARY_PATIENCE - 1 : 1) * TIMEOUT_MS - 5);
    }
}

/* Without a name of the server nothing could ever be compared with it. */
static void test_server_without_a_name(void **state) {
    rig_begin();
    connect_to(sending);
    listen_again();
    verify_as(NULL, BACKEND, "");
    assert_int_equal(listening->drops, 1);
    assert_null(sending->sql);
}

/* The backend's pid differs from the pid that the session was told: there is a pooler. */
static void test_pooler_is_named(void **state) {
    static const char cure[] = "set listen_database_url";
    rig_begin();
    rig.config.canary_timeout = TIMEOUT_MS;
    connect_to(sending);
    listen_again();
    verify_as("", BACKEND + 1, HERE); /* another backend, which does not listen */
    assert_int_equal(listening->drops, 1);
    assert_non_null(strstr(listening->reason, cure));
    assert_non_null(strstr(rig.broker->condition.degraded_reason, cure));
    listen_again();
    verify_as(NULL, BACKEND + 1, HERE);
    connect_to(sending);
    marker_completes(HERE);
    (void)wait_dropped(false);
    assert_non_null(strstr(rig.broker->condition.degraded_reason, cure));
}

RUN_TESTS(TEST(test_marker_is_heard), TEST(test_marker_is_heard_first),
          TEST(test_markers_go_elsewhere), TEST(test_no_marker_before_listen_is_verified),
          TEST(test_not_heard), TEST(test_server_without_a_name), TEST(test_pooler_is_named))
