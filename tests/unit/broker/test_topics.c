/* Topics: which handlers want which, and which topics are freed. Handlers are only addresses here,
 * and the test plays the log: its entries are in the topics' trails. */
#include "history.h"
#include "support.h"
#include "topics.h"

struct fake {
    char place; /* its address stands for a handler */
    struct interest_list list;
};

static struct delivery *delivery_of(struct fake *fake) {
    return (struct delivery *)(void *)fake;
}

static void subscribe(struct topics *topics, const char *name, struct fake *fake) {
    (void)topics_subscribe(topics, key_of(name), delivery_of(fake), &fake->list, 1);
}

static bool unsubscribe(struct topics *topics, const char *name, struct fake *fake) {
    return topics_unsubscribe(topics, key_of(name), delivery_of(fake), &fake->list);
}

static struct interest *interest(const struct topics *topics, const char *name, struct fake *fake) {
    return topics_interest(topics, key_of(name), delivery_of(fake), &fake->list);
}

static void leave(struct topics *topics, struct fake *fake) {
    struct interest *first;
    while ((first = LIST_FIRST(&fake->list)) != NULL) {
        topics_end(topics, first);
    }
}

static struct topic *find(const struct topics *topics, const char *name) {
    return topics_find(topics, key_of(name));
}

static void numbered(char *name, size_t size, int number) {
    snprintf(name, size, "topic-%d", number);
}

/* An event that the log keeps. */
static struct topic *hold(struct topics *topics, const char *name, struct entry *entry) {
    struct topic *topic = topics_touch(topics, key_of(name));
    trail_push(&topic->trail, entry);
    return topic;
}

/* The log drops the topic's oldest entry. */
static void let_go(struct topics *topics, const char *name) {
    struct topic *topic = find(topics, name);
    trail_drop_first(&topic->trail);
    topics_settle(topics, topic);
}

static void test_touch_creates_and_finds(void **state) {
    struct topics topics;
    struct entry entry = {.at.place = 1};
    topics_init(&topics);
    assert_null(find(&topics, "a"));
    struct topic *a = hold(&topics, "a", &entry);
    assert_ptr_equal(topics_touch(&topics, key_of("a")), a);
    assert_ptr_equal(find(&topics, "a"), a);
    expect_topic(topic_key_of(a), "a");
    assert_int_equal(a->subscribers, 0);
    assert_int_equal(topics_count(&topics), 1);
    assert_ptr_equal(TAILQ_FIRST(&topics.idle), a);
    let_go(&topics, "a");
    assert_int_equal(topics_count(&topics), 0);
    topics_release(&topics);
}

static void test_names_are_exact(void **state) {
    static const struct slice names[] = {LITERAL("a"), LITERAL("A"), LITERAL("ab"), LITERAL("a\0")};
    struct topics topics;
    struct topic *found[length_of(names)];
    topics_init(&topics);
    for (size_t i = 0; i < length_of(names); i++) {
        found[i] = topics_touch(&topics, key_of_slice(names[i]));
        for (size_t j = 0; j < i; j++) {
            assert_ptr_not_equal(found[i], found[j]);
        }
    }
    assert_int_equal(topics_count(&topics), length_of(names));
    for (size_t i = 0; i < length_of(names); i++) {
        topics_settle(&topics, found[i]);
    }
    topics_release(&topics);
}

static void test_subscribe_counts_clients(void **state) {
    struct topics topics;
    struct fake one = {0};
    struct fake two = {0};
    topics_init(&topics);
    subscribe(&topics, "a", &one);
    subscribe(&topics, "a", &one);
    subscribe(&topics, "a", &two);
    assert_int_equal(find(&topics, "a")->subscribers, 3);
    assert_int_equal(interest(&topics, "a", &one)->clients, 2);
    assert_int_equal(interest(&topics, "a", &two)->clients, 1);
    assert_true(TAILQ_EMPTY(&topics.idle));
    assert_true(unsubscribe(&topics, "a", &one));
    assert_int_equal(interest(&topics, "a", &one)->clients, 1);
    assert_true(unsubscribe(&topics, "a", &one));
    assert_null(interest(&topics, "a", &one));
    assert_false(unsubscribe(&topics, "a", &one));
    assert_int_equal(find(&topics, "a")->subscribers, 1);
    assert_true(unsubscribe(&topics, "a", &two));
    assert_null(find(&topics, "a")); /* nothing keeps it any more */
    topics_release(&topics);
}

/* A handler that resumes comes with all its clients at once. */
static void test_subscribe_many_clients_at_once(void **state) {
    struct topics topics;
    struct fake one = {0};
    topics_init(&topics);
    struct topic *a = topics_subscribe(&topics, key_of("a"), delivery_of(&one), &one.list, 1000000);
    assert_int_equal(a->subscribers, 1000000);
    assert_ptr_equal(topics_subscribe(&topics, key_of("a"), delivery_of(&one), &one.list, 5), a);
    subscribe(&topics, "a", &one);
    assert_int_equal(a->subscribers, 1000006);
    assert_int_equal(interest(&topics, "a", &one)->clients, 1000006);
    assert_true(unsubscribe(&topics, "a", &one));
    assert_int_equal(a->subscribers, 1000005);
    topics_end(&topics, interest(&topics, "a", &one));
    assert_int_equal(topics_count(&topics), 0);
    topics_release(&topics);
}

