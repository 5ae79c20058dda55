/* The table of durable events, read on a connection of its own, one statement at a time, so that
 * what takes long there holds up neither markers nor notifications.
 *
 *   UNKNOWN   Postgres has not said yet whether the schema is there: subscriptions wait. If it
 *             cannot be asked (TABLE_PATIENCE losses, while LISTEN is in force), only those that
 *             come with an id do: who never used the schema does not depend on this connection
 *   ABSENT    it is not, or it is of no use to us: there are no durable events, `reason` says why
 *   PRESENT   it is read
 *
 * Four things are asked of it, in turn, so that none keeps the others from theirs:
 *
 *   a reading    what follows the head, the id up to which everything has been read. A notification
 *                is only a hint to do that, so a forged one does no harm, and a lost one costs at
 *                most table_poll. Only while LISTEN is in force: see listener.h
 *   a check      which topics a connection's user has subscribed to
 *   a page       for those who come back: see pages.h
 *   a pruning    of what is older, or more, than is to be kept
 *
 * The schema's own functions do the work: sql/pgsse.sql. */
#pragma once

#include "pages.h"
#include "pg.h"
#include "schema.h"

struct broker;

enum {
    TABLE_READING_ROWS = 1000,
    TABLE_READING_BYTES = 256 * 1024, /* or one event: what clients get in one turn */
    TABLE_CHECKS_MAX = 1000,          /* in one statement */
    TABLE_PATIENCE = 3,
    TABLE_PAGE_FAILURES_MAX = 3, /* then it is told as a gap */
    TABLE_PRUNED_MAX = 10000,
    TABLE_PRUNE_MS = 60000, /* between two, and for one */
    TABLE_REASON_BYTES = 256,
};

enum table_state { TABLE_UNKNOWN, TABLE_ABSENT, TABLE_PRESENT };

enum table_task { TABLE_LOOKS, TABLE_READS, TABLE_CHECKS, TABLE_PAGES, TABLE_PRUNES };
enum { TABLE_TASKS = TABLE_PRUNES + 1 };

/* Pruned before it was read, and behind the head still. */
struct table_gap {
    UT_hash_handle hh;
    struct page_gap page;
};

struct table {
    struct broker *broker; /* borrowed */
    struct pg *pg;         /* owned */
    enum table_state state;
    enum table_state before;         /* the state that was left last */
    char reason[TABLE_REASON_BYTES]; /* ABSENT */
    uint64_t head;                   /* PRESENT: at least 1; else 0 */
    uint64_t identity;               /* PRESENT: which table it is: another one has other ids */
    enum table_task task;            /* under way, or the last one */
    bool must_look;                  /* whether the schema is there, and is the same */
    uint64_t asked;                  /* readings, numbered: the newest that is wanted */
    uint64_t begun;                  /* the newest that the last statement was for */
    uint64_t done;                   /* the newest that is complete */
    struct table_gap *gaps;          /* owned; by topic: those that were told */
    struct pages pages;
    struct page *page;            /* TABLE_PAGES: the one under way */
    uint64_t page_end;            /* it ends there, unless it is full before */
    struct replay_list unchecked; /* connections that wait to be checked */
    struct replay_list checking;  /* under way, in the order of the statement */
    bool must_prune;
    bool is_pruning;     /* under way */
    bool is_failing;     /* Postgres refused a statement; no reading has succeeded since */
    bool is_handing_out; /* what a statement brought: no other one begins meanwhile */
    unsigned losses;     /* UNKNOWN: of the connection, while LISTEN was in force */
    bool is_following;   /* it is given up because LISTEN may have gone over to another server */
    struct loop_timer poll;
    struct loop_timer prune; /* the next pruning */
    struct loop_timer rest;  /* after a statement that Postgres refused */
    struct loop_timer timeout;
};

void table_init(struct table *table, struct broker *broker);
void table_start(struct table *table);
void table_release(struct table *table);

/* LISTEN has come into force; is_again: not for the first time. */
void table_on_listening(struct table *table, bool is_again);

/* Something may be new there. Returns the number of a reading that begins after now. */
uint64_t table_ask_reading(struct table *table);

/* That reading, or a later one, is complete. */
bool table_has_read(const struct table *table, uint64_t reading) must_check;

/* Whether somebody who comes with that id can be decided about. */
bool table_serves(const struct table *table, uint64_t id) must_check;

/* Calls tell for each gap behind the head that a reading under way has met: who stands at the head
 * has not been told. */
void table_visit_gaps(const struct table *table, void *argument,
                      void (*tell)(void *argument, const struct page_gap *gap));

/* There may be something in unchecked, or in pages.wanted. */
void table_go_on(struct table *table);

bool table_is_connected(const struct table *table);
