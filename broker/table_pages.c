#include "table_pages.h"

#include "schema.h"
#include "wire.h"

#include <stdlib.h>

void table_pages_init(struct table_pages *pages) {
    *pages = (struct table_pages){0};
    TAILQ_INIT(&pages->wanted);
    TAILQ_INIT(&pages->ready);
}

static const struct table_row *rows_of(const struct table_page *page, size_t *count) {
    *count = page->rows.length / sizeof(struct table_row);
    return (const struct table_row *)(const void *)page->rows.bytes;
}

static void page_destroy(struct table_page *page) {
    size_t count;
    const struct table_row *rows = rows_of(page, &count);
    check(TAILQ_EMPTY(&page->waiters));
    for (size_t i = 0; i < count; i++) {
        struct payload *frame = rows[i].frame;
        payload_unref(&frame);
    }
    buf_release(&page->rows);
    buf_release(&page->gaps);
    free(page);
}

static void leave_wanted(struct table_pages *pages, struct table_page *page) {
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): what is listed is in the table */
    HASH_DEL(pages->by_key, page);
    TAILQ_REMOVE(&pages->wanted, page, link);
}

static void drop_wanted(struct table_pages *pages, struct table_page *page) {
    leave_wanted(pages, page);
    page_destroy(page);
}

static void drop_ready(struct table_pages *pages, struct table_page *page) {
    pages->bytes -= page->bytes;
    pages->ready_count--;
    TAILQ_REMOVE(&pages->ready, page, link);
    page_destroy(page);
}

void table_pages_forget(struct table_pages *pages) {
    struct table_page *page;
    while ((page = TAILQ_FIRST(&pages->ready)) != NULL) {
        drop_ready(pages, page);
    }
}

void table_pages_release(struct table_pages *pages) {
    struct table_page *page;
    table_pages_forget(pages);
    while ((page = TAILQ_FIRST(&pages->wanted)) != NULL) {
        drop_wanted(pages, page);
    }
    buf_release(&pages->key);
}

/* --- finding --------------------------------------------------------------------------------- */

static int compare_topics(const void *a, const void *b) {
    const struct topic *left = *(const struct topic *const *)a;
    const struct topic *right = *(const struct topic *const *)b;
    return topic_key_compare(topic_key_of(left), topic_key_of(right));
}

/* The same topics in another order are the same page. */
static void make_key(struct buf *key, struct topic *const *topics, size_t count, uint64_t after) {
    struct topic *sorted[NAMES_MAX];
    check(count <= NAMES_MAX);
    key->length = 0;
    buf_append(key, &after, sizeof after);
    if (count == 0) {
        return;
    }
    memcpy(sorted, topics, count * sizeof(struct topic *));
    qsort(sorted, count, sizeof(struct topic *), compare_topics);
    for (size_t i = 0; i < count; i++) {
        buf_append_slice(key, topic_key_of(sorted[i]).bytes);
        buf_append(key, "", 1);
    }
}

struct slice table_page_topics(const struct table_page *page) {
    return (struct slice){page->key + sizeof page->after, page->key_length - sizeof page->after};
}

bool table_page_wants(const struct table_page *page, struct topic_key topic) {
    struct slice keys = table_page_topics(page);
    bool is_wanted = keys.length == 0 || topic_key_is_none(topic);
    for (size_t at = 0; at < keys.length && !is_wanted; at += strlen(keys.at + at) + 1) {
        is_wanted = topic_key_covers((struct topic_key){slice_of(keys.at + at)}, topic);
    }
    return is_wanted;
}

/* True if the id may lie in a leap of the ids: then an earlier table gave it, or a server before a
 * fail-over. Only a page that begins at the id shows that, so this page cannot be used. */
static bool may_lie_in_leap(const struct table_page *page, uint64_t after) {
    size_t count;
    const struct table_row *rows = rows_of(page, &count);
    const struct table_row *next = table_page_next(page, after);
    size_t i = next == NULL ? count : (size_t)(next - rows);
    uint64_t from = i == 0 ? page->after : rows[i - 1].id;
    uint64_t to = next == NULL ? page->end : next->id;
    return after != from && to - from >= SCHEMA_LEAP_IDS;
}

static bool covers(const struct table_page *page, uint64_t after, struct slice topics) {
    return page->after <= after && after < page->end &&
           slice_equals(table_page_topics(page), topics) && !may_lie_in_leap(page, after);
}

