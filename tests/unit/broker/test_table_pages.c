/* Pages of the table: found by topics and position, shared, and kept as long as there is room. */
#include "handler.h"
#include "schema.h"
#include "support.h"
#include "table_pages.h"
#include "topics.h"

static struct rig {
    struct topics topics;
    struct table_pages pages;
    struct interest_list subscriptions;
    struct topic *a, *b, *ab;
} rig;

static struct topic *topic_of(const char *name) {
    return topics_subscribe(&rig.topics, key_of(name), (struct delivery *)(void *)&rig,
                            &rig.subscriptions, 1);
}

static void rig_end(void) {
    struct interest *subscription;
    table_pages_release(&rig.pages);
    while ((subscription = LIST_FIRST(&rig.subscriptions)) != NULL) {
        topics_end(&rig.topics, subscription);
    }
    topics_release(&rig.topics);
}

static void rig_begin(void) {
    fixture_begin(rig_end);
    rig = (struct rig){0};
    topics_init(&rig.topics);
    table_pages_init(&rig.pages);
    rig.a = topic_of("a");
    rig.b = topic_of("b");
    rig.ab = topic_of("ab");
}

static void add(struct table_page *page, uint64_t id, bool is_gap, size_t bytes) {
    char *text = repeated('p', bytes);
    struct gap gap = gap_of(id, key_of("a"));
    if (is_gap) {
        table_page_add_gap(page, &gap);
    } else {
        table_page_add(page, id, payload_create(text, bytes));
    }
    free(text);
}

/* A READY page of all topics, after that id, up to end. */
static struct table_page *ready(uint64_t after, uint64_t end, size_t bytes) {
    struct table_page *page = table_pages_find(&rig.pages, NULL, 0, after);
    assert_int_equal(page->state, TABLE_PAGE_WANTED);
    add(page, after + 1, false, bytes);
    table_pages_settle(&rig.pages, page, end);
    assert_int_equal(page->state, TABLE_PAGE_READY);
    return page;
}

static void test_same_topics_and_id_are_one_page(void **state) {
    rig_begin();
    struct topic *ab[] = {rig.a, rig.b};
    struct topic *ba[] = {rig.b, rig.a};
    struct topic *joined[] = {rig.ab};
    struct table_page *page = table_pages_find(&rig.pages, ab, 2, 5);
    assert_ptr_equal(table_pages_find(&rig.pages, ba, 2, 5), page);
    assert_ptr_not_equal(table_pages_find(&rig.pages, ab, 2, 6), page);
    assert_ptr_not_equal(table_pages_find(&rig.pages, ab, 1, 5), page);
    assert_ptr_not_equal(table_pages_find(&rig.pages, joined, 1, 5), page);
    assert_ptr_not_equal(table_pages_find(&rig.pages, NULL, 0, 5), page);
    assert_int_equal(table_page_topics(page).length, 6);
    assert_memory_equal(table_page_topics(page).at, "\na\0\nb\0", 6);
}

/* A page covers positions from its start to just before its end. */
static void test_covers(void **state) {
    rig_begin();
    struct topic *topics[] = {rig.a};
    struct table_page *page = table_pages_find(&rig.pages, topics, 1, 5);
    add(page, 7, false, 1);
    table_pages_settle(&rig.pages, page, 9);
    for (uint64_t id = 0; id <= 12; id++) {
        struct table_page *found = table_pages_find(&rig.pages, topics, 1, id);
        assert_int_equal(found == page, id >= 5 && id < 9);
        assert_int_equal(found->state, found == page ? TABLE_PAGE_READY : TABLE_PAGE_WANTED);
    }
}

/* Ids between 7 and the next event were left out. A client with one of them has it from another
 * table, and only the page that begins there shows that. */
static void test_ids_left_out_are_not_covered(void **state) {
    rig_begin();
    uint64_t next = 7 + SCHEMA_LEAP_IDS;
    struct table_page *page = table_pages_find(&rig.pages, NULL, 0, 5);
    add(page, 7, false, 1);
    add(page, next, false, 1);
    table_pages_settle(&rig.pages, page, next + 3 * SCHEMA_LEAP_IDS);
    const uint64_t covered[] = {5, 6, 7, next};
    const uint64_t left_out[] = {8, 1000, next - 1, next + 1, next + SCHEMA_LEAP_IDS};
    for (size_t i = 0; i < length_of(covered); i++) {
        assert_ptr_equal(table_pages_find(&rig.pages, NULL, 0, covered[i]), page);
    }
    for (size_t i = 0; i < length_of(left_out); i++) {
        assert_ptr_not_equal(table_pages_find(&rig.pages, NULL, 0, left_out[i]), page);
    }
}

/* Of two pages that cover a position the newest is used. */
static void test_the_youngest_of_two(void **state) {
    rig_begin();
    struct table_page *old = ready(5, 9, 1);
    struct table_page *young = ready(4, 12, 1);
    assert_ptr_equal(table_pages_find(&rig.pages, NULL, 0, 4), young);
    assert_ptr_equal(table_pages_find(&rig.pages, NULL, 0, 6), young);
    assert_ptr_not_equal(table_pages_find(&rig.pages, NULL, 0, 6), old);
}

