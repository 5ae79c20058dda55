#include "batch.h"

#include "buf.h"
#include "log.h"
#include "pg.h"
#include "topic.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { GROUP_ITEMS_MAX = 1000, GROUP_BYTES_MAX = 1024 * 1024 };

enum item_state {
    ITEM_WAITING,   /* in batch.waiting */
    ITEM_SENT,      /* in batch.sent: of the group whose statement is under way */
    ITEM_DONE,      /* its publisher takes the outcome and frees it */
    ITEM_ABANDONED, /* in batch.sent, but its publisher has gone: freed with the group */
};

/* Guarded by batch.lock. */
struct item {
    TAILQ_ENTRY(item) link;
    enum item_state state;
    enum batch_outcome outcome;
    bool is_alone;      /* its group failed: the next one is its own */
    pthread_cond_t done;
    char channel[TOPIC_CHANNEL_BYTES];
    char *payload; /* owned */
    size_t length;
};
TAILQ_HEAD(item_list, item);

struct batch {
    struct loop *loop;
    int64_t timeout_ms;
    struct pg *pg;
    struct loop_wakeup wakeup; /* something waits */
    struct loop_timer timeout; /* of the statement under way */
    struct buf channels;       /* parameters of the statement, kept from group to group */
    struct buf payloads;
    struct log_limit limit;
    pthread_mutex_t lock; /* guards what is below, and the items */
    struct item_list waiting;
    struct item_list sent;
};

static void send_group(struct batch *batch);

/* --- items --------------------------------------------------------------------------------------- */

static void item_destroy(struct item *item) {
    pthread_cond_destroy(&item->done);
    free(item->payload);
    free(item);
}

