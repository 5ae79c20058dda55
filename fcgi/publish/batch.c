#include "batch.h"

#include "buf.h"
#include "log.h"
#include "pg_array.h"
#include "session.h"

#include <stdlib.h>

enum { GROUP_ROWS_MAX = 1000, GROUP_BYTES_MAX = 1024 * 1024 };

TAILQ_HEAD(item_list, batch_item);

struct batch {
    struct loop *loop;
    const struct batch_kind *kind;
    int64_t timeout_ms;
    struct session *session;
    struct item_list waiting; /* both lists: the earliest deadline first */
    struct item_list sent;    /* of the group whose statement is under way */
    struct loop_timer expiry; /* of the item with the earliest deadline */
    struct loop_task send;
    struct buf
        arrays[BATCH_COLUMNS_MAX]; /* parameters of the statement, kept from group to group */
    size_t sent_count;             /* items of that group, when it was sent */
    size_t sent_rows;              /* of these items */
    bool is_prepared;              /* the statement, in this session */
    struct log_limit limit;
};

/* One SELECT notifies for all, in order: unnest gives its rows in the order of the arrays. */
const struct batch_kind batch_ephemeral = {
    .name = "pgsse_publish",
    .types = "pg_catalog.text[], pg_catalog.text[]",
    .statement = "SELECT pg_catalog.pg_notify(c, p) "
                 "FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), "
                 "pg_catalog.unnest($2::pg_catalog.text[])) AS t(c, p)",
    .columns = 2,
};

/* Takes the publishers' lock once, and draws the ids in the order of the arrays. */
const struct batch_kind batch_durable = {
    .name = "pgsse_publish_durable",
    .types =
        "pg_catalog.text[], pg_catalog.json[], pg_catalog.text[], pg_catalog.text[], integer[], "
        "pg_catalog.text[], boolean[], pg_catalog.text[]",
    .statement = "SELECT pg_catalog.count(*) FROM pgsse.publish_many($1::pg_catalog.text[], "
                 "$2::pg_catalog.json[], $3::pg_catalog.text[], $4::pg_catalog.text[], "
                 "$5::integer[], $6::pg_catalog.text[], $7::boolean[], $8::pg_catalog.text[])",
    .columns = 8,
    .needs_schema = true,
};

static void on_send(struct loop_task *task);

/* --- outcomes --------------------------------------------------------------------------------- */

static void finish(struct item_list *list, struct batch_item *item, struct outcome outcome) {
    TAILQ_REMOVE(list, item, link);
    item->on_done(item, outcome);
}

static void finish_all(struct item_list *list, struct outcome outcome) {
    struct batch_item *item;
    while ((item = TAILQ_FIRST(list)) != NULL) {
        finish(list, item, outcome);
    }
}

/* Back to the front of the queue, in the order in which they were: nothing may overtake. */
static void send_again(struct batch *batch, bool alone) {
    struct batch_item *item;
    while ((item = TAILQ_LAST(&batch->sent, item_list)) != NULL) {
        TAILQ_REMOVE(&batch->sent, item, link);
        item->is_alone = item->is_alone || alone;
        TAILQ_INSERT_HEAD(&batch->waiting, item, link);
    }
}

/* Out of time. What waits was not published; what was sent may have been. */
static void on_expiry(struct loop_timer *timer) {
    struct batch *batch = container_of(timer, struct batch, expiry);
    int64_t now_ms = loop_now_ms(batch->loop);
    int64_t next_ms = INT64_MAX;
    struct batch_item *item;
    while ((item = TAILQ_FIRST(&batch->sent)) != NULL && item->deadline_ms <= now_ms) {
        finish(&batch->sent, item, (struct outcome){OUTCOME_UNKNOWN, 0});
    }
    next_ms = item != NULL ? item->deadline_ms : next_ms;
    while ((item = TAILQ_FIRST(&batch->waiting)) != NULL && item->deadline_ms <= now_ms) {
        finish(&batch->waiting, item, session_outcome_of_waiting(batch->session));
    }
    next_ms = item != NULL && item->deadline_ms < next_ms ? item->deadline_ms : next_ms;
    if (next_ms != INT64_MAX) {
        loop_timer_start(batch->loop, timer, next_ms - now_ms, on_expiry);
    }
}

