#include "publishers.h"

#include <inttypes.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "fault.h"

struct publisher {
    PGconn *connection; /* owned */
    pthread_t thread;
    struct publisher_plan plan;
    int64_t since_ns;
};

struct publisher *publisher_create(const char *database_url) {
    struct publisher *publisher = fault_calloc(1, sizeof(*publisher));

    publisher->connection = PQconnectdb(database_url);
    if (PQstatus(publisher->connection) != CONNECTION_OK) {
        fault_die("publisher: %s", PQerrorMessage(publisher->connection));
    }
    return publisher;
}

void publisher_destroy(struct publisher **publisher) {
    PQfinish((*publisher)->connection);
    free(*publisher);
    *publisher = NULL;
}

void publisher_execute(struct publisher *publisher, const char *statement) {
    PGresult *result = PQexec(publisher->connection, statement);
    ExecStatusType status = PQresultStatus(result);

    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        fault_die("publisher: %s", PQerrorMessage(publisher->connection));
    }
    PQclear(result);
}

static void execute_timed(struct publisher *publisher, const char *statement) {
    int64_t since_ns = clock_now_ns();

    publisher_execute(publisher, statement);
    if (publisher->plan.commits_us != NULL) {
        stats_add(publisher->plan.commits_us, (double)(clock_now_ns() - since_ns) / 1000.0);
    }
}

/* Members that events have in common, and values that they have not. */
static void describe(char *text, size_t size, uint64_t number) {
    static const char *const states[] = {"open", "paid", "shipped", "returned", "cancelled"};
    uint64_t hash = number * UINT64_C(0x9e3779b97f4a7c15);

    snprintf(text, size,
             ",\"order\":%" PRIu64 ",\"state\":\"%s\",\"customer\":{\"id\":%" PRIu64
             ",\"name\":\"customer-%" PRIx64 "\"},\"total\":%" PRIu64 ".%02" PRIu64
             ",\"currency\":\"EUR\",\"warehouse\":\"berlin-%" PRIu64 "\"",
             100000 + hash % 900000, states[hash >> 20 & 3], hash >> 24 & 0xffff, hash >> 40,
             hash >> 32 & 0xfff, hash >> 50 & 63, hash >> 60);
}

static void publish_one(struct publisher *publisher, uint64_t number) {
    const struct publisher_plan *plan = &publisher->plan;
    char statement[768];
    char stamp[256] = "";

    if (plan->is_long) {
        describe(stamp, sizeof(stamp), number);
    }
    if (plan->is_stamped) {
        snprintf(stamp, sizeof(stamp), ",\"t\":%" PRId64, clock_now_ns());
    }
    if (plan->channel != NULL) {
        snprintf(statement, sizeof(statement),
                 "NOTIFY %s, '{\"topic\":\"%s\",\"data\":{\"n\":%" PRIu64 "%s}}'", plan->channel,
                 plan->topic, number, stamp);
    } else {
        snprintf(statement, sizeof(statement),
                 "SELECT pgsse.publish('%s', '{\"n\":%" PRIu64 "%s}'::json)", plan->topic, number,
                 stamp);
    }
    execute_timed(publisher, statement);
}

static void publish_many(struct publisher *publisher, uint64_t first, uint64_t last) {
    const struct publisher_plan *plan = &publisher->plan;
    char statement[512];

    if (plan->topics > 0) {
        snprintf(
            statement, sizeof(statement),
            "SELECT pg_notify('%s', '{\"topic\":\"%s' || n %% %u || '\",\"data\":{\"n\":' || n || "
            "'}}') FROM generate_series(%" PRIu64 "::bigint, %" PRIu64 "::bigint) AS n",
            plan->channel, plan->topic, plan->topics, first, last);
    } else if (plan->channel != NULL) {
        snprintf(statement, sizeof(statement),
                 "SELECT pg_notify('%s', '{\"topic\":\"%s\",\"data\":{\"n\":' || n || '}}')"
                 " FROM generate_series(%" PRIu64 "::bigint, %" PRIu64 "::bigint) AS n",
                 plan->channel, plan->topic, first, last);
    } else {
        snprintf(statement, sizeof(statement),
                 "SELECT count(*) FROM (SELECT array_agg('%s'::text) AS topics,"
                 " array_agg(('{\"n\":' || n || '}')::json ORDER BY n) AS datas"
                 " FROM generate_series(%" PRIu64 "::bigint, %" PRIu64 "::bigint) AS n) AS e,"
                 " pgsse.publish_many(topics, datas)",
                 plan->topic, first, last);
    }
    publisher_execute(publisher, statement);
}

static void publish_paced(struct publisher *publisher) {
    const struct publisher_plan *plan = &publisher->plan;
    int64_t period_ns = CLOCK_NS_PER_S / (int64_t)plan->per_second;

    for (uint64_t i = 0; i < plan->count; i++) {
        clock_sleep_until(publisher->since_ns + (int64_t)i * period_ns);
        publish_one(publisher, plan->first_number + i);
    }
}

static void publish_at_full_speed(struct publisher *publisher) {
    const struct publisher_plan *plan = &publisher->plan;
    uint64_t end = plan->first_number + plan->count;

    for (uint64_t number = plan->first_number; number < end; number += plan->per_transaction) {
        uint64_t last = number + plan->per_transaction - 1;

        if (plan->per_transaction == 1) {
            publish_one(publisher, number);
        } else {
            publish_many(publisher, number, last < end ? last : end - 1);
        }
    }
}

static void *publisher_run(void *argument) {
    struct publisher *publisher = argument;

    publisher->since_ns = clock_now_ns();
    if (publisher->plan.per_second > 0) {
        publish_paced(publisher);
    } else {
        publish_at_full_speed(publisher);
    }
    return NULL;
}

void publisher_start(struct publisher *publisher, const struct publisher_plan *plan) {
    publisher->plan = *plan;
    if (pthread_create(&publisher->thread, NULL, publisher_run, publisher) != 0) {
        fault_die("cannot start a thread");
    }
}

int64_t publisher_finish(struct publisher *publisher) {
    pthread_join(publisher->thread, NULL);
    return publisher->since_ns;
}
