/* Brings a handler that has reconnected from the end of its last connection to the head of the log.
 *
 * It sends what the handler has missed, as EVENT and REFRESH frames for all its live clients, as
 * fast as its queue drains. In the turn in which it reaches the head, fan-out takes over. Durable
 * events that the log does not have any more are read from the table, of all topics. If this broker
 * does not know the handler's place (because it was restarted), or the handler's id is beyond the
 * head, one REFRESH for all clients says so, and that part of the position goes on from the head.
 * The other part goes on from where it was. */
#pragma once

#include "delivery.h"

struct resume {
    struct delivery *delivery; /* borrowed: the owner's */
    bool is_decided;           /* false: it waits for LISTEN or the table */
    bool is_place;             /* the broker knows the handler's place */
    struct cursor cursor;
    uint64_t reading;         /* the reading of the table that is waited for; 0: none */
    struct position position; /* the last one that was sent */
    struct page_waiter waiter;
    struct gap_memory gaps_told;
};

enum resume_progress {
    RESUME_WAITS,    /* for LISTEN, the table or room in the queue */
    RESUME_HAS_MORE, /* goes on in the next turn */
    RESUME_IS_DONE,  /* it has reached the head */
};

/* The handler must have subscribed the topics of its live clients before. */
void resume_begin(struct resume *resume, struct delivery *delivery, enum position_kind kind,
                  const struct position *position);

/* Call this when its handler closes, or when it has reached the head. */
void resume_end(struct resume *resume);

/* The table has appeared, has gone, or is another one: goes on from the new table's head. */
void resume_on_table_changed(struct resume *resume);

/* Sends as much as is known and the queue has room for. */
enum resume_progress resume_pump(struct resume *resume) must_check;