static void test_next(void **state) {
    static const struct {
        uint64_t after;
        uint64_t id; /* 0: none */
    } cases[] = {{0, 3}, {2, 3}, {3, 9}, {4, 9}, {8, 9}, {9, 0}, {UINT64_MAX, 0}};
    rig_begin();
    struct table_page *page = table_pages_find(&rig.pages, NULL, 0, 2);
    add(page, 3, false, 10);
    add(page, 4, true, 10);
    add(page, 9, false, 10);
    table_pages_settle(&rig.pages, page, 12);
    for (size_t i = 0; i < length_of(cases); i++) {
        const struct table_row *entry = table_page_next(page, cases[i].after);
        assert_int_equal(entry == NULL ? 0 : entry->id, cases[i].id);
    }
    size_t count;
    const struct gap *gaps = table_page_gaps(page, &count);
    assert_int_equal(count, 1);
    assert_int_equal(gaps[0].id, 4);
    assert_true(gap_is_about(&gaps[0], rig.a));
    assert_false(gap_is_about(&gaps[0], rig.b));
    assert_false(gap_is_about(&gaps[0], rig.ab));
    struct gap of_all = gap_of(5, key_of(NULL));
    assert_true(gap_is_about(&of_all, rig.b));
    page = table_pages_find(&rig.pages, NULL, 0, 20);
    table_pages_settle(&rig.pages, page, 30);
    assert_null(table_page_next(page, 0));
}

/* The page that was wanted first is read first; a page without waiters is freed. */
static int called;

static void on_page(struct page_waiter *waiter) {
    called++;
}

static void test_wanted(void **state) {
    struct page_waiter waiters[2] = {{.on_page = on_page}, {.on_page = on_page}};
    rig_begin();
    struct topic *topics[] = {rig.a};
    assert_null(table_pages_next_wanted(&rig.pages));
    assert_int_equal(table_pages_find(&rig.pages, topics, 1, 1)->state, TABLE_PAGE_WANTED);
    struct table_page *second = table_pages_find(&rig.pages, topics, 1, 2);
    struct table_page *fourth = table_pages_find(&rig.pages, topics, 1, 4);
    table_page_await(second, &waiters[0]);
    table_page_await(fourth, &waiters[1]);
    assert_ptr_equal(table_pages_next_wanted(&rig.pages), second);
    page_waiter_leave(&waiters[0]);
    assert_ptr_equal(table_pages_next_wanted(&rig.pages), fourth);
    table_pages_settle(&rig.pages, fourth, 5);
    assert_int_equal(called, 1);
    assert_null(waiters[1].page);
    assert_null(table_pages_next_wanted(&rig.pages));
    assert_int_equal(rig.pages.ready_count, 1);
}

static void test_oldest_goes_by_number(void **state) {
    rig_begin();
    for (unsigned i = 0; i < TABLE_PAGES_MAX + 3; i++) {
        (void)ready(10 * i, 10 * i + 5, 1);
        assert_int_equal(rig.pages.ready_count, i < TABLE_PAGES_MAX ? i + 1 : TABLE_PAGES_MAX);
    }
    assert_int_equal(table_pages_find(&rig.pages, NULL, 0, 20)->state, TABLE_PAGE_WANTED);
    assert_int_equal(table_pages_find(&rig.pages, NULL, 0, 30)->state, TABLE_PAGE_READY);
}

static void test_oldest_goes_by_bytes(void **state) {
    rig_begin();
    for (unsigned i = 0; i < 8; i++) {
        (void)ready(10 * i, 10 * i + 5, TABLE_PAGES_BYTES_MAX / 4 - 1000);
        assert_true(rig.pages.bytes <= TABLE_PAGES_BYTES_MAX);
        assert_int_equal(rig.pages.ready_count, i < 4 ? i + 1 : 4);
    }
    struct table_page *large = ready(100, 101, 2 * TABLE_PAGES_BYTES_MAX); /* stays, alone */
    assert_int_equal(rig.pages.ready_count, 1);
    assert_ptr_equal(table_pages_find(&rig.pages, NULL, 0, 100), large);
    (void)ready(110, 111, 1);
    assert_int_equal(rig.pages.ready_count, 1);
    assert_true(rig.pages.bytes < 1000);
}

static void test_forget(void **state) {
    rig_begin();
    (void)ready(1, 5, 100);
    struct table_page *wanted = table_pages_find(&rig.pages, NULL, 0, 7);
    struct page_waiter waiter = {0};
    table_page_await(wanted, &waiter);
    table_pages_forget(&rig.pages);
    assert_int_equal(rig.pages.ready_count, 0);
    assert_int_equal(rig.pages.bytes, 0);
    assert_ptr_equal(table_pages_next_wanted(&rig.pages), wanted);
    page_waiter_leave(&waiter);
    assert_int_equal(table_pages_find(&rig.pages, NULL, 0, 1)->state, TABLE_PAGE_WANTED);
}

static void test_most_topics(void **state) {
    struct topic *topics[NAMES_MAX];
    struct topic *reversed[NAMES_MAX];
    rig_begin();
    for (unsigned i = 0; i < NAMES_MAX; i++) {
        char *name = repeated((char)('0' + i), 255);
        topics[i] = topic_of(name);
        reversed[NAMES_MAX - 1 - i] = topics[i];
        free(name);
    }
    struct table_page *page = table_pages_find(&rig.pages, topics, NAMES_MAX, 1);
    assert_int_equal(table_page_topics(page).length, NAMES_MAX * 257);
    assert_ptr_equal(table_pages_find(&rig.pages, reversed, NAMES_MAX, 1), page);
}

RUN_TESTS(TEST(test_same_topics_and_id_are_one_page), TEST(test_covers),
          TEST(test_ids_left_out_are_not_covered), TEST(test_the_youngest_of_two), TEST(test_next),
          TEST(test_wanted), TEST(test_oldest_goes_by_number), TEST(test_oldest_goes_by_bytes),
          TEST(test_forget), TEST(test_most_topics))
