#include "listener.h"

#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "fault.h"

struct listener {
    PGconn *connection; /* owned */
    pthread_t thread;
    struct stats *delays_us; /* borrowed; may be NULL */
    uint64_t wanted;
    uint64_t heard;
    int64_t deadline_ns;
    int64_t reached_ns;
    char topic[160]; /* as it stands in an envelope: "topic":"alpha" */
};

struct listener *listener_create(const char *database_url, const char *channel) {
    struct listener *listener = fault_calloc(1, sizeof(*listener));
    char statement[128];
    PGresult *result;

    listener->connection = PQconnectdb(database_url);
    if (PQstatus(listener->connection) != CONNECTION_OK) {
        fault_die("listener: %s", PQerrorMessage(listener->connection));
    }
    snprintf(statement, sizeof(statement), "LISTEN %s", channel);
    result = PQexec(listener->connection, statement);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        fault_die("listener: %s", PQerrorMessage(listener->connection));
    }
    PQclear(result);
    return listener;
}

void listener_destroy(struct listener **listener) {
    PQfinish((*listener)->connection);
    free(*listener);
    *listener = NULL;
}

static void listener_count(struct listener *listener, const char *payload, int64_t now_ns) {
    const char *stamp;

    if (strstr(payload, listener->topic) == NULL) {
        return;
    }
    listener->heard++;
    listener->reached_ns = now_ns;
    if (listener->delays_us == NULL) {
        return;
    }
    stamp = strstr(payload, "\"t\":");
    if (stamp != NULL) {
        stats_add(listener->delays_us,
                  (double)(now_ns - strtoll(stamp + sizeof("\"t\":") - 1, NULL, 10)) / 1000.0);
    }
}

static void listener_read(struct listener *listener) {
    PGnotify *notify;
    int64_t now_ns;

    if (PQconsumeInput(listener->connection) == 0) {
        fault_die("listener: %s", PQerrorMessage(listener->connection));
    }
    now_ns = clock_now_ns();
    while ((notify = PQnotifies(listener->connection)) != NULL) {
        listener_count(listener, notify->extra, now_ns);
        PQfreemem(notify);
    }
}

static void *listener_run(void *argument) {
    struct listener *listener = argument;
    struct pollfd ready = {.fd = PQsocket(listener->connection), .events = POLLIN};

    while (listener->heard < listener->wanted && clock_now_ns() < listener->deadline_ns) {
        if (poll(&ready, 1, 100) > 0) {
            listener_read(listener);
        }
    }
    return NULL;
}

void listener_start(struct listener *listener, const char *topic, uint64_t count,
                    struct stats *delays_us, int64_t timeout_ms) {
    snprintf(listener->topic, sizeof(listener->topic), "\"topic\":\"%s\"", topic);
    listener->delays_us = delays_us;
    listener->wanted = count;
    listener->heard = 0;
    listener->deadline_ns = clock_now_ns() + timeout_ms * CLOCK_NS_PER_MS;
    if (pthread_create(&listener->thread, NULL, listener_run, listener) != 0) {
        fault_die("cannot start a thread");
    }
}

bool listener_finish(struct listener *listener) {
    pthread_join(listener->thread, NULL);
    return listener->heard == listener->wanted;
}

int64_t listener_reached_ns(const struct listener *listener) {
    return listener->reached_ns;
}