static struct item *item_create(const char *channel, struct slice payload) {
    struct item *item = must_zalloc(sizeof *item);
    pthread_condattr_t attributes;
    check(pthread_condattr_init(&attributes) == 0);
    check(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    check(pthread_cond_init(&item->done, &attributes) == 0);
    pthread_condattr_destroy(&attributes);
    memcpy(item->channel, channel, strlen(channel) + 1);
    item->payload = must_strdup(payload.at, payload.length);
    item->length = payload.length;
    return item;
}

/* An item of the group has its outcome. */
static void item_finish(struct batch *batch, struct item *item, enum batch_outcome outcome) {
    TAILQ_REMOVE(&batch->sent, item, link);
    if (item->state == ITEM_ABANDONED) {
        item_destroy(item);
        return;
    }
    item->state = ITEM_DONE;
    item->outcome = outcome;
    pthread_cond_signal(&item->done);
}

/* Back to the front of the queue, in the order in which they were: nothing may overtake. */
static void items_send_again(struct batch *batch, bool alone) {
    struct item *item;
    while ((item = TAILQ_LAST(&batch->sent, item_list)) != NULL) {
        if (item->state == ITEM_ABANDONED) {
            item_finish(batch, item, BATCH_UNKNOWN);
            continue;
        }
        TAILQ_REMOVE(&batch->sent, item, link);
        item->state = ITEM_WAITING;
        item->is_alone = item->is_alone || alone;
        TAILQ_INSERT_HEAD(&batch->waiting, item, link);
    }
}

static void items_finish(struct batch *batch, enum batch_outcome outcome) {
    struct item *item;
    while ((item = TAILQ_FIRST(&batch->sent)) != NULL) {
        item_finish(batch, item, outcome);
    }
}

/* --- outcomes ------------------------------------------------------------------------------------ */

/* The server goes down, or this connection does: what was under way is rolled back, and its time may
 * still be enough for the next connection (class 57P and 25006, a primary that became a standby). */
static bool is_passing(const char *sqlstate) {
    return strncmp(sqlstate, "57P", 3) == 0 || strcmp(sqlstate, "25006") == 0;
}

static bool is_about_data(const char *sqlstate) {
    return strncmp(sqlstate, "22", 2) == 0;
}

static void on_failure(struct batch *batch, const struct pg_result *result) {
    const struct item *first = TAILQ_FIRST(&batch->sent);
    bool is_group = first != NULL && TAILQ_NEXT(first, link) != NULL;
    if (result->sqlstate[0] == '\0') {
        items_finish(batch, BATCH_UNKNOWN); /* the connection broke, and nobody reported anything */
    } else if (is_passing(result->sqlstate)) {
        items_send_again(batch, false);
    } else if (is_group) {
        items_send_again(batch, true);
    } else {
        items_finish(batch, is_about_data(result->sqlstate) ? BATCH_REFUSED : BATCH_UNAVAILABLE);
    }
}

static void on_result(void *self, const struct pg_result *result) {
    struct batch *batch = self;
    loop_timer_stop(batch->loop, &batch->timeout);
    pthread_mutex_lock(&batch->lock);
    if (result->is_ok) {
        items_finish(batch, BATCH_COMMITTED);
    } else {
        log_limited(&batch->limit, LOG_LEVEL_WARNING, "a publish failed: %s (%s)", result->message,
                    result->sqlstate);
        on_failure(batch, result);
    }
    pthread_mutex_unlock(&batch->lock);
    if (!result->is_ok && is_passing(result->sqlstate)) {
        pg_drop(batch->pg, result->message);
    }
    send_group(batch);
}

static void on_statement_timeout(struct loop_timer *timer) {
    struct batch *batch = container_of(timer, struct batch, timeout);
    pg_drop(batch->pg, "a commit took longer than publish_timeout");
}

/* --- groups -------------------------------------------------------------------------------------- */

static void append_element(struct buf *array, const char *text) {
    buf_append_text(array, array->length > 1 ? ",\"" : "\"");
    for (;;) {
        size_t plain = strcspn(text, "\"\\");
        buf_append(array, text, plain);
        if (text[plain] == '\0') {
            break;
        }
        buf_append(array, "\\", 1);
        buf_append(array, text + plain, 1);
        text += plain + 1;
    }
    buf_append(array, "\"", 1);
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
    array_begin(&batch->channels);
    array_begin(&batch->payloads);
    struct item *item;
    while ((item = TAILQ_FIRST(&batch->waiting)) != NULL && count < GROUP_ITEMS_MAX &&
           batch->payloads.length + item->length < GROUP_BYTES_MAX) {
        if (item->is_alone && count > 0) {
            break;
        }
        TAILQ_REMOVE(&batch->waiting, item, link);
        TAILQ_INSERT_TAIL(&batch->sent, item, link);
        item->state = ITEM_SENT;
        append_element(&batch->channels, item->channel);
        append_element(&batch->payloads, item->payload);
        count++;
        if (item->is_alone) {
            break;
        }
    }
    array_end(&batch->channels);
    array_end(&batch->payloads);
}

/* One SELECT notifies for all, in order: unnest gives its rows in the order of the arrays. */
static void send_group(struct batch *batch) {
    static const char statement[] =
        "SELECT pg_notify(c, p) FROM unnest($1::text[], $2::text[]) AS t(c, p)";
    if (!pg_is_ready(batch->pg)) {
        return; /* its outcome, or the next connection, calls again */
    }
    pthread_mutex_lock(&batch->lock);
    take_group(batch);
    bool is_empty = TAILQ_EMPTY(&batch->sent);
    pthread_mutex_unlock(&batch->lock);
    if (is_empty) {
        return;
    }
    const char *const parameters[] = {batch->channels.bytes, batch->payloads.bytes};
    loop_timer_start(batch->loop, &batch->timeout, batch->timeout_ms, on_statement_timeout);
    pg_query(batch->pg, statement, 2, parameters, on_result);
}

static void on_wakeup(struct loop_wakeup *wakeup) {
    send_group(container_of(wakeup, struct batch, wakeup));
}

/* --- the connection ------------------------------------------------------------------------------ */

static void on_connected(void *self) {
    struct batch *batch = self;
    if (!pg_encoding_is_served(pg_encoding(batch->pg))) {
        log_error("the database's encoding is %s: pgsse serves UTF8 and SQL_ASCII",
                  pg_encoding(batch->pg));
        pg_drop(batch->pg, "its encoding is not served");
        return;
    }
    pg_settled(batch->pg);
    send_group(batch);
}

static void on_lost(void *self, const char *reason) {
    struct batch *batch = self;
    loop_timer_stop(batch->loop, &batch->timeout);
    log_limited(&batch->limit, LOG_LEVEL_WARNING, "Postgres is away: %s", reason);
    pthread_mutex_lock(&batch->lock);
    items_finish(batch, BATCH_UNKNOWN);
    pthread_mutex_unlock(&batch->lock);
}

struct batch *batch_create(struct loop *loop, const struct config *config) {
    struct batch *batch = must_zalloc(sizeof *batch);
    batch->loop = loop;
    batch->timeout_ms = config->publish_timeout;
    TAILQ_INIT(&batch->waiting);
    TAILQ_INIT(&batch->sent);
    check(pthread_mutex_init(&batch->lock, NULL) == 0);
    struct pg_settings settings = {
        .name = "publish",
        .dsn = config->database_url,
        .reconnect_min_ms = config->reconnect_min,
        .reconnect_max_ms = config->reconnect_max,
    };
    struct pg_owner owner = {batch, on_connected, on_lost, NULL};
    batch->pg = pg_create(loop, &settings, &owner);
    loop_wakeup_start(loop, &batch->wakeup, on_wakeup);
    pg_start(batch->pg);
    return batch;
}

void batch_destroy(struct batch **place) {
    struct batch *batch = *place;
    *place = NULL;
    loop_timer_stop(batch->loop, &batch->timeout);
    loop_wakeup_stop(batch->loop, &batch->wakeup);
    pg_destroy(&batch->pg);
    items_finish(batch, BATCH_UNKNOWN);
    check(TAILQ_EMPTY(&batch->waiting));
    pthread_mutex_destroy(&batch->lock);
    buf_release(&batch->channels);
    buf_release(&batch->payloads);
    free(batch);
}

/* --- publishers ---------------------------------------------------------------------------------- */

static struct timespec deadline_in(int64_t timeout_ms) {
    int64_t at_us = clock_us() + timeout_ms * 1000;
    return (struct timespec){.tv_sec = (time_t)(at_us / 1000000),
                             .tv_nsec = (long)(at_us % 1000000) * 1000};
}

/* Waits for the outcome; with the lock held. True if the item is the caller's to free. */
static bool await_outcome(struct batch *batch, struct item *item, enum batch_outcome *outcome) {
    struct timespec deadline = deadline_in(batch->timeout_ms);
    int waited = 0;
    while (item->state != ITEM_DONE && waited != ETIMEDOUT) {
        waited = pthread_cond_timedwait(&item->done, &batch->lock, &deadline);
    }
    switch (item->state) {
    case ITEM_DONE:
        *outcome = item->outcome;
        return true;
    case ITEM_WAITING:
        TAILQ_REMOVE(&batch->waiting, item, link);
        *outcome = BATCH_UNAVAILABLE;
        return true;
    case ITEM_SENT:
    case ITEM_ABANDONED:
        item->state = ITEM_ABANDONED;
        *outcome = BATCH_UNKNOWN;
        return false;
    }
    return false;
}

enum batch_outcome batch_publish(struct batch *batch, const char *channel, struct slice payload) {
    struct item *item = item_create(channel, payload);
    enum batch_outcome outcome;
    pthread_mutex_lock(&batch->lock);
    bool was_empty = TAILQ_EMPTY(&batch->waiting);
    TAILQ_INSERT_TAIL(&batch->waiting, item, link);
    if (was_empty) {
        loop_wakeup_send(&batch->wakeup);
    }
    bool is_ours = await_outcome(batch, item, &outcome);
    pthread_mutex_unlock(&batch->lock);
    if (is_ours) {
        item_destroy(item);
    }
    return outcome;
}