/* --- failures --------------------------------------------------------------------------------- */

/* An ephemeral batch uses no schema: there, a missing object or right is a fault of the
 * database. */
static struct outcome outcome_for(const struct batch *batch, const char *sqlstate) {
    struct outcome outcome = outcome_of(sqlstate);
    bool is_about_schema = outcome.kind == OUTCOME_NO_SCHEMA || outcome.kind == OUTCOME_FORBIDDEN;
    if (is_about_schema && !batch->kind->needs_schema) {
        outcome.kind = OUTCOME_UNAVAILABLE;
    }
    return outcome;
}

/* True if the group failed because of the session: then no item is tried alone. */
static bool is_about_session(enum outcome_kind kind) {
    return kind == OUTCOME_UNKNOWN || kind == OUTCOME_NO_SCHEMA || kind == OUTCOME_FORBIDDEN;
}

static void on_failure(struct batch *batch, const struct pg_result *result) {
    struct outcome outcome = outcome_for(batch, result->sqlstate);
    session_log_failure(&batch->limit, "a publish", result);
    if (batch->is_prepared && strcmp(result->sqlstate, "26000") == 0) {
        batch->is_prepared =
            false; /* a pooler gave another session, which knows no such statement */
        send_again(batch, false);
    } else if (outcome_is_passing(result->sqlstate)) {
        /* There may be time enough for the next connection. */
        send_again(batch, false);
        session_drop(batch->session, result->message);
    } else if (batch->sent_count > 1 && !is_about_session(outcome.kind)) {
        send_again(batch, true);
    } else {
        if (outcome.kind == OUTCOME_NO_SCHEMA) {
            session_doubt(batch->session);
        }
        finish_all(&batch->sent, outcome);
    }
}

static void on_result(void *self, const struct pg_result *result) {
    struct batch *batch = self;
    if (result->is_ok) {
        session_settled(batch->session);
        finish_all(&batch->sent, (struct outcome){OUTCOME_DONE, 0});
    } else {
        on_failure(batch, result);
    }
    loop_flush_soon(batch->loop, &batch->send, on_send);
}

/* --- groups ----------------------------------------------------------------------------------- */

/* Moves an item from waiting to sent, and into the parameters. */
static void take_item(struct batch *batch, struct batch_item *item) {
    TAILQ_REMOVE(&batch->waiting, item, link);
    TAILQ_INSERT_TAIL(&batch->sent, item, link);
    for (size_t row = 0; row < item->row_count; row++) {
        for (size_t i = 0; i < batch->kind->columns; i++) {
            pg_array_add(&batch->arrays[i], item->rows[row].columns[i]);
        }
    }
    batch->sent_count++;
    batch->sent_rows += item->row_count;
}

/* True if the item fits into the group. The first one does, however large it is. */
static bool fits(const struct batch *batch, const struct batch_item *item) {
    size_t bytes = 0;
    for (size_t i = 0; i < batch->kind->columns; i++) {
        bytes += batch->arrays[i].length;
        for (size_t row = 0; row < item->row_count; row++) {
            bytes += item->rows[row].columns[i].length;
        }
    }
    return batch->sent_count == 0 ||
           (!item->is_alone && batch->sent_rows + item->row_count <= GROUP_ROWS_MAX &&
            bytes < GROUP_BYTES_MAX);
}

static void take_group(struct batch *batch) {
    struct batch_item *item;
    bool is_alone = false;
    batch->sent_count = 0;
    batch->sent_rows = 0;
    for (size_t i = 0; i < batch->kind->columns; i++) {
        pg_array_begin(&batch->arrays[i]);
    }
    while ((item = TAILQ_FIRST(&batch->waiting)) != NULL && !is_alone && fits(batch, item)) {
        is_alone = item->is_alone;
        take_item(batch, item);
    }
    for (size_t i = 0; i < batch->kind->columns; i++) {
        pg_array_end(&batch->arrays[i]);
    }
}

