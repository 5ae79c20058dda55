/* Pages of the table: found by who stands on them, shared, and kept as long as there is room. */
#include "handler.h"
#include "pages.h"
#include "support.h"
#include "topics.h"

struct rig {
    struct topics topics;
    struct pages pages;
    struct subscription_list subscriptions;
    struct topic *a, *b, *ab;
};

static struct topic *topic_of(struct rig *rig, const char *name) {
    return topics_subscribe(&rig->topics, slice_of(name), (struct handler *)(void *)rig,
                            &rig->subscriptions, 1);
}

static void rig_begin(struct rig *rig) {
    *rig = (struct rig){0};
    topics_init(&rig->topics);
    pages_init(&rig->pages);
    rig->a = topic_of(rig, "a");
    rig->b = topic_of(rig, "b");
    rig->ab = topic_of(rig, "ab");
}

static void rig_end(struct rig *rig) {
    struct subscription *subscription;
    pages_release(&rig->pages);
    while ((subscription = LIST_FIRST(&rig->subscriptions)) != NULL) {
        topics_end(&rig->topics, subscription);
    }
    topics_release(&rig->topics);
}

static void add(struct page *page, uint64_t id, bool is_gap, size_t bytes) {
    char *text = repeated('p', bytes);
    struct page_gap gap = page_gap_of(id, LITERAL("a"));
    if (is_gap) {
        page_add_gap(page, &gap);
    } else {
        page_add(page, id, payload_create(text, bytes));
    }
    free(text);
}

/* READY, of all topics, behind that id, up to end. */
static struct page *ready(struct rig *rig, uint64_t after, uint64_t end, size_t bytes) {
    struct page *page = pages_find(&rig->pages, NULL, 0, after);
    assert_int_equal(page->state, PAGE_WANTED);
    add(page, after + 1, false, bytes);
    pages_settle(&rig->pages, page, end);
    assert_int_equal(page->state, PAGE_READY);
    return page;
}

static void test_same_topics_and_id_are_one_page(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig);
    struct topic *ab[] = {rig.a, rig.b};
    struct topic *ba[] = {rig.b, rig.a};
    struct topic *joined[] = {rig.ab};
    struct page *page = pages_find(&rig.pages, ab, 2, 5);
    assert_ptr_equal(pages_find(&rig.pages, ba, 2, 5), page);
    assert_ptr_not_equal(pages_find(&rig.pages, ab, 2, 6), page);
    assert_ptr_not_equal(pages_find(&rig.pages, ab, 1, 5), page);
    assert_ptr_not_equal(pages_find(&rig.pages, joined, 1, 5), page);
    assert_ptr_not_equal(pages_find(&rig.pages, NULL, 0, 5), page);
    assert_int_equal(page_topics(page).length, 4);
    assert_memory_equal(page_topics(page).at, "a\0b\0", 4);
    rig_end(&rig);
}

/* It covers those who stand from its start up to before its end. */
static void test_covers(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig);
    struct topic *topics[] = {rig.a};
    struct page *page = pages_find(&rig.pages, topics, 1, 5);
    add(page, 7, false, 1);
    pages_settle(&rig.pages, page, 9);
    for (uint64_t id = 0; id <= 12; id++) {
        struct page *found = pages_find(&rig.pages, topics, 1, id);
        assert_int_equal(found == page, id >= 5 && id < 9);
        assert_int_equal(found->state, found == page ? PAGE_READY : PAGE_WANTED);
    }
    rig_end(&rig);
}

/* What was read last is the newest that is known. */
static void test_the_youngest_of_two(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig);
    struct page *old = ready(&rig, 5, 9, 1);
    struct page *young = ready(&rig, 4, 12, 1);
    assert_ptr_equal(pages_find(&rig.pages, NULL, 0, 4), young);
    assert_ptr_equal(pages_find(&rig.pages, NULL, 0, 6), young);
    assert_ptr_not_equal(pages_find(&rig.pages, NULL, 0, 6), old);
    rig_end(&rig);
}

static void test_next(void **state) {
    (void)state;
    static const struct {
        uint64_t after;
        uint64_t id; /* 0: none */
    } cases[] = {{0, 3}, {2, 3}, {3, 9}, {4, 9}, {8, 9}, {9, 0}, {UINT64_MAX, 0}};
    struct rig rig;
    rig_begin(&rig);
    struct page *page = pages_find(&rig.pages, NULL, 0, 2);
    add(page, 3, false, 10);
    add(page, 4, true, 10);
    add(page, 9, false, 10);
    pages_settle(&rig.pages, page, 12);
    for (size_t i = 0; i < length_of(cases); i++) {
        const struct page_event *entry = page_next(page, cases[i].after);
        assert_int_equal(entry == NULL ? 0 : entry->id, cases[i].id);
    }
    size_t count;
    const struct page_gap *gaps = page_gaps(page, &count);
    assert_int_equal(count, 1);
    assert_int_equal(gaps[0].id, 4);
    assert_true(page_gap_is_about(&gaps[0], rig.a));
    assert_false(page_gap_is_about(&gaps[0], rig.b));
    assert_false(page_gap_is_about(&gaps[0], rig.ab));
    struct page_gap of_all = page_gap_of(5, LITERAL(""));
    assert_true(page_gap_is_about(&of_all, rig.b));
    page = pages_find(&rig.pages, NULL, 0, 20);
    pages_settle(&rig.pages, page, 30);
    assert_null(page_next(page, 0));
    rig_end(&rig);
}

