/* Pages of the table, for clients whose position is from before the log. A page that was read for
 * one client serves all with the same topics and position.
 *
 *   WANTED   not read yet; the table reads it (table.h) if a reader waits for it
 *   READY    it was read, and is kept until newer pages need the room
 *
 * A page has what follows an id, of some topics or of all: the gaps, and the events up to the
 * page's end. A client is told of a page's gaps before it gets the page's events: newer pages and
 * the log may not show any more that an event is missing. Readers keep no reference to a page. A
 * reader that finds it gone asks for a new one, after the id that the reader has reached. */
#pragma once

#include "buf.h"
#include "gap.h"

enum {
    TABLE_PAGE_ROWS_MAX = 1000,
    TABLE_PAGE_BYTES_MAX = 256 * 1024,       /* of data, or one event */
    TABLE_PAGES_BYTES_MAX = 4 * 1024 * 1024, /* of READY pages, or one page that is larger */
    TABLE_PAGES_MAX = 64,
};

enum table_page_state { TABLE_PAGE_WANTED, TABLE_PAGE_READY };

struct table_row {
    uint64_t id;
    struct payload *frame; /* a reference: the EVENT */
};

struct table_page;

/* A waiter, embedded in a reader of pages. Zero-initialised: it does not wait. */
struct page_waiter {
    TAILQ_ENTRY(page_waiter) link;
    struct table_page *page; /* borrowed: a page with waiters stays; NULL: it does not wait */
    void (*on_page)(struct page_waiter *waiter);
};
TAILQ_HEAD(page_waiter_list, page_waiter);

struct table_page {
    UT_hash_handle hh;            /* WANTED: in pages.by_key */
    TAILQ_ENTRY(table_page) link; /* in pages.wanted or pages.ready */
    enum table_page_state state;
    unsigned failures; /* attempts to read it that failed */
    uint64_t after;
    uint64_t end;                    /* READY: complete up to this id */
    struct buf gaps;                 /* of struct gap */
    struct buf rows;                 /* of struct table_row */
    size_t bytes;                    /* of the frames */
    struct page_waiter_list waiters; /* WANTED */
    size_t key_length;
    char key[]; /* `after`, then the topics' keys, sorted, each ended by NUL */
};
TAILQ_HEAD(table_page_list, table_page);

/* Call table_pages_init before anything else. */
struct table_pages {
    struct table_page_list wanted; /* in the order in which they are read */
    struct table_page *by_key;     /* the WANTED pages */
    struct table_page_list ready;  /* the newest last */
    size_t ready_count;
    size_t bytes; /* of the READY pages */
    struct buf key;
};

void table_pages_init(struct table_pages *pages);
void table_pages_release(struct table_pages *pages);

/* The page, READY or WANTED, that has what follows the id; no topics: of all topics. */
struct table_page *table_pages_find(struct table_pages *pages, struct topic *const *topics,
                                    size_t topic_count, uint64_t after) must_check;

/* The page to be read next, or NULL. Frees WANTED pages that have no waiters any more. */
struct table_page *table_pages_next_wanted(struct table_pages *pages) must_check;

/* The waiter waits for the WANTED page. on_page is called once, unless the waiter leaves before. */
void table_page_await(struct table_page *page, struct page_waiter *waiter);

/* Harmless when it does not wait. */
void page_waiter_leave(struct page_waiter *waiter);

/* The page could not be read: it goes to the end of the list. Returns how often reading it has
 * failed. */
unsigned table_pages_put_back(struct table_pages *pages, struct table_page *page);

/* The keys of its topics, each ended by NUL; empty: all topics. */
struct slice table_page_topics(const struct table_page *page) must_check;

/* Whether something about that topic belongs on the page; none is about any. */
bool table_page_wants(const struct table_page *page, struct topic_key topic) must_check;

/* Takes the reference to the frame. Add rows in the order of their ids. */
void table_page_add(struct table_page *page, uint64_t id, struct payload *frame);
void table_page_add_gap(struct table_page *page, const struct gap *gap);

/* All rows up to end have been added: the page becomes READY, older pages make room, and its
 * waiters are called. */
void table_pages_settle(struct table_pages *pages, struct table_page *page, uint64_t end);

/* A READY page's first row after that id; NULL if there is none. */
const struct table_row *table_page_next(const struct table_page *page, uint64_t after) must_check;

/* The last id before the page's next row after that id, or the page's end: a refresh for the page's
 * gaps carries this id. */
uint64_t table_page_skip(const struct table_page *page, uint64_t after) must_check;

/* A READY page's gaps. */
const struct gap *table_page_gaps(const struct table_page *page, size_t *count) must_check;

/* Drops all READY pages, since the table has changed. */
void table_pages_forget(struct table_pages *pages);
