/* What goes to Postgres in one statement: items of several rows, together or not at all. Stands in
 * for session; the test plays Postgres. */
#include "batch.h"
#include "session.h"
#include "support.h"

/* --- session.h -------------------------------------------------------------------------------- */

struct session {
    struct session_owner owner;
    void (*on_result)(void *self, const struct pg_result *result); /* of what is under way */
    char *topics;                                                  /* its first array */
    int parameters;
};

static struct session *fake;

struct session *session_create(struct loop *loop, const struct config *config, const char *name,
                               bool needs_schema, const struct session_owner *owner) {
    (void)loop;
    (void)config;
    (void)name;
    (void)needs_schema;
    fake = must_zalloc(sizeof *fake);
    fake->owner = *owner;
    return fake;
}

void session_destroy(struct session **session) {
    free((*session)->topics);
    free(*session);
    *session = NULL;
}

void session_wake(struct session *session) {
    (void)session;
}

struct outcome session_outcome_of_waiting(const struct session *session) {
    (void)session;
    return (struct outcome){OUTCOME_BUSY, 0};
}

bool session_is_ready(const struct session *session) {
    return session->on_result == NULL;
}

void session_query(struct session *session, const char *sql, int parameter_count,
                   const char *const *parameters,
                   void (*on_result)(void *self, const struct pg_result *result)) {
    (void)sql;
    free(session->topics);
    session->topics = must_alloc(strlen(parameters[0]) + 1);
    memcpy(session->topics, parameters[0], strlen(parameters[0]) + 1);
    session->parameters = parameter_count;
    session->on_result = on_result;
}

void session_execute(struct session *session, const char *prepared, int parameter_count,
                     const char *const *parameters,
                     void (*on_result)(void *self, const struct pg_result *result)) {
    session_query(session, prepared, parameter_count, parameters, on_result);
}

void session_settled(struct session *session) {
    (void)session;
}

void session_doubt(struct session *session) {
    (void)session;
}

void session_log_failure(struct log_limit *limit, const char *what,
                         const struct pg_result *result) {
    (void)limit;
    (void)what;
    (void)result;
}

void session_drop(struct session *session, const char *reason) {
    (void)reason;
    session->on_result = NULL;
    session->owner.on_lost(session->owner.self);
}

/* --- the rig ---------------------------------------------------------------------------------- */

static struct loop *loop;
static struct config config;
static struct batch *batch;
static struct item *items; /* all that were added */

static char answers[256]; /* of each item its name and how it ended, in order */

struct item {
    struct batch_item item;
    struct item *next;
    char name;
};

static void on_done(struct batch_item *batch_item, struct outcome outcome) {
    struct item *item = container_of(batch_item, struct item, item);
    size_t length = strlen(answers);
    const char *end = outcome.kind == OUTCOME_DONE      ? "+"
                      : outcome.kind == OUTCOME_REFUSED ? "-"
                      : outcome.kind == OUTCOME_UNKNOWN ? "?"
                                                        : "!";
    snprintf(answers + length, sizeof answers - length, "%c%s", item->name, end);
}

static void rig_end(void) {
    batch_destroy(&batch);
    loop_reap(loop);
    loop_destroy(&loop);
    config_release(&config);
    while (items != NULL) {
        struct item *item = items;
        items = item->next;
        free(item);
    }
}

static void rig_begin(void) {
    fixture_begin(rig_end);
    answers[0] = '\0';
    config = (struct config){0};
    config_set_defaults(&config);
    loop = loop_create();
    batch = batch_create(loop, &config, &batch_durable);
}

/* count rows, each with its item's name for a topic. data is their JSON. */
static void add(char name, size_t count, const char *data) {
    struct item *item = must_zalloc(sizeof *item + count * sizeof(struct batch_row));
    struct batch_row *rows = (struct batch_row *)(item + 1);
    item->name = name;
    for (size_t i = 0; i < count; i++) {
        rows[i] = (struct batch_row){{{&item->name, 1}, slice_of(data), LITERAL("")}};
    }
    item->item.rows = rows;
    item->item.row_count = count;
    item->item.on_done = on_done;
    item->next = items;
    items = item;
    batch_add(batch, &item->item);
}

