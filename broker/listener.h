/* The one LISTEN connection. It listens, hands every notification on, and nothing else runs on it,
 * so it is never left in a transaction and never waits for anything but Postgres.
 *
 * "Listening" means that the transaction with all LISTENs has committed. */
#pragma once

#include "pg.h"
#include "schema.h"
#include "topic.h"

struct broker;

enum { LISTENER_CHANNELS = TOPIC_CHANNELS + 2 }; /* topics, markers, hints */

struct listener {
    struct broker *broker; /* borrowed */
    struct pg *pg;         /* owned */
    struct loop_timer verdict;
    bool is_listening;
    char names[TOPIC_CHANNELS][TOPIC_CHANNEL_BYTES];
    const char *channels[LISTENER_CHANNELS]; /* sorted */
};

void listener_init(struct listener *listener, struct broker *broker);
void listener_start(struct listener *listener);
void listener_release(struct listener *listener);

/* Asks Postgres whether the session still listens to all channels. No answer within canary_timeout,
 * or another one, gives the connection up. */
void listener_verify(struct listener *listener);

/* A marker came back on it: the next loss is answered by an attempt at once. Until then it may be
 * the wrong server, and every loss costs all streams a refresh. */
void listener_settle(struct listener *listener);

/* Gives the connection up as deaf. */
void listener_give_up(struct listener *listener, const char *reason);

/* No attempt to listen is made any more. */
void listener_stop(struct listener *listener);
