#include "listener.h"

#include "broker.h"
#include "log.h"

#include <stdio.h>
#include <stdlib.h>

static const char channels_query[] =
    "SELECT string_agg(c, ' ' ORDER BY c COLLATE \"C\") FROM pg_listening_channels() c";

/* --- the session ------------------------------------------------------------------------- */

static void on_no_answer(struct loop_timer *timer) {
    struct listener *listener = container_of(timer, struct listener, verdict);
    pg_drop(listener->pg, "Postgres does not answer on the LISTEN connection");
}

/* The statement that goes out next has to be answered within canary_timeout. */
static void await_verdict(struct listener *listener) {
    loop_timer_start(listener->broker->loop, &listener->verdict,
                     listener->broker->config->canary_timeout, on_no_answer);
}

static void begin_listening(struct listener *listener) {
    loop_timer_stop(listener->broker->loop, &listener->verdict);
    listener->is_listening = true;
    broker_on_listening(listener->broker);
}

static void on_listening(void *self, const struct pg_result *result) {
    struct listener *listener = self;
    if (!result->is_ok) {
        pg_drop(listener->pg, result->message);
    } else if (!listener->is_listening) {
        begin_listening(listener);
    }
}

static void on_connected(void *self) {
    struct listener *listener = self;
    const char *encoding = pg_encoding(listener->pg);
    if (!pg_encoding_is_served(encoding)) {
        broker_refuse_database(listener->broker, encoding);
        return;
    }
    /* Several statements in one query are one transaction. */
    char sql[LISTENER_CHANNELS * (sizeof "LISTEN ; " + TOPIC_CHANNEL_BYTES)] = "";
    size_t length = 0;
    for (size_t i = 0; i < LISTENER_CHANNELS; i++) {
        length += (size_t)snprintf(sql + length, sizeof sql - length, "LISTEN %s; ",
                                   listener->channels[i]);
    }
    await_verdict(listener);
    pg_query(listener->pg, sql, 0, NULL, on_listening);
}

static void on_lost(void *self, const char *reason) {
    struct listener *listener = self;
    listener->is_listening = false;
    loop_timer_stop(listener->broker->loop, &listener->verdict);
    broker_on_deaf(listener->broker, reason);
}

static void on_attempt(void *self) {
    struct listener *listener = self;
    broker_on_attempt(listener->broker);
}

static void on_notification(void *self, const char *channel, struct slice payload, int sender_pid) {
    struct listener *listener = self;
    if (!listener->is_listening && !loop_timer_is_started(&listener->verdict)) {
        return; /* we have not said LISTEN yet: a pooler left somebody else's in force */
    }
    if (!listener->is_listening) {
        begin_listening(listener); /* it has committed, only its answer is not complete yet */
    }
    broker_receive(listener->broker, channel, payload, sender_pid);
}

/* --- is it still listening? -------------------------------------------------------------- */

static bool is_complete(const struct listener *listener, const char *answer) {
    char wanted[LISTENER_CHANNELS * (TOPIC_CHANNEL_BYTES + 1)] = "";
    size_t length = 0;
    for (size_t i = 0; i < LISTENER_CHANNELS; i++) {
        length += (size_t)snprintf(wanted + length, sizeof wanted - length, "%s%s",
                                   i > 0 ? " " : "", listener->channels[i]);
    }
    return strcmp(wanted, answer) == 0;
}

static void on_channels(void *self, const struct pg_result *result) {
    struct listener *listener = self;
    loop_timer_stop(listener->broker->loop, &listener->verdict);
    if (!result->is_ok) {
        pg_drop(listener->pg, result->message);
    } else if (result->rows != 1 || !is_complete(listener, pg_value(result, 0, 0))) {
        listener_give_up(listener, "Postgres does not listen for us any more");
    }
}

void listener_verify(struct listener *listener) {
    if (listener->is_listening && pg_is_ready(listener->pg)) {
        await_verdict(listener);
        pg_query(listener->pg, channels_query, 0, NULL, on_channels);
    }
}

void listener_settle(struct listener *listener) {
    pg_settled(listener->pg);
}

void listener_give_up(struct listener *listener, const char *reason) {
    if (listener->is_listening) {
        pg_drop(listener->pg, reason);
    }
}

/* --- life -------------------------------------------------------------------------------- */

static int compare_texts(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void listener_init(struct listener *listener, struct broker *broker) {
    *listener = (struct listener){.broker = broker};
    for (unsigned i = 0; i < TOPIC_CHANNELS; i++) {
        topic_channel_at(i, listener->names[i]);
        listener->channels[i] = listener->names[i];
    }
    listener->channels[TOPIC_CHANNELS] = MARKER_CHANNEL;
    listener->channels[TOPIC_CHANNELS + 1] = SCHEMA_CHANNEL;
    qsort(listener->channels, LISTENER_CHANNELS, sizeof listener->channels[0], compare_texts);
    const struct config *config = broker->config;
    struct pg_settings settings = {
        .name = "listen",
        .dsn = config->listen_database_url[0] != '\0' ? config->listen_database_url
                                                      : config->database_url,
        .reconnect_min_ms = config->reconnect_min,
        .reconnect_max_ms = config->reconnect_max,
    };
    struct pg_owner owner = {listener, on_connected, on_lost, on_notification, on_attempt};
    listener->pg = pg_create(broker->loop, &settings, &owner);
}

void listener_start(struct listener *listener) {
    pg_start(listener->pg);
}

void listener_stop(struct listener *listener) {
    pg_stop(listener->pg);
}

void listener_release(struct listener *listener) {
    loop_timer_stop(listener->broker->loop, &listener->verdict);
    pg_destroy(&listener->pg);
}
