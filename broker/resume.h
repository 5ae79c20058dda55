/* A handler whose connection was lost, on its way from where that ended to the head of the log.
 *
 * It sends what the handler would have been sent, as EVENT and REFRESH frames for all its live
 * clients, as its queue drains; in the turn in which it reaches the head, fan-out takes over.
 * Durable events that the log does not have any more are read from the table, of all topics. A
 * place that is not ours any more (the broker was restarted), or an id beyond the head, is
 * answered, as soon as that can be said, by one REFRESH for everybody, and the other of the two
 * goes on. */
#pragma once

#include "history.h"
#include "position.h"

struct handler;
struct page_gap;

struct resume {
    bool is_decided; /* else it waits, for LISTEN or the table */
    bool is_place;   /* the broker knew it */
    struct cursor cursor;
    uint64_t reading;         /* of the table, that decides; 0: none */
    struct position position; /* the last that was sent */
};

/* The topics of its live clients are subscribed. */
void resume_begin(struct handler *handler, enum position_kind kind,
                  const struct position *position);

/* The table has come, has gone, or is another one: it goes on from its head. */
void resume_on_table_changed(struct handler *handler);

/* Durable events of the topic up to that id were pruned before the broker read them; "": of any. */
void resume_on_gap(struct handler *handler, const struct page_gap *gap);

/* Goes on, as far as it can be told and the queue has room; ends in handler_on_resumed. */
void resume_pump(struct handler *handler);
