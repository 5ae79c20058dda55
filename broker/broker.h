/* Owns everything in the broker: the source of notifications, the journal of what was heard, the
 * connected handlers, and the two sockets. It takes each notification and each row of the table,
 * makes an event of it, keeps that in the log and hands it to the handlers; and it carries the
 * reports of one part to the others. docs/architecture.md follows one event through it.
 *
 * The files of this folder, from the top down; each knows only some of those below it:
 *
 *   broker                                 owns the parts and carries reports between them
 *   door, status                           the two sockets
 *   handler                                a connected handler process
 *   health, listing, document,
 *   totals, survey                         what the broker reports about itself,
 *   overview                               and the parts that it is about
 *   replay, resume                         bring one client, or one handler, up to date:
 *   origin, walk                           from where it goes on; what comes after that
 *   delivery, outbox                       one handler's topics, and the frames for its socket
 *   journal                                what there is to send:
 *   table, table_pages, checks             the table of durable events, its pages, users' channels
 *   table_result, gap_memory, gap          what it answers; events that are missing
 *   history, milestones                    the log,
 *   topics, trail, entry                   its topics, and the entries of each
 *   canary, markers                        places in the order that all brokers share
 *   listener, source, channels, server     where notifications come from
 *   event, condition, hook, recheck        text to event; faults, who is told; changed rights
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
