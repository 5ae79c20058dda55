/* Owns everything in the broker. The way of one event through it is a handful of calls:
 *
 *   broker_receive     counts the notification; a marker goes to markers, anything else on to
 *   event_parse        text -> event, its body encoded, once
 *   broker_publish     makes one frame,
 *   history_add        which the log keeps for clients that come back,
 *   outbox_share       and of which every handler with a subscriber gets a reference;
 *   on_flush           (handler.c) writes all that waits for a handler, at the end of the turn
 *
 * Of a durable event the notification is only a hint: the table is read, and on_row takes each row
 * the same way.
 *
 * The files of this folder, from the top down; each knows only some of those below it:
 *
 *   broker                                 owns the parts and carries reports between them
 *   door, status                           the two sockets
 *   handler                                a connected handler process
 *   health, listing, document, survey      what the broker reports about itself,
 *   overview                               and the parts that it is about
 *   replay, resume                         bring one client, or one handler, up to date
 *   delivery, outbox                       one handler's topics, and the frames for its socket
 *   journal                                what there is to send:
 *   table, table_pages, checks             the table of durable events, pages of it, users' channels
 *   table_result, gap_memory, gap          what it answers; events that are missing
 *   history                                the log,
 *   topics, trail, entry                   its topics, and the entries of each
 *   canary, markers                        places in the order that all brokers share
 *   listener, source, channels, server     where notifications come from
 *   event, condition, hook, recheck        text to event; faults, and who is told; rights that changed
 *
 * Nothing here blocks: a slow handler never slows the reading of Postgres. */
#pragma once

#include "channels.h"
#include "door.h"
#include "handlers.h"
#include "recheck.h"
#include "source.h"
#include "status.h"

enum { BROKER_REASON_BYTES = CONDITION_REASON_BYTES };

struct broker {
    const struct config *config; /* borrowed */
    struct loop *loop;           /* borrowed */
    struct channels channels;
    struct channels
        next_channels;     /* that take the place of channels as soon as possible, or none */
    struct source *source; /* owned */
    struct server server;  /* the one that the source has reached; not known until it is verified */
    struct journal journal;
    struct condition condition;
    uint64_t fan_outs; /* events that went through fan-out: numbers them */
    struct event_parser parser;
    struct handlers handlers;
    struct overview overview;
    struct health health;
    struct door door;
    struct status status;
    struct recheck recheck;
    struct loop_timer tick;
    struct intake intake;
    struct log_limit bad_limit;
    int exit_status;                       /* the process exits with it when the loop has stopped */
    char exit_reason[BROKER_REASON_BYTES]; /* why it is not 0 */
};

/* Builds everything and starts nothing. The configuration's channels are valid. */
struct broker *broker_create(struct loop *loop, const struct config *config,
                             source_create *create_source) must_check;

/* Opens the sockets and starts to connect to Postgres. False, with *reason (of
 * BROKER_REASON_BYTES), if a socket cannot be opened. */
bool broker_start(struct broker *broker, char *reason) must_check;

/* Listens to these channels from now on: none that is in both sets misses a notification. Takes
 * *channels over, and leaves it empty. */
void broker_set_channels(struct broker *broker, struct channels *channels);

/* Closes everything; handlers keep their clients. */
void broker_destroy(struct broker **broker);
