/* Topics: who wants which, and which are forgotten. Handlers are nothing but addresses here, and
 * the log is played by hand: what it holds of a topic stands in its trail. */
#include "history.h"
#include "support.h"
#include "topics.h"

struct fake {
    char place; /* its address stands for a handler */
    struct subscription_list list;
};

static struct handler *handler_of(struct fake *fake) {
    return (struct handler *)(void *)fake;
}

static void subscribe(struct topics *topics, const char *name, struct fake *fake) {
    (void)topics_subscribe(topics, slice_of(name), handler_of(fake), &fake->list, 1);
}

static bool unsubscribe(struct topics *topics, const char *name, struct fake *fake) {
    return topics_unsubscribe(topics, slice_of(name), handler_of(fake), &fake->list);
}

static struct subscription *subscription(const struct topics *topics, const char *name,
                                         struct fake *fake) {
    return topics_subscription(topics, slice_of(name), handler_of(fake), &fake->list);
}

static void leave(struct topics *topics, struct fake *fake) {
    struct subscription *first;
    while ((first = LIST_FIRST(&fake->list)) != NULL) {
        topics_end(topics, first);
    }
}

static struct topic *find(const struct topics *topics, const char *name) {
    return topics_find(topics, slice_of(name));
}

static void numbered(char *name, size_t size, int number) {
    snprintf(name, size, "topic-%d", number);
}

/* An event that the log keeps. */
static struct topic *hold(struct topics *topics, const char *name, struct history_entry *entry) {
    struct topic *topic = topics_touch(topics, slice_of(name));
    trail_push(&topic->trail, entry);
    return topic;
}

/* The log lets its oldest one go. */
static void let_go(struct topics *topics, const char *name) {
    struct topic *topic = find(topics, name);
    trail_drop_first(&topic->trail);
    topics_settle(topics, topic);
}

static void test_touch_creates_and_finds(void **state) {
    (void)state;
    struct topics topics;
    struct history_entry entry = {.at.place = 1};
    topics_init(&topics);
    assert_null(find(&topics, "a"));
    struct topic *a = hold(&topics, "a", &entry);
    assert_ptr_equal(topics_touch(&topics, LITERAL("a")), a);
    assert_ptr_equal(find(&topics, "a"), a);
    assert_int_equal(a->name_length, 1);
    assert_memory_equal(a->name, "a", 1);
    assert_int_equal(a->subscribers, 0);
    assert_int_equal(topics_count(&topics), 1);
    assert_ptr_equal(TAILQ_FIRST(&topics.idle), a);
    let_go(&topics, "a");
    assert_int_equal(topics_count(&topics), 0);
    topics_release(&topics);
}

static void test_names_are_exact(void **state) {
    (void)state;
    static const struct slice names[] = {LITERAL("a"), LITERAL("A"), LITERAL("ab"), LITERAL("a\0")};
    struct topics topics;
    struct topic *found[length_of(names)];
    topics_init(&topics);
    for (size_t i = 0; i < length_of(names); i++) {
        found[i] = topics_touch(&topics, names[i]);
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
    (void)state;
    struct topics topics;
    struct fake one = {0};
    struct fake two = {0};
    topics_init(&topics);
    subscribe(&topics, "a", &one);
    subscribe(&topics, "a", &one);
    subscribe(&topics, "a", &two);
    assert_int_equal(find(&topics, "a")->subscribers, 3);
    assert_int_equal(subscription(&topics, "a", &one)->clients, 2);
    assert_int_equal(subscription(&topics, "a", &two)->clients, 1);
    assert_true(TAILQ_EMPTY(&topics.idle));
    assert_true(unsubscribe(&topics, "a", &one));
    assert_int_equal(subscription(&topics, "a", &one)->clients, 1);
    assert_true(unsubscribe(&topics, "a", &one));
    assert_null(subscription(&topics, "a", &one));
    assert_false(unsubscribe(&topics, "a", &one));
    assert_int_equal(find(&topics, "a")->subscribers, 1);
    assert_true(unsubscribe(&topics, "a", &two));
    assert_null(find(&topics, "a")); /* nothing keeps it any more */
    topics_release(&topics);
}

/* A handler that resumes comes with all its clients at once. */
static void test_subscribe_many_clients_at_once(void **state) {
    (void)state;
    struct topics topics;
    struct fake one = {0};
    topics_init(&topics);
    struct topic *a = topics_subscribe(&topics, LITERAL("a"), handler_of(&one), &one.list, 1000000);
    assert_int_equal(a->subscribers, 1000000);
    assert_ptr_equal(topics_subscribe(&topics, LITERAL("a"), handler_of(&one), &one.list, 5), a);
    subscribe(&topics, "a", &one);
    assert_int_equal(a->subscribers, 1000006);
    assert_int_equal(subscription(&topics, "a", &one)->clients, 1000006);
    assert_true(unsubscribe(&topics, "a", &one));
    assert_int_equal(a->subscribers, 1000005);
    topics_end(&topics, subscription(&topics, "a", &one));
    assert_int_equal(topics_count(&topics), 0);
    topics_release(&topics);
}

static void test_unsubscribe_what_is_not_there(void **state) {
    (void)state;
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
    (void)state;
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
        struct subscription *shared = subscription(&topics, "shared", &fakes[i]);
        struct subscription *own = subscription(&topics, name, &fakes[i]);
        assert_ptr_equal(shared->handler, handler_of(&fakes[i]));
        assert_ptr_equal(shared->topic, find(&topics, "shared"));
        assert_ptr_equal(own->handler, handler_of(&fakes[i]));
        assert_ptr_equal(own->topic, find(&topics, name));
        assert_null(subscription(&topics, name, &fakes[i == 1 ? 2 : 1]));
    }
    for (int i = 0; i < COUNT; i++) {
        leave(&topics, &fakes[i]);
        assert_true(LIST_EMPTY(&fakes[i].list));
    }
    assert_int_equal(topics_count(&topics), 0);
    topics_release(&topics);
}

