/* The table of durable events, read on a connection of its own, one statement at a time, so that a
 * slow statement delays neither markers nor notifications.
 *
 *   UNKNOWN   Postgres has not said whether the schema exists; subscriptions wait. After this
 *             connection was lost TABLE_PATIENCE times while LISTEN was in force, only those with a
 *             durable id wait: clients that never use the schema must not depend on it
 *   ABSENT    the schema is not there or cannot be used, `reason` says why: no durable events
 *   PRESENT   the table is read
 *
 * Four kinds of statements take turns, so that none keeps the others waiting for long:
 *
 *   a reading    reads the events after the head, the id up to which everything has been read. A
 *                notification is only a hint to read: a forged one does no harm, and a lost one
 *                delays events by at most table_poll. Only while LISTEN is in force
 *   checks       ask which topics users have subscribed to (checks.h)
 *   a page       is read for clients that come back (table_pages.h)
 *   a pruning    deletes events that are older, or more, than is to be kept
 *
 * The schema's own functions do the work: sql/pgsse.sql. */
#pragma once

#include "checks.h"
#include "config.h"
#include "gap_memory.h"
#include "loop.h"
#include "schema.h"
#include "server.h"
#include "table_pages.h"
#include "table_result.h"

/* Why the table is ABSENT, in words that everybody may read; `reason` may contain names of
 * roles. */
#define TABLE_IS_ABSENT "the schema pgsse is not installed, or of no use here: " SCHEMA_COMMAND

enum {
    TABLE_READING_ROWS = 1000,
    TABLE_READING_BYTES = 256 * 1024, /* or one event: so much goes to clients in one turn */
    TABLE_PATIENCE = 3,
    TABLE_PAGE_FAILURES_MAX = 3, /* then the page is told as a gap */
    TABLE_PRUNED_MAX = 10000,
    TABLE_PRUNE_MS = 60000, /* between two prunings, and the timeout of one */
};

enum table_state { TABLE_UNKNOWN, TABLE_ABSENT, TABLE_PRESENT };

enum table_task { TABLE_READS, TABLE_CHECKS, TABLE_PAGES, TABLE_PRUNES };
enum { TABLE_TASKS = TABLE_PRUNES + 1 };

struct table_owner {
    void *self;
    /* A reading has met a durable event. Its id is the head. */
    void (*on_row)(void *self, const struct event_row *row, uint64_t id);
    /* A reading has met gaps. The refreshes for them carry that id, which becomes the head after
     * this call. */
    void (*on_gaps)(void *self, const struct gap *gaps, size_t count, uint64_t id);
    /* Makes the frame of a page's row; the page takes the reference. NULL: the event cannot be
     * sent, and *is_missed says whether clients of its topic miss it. */
    struct payload *(*frame_of)(void *self, const struct event_row *row, uint64_t id,
                                bool *is_missed);
    /* A reading is complete, or subscriptions that wait for one can be decided without it. */
    void (*on_read)(void *self);
    /* The table has appeared, has gone, or is another one; was_known: the state was not UNKNOWN
     * before. */
    void (*on_changed)(void *self, bool was_known);
    /* Postgres has answered a statement. */
    void (*on_proved)(void *self);
    /* The connection was lost, or Postgres has refused a statement. */
    void (*on_lost)(void *self, const char *reason);
    /* The connection has reached another server than LISTEN and is given up. */
    void (*on_astray)(void *self);
};

struct table {
    struct table_owner owner;
    struct loop *loop; /* borrowed, as are the next two */
    const struct config *config;
    const struct server *server; /* LISTEN's */
    struct pg *pg;               /* owned */
    enum table_state state;
    enum table_state previous_state;
    char reason[TABLE_REASON_BYTES]; /* ABSENT */
    uint64_t head;                   /* PRESENT: at least 1; else 0 */
    uint64_t identity;               /* PRESENT: which table it is; another table has other ids */
    /* The task under way, or the last one. A look at the server or the schema counts as
     * TABLE_PRUNES, so that a reading comes next. */
    enum table_task task;
    bool is_proved;           /* this session reaches the server that LISTEN reaches */
    bool must_look;           /* ask first whether the schema is there and the same */
    uint64_t reading_wanted;  /* readings are numbered: the newest that was asked for */
    uint64_t reading_started; /* the newest that the last statement serves */
    uint64_t reading_done;    /* the newest that is complete */
    struct gap_memory gaps;   /* after the head: the reading under way has met them */
    struct table_pages pages;
    struct table_page *page; /* TABLE_PAGES: the one under way */
    uint64_t page_end;       /* the page under way ends at this id, or before if it is full */
    struct checks checks;
    bool must_prune;
    bool is_pruning;     /* under way */
    bool is_failing;     /* Postgres has refused a statement, and no reading has succeeded since */
    bool is_handing_out; /* rows are being handed to the owner: no statement begins meanwhile */
    unsigned losses;     /* UNKNOWN: of the connection, while LISTEN was in force */
    struct loop_timer poll;
    struct loop_timer prune; /* the next pruning */
    struct loop_timer rest;  /* after a statement that Postgres refused */
};

void table_init(struct table *table, struct loop *loop, const struct config *config,
                const struct server *server, const struct table_owner *owner);
void table_start(struct table *table);
void table_release(struct table *table);

/* LISTEN is verified: now this connection's server can be compared with LISTEN's, and the table be
 * read. */
void table_on_verified(struct table *table);

/* Connects again, perhaps to another server. */
void table_renew(struct table *table);

/* The table may have new events: asks for a reading that begins after this call, and returns its
 * number. */
uint64_t table_ask_reading(struct table *table);

/* True if that reading, or a later one, is complete. */
bool table_has_read(const struct table *table, uint64_t reading) must_check;

/* True if a client that comes with that id can be accepted or refused now. */
bool table_serves(const struct table *table, uint64_t id) must_check;

/* The next statement of checks contains the check. */
void table_ask_check(struct table *table, struct check *check);

/* The page with the events after the id, see table_pages_find. If it is WANTED, the waiter is
 * called when the page is READY. */
const struct table_page *table_find_page(struct table *table, struct topic *const *topics,
                                         size_t topic_count, uint64_t after,
                                         struct page_waiter *waiter) must_check;

bool table_is_connected(const struct table *table);
