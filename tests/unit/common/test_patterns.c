/* Which patterns match a topic, compared with a search through all of them. */
#include "patterns.h"
#include "support.h"

enum { MOST = 64, ROUNDS = 300 };

struct item {
    UT_hash_handle hh;
    char room[TOPIC_KEY_BYTES_MAX];
    struct topic_key key;
    unsigned found;
};

static struct patterns patterns;
static struct item items[MOST];
static struct item *table;

static struct item *item_of(struct topic_key key) {
    struct item *item;
    TOPIC_KEY_FIND(table, key, item);
    return item;
}

static void add(struct item *item, struct slice tenant, struct slice name) {
    item->key = topic_key_of_name(item->room, tenant, name);
    if (topic_key_is_pattern(item->key) && item_of(item->key) == NULL) {
        TOPIC_KEY_ADD(table, item->key, item);
        patterns_add(&patterns, item->key);
    }
}

static void take_out(struct item *item) {
    if (item->key.bytes.at == item->room && item_of(item->key) == item) {
        patterns_remove(&patterns, item->key);
        HASH_DEL(table, item);
    }
}

static void clear(void) {
    for (size_t i = 0; i < MOST; i++) {
        take_out(&items[i]);
    }
    assert_int_equal(patterns.count, 0);
    memset(items, 0, sizeof items);
}

/* Each that matches is found once, and nothing else. */
static void expect_all(struct topic_key topic) {
    struct pattern_search search;
    struct topic_key pattern;
    struct item *item;
    struct item *next;
    char *memory;
    struct topic_key copy = {exact(topic.bytes, &memory)};
    patterns_search(&patterns, copy, &search);
    free(memory);
    while (patterns_next(&search, &pattern)) {
        item = item_of(pattern);
        if (item != NULL) {
            item->found++;
        }
    }
    HASH_ITER(hh, table, item, next) {
        assert_int_equal(item->found, topic_key_covers(item->key, topic) ? 1 : 0);
        item->found = 0;
    }
}

static struct slice draw_name(uint32_t *random, char room[16]) {
    static const char *const starts[] = {"", "", "user:", "a", "ab"};
    size_t length = (size_t)snprintf(room, 16, "%s", starts[next_random(random) % 5]);
    for (uint32_t more = next_random(random) % 5; more > 0; more--) {
        room[length++] = "ab.*"[next_random(random) % 4];
    }
    return (struct slice){room, length};
}

static struct slice draw_tenant(uint32_t *random) {
    static const char *const tenants[] = {"", "a", "ab"};
    return slice_of(tenants[next_random(random) % 3]);
}

static void test_by_chance(void **state) {
    uint32_t random = 1;
    for (int round = 0; round < ROUNDS; round++) {
        char room[TOPIC_KEY_BYTES_MAX];
        char name[16];
        for (uint32_t i = 0; i < MOST / 4; i++) {
            struct item *item = &items[next_random(&random) % MOST];
            take_out(item);
            add(item, draw_tenant(&random), draw_name(&random, name));
        }
        for (int i = 0; i < 50; i++) {
            struct slice drawn = draw_name(&random, name);
            struct topic_key topic = topic_key_make(room, draw_tenant(&random), drawn);
            if (!topic_key_is_none(topic)) {
                expect_all(topic);
            }
        }
    }
    clear();
}

static void test_longest(void **state) {
    char room[TOPIC_KEY_BYTES_MAX];
    char *name = repeated('x', TOPIC_BYTES_MAX);
    char *tenant = repeated('t', TENANT_BYTES_MAX);
    struct topic_key topic = topic_key_make(room, slice_of(tenant), slice_of(name));
    for (size_t i = 0; i < MOST; i++) {
        char *start = repeated('x', TOPIC_BYTES_MAX);
        size_t length = TOPIC_BYTES_MAX - i;
        start[length - 1] = '*';
        add(&items[i], slice_of(tenant), (struct slice){start, length});
        free(start);
    }
    assert_int_equal(patterns.count, MOST);
    expect_all(topic);
    clear();
    free(name);
    free(tenant);
}

static void test_none(void **state) {
    struct pattern_search search;
    struct topic_key pattern;
    patterns_search(&patterns, key_of("a"), &search);
    assert_false(patterns_next(&search, &pattern));
    expect_all(key_of("a"));
}

RUN_TESTS(TEST(test_by_chance), TEST(test_longest), TEST(test_none))
