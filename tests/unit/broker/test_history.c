/* The log: what it keeps, what it lets go first, and that it never forgets having done so. */
#include "history.h"
#include "support.h"
#include "wire.h"

/* A log alone: no broker, no handlers but addresses. */
struct rig {
    struct topics topics;
    struct history *history; /* its floors are too large for a stack */
    struct subscription_list subscriptions;
    uint64_t place; /* of the newest entry */
};

static void rig_begin(struct rig *rig, size_t bytes_max, size_t ring_capacity) {
    *rig = (struct rig){0};
    topics_init(&rig->topics);
    rig->history = must_zalloc(sizeof *rig->history);
    history_init(rig->history, &rig->topics, bytes_max, ring_capacity);
}

static void rig_end(struct rig *rig) {
    struct subscription *subscription;
    history_release(rig->history);
    assert_int_equal(rig->history->bytes, 0);
    assert_int_equal(rig->history->count, 0);
    while ((subscription = LIST_FIRST(&rig->subscriptions)) != NULL) {
        topics_end(&rig->topics, subscription);
    }
    assert_int_equal(topics_count(&rig->topics), 0);
    topics_release(&rig->topics);
    free(rig->history);
}

static struct topic *rig_subscribe(struct rig *rig, const char *name) {
    return topics_subscribe(&rig->topics, slice_of(name), (struct handler *)(void *)rig,
                            &rig->subscriptions, 1);
}

/* A frame of so many bytes. */
static struct payload *frame_of(size_t length) {
    char *bytes = repeated('f', length);
    struct payload *frame = payload_create(bytes, length);
    free(bytes);
    return frame;
}

/* At the next place. */
static void rig_add(struct rig *rig, const char *name, size_t length) {
    struct payload *frame = frame_of(length);
    history_add(rig->history, topics_touch(&rig->topics, slice_of(name)), ++rig->place, frame);
    assert_true(rig->history->bytes <= rig->history->bytes_max);
    payload_unref(&frame);
}

static void rig_add_break(struct rig *rig) {
    struct payload *frame = frame_of(50);
    history_add_break(rig->history, ++rig->place, frame);
    assert_true(rig->history->bytes <= rig->history->bytes_max);
    payload_unref(&frame);
}

/* "1:a 2:b 3:|", oldest first. */
static void expect_log(const struct rig *rig, const char *wanted) {
    struct buf text = {0};
    const struct history_entry *entry;
    TAILQ_FOREACH(entry, &rig->history->entries, link) {
        buf_printf(&text, "%s%u:%s", text.length > 0 ? " " : "", (unsigned)entry->place,
                   entry->topic == NULL ? "|" : entry->topic->name);
    }
    expect_buf(&text, wanted);
}

static uint64_t floor_of(const struct rig *rig, const char *name) {
    const struct topic *topic = topics_find(&rig->topics, slice_of(name));
    assert_non_null(topic);
    return history_floor(rig->history, topic);
}

/* --- what is kept --------------------------------------------------------------------------------
 */

static void test_keeps_references_in_order(void **state) {
    (void)state;
    struct rig rig;
    struct payload *frame = frame_of(10);
    rig_begin(&rig, 1 << 20, 10);
    history_add(rig.history, topics_touch(&rig.topics, LITERAL("a")), 1, frame);
    assert_int_equal(frame->references, 2);
    history_add_break(rig.history, 2, frame);
    history_add(rig.history, topics_touch(&rig.topics, LITERAL("b")), 5, frame);
    assert_int_equal(frame->references, 4);
    expect_log(&rig, "1:a 2:| 5:b");
    assert_int_equal(rig.history->count, 3);
    assert_int_equal(rig.history->dropped, 0);
    rig_end(&rig);
    assert_int_equal(frame->references, 1);
    payload_unref(&frame);
}

static void test_oldest_goes_first(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig, 8 * 1024, 1000);
    rig_add(&rig, "a", 3000);
    rig_add(&rig, "b", 100);
    rig_add(&rig, "a", 3000);
    expect_log(&rig, "1:a 2:b 3:a");
    rig_add(&rig, "c", 3000);
    expect_log(&rig, "2:b 3:a 4:c");
    assert_int_equal(rig.history->dropped, 1);
    rig_add(&rig, "d", 4000);
    expect_log(&rig, "4:c 5:d"); /* as many as are needed, whatever they are about */
    assert_int_equal(rig.history->dropped, 3);
    rig_end(&rig);
}

