/* A connection of the publish handler: whatever its first statements are answered with, it leaves
 * the state of being checked. Stands in for common/pg; the test plays Postgres. */
#include "session.h"
#include "support.h"

/* --- pg.h ---------------------------------------------------------------------------------------
 */

struct pg {
    struct pg_owner owner;
    const char *sql;     /* under way, or NULL */
    const char *dropped; /* the reason, or NULL */
    bool is_connected;
    void (*on_result)(void *self, const struct pg_result *result);
};

static struct pg *fake;

struct pg *pg_create(struct loop *loop, const struct pg_settings *settings,
                     const struct pg_owner *owner) {
    fake = must_zalloc(sizeof *fake);
    fake->owner = *owner;
    return fake;
}

void pg_destroy(struct pg **place) {
    free(*place);
    *place = NULL;
}

void pg_start(struct pg *pg) {
    pg->is_connected = true;
    pg->owner.on_connected(pg->owner.self);
}

void pg_drop(struct pg *pg, const char *reason) {
    pg->dropped = reason;
    pg->sql = NULL;
    pg->is_connected = false;
    pg->owner.on_lost(pg->owner.self, reason);
}

void pg_settled(struct pg *pg) {
}

bool pg_is_ready(const struct pg *pg) {
    return pg->is_connected && pg->sql == NULL;
}

bool pg_encoding_is_served(const char *encoding) {
    return true;
}

const char *pg_encoding(const struct pg *pg) {
    return "UTF8";
}

void pg_query(struct pg *pg, const char *sql, int parameter_count, const char *const *parameters,
              void (*on_result)(void *self, const struct pg_result *result)) {
    assert_true(pg_is_ready(pg));
    pg->sql = sql;
    pg->on_result = on_result;
}

void pg_execute(struct pg *pg, const char *name, int parameter_count, const char *const *parameters,
                void (*on_result)(void *self, const struct pg_result *result)) {
    pg_query(pg, name, parameter_count, parameters, on_result);
}

const char *pg_value(const struct pg_result *result, int row, int column) {
    return result->handle;
}

static void answer(const struct pg_result *result) {
    assert_non_null(fake->sql);
    fake->sql = NULL;
    fake->on_result(fake->owner.self, result);
}

/* --- a session ----------------------------------------------------------------------------------
 */

struct rig {
    struct loop *loop;
    struct config config;
    struct session *session;
    int fit;
    int lost;
    int unfit;
    enum outcome_kind kind;
};

static void on_fit(void *self) {
    ((struct rig *)self)->fit++;
}

static void on_unfit(void *self, struct outcome outcome) {
    ((struct rig *)self)->unfit++;
    ((struct rig *)self)->kind = outcome.kind;
}

static void on_lost(void *self) {
    ((struct rig *)self)->lost++;
}

static void rig_begin(struct rig *rig) {
    *rig = (struct rig){0};
    struct session_owner owner = {rig, on_fit, on_unfit, on_lost};
    log_init("pgsse-unit", LOG_LEVEL_ERROR);
    config_set_defaults(&rig->config);
    rig->loop = loop_create();
    rig->session = session_create(rig->loop, &rig->config, "test", true, &owner);
    session_wake(rig->session);
}

static void rig_end(struct rig *rig) {
    session_destroy(&rig->session);
    loop_destroy(&rig->loop);
    config_release(&rig->config);
}

static const struct pg_result trusted = {.is_ok = true, .sqlstate = "", .rows = 1, .handle = ""};
static const struct pg_result version = {.is_ok = true, .sqlstate = "", .rows = 1, .handle = "4"};

static void answer_well(void) {
    answer(&trusted);
    answer(&version);
}

static void test_fit(void **state) {
    struct rig rig;
    rig_begin(&rig);
    answer_well();
    assert_int_equal(rig.fit, 1);
    assert_true(session_is_ready(rig.session));
    rig_end(&rig);
}

/* What is of another role is not called: its version is not even asked for. */
static void test_schemas_that_do_not_fit(void **state) {
    static const struct {
        const char *stranger; /* NULL: there is no schema */
        const char *version;
        enum outcome_kind kind;
    } cases[] = {
        {"mallory", NULL, OUTCOME_FOREIGN_SCHEMA},
        {NULL, NULL, OUTCOME_NO_SCHEMA},
        {"", "1", OUTCOME_OTHER_SCHEMA},
        {"", "", OUTCOME_OTHER_SCHEMA},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct rig rig;
        struct pg_result owner = trusted;
        struct pg_result other = version;
        owner.rows = cases[i].stranger != NULL;
        owner.handle = (void *)(uintptr_t)cases[i].stranger;
        other.handle = (void *)(uintptr_t)cases[i].version;
        rig_begin(&rig);
        answer(&owner);
        if (cases[i].version != NULL) {
            answer(&other);
        }
        assert_null(fake->sql);
        assert_int_equal(rig.unfit, 1);
        assert_int_equal(rig.kind, cases[i].kind);
        session_wake(rig.session);
        answer_well();
        assert_int_equal(rig.fit, 1);
        rig_end(&rig);
    }
}

/* A pooler answers for its server with a connection failure, and keeps its own connection. */
static void test_failures_of_the_check(void **state) {
    static const struct {
        const char *sqlstate;
        bool is_lost; /* it is given up, and tried anew */
        enum outcome_kind kind;
    } cases[] = {
        {"08006", true, 0},
        {"08P01", true, 0},
        {"40003", true, 0},
        {"", true, 0},
        {"57P01", true, 0},
        {"25006", true, 0},
        {"3F000", false, OUTCOME_NO_SCHEMA},
        {"42501", false, OUTCOME_FORBIDDEN},
        {"XX000", false, OUTCOME_UNAVAILABLE},
    };
    for (size_t i = 0; i < 2 * length_of(cases); i++) {
        struct rig rig;
        struct pg_result failure = {.sqlstate = cases[i / 2].sqlstate, .message = "it failed"};
        rig_begin(&rig);
        if (i % 2 == 1) {
            answer(&trusted);
        }
        answer(&failure);
        assert_int_equal(rig.fit, 0);
        assert_int_equal(rig.lost, cases[i / 2].is_lost);
        assert_int_equal(rig.unfit, !cases[i / 2].is_lost);
        assert_int_equal(rig.kind, cases[i / 2].kind);
        if (!cases[i / 2].is_lost) {
            session_wake(rig.session); /* the next request has it looked at again */
        } else {
            pg_start(fake); /* so does the next connection */
        }
        answer_well();
        assert_int_equal(rig.fit, 1);
        rig_end(&rig);
    }
}

RUN_TESTS(TEST(test_fit), TEST(test_schemas_that_do_not_fit), TEST(test_failures_of_the_check))