static void test_unsubscribe_what_is_not_there(void **state) {
    struct topics topics;
    struct fake one = {0};
    struct fake two = {0};
    topics_init(&topics);
    assert_false(unsubscribe(&topics, "a", &one));
    assert_null(find(&topics, "a"));
    subscribe(&topics, "a", &two);
    subscribe(&topics, "b", &one);
    assert_false(unsubscribe(&topics, "a", &one));
    assert_int_equal(find(&topics, "a")->subscribers, 1);
    leave(&topics, &one);
    leave(&topics, &two);
    topics_release(&topics);
}

/* A topic with many handlers, and a handler with many topics: both lists are walked in step. */
static void test_lookup_from_either_side(void **state) {
    enum { COUNT = 50 };
    struct topics topics;
    static struct fake fakes[COUNT];
    char name[32];
    memset(fakes, 0, sizeof fakes);
    topics_init(&topics);
    for (int i = 0; i < COUNT; i++) {
        subscribe(&topics, "shared", &fakes[i]);
        numbered(name, sizeof name, i);
        subscribe(&topics, name, &fakes[0]);
        subscribe(&topics, name, &fakes[i]);
    }
    for (int i = 0; i < COUNT; i++) {
        numbered(name, sizeof name, i);
        struct interest *shared = interest(&topics, "shared", &fakes[i]);
        struct interest *own = interest(&topics, name, &fakes[i]);
        assert_ptr_equal(shared->delivery, delivery_of(&fakes[i]));
        assert_ptr_equal(shared->topic, find(&topics, "shared"));
        assert_ptr_equal(own->delivery, delivery_of(&fakes[i]));
        assert_ptr_equal(own->topic, find(&topics, name));
        assert_null(interest(&topics, name, &fakes[i == 1 ? 2 : 1]));
    }
    for (int i = 0; i < COUNT; i++) {
        leave(&topics, &fakes[i]);
        assert_true(LIST_EMPTY(&fakes[i].list));
    }
    assert_int_equal(topics_count(&topics), 0);
    topics_release(&topics);
}

static void test_end_takes_all_clients_of_one_handler(void **state) {
    struct topics topics;
    struct fake one = {0};
    struct fake two = {0};
    topics_init(&topics);
    for (int i = 0; i < 5; i++) {
        subscribe(&topics, "a", &one);
    }
    subscribe(&topics, "a", &two);
    topics_end(&topics, interest(&topics, "a", &one));
    assert_int_equal(find(&topics, "a")->subscribers, 1);
    leave(&topics, &two);
    assert_null(find(&topics, "a"));
    topics_release(&topics);
}

/* Entries in the log keep a topic, and so do subscribers: it is freed with the last of both. */
static void test_a_topic_goes_with_the_last_that_kept_it(void **state) {
    struct topics topics;
    struct fake one = {0};
    struct entry entries[] = {{.at.place = 1}, {.at.place = 2}};
    topics_init(&topics);
    struct topic *a = hold(&topics, "a", &entries[0]);
    a->traffic.published = 7;
    subscribe(&topics, "a", &one);
    assert_ptr_equal(hold(&topics, "a", &entries[1]), a);
    let_go(&topics, "a");
    assert_true(unsubscribe(&topics, "a", &one));
    assert_ptr_equal(find(&topics, "a"), a); /* one entry is left */
    assert_int_equal(a->traffic.published, 7);
    let_go(&topics, "a");
    assert_null(find(&topics, "a"));
    hold(&topics, "a", &entries[0]);
    subscribe(&topics, "a", &one);
    let_go(&topics, "a");
    assert_non_null(find(&topics, "a")); /* one subscriber is left */
    leave(&topics, &one);
    assert_null(find(&topics, "a"));
    topics_release(&topics);
}

static void test_no_end_of_wanted_topics(void **state) {
    enum { COUNT = 70000 };
    struct topics topics;
    struct fake one = {0};
    char name[32];
    topics_init(&topics);
    for (int i = 0; i < COUNT; i++) {
        numbered(name, sizeof name, i);
        subscribe(&topics, name, &one);
    }
    assert_int_equal(topics_count(&topics), COUNT);
    leave(&topics, &one);
    assert_int_equal(topics_count(&topics), 0);
    topics_release(&topics);
}