static void test_capacity_of_one_topic(void **state) {
    (void)state;
    static const struct {
        size_t capacity;
        const char *log;
    } cases[] = {{1, "6:b 7:a"},
                 {2, "3:b 5:a 6:b 7:a"},
                 {3, "1:b 3:b 4:a 5:a 6:b 7:a"},
                 {4, "1:b 2:a 3:b 4:a 5:a 6:b 7:a"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct rig rig;
        rig_begin(&rig, 1 << 20, cases[i].capacity);
        for (const char *name = "babaaba"; *name != '\0'; name++) {
            rig_add(&rig, (char[]){*name, '\0'}, 10);
        }
        expect_log(&rig, cases[i].log);
        assert_int_equal(rig.history->count + rig.history->dropped, 7);
        rig_end(&rig);
    }
}

static void test_breaks_have_no_capacity(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig, 1 << 20, 1);
    rig_add_break(&rig);
    rig_add_break(&rig);
    rig_add(&rig, "a", 1);
    rig_add_break(&rig);
    expect_log(&rig, "1:| 2:| 3:a 4:|");
    rig_end(&rig);
}

/* Nothing fits: nothing is kept, and nothing but the floors is left of it. */
static void test_nothing_fits(void **state) {
    (void)state;
    static const size_t limits[] = {0, 1, 100, 1000};
    for (size_t i = 0; i < length_of(limits); i++) {
        struct rig rig;
        rig_begin(&rig, limits[i], 10);
        (void)rig_subscribe(&rig, "read");
        rig_add(&rig, "read", 1000);
        rig_add(&rig, "unread", 1000);
        assert_int_equal(rig.history->count, 0);
        assert_int_equal(rig.history->bytes, 0);
        assert_int_equal(rig.history->dropped, 2);
        assert_null(topics_find(&rig.topics, LITERAL("unread")));
        assert_int_equal(floor_of(&rig, "read"), 1);
        rig_end(&rig);
    }
}

/* One event is larger than all that may be kept: it pushes out the others and itself. */
static void test_one_event_larger_than_the_limit(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig, 4096, 10);
    (void)rig_subscribe(&rig, "a");
    rig_add(&rig, "a", 10);
    rig_add(&rig, "b", 5000);
    expect_log(&rig, "");
    assert_null(topics_find(&rig.topics, LITERAL("b")));
    assert_int_equal(floor_of(&rig, "a"), 1);
    rig_add(&rig, "a", 10);
    expect_log(&rig, "3:a");
    rig_end(&rig);
}

/* --- floors
 * --------------------------------------------------------------------------------------- */

static void test_floor_is_the_newest_that_was_dropped(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig, 1 << 20, 2);
    (void)rig_subscribe(&rig, "a");
    (void)rig_subscribe(&rig, "b");
    (void)rig_subscribe(&rig, "c");
    assert_int_equal(floor_of(&rig, "a"), 0); /* the start */
    rig_add(&rig, "a", 10);
    rig_add(&rig, "b", 10);
    rig_add(&rig, "a", 10);
    assert_int_equal(floor_of(&rig, "a"), 0);
    rig_add(&rig, "a", 10);
    assert_int_equal(floor_of(&rig, "a"), 1);
    rig_add(&rig, "a", 10);
    assert_int_equal(floor_of(&rig, "a"), 3);
    assert_int_equal(floor_of(&rig, "b"), 0);
    rig_add(&rig, "b", 10);
    rig_add(&rig, "b", 10);
    assert_int_equal(floor_of(&rig, "b"), 2);
    assert_int_equal(floor_of(&rig, "a"), 3);
    assert_int_equal(floor_of(&rig, "c"), 0);
    rig_end(&rig);
}

