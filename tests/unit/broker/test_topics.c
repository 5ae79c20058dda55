/* Topics: who wants which, and which are forgotten. Handlers are nothing but addresses here. */
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
    topics_subscribe(topics, slice_of(name), handler_of(fake), &fake->list);
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

static void test_touch_creates_and_finds(void **state) {
    (void)state;
    struct topics topics;
    topics_init(&topics);
    assert_null(find(&topics, "a"));
    struct topic *a = topics_touch(&topics, LITERAL("a"));
    assert_ptr_equal(topics_touch(&topics, LITERAL("a")), a);
    assert_ptr_equal(find(&topics, "a"), a);
    assert_int_equal(a->name_length, 1);
    assert_memory_equal(a->name, "a", 1);
    assert_int_equal(a->subscribers, 0);
    assert_int_equal(topics_count(&topics), 1);
    assert_int_equal(topics.idle_count, 1);
    topics_release(&topics);
}

static void test_names_are_exact(void **state) {
    (void)state;
    struct topics topics;
    topics_init(&topics);
    struct topic *plain = topics_touch(&topics, LITERAL("a"));
    struct topic *upper = topics_touch(&topics, LITERAL("A"));
    struct topic *longer = topics_touch(&topics, LITERAL("ab"));
    struct topic *with_nul = topics_touch(&topics, LITERAL("a\0"));
    assert_true(plain != upper && plain != longer && plain != with_nul && longer != with_nul);
    assert_int_equal(topics_count(&topics), 4);
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
    assert_int_equal(topics.idle_count, 0);
    assert_true(unsubscribe(&topics, "a", &one));
    assert_int_equal(subscription(&topics, "a", &one)->clients, 1);
    assert_true(unsubscribe(&topics, "a", &one));
    assert_null(subscription(&topics, "a", &one));
    assert_false(unsubscribe(&topics, "a", &one));
    assert_int_equal(find(&topics, "a")->subscribers, 1);
    assert_true(unsubscribe(&topics, "a", &two));
    assert_int_equal(find(&topics, "a")->subscribers, 0);
    assert_int_equal(topics.idle_count, 1);
    assert_int_equal(topics_count(&topics), 1);
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
    assert_int_equal(find(&topics, "shared")->subscribers, 0);
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
    assert_int_equal(topics.idle_count, 1);
    topics_release(&topics);
}

static void test_idle_bound(void **state) {
    (void)state;
    struct topics topics;
    char name[32];
    topics_init(&topics);
    for (int i = 0; i < TOPICS_IDLE_MAX + 1000; i++) {
        numbered(name, sizeof name, i);
        struct topic *topic = topics_touch(&topics, slice_of(name));
        assert_int_equal(topic->name_length, strlen(name));
        assert_true(topics_count(&topics) <= TOPICS_IDLE_MAX);
    }
    assert_int_equal(topics.idle_count, TOPICS_IDLE_MAX);
    assert_null(find(&topics, "topic-0"));
    assert_null(find(&topics, "topic-999"));
    assert_non_null(find(&topics, "topic-1000"));
    topics_release(&topics);
    assert_int_equal(topics_count(&topics), 0);
}

/* An event makes a topic the youngest; so it outlives those that were quiet. */
static void test_oldest_is_forgotten_first(void **state) {
    (void)state;
    struct topics topics;
    char name[32];
    topics_init(&topics);
    for (int i = 0; i < TOPICS_IDLE_MAX; i++) {
        numbered(name, sizeof name, i);
        (void)topics_touch(&topics, slice_of(name));
    }
    (void)topics_touch(&topics, LITERAL("topic-0"));
    (void)topics_touch(&topics, LITERAL("new-1"));
    (void)topics_touch(&topics, LITERAL("new-2"));
    assert_non_null(find(&topics, "topic-0"));
    assert_null(find(&topics, "topic-1"));
    assert_null(find(&topics, "topic-2"));
    assert_non_null(find(&topics, "topic-3"));
    topics_release(&topics);
}

static void test_subscribed_is_never_forgotten(void **state) {
    (void)state;
    struct topics topics;
    struct fake one = {0};
    char name[32];
    topics_init(&topics);
    subscribe(&topics, "wanted", &one);
    find(&topics, "wanted")->published = 7;
    for (int i = 0; i < TOPICS_IDLE_MAX + 10; i++) {
        numbered(name, sizeof name, i);
        (void)topics_touch(&topics, slice_of(name));
    }
    assert_int_equal(topics_count(&topics), TOPICS_IDLE_MAX + 1);
    assert_int_equal(find(&topics, "wanted")->published, 7);
    /* unsubscribed it is one of the idle, and the youngest of them */
    assert_true(unsubscribe(&topics, "wanted", &one));
    assert_int_equal(topics.idle_count, TOPICS_IDLE_MAX);
    assert_non_null(find(&topics, "wanted"));
    assert_null(find(&topics, "topic-10"));
    topics_release(&topics);
}

/* More wanted topics than idle ones may be kept: the bound is for those without subscriber. */
static void test_many_subscribed_topics(void **state) {
    (void)state;
    struct topics topics;
    struct fake one = {0};
    char name[32];
    topics_init(&topics);
    for (int i = 0; i < TOPICS_IDLE_MAX + 100; i++) {
        numbered(name, sizeof name, i);
        subscribe(&topics, name, &one);
    }
    assert_int_equal(topics_count(&topics), TOPICS_IDLE_MAX + 100);
    assert_int_equal(topics.idle_count, 0);
    leave(&topics, &one);
    assert_int_equal(topics_count(&topics), TOPICS_IDLE_MAX);
    topics_release(&topics);
}

static void test_touch_keeps_wanted_ones_wanted(void **state) {
    (void)state;
    struct topics topics;
    struct fake one = {0};
    topics_init(&topics);
    subscribe(&topics, "a", &one);
    struct topic *a = topics_touch(&topics, LITERAL("a"));
    assert_ptr_equal(TAILQ_FIRST(&topics.wanted), a);
    assert_true(TAILQ_EMPTY(&topics.idle));
    leave(&topics, &one);
    assert_ptr_equal(TAILQ_FIRST(&topics.idle), a);
    assert_true(TAILQ_EMPTY(&topics.wanted));
    subscribe(&topics, "a", &one);
    assert_ptr_equal(TAILQ_FIRST(&topics.wanted), a);
    assert_int_equal(topics.idle_count, 0);
    leave(&topics, &one);
    topics_release(&topics);
}

RUN_TESTS(TEST(test_touch_creates_and_finds), TEST(test_names_are_exact),
          TEST(test_subscribe_counts_clients), TEST(test_unsubscribe_what_is_not_there),
          TEST(test_lookup_from_either_side), TEST(test_end_takes_all_clients_of_one_handler),
          TEST(test_idle_bound), TEST(test_oldest_is_forgotten_first),
          TEST(test_subscribed_is_never_forgotten), TEST(test_many_subscribed_topics),
          TEST(test_touch_keeps_wanted_ones_wanted))