/* An event moves a topic to the end of the list of idle ones. */
static void test_idle_ones_stand_in_order_of_activity(void **state) {
    static const char *const touched[] = {"a", "b", "c", "a", "d", "b"};
    static const char *const wanted[] = {"c", "a", "d", "b"};
    struct topics topics;
    struct topic *topic;
    struct topic *next;
    size_t i = 0;
    topics_init(&topics);
    for (size_t t = 0; t < length_of(touched); t++) {
        (void)topics_touch(&topics, key_of(touched[t]));
    }
    for (topic = TAILQ_FIRST(&topics.idle); topic != NULL; topic = next) {
        next = TAILQ_NEXT(topic, link);
        expect_topic(topic_key_of(topic), wanted[i++]);
        topics_settle(&topics, topic);
    }
    assert_int_equal(i, length_of(wanted));
    topics_release(&topics);
}

static void test_touch_keeps_wanted_ones_wanted(void **state) {
    struct topics topics;
    struct fake one = {0};
    struct entry entry = {.at.place = 1};
    topics_init(&topics);
    subscribe(&topics, "a", &one);
    struct topic *a = hold(&topics, "a", &entry);
    assert_ptr_equal(TAILQ_FIRST(&topics.wanted), a);
    assert_true(TAILQ_EMPTY(&topics.idle));
    leave(&topics, &one);
    assert_ptr_equal(TAILQ_FIRST(&topics.idle), a);
    assert_true(TAILQ_EMPTY(&topics.wanted));
    subscribe(&topics, "a", &one);
    assert_ptr_equal(TAILQ_FIRST(&topics.wanted), a);
    assert_true(TAILQ_EMPTY(&topics.idle));
    let_go(&topics, "a");
    leave(&topics, &one);
    topics_release(&topics);
}

/* --- patterns --------------------------------------------------------------------------------- */

/* "ab a* *": in any order, each once. */
static void expect_cover(const struct topics *topics, const char *name, const char *wanted) {
    struct topic_cover cover;
    const struct topic *topic;
    size_t found = 0;
    topics_cover(topics, key_of(name), &cover);
    while ((topic = topics_next_cover(&cover)) != NULL) {
        char own[32];
        struct slice text = topic_key_name(topic_key_of(topic));
        snprintf(own, sizeof own, " %.*s ", (int)text.length, text.at);
        assert_non_null(strstr(wanted, own));
        found += strlen(own) - 1;
    }
    assert_int_equal(found + 1, strlen(wanted));
}

static void test_covers(void **state) {
    struct topics topics;
    struct fake one = {0};
    struct fake two = {0};
    struct entry entry = {.at.place = 1};
    topics_init(&topics);
    expect_cover(&topics, "ab", " ");
    subscribe(&topics, "a*", &one);
    subscribe(&topics, "a*", &two);
    subscribe(&topics, "*", &two);
    subscribe(&topics, "b*", &two);
    subscribe(&topics, "ab", &one);
    assert_int_equal(topics.patterns.count, 3);
    expect_cover(&topics, "ab", " ab a* * ");
    expect_cover(&topics, "a", " a* * ");
    expect_cover(&topics, "c", " * ");
    expect_cover(&topics, "user:a", " ");
    struct topic *held = hold(&topics, "user:a", &entry);
    expect_cover(&topics, "user:a", " user:a ");
    assert_ptr_equal(find(&topics, "user:a"), held);
    leave(&topics, &two);
    assert_int_equal(topics.patterns.count, 1);
    expect_cover(&topics, "ab", " ab a* ");
    assert_true(unsubscribe(&topics, "a*", &one));
    assert_false(unsubscribe(&topics, "a*", &one));
    assert_null(find(&topics, "a*"));
    expect_cover(&topics, "ab", " ab ");
    leave(&topics, &one);
    let_go(&topics, "user:a");
    assert_int_equal(topics_count(&topics), 0);
    topics_release(&topics);
}

/* The topic of a published event that is called as a pattern is another one. */
static void test_topic_called_as_a_pattern(void **state) {
    struct topics topics;
    struct fake one = {0};
    struct entry entry = {.at.place = 1};
    struct topic_key star = {LITERAL("\n*")};
    topics_init(&topics);
    subscribe(&topics, "*", &one);
    struct topic *topic = topics_touch(&topics, star);
    trail_push(&topic->trail, &entry);
    assert_ptr_not_equal(topic, find(&topics, "*"));
    assert_false(topic_has_pattern(topic));
    assert_int_equal(topics.patterns.count, 1);
    leave(&topics, &one);
    assert_int_equal(topics.patterns.count, 0);
    trail_drop_first(&topic->trail);
    topics_settle(&topics, topic);
    topics_release(&topics);
}

RUN_TESTS(TEST(test_touch_creates_and_finds), TEST(test_names_are_exact),
          TEST(test_subscribe_counts_clients), TEST(test_subscribe_many_clients_at_once),
          TEST(test_unsubscribe_what_is_not_there), TEST(test_lookup_from_either_side),
          TEST(test_end_takes_all_clients_of_one_handler),
          TEST(test_a_topic_goes_with_the_last_that_kept_it), TEST(test_no_end_of_wanted_topics),
          TEST(test_idle_ones_stand_in_order_of_activity),
          TEST(test_touch_keeps_wanted_ones_wanted), TEST(test_covers),
          TEST(test_topic_called_as_a_pattern))