static void test_end_takes_all_clients_of_one_handler(void **state) {
    (void)state;
    struct topics topics;
    struct fake one = {0};
    struct fake two = {0};
    topics_init(&topics);
    for (int i = 0; i < 5; i++) {
        subscribe(&topics, "a", &one);
    }
    subscribe(&topics, "a", &two);
    topics_end(&topics, subscription(&topics, "a", &one));
    assert_int_equal(find(&topics, "a")->subscribers, 1);
    leave(&topics, &two);
    assert_null(find(&topics, "a"));
    topics_release(&topics);
}

/* What the log holds of it keeps a topic, and so does a subscriber: it goes with the last of both.
 */
static void test_a_topic_goes_with_the_last_that_kept_it(void **state) {
    (void)state;
    struct topics topics;
    struct fake one = {0};
    struct history_entry entries[] = {{.at.place = 1}, {.at.place = 2}};
    topics_init(&topics);
    struct topic *a = hold(&topics, "a", &entries[0]);
    a->published = 7;
    subscribe(&topics, "a", &one);
    assert_ptr_equal(hold(&topics, "a", &entries[1]), a);
    let_go(&topics, "a");
    assert_true(unsubscribe(&topics, "a", &one));
    assert_ptr_equal(find(&topics, "a"), a); /* one entry is left */
    assert_int_equal(a->published, 7);
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
    (void)state;
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

/* An event makes a topic the youngest of those without subscriber. */
static void test_idle_ones_stand_in_order_of_activity(void **state) {
    (void)state;
    static const char *const touched[] = {"a", "b", "c", "a", "d", "b"};
    static const char *const wanted[] = {"c", "a", "d", "b"};
    struct topics topics;
    struct topic *topic;
    struct topic *next;
    size_t i = 0;
    topics_init(&topics);
    for (size_t t = 0; t < length_of(touched); t++) {
        (void)topics_touch(&topics, slice_of(touched[t]));
    }
    for (topic = TAILQ_FIRST(&topics.idle); topic != NULL; topic = next) {
        next = TAILQ_NEXT(topic, link);
        expect_text((struct slice){topic->name, topic->name_length}, wanted[i++]);
        topics_settle(&topics, topic);
    }
    assert_int_equal(i, length_of(wanted));
    topics_release(&topics);
}

static void test_touch_keeps_wanted_ones_wanted(void **state) {
    (void)state;
    struct topics topics;
    struct fake one = {0};
    struct history_entry entry = {.at.place = 1};
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

RUN_TESTS(TEST(test_touch_creates_and_finds), TEST(test_names_are_exact),
          TEST(test_subscribe_counts_clients), TEST(test_subscribe_many_clients_at_once),
          TEST(test_unsubscribe_what_is_not_there), TEST(test_lookup_from_either_side),
          TEST(test_end_takes_all_clients_of_one_handler),
          TEST(test_a_topic_goes_with_the_last_that_kept_it), TEST(test_no_end_of_wanted_topics),
          TEST(test_idle_ones_stand_in_order_of_activity),
          TEST(test_touch_keeps_wanted_ones_wanted))
