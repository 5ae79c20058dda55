#include "pages.h"

#include "topics.h"

#include <stdlib.h>

void pages_init(struct pages *pages) {
    *pages = (struct pages){0};
    TAILQ_INIT(&pages->wanted);
    TAILQ_INIT(&pages->ready);
}

static const struct page_event *events_of(const struct page *page, size_t *count) {
    *count = page->events.length / sizeof(struct page_event);
    return (const struct page_event *)(const void *)page->events.bytes;
}

static void page_destroy(struct page *page) {
    size_t count;
    const struct page_event *events = events_of(page, &count);
    check(TAILQ_EMPTY(&page->waiting));
    for (size_t i = 0; i < count; i++) {
        struct payload *frame = events[i].frame;
        payload_unref(&frame);
    }
    buf_release(&page->events);
    buf_release(&page->gaps);
    free(page);
}

static void leave_wanted(struct pages *pages, struct page *page) {
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): what is listed is in the table */
    HASH_DEL(pages->by_key, page);
    TAILQ_REMOVE(&pages->wanted, page, link);
}

static void drop_wanted(struct pages *pages, struct page *page) {
    leave_wanted(pages, page);
    page_destroy(page);
}

static void drop_ready(struct pages *pages, struct page *page) {
    pages->bytes -= page->bytes;
    pages->ready_count--;
    TAILQ_REMOVE(&pages->ready, page, link);
    page_destroy(page);
}

void pages_forget(struct pages *pages) {
    struct page *page;
    while ((page = TAILQ_FIRST(&pages->ready)) != NULL) {
        drop_ready(pages, page);
    }
}

void pages_release(struct pages *pages) {
    struct page *page;
    pages_forget(pages);
    while ((page = TAILQ_FIRST(&pages->wanted)) != NULL) {
        drop_wanted(pages, page);
    }
    buf_release(&pages->key);
}

/* --- finding --------------------------------------------------------------------------------- */

static int compare_topics(const void *a, const void *b) {
    const struct topic *left = *(const struct topic *const *)a;
    const struct topic *right = *(const struct topic *const *)b;
    return strcmp(left->name, right->name);
}

/* The same topics in another order are the same page. */
static void make_key(struct buf *key, struct topic *const *topics, size_t count, uint64_t after) {
    struct topic *sorted[WIRE_TOPICS_MAX];
    check(count <= WIRE_TOPICS_MAX);
    key->length = 0;
    buf_append(key, &after, sizeof after);
    if (count == 0) {
        return;
    }
    memcpy(sorted, topics, count * sizeof(struct topic *));
    qsort(sorted, count, sizeof(struct topic *), compare_topics);
    for (size_t i = 0; i < count; i++) {
        buf_append(key, sorted[i]->name, sorted[i]->name_length + 1);
    }
}

struct slice page_topics(const struct page *page) {
    return (struct slice){page->key + sizeof page->after, page->key_length - sizeof page->after};
}

static bool covers(const struct page *page, uint64_t after, struct slice topics) {
    return page->after <= after && after < page->end && slice_equals(page_topics(page), topics);
}

static struct page *page_create(struct pages *pages, uint64_t after) {
    const struct buf *key = &pages->key;
    struct page *page = must_zalloc(sizeof *page + key->length);
    page->after = after;
    TAILQ_INIT(&page->waiting);
    page->key_length = key->length;
    memcpy(page->key, key->bytes, key->length);
    TAILQ_INSERT_TAIL(&pages->wanted, page, link);
    HASH_ADD(hh, pages->by_key, key, page->key_length, page);
    return page;
}

struct page *pages_find(struct pages *pages, struct topic *const *topics, size_t topic_count,
                        uint64_t after) {
    struct page *page;
    make_key(&pages->key, topics, topic_count, after);
    struct slice names = {pages->key.bytes + sizeof after, pages->key.length - sizeof after};
    TAILQ_FOREACH_REVERSE(page, &pages->ready, page_list, link) {
        if (covers(page, after, names)) {
            return page;
        }
    }
    HASH_FIND(hh, pages->by_key, pages->key.bytes, pages->key.length, page);
    return page != NULL ? page : page_create(pages, after);
}

struct page *pages_next_wanted(struct pages *pages) {
    struct page *page;
    while ((page = TAILQ_FIRST(&pages->wanted)) != NULL && page_topics(page).length > 0 &&
           TAILQ_EMPTY(&page->waiting)) {
        drop_wanted(pages, page);
    }
    return page;
}

unsigned pages_put_back(struct pages *pages, struct page *page) {
    TAILQ_REMOVE(&pages->wanted, page, link);
    TAILQ_INSERT_TAIL(&pages->wanted, page, link);
    return ++page->failures;
}

/* --- filling --------------------------------------------------------------------------------- */

void page_add(struct page *page, uint64_t id, struct payload *frame) {
    struct page_event event = {.id = id, .frame = frame};
    buf_append(&page->events, &event, sizeof event);
    page->bytes += sizeof event + sizeof *frame + frame->length;
}

struct page_gap page_gap_of(uint64_t id, struct slice topic) {
    struct page_gap gap = {.id = id};
    if (topic_is_valid(topic)) {
        gap.topic_length = topic.length;
        memcpy(gap.topic, topic.at, topic.length);
    }
    return gap;
}

void page_add_gap(struct page *page, const struct page_gap *gap) {
    buf_append(&page->gaps, gap, sizeof *gap);
    page->bytes += sizeof *gap;
}

void pages_settle(struct pages *pages, struct page *page, uint64_t end) {
    page->state = PAGE_READY;
    page->end = end;
    leave_wanted(pages, page);
    TAILQ_INSERT_TAIL(&pages->ready, page, link);
    pages->bytes += page->bytes;
    pages->ready_count++;
    while (pages->bytes > PAGES_BYTES_MAX || pages->ready_count > PAGES_MAX) {
        struct page *oldest = TAILQ_FIRST(&pages->ready);
        if (oldest == page) {
            return;
        }
        drop_ready(pages, oldest);
    }
}

/* --- reading --------------------------------------------------------------------------------- */

const struct page_event *page_next(const struct page *page, uint64_t after) {
    size_t count;
    const struct page_event *events = events_of(page, &count);
    size_t low = 0;
    size_t high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (events[middle].id > after) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low == count ? NULL : &events[low];
}

uint64_t page_skip(const struct page *page, uint64_t after) {
    const struct page_event *next = page_next(page, after);
    return next == NULL ? page->end : next->id - 1;
}

const struct page_gap *page_gaps(const struct page *page, size_t *count) {
    *count = page->gaps.length / sizeof(struct page_gap);
    return (const struct page_gap *)(const void *)page->gaps.bytes;
}

bool page_gap_is_about(const struct page_gap *gap, const struct topic *topic) {
    return gap->topic_length == 0 || slice_equals((struct slice){gap->topic, gap->topic_length},
                                                  (struct slice){topic->name, topic->name_length});
}
