/* A handler whose connection was lost, on its way from where that ended to the head of the log.
 *
 * It sends what the handler would have been sent, as EVENT and REFRESH frames for all its live
 * clients, as its queue drains; in the turn in which it reaches the head, fan-out takes over. A
 * place that is not ours any more (the broker was restarted) is answered, as soon as Postgres is
 * listened to, by one REFRESH for everybody. */
#pragma once

#include "position.h"

struct handler;

struct resume {
    bool is_place; /* else it waits for LISTEN, to be refused */
    uint64_t place;
    struct position position; /* the last that was sent */
};

/* The topics of its live clients are subscribed. */
void resume_begin(struct handler *handler, enum position_kind kind,
                  const struct position *position);

/* Goes on, as far as it can be told and the queue has room; ends in handler_on_resumed. */
void resume_pump(struct handler *handler);