/* The longest wanted comes first; that nobody waits for is forgotten, but one of all topics:
 * handlers wait for it. */
static void test_wanted(void **state) {
    (void)state;
    struct rig rig;
    struct replay replays[2] = {0};
    rig_begin(&rig);
    struct topic *topics[] = {rig.a};
    assert_null(pages_next_wanted(&rig.pages));
    assert_int_equal(pages_find(&rig.pages, topics, 1, 1)->state, PAGE_WANTED);
    struct page *second = pages_find(&rig.pages, topics, 1, 2);
    struct page *third = pages_find(&rig.pages, NULL, 0, 3);
    struct page *fourth = pages_find(&rig.pages, topics, 1, 4);
    TAILQ_INSERT_TAIL(&second->waiting, &replays[0], link);
    TAILQ_INSERT_TAIL(&fourth->waiting, &replays[1], link);
    assert_ptr_equal(pages_next_wanted(&rig.pages), second);
    TAILQ_REMOVE(&second->waiting, &replays[0], link);
    assert_ptr_equal(pages_next_wanted(&rig.pages), third);
    pages_settle(&rig.pages, third, 5);
    assert_ptr_equal(pages_next_wanted(&rig.pages), fourth);
    TAILQ_REMOVE(&fourth->waiting, &replays[1], link);
    assert_null(pages_next_wanted(&rig.pages));
    assert_int_equal(rig.pages.ready_count, 1);
    rig_end(&rig);
}

static void test_oldest_goes_by_number(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig);
    for (unsigned i = 0; i < PAGES_MAX + 3; i++) {
        (void)ready(&rig, 10 * i, 10 * i + 5, 1);
        assert_int_equal(rig.pages.ready_count, i < PAGES_MAX ? i + 1 : PAGES_MAX);
    }
    assert_int_equal(pages_find(&rig.pages, NULL, 0, 20)->state, PAGE_WANTED);
    assert_int_equal(pages_find(&rig.pages, NULL, 0, 30)->state, PAGE_READY);
    rig_end(&rig);
}

static void test_oldest_goes_by_bytes(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig);
    for (unsigned i = 0; i < 8; i++) {
        (void)ready(&rig, 10 * i, 10 * i + 5, PAGES_BYTES_MAX / 4 - 1000);
        assert_true(rig.pages.bytes <= PAGES_BYTES_MAX);
        assert_int_equal(rig.pages.ready_count, i < 4 ? i + 1 : 4);
    }
    struct page *large = ready(&rig, 100, 101, 2 * PAGES_BYTES_MAX); /* stays, alone */
    assert_int_equal(rig.pages.ready_count, 1);
    assert_ptr_equal(pages_find(&rig.pages, NULL, 0, 100), large);
    (void)ready(&rig, 110, 111, 1);
    assert_int_equal(rig.pages.ready_count, 1);
    assert_true(rig.pages.bytes < 1000);
    rig_end(&rig);
}

static void test_forget(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig);
    (void)ready(&rig, 1, 5, 100);
    struct page *wanted = pages_find(&rig.pages, NULL, 0, 7);
    pages_forget(&rig.pages);
    assert_int_equal(rig.pages.ready_count, 0);
    assert_int_equal(rig.pages.bytes, 0);
    assert_ptr_equal(pages_next_wanted(&rig.pages), wanted);
    assert_int_equal(pages_find(&rig.pages, NULL, 0, 1)->state, PAGE_WANTED);
    rig_end(&rig);
}

static void test_most_topics(void **state) {
    (void)state;
    struct rig rig;
    struct topic *topics[WIRE_TOPICS_MAX];
    struct topic *reversed[WIRE_TOPICS_MAX];
    rig_begin(&rig);
    for (unsigned i = 0; i < WIRE_TOPICS_MAX; i++) {
        char *name = repeated((char)('0' + i), 255);
        topics[i] = topic_of(&rig, name);
        reversed[WIRE_TOPICS_MAX - 1 - i] = topics[i];
        free(name);
    }
    struct page *page = pages_find(&rig.pages, topics, WIRE_TOPICS_MAX, 1);
    assert_int_equal(page_topics(page).length, WIRE_TOPICS_MAX * 256);
    assert_ptr_equal(pages_find(&rig.pages, reversed, WIRE_TOPICS_MAX, 1), page);
    rig_end(&rig);
}

RUN_TESTS(TEST(test_same_topics_and_id_are_one_page), TEST(test_covers),
          TEST(test_the_youngest_of_two), TEST(test_next), TEST(test_wanted),
          TEST(test_oldest_goes_by_number), TEST(test_oldest_goes_by_bytes), TEST(test_forget),
          TEST(test_most_topics))
