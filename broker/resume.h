/* Brings a handler that has reconnected from the end of its last connection to the head of the log.
 *
 * A walk (walk.h) over all topics of its live clients reads what the handler has missed. That is
 * sent as EVENT and REFRESH frames for all of them, as fast as the handler's queue drains. In the
 * turn in which it reaches the head, fan-out takes over. If this broker does not know the handler's
 * place (because it was restarted), or the handler's id is beyond the head, one REFRESH for all
 * clients says so, and that part of the position goes on from the head. The other part goes on from
 * where it was. */
#pragma once

#include "walk.h"

struct resume {
    struct delivery *delivery; /* borrowed: the owner's */
    bool is_decided;           /* false: it waits for LISTEN or the table */
    bool is_place;             /* the broker knows the handler's place */
    struct cursor cursor;      /* where it goes on, as is the position */
    struct position position;
    uint64_t reading; /* the reading of the table that is waited for; 0: none */
    struct walk walk; /* begun when that is decided */
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
