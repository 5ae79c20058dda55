#include "batch.h"

#include "buf.h"
#include "log.h"
#include "pg.h"

#include <stdlib.h>

enum { GROUP_ITEMS_MAX = 1000, GROUP_BYTES_MAX = 1024 * 1024 };

TAILQ_HEAD(item_list, batch_item);

struct batch {
    struct loop *loop;
    int64_t timeout_ms;
    struct pg *pg;
    struct item_list waiting;   /* both lists: the earliest deadline first */
    struct item_list sent;      /* of the group whose statement is under way */
    struct loop_timer expiry;   /* of the item with the earliest deadline */
    struct loop_timer patience; /* with the statement under way */
    struct loop_task send;
    struct buf channels; /* parameters of the statement, kept from group to group */
    struct buf payloads;
    size_t sent_count; /* of that group, when it was sent */
    bool is_prepared;  /* the statement, in this session */
    struct log_limit limit;
};

/* One SELECT notifies for all, in order: unnest gives its rows in the order of the arrays. */
#define STATEMENT_NAME "pgsse_publish"
#define STATEMENT      "SELECT pg_notify(c, p) FROM unnest($1::text[], $2::text[]) AS t(c, p)"

static void on_send(struct loop_task *task);

/* --- outcomes --------------------------------------------------------------------------------- */

static void finish(struct item_list *list, struct batch_item *item, enum batch_outcome outcome) {
    TAILQ_REMOVE(list, item, link);
    item->on_done(item, outcome);
}

static void finish_sent(struct batch *batch, enum batch_outcome outcome) {
    struct batch_item *item;
    while ((item = TAILQ_FIRST(&batch->sent)) != NULL) {
        finish(&batch->sent, item, outcome);
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
        finish(&batch->sent, item, BATCH_UNKNOWN);
    }
    next_ms = item != NULL ? item->deadline_ms : next_ms;
    while ((item = TAILQ_FIRST(&batch->waiting)) != NULL && item->deadline_ms <= now_ms) {
        finish(&batch->waiting, item, BATCH_UNAVAILABLE);
    }
    next_ms = item != NULL && item->deadline_ms < next_ms ? item->deadline_ms : next_ms;
    if (next_ms != INT64_MAX) {
        loop_timer_start(batch->loop, timer, next_ms - now_ms, on_expiry);
    }
}

/* --- failures --------------------------------------------------------------------------------- */

/* The server goes down, or has become a standby: what was under way is rolled back, and its time
 * may still be enough for the next connection. */
static bool is_passing(const char *sqlstate) {
    return strncmp(sqlstate, "57P", 3) == 0 || strcmp(sqlstate, "25006") == 0;
}

static bool is_about_data(const char *sqlstate) {
    return strncmp(sqlstate, "22", 2) == 0;
}

static void on_failure(struct batch *batch, const struct pg_result *result) {
    log_limited(&batch->limit, LOG_LEVEL_WARNING, "a publish failed: %s (%s)", result->message,
                result->sqlstate);
    if (result->sqlstate[0] == '\0') {
        finish_sent(batch, BATCH_UNKNOWN); /* the connection broke, and nobody reported anything */
    } else if (batch->is_prepared && strcmp(result->sqlstate, "26000") == 0) {
        batch->is_prepared =
            false; /* another session behind a pooler: it knows no such statement */
        send_again(batch, false);
    } else if (is_passing(result->sqlstate)) {
        send_again(batch, false);
        pg_drop(batch->pg, result->message);
    } else if (batch->sent_count > 1) {
        send_again(batch, true);
    } else {
        finish_sent(batch, is_about_data(result->sqlstate) ? BATCH_REFUSED : BATCH_UNAVAILABLE);
    }
}

static void on_result(void *self, const struct pg_result *result) {
    struct batch *batch = self;
    loop_timer_stop(batch->loop, &batch->patience);
    if (result->is_ok) {
        pg_settled(batch->pg);
        finish_sent(batch, BATCH_COMMITTED);
    } else {
        on_failure(batch, result);
    }
    loop_flush_soon(batch->loop, &batch->send, on_send);
}

static void on_out_of_patience(struct loop_timer *timer) {
    struct batch *batch = container_of(timer, struct batch, patience);
    pg_drop(batch->pg, "a statement took longer than publish_timeout");
}

/* --- groups ----------------------------------------------------------------------------------- */

static void append_element(struct buf *array, struct slice text) {
    buf_append_text(array, array->length > 1 ? ",\"" : "\"");
    char *room = buf_reserve(array, 2 * text.length + 1);
    size_t used = 0;
    for (size_t i = 0; i < text.length; i++) {
        if (text.at[i] == '"' || text.at[i] == '\\') {
            room[used++] = '\\';
        }
        room[used++] = text.at[i];
    }
    room[used++] = '"';
    array->length += used;
}

