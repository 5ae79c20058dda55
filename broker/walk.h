/* A walk is the reader of what was: it goes from a position down to the head, through the log and
 * the table. A client that comes back has one (replay.h), and so has a handler that lost its
 * connection (resume.h); they send what it gives them.
 *
 * Its owner asks for one step after another. A step is an event, or says that something is missing,
 * or why nothing comes now. In one turn of the loop they come in this order:
 *
 *   1. a client's: gaps that the reading under way has met (table.h)
 *   2. ephemeral events that the log has dropped: a GAP for each name that has lost some
 *   3. pages of the table, while durable events of the names are not in the log: first a GAP for
 *      each gap that the page shows, then its events
 *   4. ephemeral events that the log has dropped while pages were read
 *   5. a handler's: the gaps of 1. (All that is told to a client before its next event makes one
 *      refresh, so it is told of them early. A handler's refreshes are told one by one.)
 *   6. the log: events and breaks, in their order
 *   7. the HEAD
 *
 * The log may drop entries between two turns, so each turn begins with the first again. A walk has
 * a cursor, and pins neither entries of the log nor pages of the table. It remembers what it has
 * told, and tells that again only if there is more to tell, or if an event came in between.
 *
 * A walk is over the names of one client, or over all topics that a handler is interested in. Of
 * a client's position a durable step changes only D, and an ephemeral one only M.S.
 * A handler's position is for all its clients, so it is that of a reader that has everything up to
 * the step, of all topics. */
#pragma once

#include "delivery.h"

enum {
    WALK_ENTRIES = 8192, /* of the log, that a handler's walk looks at in one turn */
    WALK_GAPS_MAX = 128, /* that a client's walk remembers: more than it has names */
};

_Static_assert(WALK_GAPS_MAX > NAMES_MAX + 1, "one gap of each topic, and of any");

enum walk_kind {
    WALK_EVENT, /* an event of one of the names */
    WALK_GAP,   /* events of one topic, or of any, are missing */
    WALK_BREAK, /* LISTEN was lost here: ephemeral events of any topic may be missing */
    WALK_FULL,  /* the next step needs room, and there is none */
    WALK_WAIT,  /* a page of the table is awaited: on_page is called when it is there */
    WALK_PAUSE, /* so many entries were looked at that the next turn has to go on */
    WALK_HEAD,  /* nothing comes any more */
};

/* Good until the next call of walk_next, and within the turn. */
struct walk_step {
    enum walk_kind kind;
    struct position position; /* of a reader that has taken the step */
    struct wire_event event;  /* EVENT: with that position */
    struct payload *frame;    /* EVENT: borrowed: its frame, if it was written with that position */
    struct topic_key topic;   /* GAP: none if events of any topic may be missing */
    bool is_durable;          /* GAP: durable events may be missing */
    struct cursor at;         /* for walk_take, as is the next */
    const struct gap *gap;    /* GAP: the table has it; NULL: the log has dropped events */
};

/* One of the names, after another. */
struct walk_name {
    size_t next;               /* of a client */
    struct interest *interest; /* of a handler */
    struct topic *topic;       /* NULL: before the first */
    uint64_t *losses_told;     /* see history_losses */
};

enum walk_stage {
    WALK_EARLY_GAPS,
    WALK_LOSSES,
    WALK_PAGES,
    WALK_LATE_LOSSES,
    WALK_LATE_GAPS,
    WALK_LOG
};

/* Where it is in this turn. */
struct walk_turn {
    enum walk_stage stage;
    bool is_paging;                /* it began with pages of the table to be read */
    struct walk_name name;         /* LOSSES, LATE_LOSSES */
    const struct table_page *page; /* PAGES: its events are under way; else NULL */
    size_t page_gap;               /* the page's gaps before this one were told */
    bool has_told_gaps;            /* all of them */
    const struct gap *open_gap;    /* EARLY_GAPS, LATE_GAPS */
    const struct entry *entry;     /* LOG, of a handler: the next one to look at; NULL: not found */
    size_t entries;                /* that were looked at */
};

/* Zero-initialised: it has not begun. */
struct walk {
    struct delivery *delivery;   /* borrowed */
    struct topic *const *topics; /* borrowed; NULL: all that the handler is interested in */
    size_t topic_count;
    bool has_pattern;         /* among the topics */
    struct cursor cursor;     /* all up to here was taken, or was not of the names */
    struct position position; /* the last one that was taken */
    uint64_t *losses_told;    /* owned; for each of the topics */
    struct gap_memory gaps_told;
    struct page_waiter waiter;
    struct walk_turn turn;
};

/* It begins at that place. topics: of a client, and they must stay until walk_end; NULL: all that
 * the handler is interested in, which may change meanwhile. on_page: the page of a WAIT is
 * there. */
void walk_begin(struct walk *walk, struct delivery *delivery, struct topic *const *topics,
                size_t topic_count, const struct cursor *cursor, const struct position *position,
                void (*on_page)(struct page_waiter *waiter));

/* Harmless if it has not begun. */
void walk_end(struct walk *walk);

/* Call this before the first walk_next of a turn of the loop. */
void walk_begin_turn(struct walk *walk);

/* The next step. A step that is not taken comes again. has_room: the owner can send an event. If it
 * cannot, there is no EVENT, BREAK or WAIT, but a FULL. */
enum walk_kind walk_next(struct walk *walk, bool has_room, struct walk_step *step) must_check;

/* The owner has sent the step, or will: an EVENT, GAP, BREAK, or the HEAD. */
void walk_take(struct walk *walk, const struct walk_step *step);

/* Whether anything may come before the head. (It may be true although nothing
 * comes: when the search was cut off at its limit for a turn.) */
bool walk_has_backlog(struct walk *walk) must_check;

/* A page of the names after that id; NULL: it is awaited, as with WAIT. */
const struct table_page *walk_find_page(struct walk *walk, uint64_t after) must_check;

/* on_page is not called any more. Harmless if no page is awaited. */
void walk_stop_waiting(struct walk *walk);

/* The reading under way has met that gap. True if it has to be told: it counts as told then. */
bool walk_on_gap(struct walk *walk, const struct gap *gap) must_check;

/* The table has appeared, has gone, or is another one: goes on from the new table's head. The owner
 * has to tell that durable events of any topic may be missing. */
void walk_on_table_changed(struct walk *walk);