static struct table_page *page_create(struct table_pages *pages, uint64_t after) {
    const struct buf *key = &pages->key;
    struct table_page *page = must_zalloc(sizeof *page + key->length);
    page->after = after;
    TAILQ_INIT(&page->waiters);
    page->key_length = key->length;
    memcpy(page->key, key->bytes, key->length);
    TAILQ_INSERT_TAIL(&pages->wanted, page, link);
    HASH_ADD(hh, pages->by_key, key, page->key_length, page);
    return page;
}

struct table_page *table_pages_find(struct table_pages *pages, struct topic *const *topics,
                                    size_t topic_count, uint64_t after) {
    struct table_page *page;
    make_key(&pages->key, topics, topic_count, after);
    struct slice names = {pages->key.bytes + sizeof after, pages->key.length - sizeof after};
    TAILQ_FOREACH_REVERSE(page, &pages->ready, table_page_list, link) {
        if (covers(page, after, names)) {
            return page;
        }
    }
    HASH_FIND(hh, pages->by_key, pages->key.bytes, pages->key.length, page);
    return page != NULL ? page : page_create(pages, after);
}

struct table_page *table_pages_next_wanted(struct table_pages *pages) {
    struct table_page *page;
    while ((page = TAILQ_FIRST(&pages->wanted)) != NULL && TAILQ_EMPTY(&page->waiters)) {
        drop_wanted(pages, page);
    }
    return page;
}

/* --- waiting --------------------------------------------------------------------------------- */

void table_page_await(struct table_page *page, struct page_waiter *waiter) {
    if (waiter->page != page) {
        page_waiter_leave(waiter);
        waiter->page = page;
        TAILQ_INSERT_TAIL(&page->waiters, waiter, link);
    }
}

void page_waiter_leave(struct page_waiter *waiter) {
    if (waiter->page != NULL) {
        TAILQ_REMOVE(&waiter->page->waiters, waiter, link);
        waiter->page = NULL;
    }
}

static void call_waiters(struct table_page *page) {
    struct page_waiter *waiter;
    while ((waiter = TAILQ_FIRST(&page->waiters)) != NULL) {
        page_waiter_leave(waiter);
        waiter->on_page(waiter);
    }
}

unsigned table_pages_put_back(struct table_pages *pages, struct table_page *page) {
    TAILQ_REMOVE(&pages->wanted, page, link);
    TAILQ_INSERT_TAIL(&pages->wanted, page, link);
    return ++page->failures;
}

/* --- filling --------------------------------------------------------------------------------- */

void table_page_add(struct table_page *page, uint64_t id, struct payload *frame) {
    struct table_row row = {.id = id, .frame = frame};
    buf_append(&page->rows, &row, sizeof row);
    page->bytes += sizeof row + sizeof *frame + frame->length;
}

void table_page_add_gap(struct table_page *page, const struct gap *gap) {
    buf_append(&page->gaps, gap, sizeof *gap);
    page->bytes += sizeof *gap;
}

static void make_room(struct table_pages *pages, const struct table_page *youngest) {
    while (pages->bytes > TABLE_PAGES_BYTES_MAX || pages->ready_count > TABLE_PAGES_MAX) {
        struct table_page *oldest = TAILQ_FIRST(&pages->ready);
        if (oldest == youngest) {
            return;
        }
        drop_ready(pages, oldest);
    }
}

void table_pages_settle(struct table_pages *pages, struct table_page *page, uint64_t end) {
    page->state = TABLE_PAGE_READY;
    page->end = end;
    leave_wanted(pages, page);
    TAILQ_INSERT_TAIL(&pages->ready, page, link);
    pages->bytes += page->bytes;
    pages->ready_count++;
    make_room(pages, page);
    call_waiters(page);
}

/* --- reading --------------------------------------------------------------------------------- */

const struct table_row *table_page_next(const struct table_page *page, uint64_t after) {
    size_t count;
    const struct table_row *rows = rows_of(page, &count);
    size_t low = 0;
    size_t high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (rows[middle].id > after) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low == count ? NULL : &rows[low];
}

uint64_t table_page_skip(const struct table_page *page, uint64_t after) {
    const struct table_row *next = table_page_next(page, after);
    return next == NULL ? page->end : next->id - 1;
}

const struct gap *table_page_gaps(const struct table_page *page, size_t *count) {
    *count = page->gaps.length / sizeof(struct gap);
    return (const struct gap *)(const void *)page->gaps.bytes;
}