static void send_group(struct batch *batch) {
    const struct batch_kind *kind = batch->kind;
    const char *parameters[BATCH_COLUMNS_MAX];
    for (size_t i = 0; i < kind->columns; i++) {
        parameters[i] = batch->arrays[i].bytes;
    }
    if (batch->is_prepared) {
        session_execute(batch->session, kind->name, (int)kind->columns, parameters, on_result);
    } else {
        session_query(batch->session, kind->statement, (int)kind->columns, parameters, on_result);
    }
}

/* At the end of a turn, so that all that came in during it goes together. */
static void on_send(struct loop_task *task) {
    struct batch *batch = container_of(task, struct batch, send);
    if (TAILQ_EMPTY(&batch->waiting)) {
        return;
    }
    if (session_is_ready(batch->session)) {
        take_group(batch);
        send_group(batch);
    } else {
        session_wake(
            batch->session); /* its outcome, or that of the statement under way, calls again */
    }
}

void batch_add(struct batch *batch, struct batch_item *item) {
    item->deadline_ms = loop_now_ms(batch->loop) + batch->timeout_ms;
    TAILQ_INSERT_TAIL(&batch->waiting, item, link);
    if (!loop_timer_is_started(&batch->expiry)) {
        loop_timer_start(batch->loop, &batch->expiry, batch->timeout_ms, on_expiry);
    }
    loop_flush_soon(batch->loop, &batch->send, on_send);
}

/* --- the session ------------------------------------------------------------------------------ */

/* A prepared statement saves parsing and planning. If a pooler refuses or loses it, the batch does
 * without. */
static void on_prepared(void *self, const struct pg_result *result) {
    struct batch *batch = self;
    batch->is_prepared = result->is_ok;
    loop_flush_soon(batch->loop, &batch->send, on_send);
}

static void on_fit(void *self) {
    struct batch *batch = self;
    const struct batch_kind *kind = batch->kind;
    if (batch->is_prepared) {
        loop_flush_soon(batch->loop, &batch->send, on_send);
        return;
    }
    struct buf sql = {0};
    buf_printf(&sql, "PREPARE %s (%s) AS %s", kind->name, kind->types, kind->statement);
    buf_append(&sql, "", 1);
    session_query(batch->session, sql.bytes, 0, NULL, on_prepared);
    buf_release(&sql);
}

static void on_unfit(void *self, struct outcome outcome) {
    struct batch *batch = self;
    finish_all(&batch->waiting, outcome);
}

static void on_lost(void *self) {
    struct batch *batch = self;
    batch->is_prepared = false;
    finish_all(&batch->sent, (struct outcome){OUTCOME_UNKNOWN, 0});
}

struct batch *batch_create(struct loop *loop, const struct config *config,
                           const struct batch_kind *kind) {
    struct batch *batch = must_zalloc(sizeof *batch);
    struct session_owner owner = {batch, on_fit, on_unfit, on_lost};
    batch->loop = loop;
    batch->kind = kind;
    batch->timeout_ms = config->publish_timeout;
    TAILQ_INIT(&batch->waiting);
    TAILQ_INIT(&batch->sent);
    batch->session =
        session_create(loop, config, kind->name + strlen("pgsse_"), kind->needs_schema, &owner);
    if (!kind->needs_schema) {
        session_wake(batch->session);
    }
    return batch;
}

void batch_destroy(struct batch **slot) {
    struct batch *batch = *slot;
    *slot = NULL;
    loop_timer_stop(batch->loop, &batch->expiry);
    loop_flush_cancel(batch->loop, &batch->send);
    session_destroy(&batch->session);
    for (size_t i = 0; i < length_of(batch->arrays); i++) {
        buf_release(&batch->arrays[i]);
    }
    free(batch);
}