/* It outlives the topic, which may come back. */
static void test_floor_of_a_topic_that_was_forgotten(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig, 4096, 10);
    rig_add(&rig, "a", 10);
    rig_add(&rig, "filler", 3500);
    assert_null(topics_find(&rig.topics, LITERAL("a")));
    (void)rig_subscribe(&rig, "a");
    assert_int_equal(floor_of(&rig, "a"), 1);
    rig_end(&rig);
}

static void test_break_that_leaves_is_a_floor_for_all(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig, 4096, 10);
    (void)rig_subscribe(&rig, "a");
    (void)rig_subscribe(&rig, "b");
    rig_add(&rig, "a", 10);
    rig_add_break(&rig);
    rig_add(&rig, "b", 10);
    assert_int_equal(floor_of(&rig, "b"), 0); /* in the log it is no floor */
    rig_add(&rig, "filler", 3500);
    expect_log(&rig, "4:filler");
    assert_int_equal(floor_of(&rig, "a"), 2); /* higher than its own */
    assert_int_equal(floor_of(&rig, "b"), 3); /* its own is higher */
    (void)rig_subscribe(&rig, "new");
    assert_int_equal(floor_of(&rig, "new"), 2);
    rig_end(&rig);
}

/* Two names of one slot, found by trial: what one loses refreshes the other, and what the older of
 * them loses later does not hide what the younger one has lost. */
static void test_collisions_refresh_and_never_hide(void **state) {
    (void)state;
    enum { NAMES = 2000 };
    struct rig rig;
    static char names[NAMES][16];
    static const char *by_slot[HISTORY_FLOORS];
    const char *one = NULL;
    const char *other = NULL;
    rig_begin(&rig, 1 << 20, 1);
    memset(by_slot, 0, sizeof by_slot);
    for (size_t i = 0; i < NAMES && other == NULL; i++) {
        snprintf(names[i], sizeof names[i], "name-%zu", i);
        size_t slot = rig_subscribe(&rig, names[i])->hh.hashv % HISTORY_FLOORS;
        one = by_slot[slot];
        other = one == NULL ? NULL : names[i];
        by_slot[slot] = names[i];
    }
    assert_non_null(other);
    rig_add(&rig, one, 10);   /* 1 */
    rig_add(&rig, other, 10); /* 2 */
    rig_add(&rig, other, 10); /* 3: 2 goes */
    assert_int_equal(floor_of(&rig, one), 2);
    assert_int_equal(floor_of(&rig, other), 2);
    rig_add(&rig, one, 10); /* 4: 1 goes, which is older */
    assert_int_equal(floor_of(&rig, one), 2);
    assert_int_equal(floor_of(&rig, other), 2);
    rig_end(&rig);
}

/* --- topics
 * --------------------------------------------------------------------------------------- */

static void test_topics_without_subscriber_vanish_with_their_last_entry(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig, 1 << 20, 1);
    struct topic *wanted = rig_subscribe(&rig, "wanted");
    rig_add(&rig, "unread", 10);
    rig_add(&rig, "wanted", 10);
    rig_add(&rig, "unread", 10); /* the one before goes, the topic stays */
    assert_non_null(topics_find(&rig.topics, LITERAL("unread")));
    assert_int_equal(topics_count(&rig.topics), 2);
    rig.history->bytes_max = 0; /* all have to go at the next */
    rig_add_break(&rig);
    assert_null(topics_find(&rig.topics, LITERAL("unread")));
    assert_ptr_equal(topics_find(&rig.topics, LITERAL("wanted")), wanted);
    assert_int_equal(wanted->trail.count, 0);
    rig_end(&rig);
}

/* --- reading
 * -------------------------------------------------------------------------------------- */