static void array_begin(struct buf *array) {
    array->length = 0;
    buf_append_text(array, "{");
}

static void array_end(struct buf *array) {
    buf_append(array, "}", 2); /* and the NUL */
}

/* Moves what goes together from waiting to sent, and into the parameters. */
static void take_group(struct batch *batch) {
    size_t count = 0;
    struct batch_item *item;
    array_begin(&batch->channels);
    array_begin(&batch->payloads);
    while ((item = TAILQ_FIRST(&batch->waiting)) != NULL && count < GROUP_ITEMS_MAX &&
           batch->payloads.length + item->payload.length < GROUP_BYTES_MAX &&
           !(item->is_alone && count > 0)) {
        TAILQ_REMOVE(&batch->waiting, item, link);
        TAILQ_INSERT_TAIL(&batch->sent, item, link);
        append_element(&batch->channels, slice_of(item->channel));
        append_element(&batch->payloads, item->payload);
        count++;
        if (item->is_alone) {
            break;
        }
    }
    array_end(&batch->channels);
    array_end(&batch->payloads);
    batch->sent_count = count;
}

/* At the end of a turn, so that all that came in during it goes together. */
static void on_send(struct loop_task *task) {
    struct batch *batch = container_of(task, struct batch, send);
    if (!pg_is_ready(batch->pg) || TAILQ_EMPTY(&batch->waiting)) {
        return; /* the outcome of what is under way, or the next connection, calls again */
    }
    take_group(batch);
    const char *const parameters[] = {batch->channels.bytes, batch->payloads.bytes};
    loop_timer_start(batch->loop, &batch->patience, batch->timeout_ms, on_out_of_patience);
    if (batch->is_prepared) {
        pg_execute(batch->pg, STATEMENT_NAME, 2, parameters, on_result);
    } else {
        pg_query(batch->pg, STATEMENT, 2, parameters, on_result);
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

/* --- the connection --------------------------------------------------------------------------- */

/* It saves parsing and planning. A pooler may refuse it, or lose it: then it goes without. */
static void on_prepared(void *self, const struct pg_result *result) {
    struct batch *batch = self;
    loop_timer_stop(batch->loop, &batch->patience);
    batch->is_prepared = result->is_ok;
    loop_flush_soon(batch->loop, &batch->send, on_send);
}

static void on_connected(void *self) {
    struct batch *batch = self;
    const char *encoding = pg_encoding(batch->pg);
    if (!pg_encoding_is_served(encoding)) {
        log_error("the database's encoding is %s: pgsse serves UTF8 and SQL_ASCII", encoding);
        pg_drop(batch->pg, "its encoding is not served");
        return;
    }
    loop_timer_start(batch->loop, &batch->patience, batch->timeout_ms, on_out_of_patience);
    pg_query(batch->pg, "PREPARE " STATEMENT_NAME " (text[], text[]) AS " STATEMENT, 0, NULL,
             on_prepared);
}

static void on_lost(void *self, const char *reason) {
    struct batch *batch = self;
    loop_timer_stop(batch->loop, &batch->patience);
    batch->is_prepared = false;
    log_limited(&batch->limit, LOG_LEVEL_WARNING, "Postgres is away: %s", reason);
    finish_sent(batch, BATCH_UNKNOWN);
}

struct batch *batch_create(struct loop *loop, const struct config *config) {
    struct batch *batch = must_zalloc(sizeof *batch);
    batch->loop = loop;
    batch->timeout_ms = config->publish_timeout;
    TAILQ_INIT(&batch->waiting);
    TAILQ_INIT(&batch->sent);
    struct pg_settings settings = {
        .name = "publish",
        .dsn = config->database_url,
        .reconnect_min_ms = config->reconnect_min,
        .reconnect_max_ms = config->reconnect_max,
    };
    struct pg_owner owner = {batch, on_connected, on_lost, NULL, NULL};
    batch->pg = pg_create(loop, &settings, &owner);
    pg_start(batch->pg);
    return batch;
}

void batch_destroy(struct batch **place) {
    struct batch *batch = *place;
    *place = NULL;
    loop_timer_stop(batch->loop, &batch->expiry);
    loop_timer_stop(batch->loop, &batch->patience);
    loop_flush_cancel(batch->loop, &batch->send);
    pg_destroy(&batch->pg);
    buf_release(&batch->channels);
    buf_release(&batch->payloads);
    free(batch);
}
