/* Pages of the table, for those who come back from behind the log: what was read for one is there
 * for all who stand at the same place.
 *
 *   WANTED   somebody waits for it; the table will read it (table.h)
 *   READY    it is kept until younger ones need the room
 *
 * A page holds what follows an id, of some topics or of all: the gaps, where events were pruned,
 * and then events, up to an id that is its end. Whoever uses a page is told of its gaps before he
 * goes on: further on, in a younger page or in the log, there may be nothing to tell that an event
 * was left out before. Nobody holds on to a page: whoever finds it gone wants it again, from where
 * he has come to. */
#pragma once

#include "buf.h"
#include "replay.h"
#include "topic.h"

enum {
    PAGE_ROWS_MAX = 1000,
    PAGE_BYTES_MAX = 256 * 1024,       /* of data, or one event */
    PAGES_BYTES_MAX = 4 * 1024 * 1024, /* kept, or the youngest page */
    PAGES_MAX = 64,
};

enum page_state { PAGE_WANTED, PAGE_READY };

struct page_event {
    uint64_t id;
    struct payload *frame; /* a reference: the EVENT */
};

struct page_gap {
    uint64_t id; /* up to here something of the topic is missing */
    size_t topic_length;
    char topic[TOPIC_BYTES_MAX]; /* "": it may be any */
};

struct page {
    UT_hash_handle hh;      /* WANTED: in pages.by_key */
    TAILQ_ENTRY(page) link; /* in pages.wanted or pages.ready */
    enum page_state state;
    unsigned failures; /* to read it */
    uint64_t after;
    uint64_t end;               /* READY: it is complete up to here */
    struct buf gaps;            /* of struct page_gap */
    struct buf events;          /* of struct page_event */
    size_t bytes;               /* of the frames */
    struct replay_list waiting; /* WANTED: replays that go on when it is there */
    size_t key_length;
    char key[]; /* the id that it is behind; the topics' names, sorted, each ended by NUL */
};
TAILQ_HEAD(page_list, page);

/* pages_init before anything else. */
struct pages {
    struct page_list wanted; /* the longest wanted first */
    struct page *by_key;     /* the same */
    struct page_list ready;  /* the youngest last */
    size_t ready_count;
    size_t bytes; /* of the ready ones */
    struct buf key;
};

void pages_init(struct pages *pages);
void pages_release(struct pages *pages);

/* topic may be anything: what is none is "". */
struct page_gap page_gap_of(uint64_t id, struct slice topic) must_check;

/* The page on which what follows the id stands, READY or WANTED; no topics: of all. */
struct page *pages_find(struct pages *pages, struct topic *const *topics, size_t topic_count,
                        uint64_t after) must_check;

/* The page that is to be read next, or NULL. Those that nobody waits for any more are forgotten. */
struct page *pages_next_wanted(struct pages *pages) must_check;

/* It could not be read: others come first. Returns how often that was so. */
unsigned pages_put_back(struct pages *pages, struct page *page);

/* The names of its topics, each ended by NUL; empty: all topics. */
struct slice page_topics(const struct page *page) must_check;

/* Takes the reference over. Ids rise. */
void page_add(struct page *page, uint64_t id, struct payload *frame);
void page_add_gap(struct page *page, const struct page_gap *gap);

/* All up to end has been added: READY, at the cost of others. */
void pages_settle(struct pages *pages, struct page *page, uint64_t end);

/* A READY page's first event behind that id; NULL: nothing up to its end. */
const struct page_event *page_next(const struct page *page, uint64_t after) must_check;

/* The id up to which nothing stands on the page behind that one: a refresh goes on from there. */
uint64_t page_skip(const struct page *page, uint64_t after) must_check;

/* A READY page's gaps. */
const struct page_gap *page_gaps(const struct page *page, size_t *count) must_check;
bool page_gap_is_about(const struct page_gap *gap, const struct topic *topic) must_check;

/* What is ready is not true any more. */
void pages_forget(struct pages *pages);