static void test_next_of_several_topics_and_breaks(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig, 1 << 20, 100);
    struct topic *topics[] = {rig_subscribe(&rig, "a"), rig_subscribe(&rig, "b"),
                              rig_subscribe(&rig, "none")};
    for (const char *name = "cab|cc|ba"; *name != '\0'; name++) {
        if (*name == '|') {
            rig_add_break(&rig);
        } else {
            rig_add(&rig, (char[]){*name, '\0'}, 10);
        }
    }
    static const struct {
        size_t topic_count;
        uint64_t place;
        uint64_t next; /* 0: none */
    } cases[] = {{2, 0, 2}, {2, 1, 2}, {2, 2, 3}, {2, 3, 4}, {2, 4, 7}, {2, 6, 7},
                 {2, 7, 8}, {2, 8, 9}, {2, 9, 0}, {1, 0, 2}, {1, 2, 4}, {1, 7, 9},
                 {3, 0, 2}, {3, 9, 0}, {0, 0, 4}, {0, 4, 7}, {0, 7, 0}};
    for (size_t i = 0; i < length_of(cases); i++) {
        const struct history_entry *entry =
            history_next(rig.history, topics, cases[i].topic_count, cases[i].place);
        if ((entry == NULL ? 0 : entry->place) != cases[i].next) {
            fail_msg("case %zu", i);
        }
    }
    rig_end(&rig);
}

static void test_after(void **state) {
    (void)state;
    static const uint64_t places[] = {3, 4, 8, 9};
    static const struct {
        uint64_t place;
        uint64_t after; /* 0: none */
    } cases[] = {{0, 3}, {2, 3}, {3, 4}, {4, 8}, {5, 8}, {7, 8}, {8, 9}, {9, 0}, {UINT64_MAX, 0}};
    struct rig rig;
    struct payload *frame = frame_of(10);
    rig_begin(&rig, 1 << 20, 100);
    assert_null(history_after(rig.history, 0));
    for (size_t i = 0; i < length_of(places); i++) {
        history_add(rig.history, topics_touch(&rig.topics, LITERAL("a")), places[i], frame);
    }
    for (size_t i = 0; i < length_of(cases); i++) {
        const struct history_entry *entry = history_after(rig.history, cases[i].place);
        assert_int_equal(entry == NULL ? 0 : entry->place, cases[i].after);
    }
    payload_unref(&frame);
    rig_end(&rig);
}

/* --- by chance, against a plain model
 * ------------------------------------------------------------- */

enum { TOPICS = 12, STEPS = 1500 };

/* What has come, and whether it is still there. */
struct model {
    int topics[STEPS + 1]; /* by place; -1: a break */
    bool is_kept[STEPS + 1];
};

static void model_note_drops(struct model *model, const struct rig *rig) {
    const struct history_entry *entry;
    uint64_t before = 0;
    memset(model->is_kept, 0, sizeof model->is_kept);
    TAILQ_FOREACH(entry, &rig->history->entries, link) {
        assert_true(entry->place > before);
        before = entry->place;
        model->is_kept[entry->place] = true;
    }
}

static uint64_t model_newest_drop(const struct model *model, int topic, uint64_t last) {
    while (last > 0 &&
           (model->is_kept[last] || (model->topics[last] != topic && model->topics[last] != -1))) {
        last--;
    }
    return last;
}

static uint64_t model_next(const struct model *model, unsigned wanted, uint64_t place,
                           uint64_t last) {
    for (place++; place <= last; place++) {
        int topic = model->topics[place];
        if (model->is_kept[place] && (topic == -1 || (wanted & 1u << topic) != 0)) {
            return place;
        }
    }
    return 0;
}

/* Per topic no more than the capacity; and what is gone is older than what is there, of its topic
 * because of the capacity, of all because of the bytes. */
static void expect_oldest_went_first(const struct model *model, size_t capacity, uint64_t last) {
    for (int topic = 0; topic < TOPICS; topic++) {
        size_t kept = 0;
        bool was_kept = false;
        for (uint64_t place = 1; place <= last; place++) {
            if (model->topics[place] == topic) {
                assert_true(model->is_kept[place] || !was_kept);
                was_kept = model->is_kept[place];
                kept += was_kept ? 1 : 0;
            }
        }
        assert_true(kept <= capacity);
    }
}

