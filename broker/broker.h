/* Owns everything in the broker. The way of one event through it is a handful of calls:
 *
 *   broker_receive     counts the notification; a marker goes to markers, anything else on to
 *   event_parse        text -> event, its body encoded, once
 *   broker_publish     makes one frame,
 *   history_add        which the log keeps for those who come back,
 *   handler_send       and of which every handler with a subscriber gets a reference;
 *   on_flush           at the end of the turn writes what waits for a handler, in one go
 *
 * Of a durable event the notification is only a hint: the table is read, and broker_receive_row
 * takes each row the same way.
 *
 * These two are the only ways in: they know nothing of libpq, so another source of events can be
 * plugged in, and tests drive them by hand.
 *
 * Never here: anything that waits. A slow handler never slows the reading of Postgres. */
#pragma once

#include "canary.h"
#include "config.h"
#include "door.h"
#include "event.h"
#include "handler.h"
#include "health.h"
#include "history.h"
#include "hook.h"
#include "listener.h"
#include "log.h"
#include "markers.h"
#include "status.h"
#include "table.h"
#include "topics.h"

enum { BROKER_REASON_BYTES = 256 };

struct broker_totals {
    uint64_t notifications;
    uint64_t bad_notifications;
    uint64_t odd_topics; /* events on topics that no URL of the first door can name */
    uint64_t published;
    uint64_t broadcast;
    uint64_t delivered;
    uint64_t dropped_events;
    uint64_t dropped_clients;
    uint64_t reconnects;
    uint64_t reconnect_attempts;
    uint64_t errors;
    uint64_t queue_warnings;
};

struct broker {
    const struct config *config; /* borrowed */
    struct loop *loop;           /* borrowed */
    struct listener listener;
    struct canary canary;
    struct table table;
    struct markers markers;
    struct topics topics;
    struct history history;
    struct event_parser parser;
    struct handler_list handlers;
    size_t handler_count;
    struct door door;
    struct status status;
    struct health health;
    struct hook hook;
    struct loop_timer tick;
    struct broker_totals totals;
    struct log_limit bad_limit;
    int64_t last_notification_ms; /* monotonic; 0: none yet */
    int64_t last_notification_wall_ms;
    int64_t last_error_ms; /* wall clock; 0: none yet */
    int64_t listening_since_ms;
    bool has_listened;         /* at least once */
    int64_t degraded_since_ms; /* wall clock; 0: all is well */
    char degraded_reason[BROKER_REASON_BYTES];
    char listen_fault[BROKER_REASON_BYTES]; /* why LISTEN was lost; "" when a marker came since */
    char query_fault[BROKER_REASON_BYTES];  /* the same; "" when a statement completed since */
    char table_fault[BROKER_REASON_BYTES];  /* the same; "" when it was looked at since */
    int exit_status;                        /* of the process, once the loop has stopped */
    char exit_reason[BROKER_REASON_BYTES];  /* why it is not 0 */

    uint64_t attempts; /* to listen, begun since LISTEN was last in force, or the start */
    bool queue_is_high;
    int64_t last_queue_warning_ms; /* wall clock; 0: none yet */
    struct log_limit queue_limit;
};

/* Builds everything and starts nothing. */
struct broker *broker_create(struct loop *loop, const struct config *config) must_check;

/* Opens the sockets and starts to connect to Postgres. False, with *reason (of
 * BROKER_REASON_BYTES), if a socket cannot be opened. */
bool broker_start(struct broker *broker, char *reason) must_check;

/* Closes everything; handlers keep their clients. */
void broker_destroy(struct broker **broker);

/* The one way in: a notification was heard on a listened channel. payload is of any shape. */
void broker_receive(struct broker *broker, const char *channel, struct slice payload,
                    int sender_pid);

/* A durable event was read: it has the table's head as its id. */
void broker_receive_row(struct broker *broker, const struct event_row *row);

/* Durable events of the topic ("": of any) up to that id were pruned before they were read. */
void broker_receive_gap(struct broker *broker, const struct page_gap *gap);

/* The frame of a durable event with that id, or NULL if it is none that can be sent. The caller's.
 */
struct payload *broker_row_frame(struct broker *broker, const struct event_row *row,
                                 uint64_t id) must_check;

bool broker_is_listening(const struct broker *broker);

/* Where we are now: as clients are told, and in our own count. */
void broker_position(const struct broker *broker, struct position *position);
struct cursor broker_cursor(const struct broker *broker) must_check;

/* Calls visit for every handler that is served; it may close the one it visits. */
void broker_visit_handlers(struct broker *broker, void *argument,
                           void (*visit)(struct handler *handler, void *argument));

/* An event of the topic goes to a handler: counted. */
void broker_count_sent(struct broker *broker, struct topic *topic);

/* Sets or clears the degraded state from what the parts say. */
void broker_judge(struct broker *broker);

/* A handler's client asks for the health document. */
void broker_ask_health(struct broker *broker, struct handler *handler, uint64_t token,
                       uint32_t limit);

/* --- what the parts report ---------------------------------------------------------------- */

void broker_on_attempt(struct broker *broker);
void broker_on_listening(struct broker *broker);
/* LISTEN was in force and is not any more, or the attempt that broker_on_attempt told of failed. */
void broker_on_deaf(struct broker *broker, const char *reason);
void broker_on_queue_usage(struct broker *broker, double usage);
void broker_on_query_completed(struct broker *broker); /* a statement on it */
void broker_on_query_lost(struct broker *broker, const char *reason);
void broker_on_table_looked(struct broker *broker); /* whether it is there, is known again */
void broker_on_table_read(struct broker *broker);   /* a reading is complete */
void broker_on_table_lost(struct broker *broker, const char *reason);
/* It has come, has gone, or is another one; was_known: not for the first time. */
void broker_on_table_changed(struct broker *broker, bool was_known);
void broker_on_page(struct broker *broker, struct page *page); /* READY */
void broker_refuse_database(struct broker *broker, const char *encoding);
void broker_on_report(struct broker *broker, uint32_t before, uint32_t serial);
void broker_on_handler_closed(struct broker *broker, struct handler *handler);
