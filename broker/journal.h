/* What a client's events are read from: the log by topic, the table of durable events, and the
 * markers that say where in both a position lies. The broker fills it, and walks read it (walk.h).
 * Its head is where a client is that has had everything. */
#pragma once

#include "canary.h"
#include "history.h"
#include "table.h"

struct journal {
    const struct config *config; /* borrowed */
    struct topics topics;
    struct history history;
    struct markers markers;
    struct table table;
    struct canary canary; /* whose markers are barriers, see origin.h */
    bool is_listening;    /* LISTEN is in force */
};

/* The head: as a position for clients, and as a cursor of this broker. */
void journal_position(const struct journal *journal, struct position *position);
struct cursor journal_cursor(const struct journal *journal) must_check;