static void run_by_chance(uint32_t seed) {
    static struct model model;
    uint32_t random = seed;
    struct rig rig;
    struct topic *topics[TOPICS];
    char names[TOPICS][8];
    size_t capacity = 1 + next_random(&random) % 9;
    rig_begin(&rig, next_random(&random) % 30000, capacity);
    for (int i = 0; i < TOPICS; i++) {
        snprintf(names[i], sizeof names[i], "t%d", i);
        topics[i] = rig_subscribe(&rig, names[i]);
    }
    for (int step = 0; step < STEPS; step++) {
        int topic = (int)(next_random(&random) % (TOPICS * 4)) / 4;
        if (next_random(&random) % 40 == 0) {
            rig_add_break(&rig);
            topic = -1;
        } else {
            rig_add(&rig, names[topic], 1 + next_random(&random) % 900);
        }
        model.topics[rig.place] = topic;
        if (step % 16 != 0) {
            continue;
        }
        model_note_drops(&model, &rig);
        expect_oldest_went_first(&model, capacity, rig.place);
        for (int i = 0; i < TOPICS; i++) {
            assert_int_equal(history_floor(rig.history, topics[i]),
                             model_newest_drop(&model, i, rig.place));
        }
        size_t count = next_random(&random) % (TOPICS + 1);
        uint64_t place = next_random(&random) % (rig.place + 1);
        const struct history_entry *next = history_next(rig.history, topics, count, place);
        const struct history_entry *after = history_after(rig.history, place);
        assert_int_equal(next == NULL ? 0 : next->place,
                         model_next(&model, (1u << count) - 1, place, rig.place));
        assert_int_equal(after == NULL ? 0 : after->place,
                         model_next(&model, UINT32_MAX, place, rig.place));
    }
    rig_end(&rig);
}

static void test_by_chance(void **state) {
    (void)state;
    for (uint32_t seed = 1; seed <= 40; seed++) {
        run_by_chance(seed);
    }
}

/* --- memory
 * --------------------------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static bool is_measurable(void) {
    return false; /* a sanitizer's own memory would be measured */
}
#else
static bool is_measurable(void) {
    return true;
}
#endif

static size_t proportional_bytes(void) {
    char line[256];
    size_t kib = 0;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "Pss: %zu kB", &kib) == 1) {
            break;
        }
    }
    fclose(file);
    assert_true(kib > 0);
    return kib * 1024;
}

/* A million events to as many topics that nobody reads. */
static void test_flood_stays_within_its_memory(void **state) {
    (void)state;
    enum { FLOOD = 1000000, MIB = 1024 * 1024 };
    static const size_t limits[] = {1 * MIB, 32 * MIB};
    if (!is_measurable()) {
        skip();
    }
    for (size_t i = 0; i < length_of(limits); i++) {
        struct rig rig;
        size_t before = proportional_bytes();
        rig_begin(&rig, limits[i], 1024);
        for (unsigned n = 0; n < FLOOD; n++) {
            char name[40];
            struct wire_event event = {.topic = {name, 0}, .body = LITERAL("data: 1\n\n")};
            event.topic.length = (size_t)snprintf(name, sizeof name, "unread/topic/%u", n);
            struct payload *frame = wire_encode_event(&event);
            history_add(rig.history, topics_touch(&rig.topics, event.topic), ++rig.place, frame);
            payload_unref(&frame);
        }
        size_t grown = proportional_bytes() - before;
        assert_int_equal(rig.history->count + rig.history->dropped, FLOOD);
        assert_int_equal(topics_count(&rig.topics), rig.history->count);
        if (grown > 8 * MIB + limits[i] / 2 * 3) {
            fail_msg("%zu KiB for a log of %zu KiB", grown / 1024, limits[i] / 1024);
        }
        rig_end(&rig);
    }
}

RUN_TESTS(TEST(test_keeps_references_in_order), TEST(test_oldest_goes_first),
          TEST(test_capacity_of_one_topic), TEST(test_breaks_have_no_capacity),
          TEST(test_nothing_fits), TEST(test_one_event_larger_than_the_limit),
          TEST(test_floor_is_the_newest_that_was_dropped),
          TEST(test_floor_of_a_topic_that_was_forgotten),
          TEST(test_break_that_leaves_is_a_floor_for_all),
          TEST(test_collisions_refresh_and_never_hide),
          TEST(test_topics_without_subscriber_vanish_with_their_last_entry),
          TEST(test_next_of_several_topics_and_breaks), TEST(test_after), TEST(test_by_chance),
          TEST(test_flood_stays_within_its_memory))