/* The topics of the statement that is under way: "a3b1" for {"a","a","a","b"}. */
static void expect_sent(const char *wanted) {
    struct buf sent = {0};
    char last = '\0';
    unsigned count = 0;
    assert_non_null(fake->on_result);
    assert_int_equal(fake->parameters, 8);
    for (const char *at = strchr(fake->topics, '"'); at != NULL; at = strchr(at + 3, '"')) {
        if (at[1] != last && count > 0) {
            buf_printf(&sent, "%c%u", last, count);
            count = 0;
        }
        last = at[1];
        count++;
    }
    buf_printf(&sent, "%c%u", last, count);
    expect_buf(&sent, wanted);
}

static void answer(const char *sqlstate) {
    struct pg_result result = {
        .is_ok = sqlstate == NULL, .sqlstate = sqlstate == NULL ? "" : sqlstate, .message = "m"};
    void (*on_result)(void *self, const struct pg_result *result) = fake->on_result;
    fake->on_result = NULL;
    on_result(fake->owner.self, &result);
    run_for(loop, 5);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void test_rows_go_in_order(void **state) {
    rig_begin();
    add('a', 2, "1");
    add('b', 1, "1");
    add('c', 3, "1");
    run_for(loop, 5);
    expect_sent("a2b1c3");
    assert_string_equal(answers, "");
    answer(NULL);
    assert_string_equal(answers, "a+b+c+");
}

/* A group that is refused is sent again item by item, each with all its rows. */
static void test_all_rows_of_an_item_or_none(void **state) {
    rig_begin();
    add('a', 2, "1");
    add('b', 3, "1");
    add('c', 1, "1");
    run_for(loop, 5);
    expect_sent("a2b3c1");
    answer("22023");
    expect_sent("a2");
    answer(NULL);
    expect_sent("b3");
    answer("22023");
    assert_string_equal(answers, "a+b-");
    expect_sent("c1");
    answer(NULL);
    assert_string_equal(answers, "a+b-c+");
    assert_null(fake->on_result);
}

/* An item alone is not tried again, however many rows it has. */
static void test_an_item_alone(void **state) {
    rig_begin();
    add('a', 1000, "1");
    run_for(loop, 5);
    expect_sent("a1000");
    answer("22P02");
    assert_string_equal(answers, "a-");
    assert_null(fake->on_result);
}

static void test_a_thousand_rows_a_group(void **state) {
    rig_begin();
    add('a', 999, "1");
    add('b', 1, "1");
    add('c', 1, "1");
    add('d', 1000, "1");
    add('e', 600, "1");
    add('f', 401, "1");
    add('g', 1, "1");
    static const char *const groups[] = {"a999b1", "c1", "d1000", "e600", "f401g1"};
    run_for(loop, 5);
    for (size_t i = 0; i < length_of(groups); i++) {
        expect_sent(groups[i]);
        answer(NULL);
    }
    assert_string_equal(answers, "a+b+c+d+e+f+g+");
}

/* The bytes of all rows count; the first item goes, however large it is. */
static void test_a_mebibyte_a_group(void **state) {
    char *large = repeated('7', 300000);
    char *huge = repeated('7', 2000000);
    rig_begin();
    add('a', 2, large);
    add('b', 1, large);
    add('c', 2, large);
    add('d', 1, huge);
    add('e', 1, "1");
    static const char *const groups[] = {"a2b1", "c2", "d1", "e1"};
    run_for(loop, 5);
    for (size_t i = 0; i < length_of(groups); i++) {
        expect_sent(groups[i]);
        answer(NULL);
    }
    assert_string_equal(answers, "a+b+c+d+e+");
    free(large);
    free(huge);
}

/* Nobody knows what became of the rows that were sent; those that wait are sent later. */
static void test_a_loss(void **state) {
    rig_begin();
    add('a', 3, "1");
    run_for(loop, 5);
    expect_sent("a3");
    add('b', 2, "1");
    session_drop(fake, "broken");
    assert_string_equal(answers, "a?");
    run_for(loop, 5);
    expect_sent("b2");
    answer(NULL);
    assert_string_equal(answers, "a?b+");
}

RUN_TESTS(TEST(test_rows_go_in_order), TEST(test_all_rows_of_an_item_or_none),
          TEST(test_an_item_alone), TEST(test_a_thousand_rows_a_group),
          TEST(test_a_mebibyte_a_group), TEST(test_a_loss))
