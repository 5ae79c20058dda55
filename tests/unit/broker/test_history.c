/* The log: what it keeps, what it lets go first, and that it never forgets having done so. */
#include "history.h"
#include "support.h"
#include "wire.h"

/* A log alone: no broker, no handlers but addresses. */
struct rig {
    struct topics topics;
    struct history *history; /* its floors are too large for a stack */
    struct subscription_list subscriptions;
    struct cursor at; /* of the newest entry */
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

static void rig_add_kind(struct rig *rig, enum history_kind kind, const char *name, size_t length) {
    struct payload *frame = frame_of(length);
    struct topic *topic = name == NULL ? NULL : topics_touch(&rig->topics, slice_of(name));
    bool is_durable = kind == HISTORY_DURABLE;
    rig->at.place += is_durable ? 0 : 1;
    rig->at.durable += is_durable ? 1 : 0;
    history_add(rig->history, kind, topic, &rig->at, frame);
    assert_true(rig->history->bytes <= rig->history->bytes_max);
    payload_unref(&frame);
}

/* At the next place. */
static void rig_add(struct rig *rig, const char *name, size_t length) {
    rig_add_kind(rig, HISTORY_EPHEMERAL, name, length);
}

static void rig_add_break(struct rig *rig) {
    rig_add_kind(rig, HISTORY_BREAK, NULL, 50);
}

static const struct cursor *at_place(uint64_t place) {
    static struct cursor cursor;
    cursor = (struct cursor){place, 0};
    return &cursor;
}

/* "1:a 2:b 3:|", oldest first; of durable ones the ids: "#2:a". */
static void expect_log(const struct rig *rig, const char *wanted) {
    struct buf text = {0};
    const struct history_entry *entry;
    TAILQ_FOREACH(entry, &rig->history->entries, link) {
        bool is_durable = entry->kind == HISTORY_DURABLE;
        buf_printf(&text, "%s%s%u:%s", text.length > 0 ? " " : "", is_durable ? "#" : "",
                   (unsigned)(is_durable ? entry->at.durable : entry->at.place),
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
    history_add(rig.history, HISTORY_EPHEMERAL, topics_touch(&rig.topics, LITERAL("a")),
                at_place(1), frame);
    assert_int_equal(frame->references, 2);
    history_add(rig.history, HISTORY_BREAK, NULL, at_place(2), frame);
    history_add(rig.history, HISTORY_EPHEMERAL, topics_touch(&rig.topics, LITERAL("b")),
                at_place(5), frame);
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
            history_next(rig.history, topics, cases[i].topic_count, at_place(cases[i].place));
        if ((entry == NULL ? 0 : entry->at.place) != cases[i].next) {
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
    assert_null(history_after(rig.history, at_place(0)));
    for (size_t i = 0; i < length_of(places); i++) {
        history_add(rig.history, HISTORY_EPHEMERAL, topics_touch(&rig.topics, LITERAL("a")),
                    at_place(places[i]), frame);
    }
    for (size_t i = 0; i < length_of(cases); i++) {
        const struct history_entry *entry = history_after(rig.history, at_place(cases[i].place));
        assert_int_equal(entry == NULL ? 0 : entry->at.place, cases[i].after);
    }
    payload_unref(&frame);
    rig_end(&rig);
}

/* --- durable events
 * ------------------------------------------------------------------------------- */

static uint64_t durable_floor_of(const struct rig *rig, const char *name) {
    const struct topic *topic = topics_find(&rig->topics, slice_of(name));
    assert_non_null(topic);
    return history_durable_floor(rig->history, topic);
}

/* In upper case durable, '|' a break. */
static void rig_add_all(struct rig *rig, const char *what, size_t length) {
    for (; *what != '\0'; what++) {
        char name[] = {*what, '\0'};
        if (*what == '|') {
            rig_add_break(rig);
        } else if (*what >= 'A' && *what <= 'Z') {
            name[0] = (char)(*what - 'A' + 'a');
            rig_add_kind(rig, HISTORY_DURABLE, name, length);
        } else {
            rig_add(rig, name, length);
        }
    }
}

static void test_both_kinds_stand_in_the_order_in_which_they_came(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig, 1 << 20, 100);
    rig_add_all(&rig, "aAbA|Ba", 10);
    expect_log(&rig, "1:a #1:a 2:b #2:a 3:| #3:b 4:a");
    rig_end(&rig);
}

/* Capacity and bytes know no kinds. */
static void test_both_kinds_leave_as_the_oldest(void **state) {
    (void)state;
    static const struct {
        size_t capacity;
        const char *log;
        uint64_t floor;
        uint64_t durable_floor;
    } cases[] = {{1, "4:a", 3, 4},
                 {2, "#4:a 4:a", 3, 3},
                 {3, "3:a #4:a 4:a", 2, 3},
                 {5, "2:a #3:a 3:a #4:a 4:a", 1, 2},
                 {8, "1:a #1:a #2:a 2:a #3:a 3:a #4:a 4:a", 0, 0}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct rig rig;
        rig_begin(&rig, 1 << 20, cases[i].capacity);
        rig_add_all(&rig, "aAAaAaAa", 10);
        expect_log(&rig, cases[i].log);
        assert_int_equal(floor_of(&rig, "a"), cases[i].floor);
        assert_int_equal(durable_floor_of(&rig, "a"), cases[i].durable_floor);
        rig_end(&rig);
    }
}

static void test_floors_of_one_kind_are_none_of_the_other(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig, 1 << 20, 1);
    (void)rig_subscribe(&rig, "c");
    history_start_durable(rig.history, 0);
    rig_add_all(&rig, "AAA", 10);
    assert_int_equal(floor_of(&rig, "a"), 0);
    assert_int_equal(durable_floor_of(&rig, "a"), 2);
    assert_int_equal(durable_floor_of(&rig, "c"), 0);
    rig_add_all(&rig, "bbb", 10);
    assert_int_equal(floor_of(&rig, "b"), 2);
    assert_int_equal(durable_floor_of(&rig, "b"), 0);
    history_note_pruned(rig.history, LITERAL("a"), 7);
    assert_int_equal(durable_floor_of(&rig, "a"), 7);
    history_note_pruned(rig.history, LITERAL("a"), 5); /* it only rises */
    assert_int_equal(durable_floor_of(&rig, "a"), 7);
    assert_int_equal(durable_floor_of(&rig, "c"), 0);
    history_note_pruned(rig.history, LITERAL("c"), 9); /* not only where something left */
    assert_int_equal(durable_floor_of(&rig, "c"), 9);
    rig.history->bytes_max = 0;
    rig_add_break(&rig); /* a break that leaves is about ephemeral events */
    assert_int_equal(floor_of(&rig, "c"), 4);
    assert_int_equal(durable_floor_of(&rig, "c"), 9);
    history_note_pruned(rig.history, LITERAL(""), 11);
    assert_int_equal(durable_floor_of(&rig, "c"), 11);
    rig_end(&rig);
}

/* What was there before this broker read stands in the table only. */
static void test_durable_start_is_a_floor_for_all(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig, 1 << 20, 1);
    (void)rig_subscribe(&rig, "b");
    history_start_durable(rig.history, 40);
    rig.at.durable = 40;
    assert_int_equal(durable_floor_of(&rig, "b"), 40);
    rig_add_all(&rig, "AA", 10);
    assert_int_equal(durable_floor_of(&rig, "a"), 41); /* its own is higher */
    assert_int_equal(durable_floor_of(&rig, "b"), 40);
    assert_int_equal(floor_of(&rig, "b"), 0);
    rig_end(&rig);
}

/* Another table's ids may be lower: what was kept, and the floors of durable events, are nothing to
 * it. Ephemeral events that leave with them are drops like others. */
static void test_forget(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig, 1 << 20, 2);
    (void)rig_subscribe(&rig, "a");
    (void)rig_subscribe(&rig, "b");
    rig_add_all(&rig, "AAAAa|bB", 10);
    assert_true(durable_floor_of(&rig, "a") > 0);
    uint64_t dropped = rig.history->dropped;
    uint64_t count = rig.history->count;
    history_forget(rig.history);
    expect_log(&rig, "");
    assert_int_equal(rig.history->bytes, 0);
    assert_int_equal(rig.history->dropped, dropped + count);
    assert_int_equal(durable_floor_of(&rig, "a"), 0);
    assert_int_equal(durable_floor_of(&rig, "b"), 0);
    assert_int_equal(floor_of(&rig, "a"), 2); /* the break's */
    assert_int_equal(floor_of(&rig, "b"), 3);
    rig.at.durable = 1;
    history_start_durable(rig.history, 1);
    rig_add_all(&rig, "AaA", 10);
    expect_log(&rig, "4:a #3:a");
    assert_int_equal(durable_floor_of(&rig, "a"), 2);
    assert_int_equal(durable_floor_of(&rig, "b"), 1);
    rig_end(&rig);
}

static void test_is_new(void **state) {
    (void)state;
    static const struct {
        enum history_kind kind;
        struct cursor cursor; /* of an entry at {5, 7} */
        bool is_new;
    } cases[] = {
        {HISTORY_EPHEMERAL, {4, 9}, true},  {HISTORY_EPHEMERAL, {5, 6}, false},
        {HISTORY_BREAK, {4, 9}, true},      {HISTORY_BREAK, {5, 6}, false},
        {HISTORY_DURABLE, {9, 6}, true},    {HISTORY_DURABLE, {4, 7}, false},
        {HISTORY_EPHEMERAL, {6, 0}, false}, {HISTORY_DURABLE, {0, 8}, false},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct history_entry entry = {.kind = cases[i].kind, .at = {5, 7}};
        if (history_is_new(&entry, &cases[i].cursor) != cases[i].is_new) {
            fail_msg("case %zu", i);
        }
    }
}

/* --- every cursor in every small log
 * -------------------------------------------------------------- */

enum { SMALL = 6, SMALL_ALPHABET = 5 };
static const char small_alphabet[] = "aAbB|";

static bool is_about(const struct history_entry *entry, const char *names) {
    return entry->topic == NULL || strchr(names, entry->topic->name[0]) != NULL;
}

static const struct history_entry *naive_next(const struct rig *rig, const char *names,
                                              const struct cursor *cursor) {
    const struct history_entry *entry;
    TAILQ_FOREACH(entry, &rig->history->entries, link) {
        bool is_place = entry->kind == HISTORY_EPHEMERAL || entry->kind == HISTORY_BREAK;
        if (is_about(entry, names) &&
            (is_place ? entry->at.place > cursor->place : entry->at.durable > cursor->durable)) {
            return entry;
        }
    }
    return NULL;
}

/* It may be one that is not new itself, if that what was has left; nothing before it is new. */
static void expect_after(const struct rig *rig, const struct cursor *cursor) {
    const struct history_entry *after = history_after(rig->history, cursor);
    const struct history_entry *wanted = naive_next(rig, "ab", cursor);
    const struct history_entry *entry = after;
    while (entry != NULL && entry != wanted) {
        assert_false(history_is_new(entry, cursor));
        entry = TAILQ_NEXT(entry, link);
    }
    assert_ptr_equal(entry, wanted);
}

static void expect_all_cursors(const struct rig *rig, struct topic *const topics[2]) {
    static const char *const names[] = {"", "a", "ab"};
    for (uint64_t place = 0; place <= rig->at.place + 1; place++) {
        for (uint64_t durable = 0; durable <= rig->at.durable + 1; durable++) {
            struct cursor cursor = {place, durable};
            for (size_t count = 0; count <= 2; count++) {
                assert_ptr_equal(history_next(rig->history, topics, count, &cursor),
                                 naive_next(rig, names[count], &cursor));
            }
            expect_after(rig, &cursor);
        }
    }
}

static void test_every_cursor_in_every_small_log(void **state) {
    (void)state;
    static const size_t capacities[] = {SMALL, 2};
    for (unsigned word = 0; word < 5 * 5 * 5 * 5 * 5 * 5; word++) {
        struct rig rig;
        char what[SMALL + 1] = "";
        unsigned rest = word;
        for (size_t i = 0; i < SMALL; i++, rest /= SMALL_ALPHABET) {
            what[i] = small_alphabet[rest % SMALL_ALPHABET];
        }
        rig_begin(&rig, 1 << 20, capacities[word % 2]);
        struct topic *topics[] = {rig_subscribe(&rig, "a"), rig_subscribe(&rig, "b")};
        rig_add_all(&rig, what, 1);
        expect_all_cursors(&rig, topics);
        rig_end(&rig);
    }
}

/* --- by chance, against a plain model
 * ------------------------------------------------------------- */

enum { TOPICS = 12, STEPS = 1500 };

/* What has come, in that order, and whether it is still there. Each step moves one of the two parts
 * of the cursor by one, so their sum is its number. */
struct model {
    enum history_kind kinds[STEPS + 1];
    int topics[STEPS + 1]; /* -1: a break */
    struct cursor at[STEPS + 1];
    bool is_kept[STEPS + 1];
    size_t last;
    size_t forgotten; /* durable ones up to here are another table's */
};

static bool moves_place(enum history_kind kind) {
    return kind == HISTORY_EPHEMERAL || kind == HISTORY_BREAK;
}

static void model_note_drops(struct model *model, const struct rig *rig) {
    const struct history_entry *entry;
    uint64_t before = 0;
    memset(model->is_kept, 0, sizeof model->is_kept);
    TAILQ_FOREACH(entry, &rig->history->entries, link) {
        uint64_t number = entry->at.place + entry->at.durable;
        assert_true(number > before && number <= model->last);
        assert_int_equal(entry->kind, model->kinds[number]);
        before = number;
        model->is_kept[number] = true;
    }
}

static uint64_t model_floor(const struct model *model, int topic) {
    size_t i = model->last;
    while (i > 0 && (model->is_kept[i] || !moves_place(model->kinds[i]) ||
                     (model->topics[i] != topic && model->topics[i] != -1))) {
        i--;
    }
    return model->at[i].place;
}

static uint64_t model_durable_floor(const struct model *model, int topic) {
    size_t i = model->last;
    while (i > model->forgotten &&
           (model->is_kept[i] || moves_place(model->kinds[i]) || model->topics[i] != topic)) {
        i--;
    }
    return model->at[i].durable;
}

/* 0: none */
static uint64_t model_next(const struct model *model, unsigned wanted,
                           const struct cursor *cursor) {
    for (size_t i = 1; i <= model->last; i++) {
        int topic = model->topics[i];
        bool is_new = moves_place(model->kinds[i]) ? model->at[i].place > cursor->place
                                                   : model->at[i].durable > cursor->durable;
        if (model->is_kept[i] && is_new && (topic == -1 || (wanted & 1u << topic) != 0)) {
            return i;
        }
    }
    return 0;
}

/* Per topic no more than the capacity; and what is gone is older than what is there, of its topic
 * because of the capacity, of all because of the bytes. */
static void expect_oldest_went_first(const struct model *model, size_t capacity) {
    for (int topic = 0; topic < TOPICS; topic++) {
        size_t kept = 0;
        bool was_kept = false;
        for (size_t i = 1; i <= model->last; i++) {
            if (model->topics[i] == topic) {
                assert_true(model->is_kept[i] || !was_kept);
                was_kept = model->is_kept[i];
                kept += was_kept ? 1 : 0;
            }
        }
        assert_true(kept <= capacity);
    }
}

static void model_add(struct model *model, struct rig *rig, uint32_t *random,
                      char names[TOPICS][8]) {
    static const enum history_kind kinds[] = {HISTORY_EPHEMERAL, HISTORY_DURABLE, HISTORY_DURABLE,
                                              HISTORY_EPHEMERAL, HISTORY_DURABLE};
    int topic = (int)(next_random(random) % (TOPICS * 4)) / 4;
    enum history_kind kind = kinds[next_random(random) % length_of(kinds)];
    if (next_random(random) % 40 == 0) {
        kind = HISTORY_BREAK;
        topic = -1;
    }
    rig_add_kind(rig, kind, topic == -1 ? NULL : names[topic], 1 + next_random(random) % 900);
    model->last++;
    model->kinds[model->last] = kind;
    model->topics[model->last] = topic;
    model->at[model->last] = rig->at;
}

static void expect_model(struct model *model, const struct rig *rig, uint32_t *random,
                         struct topic *const topics[TOPICS], size_t capacity) {
    model_note_drops(model, rig);
    expect_oldest_went_first(model, capacity);
    for (int i = 0; i < TOPICS; i++) {
        assert_int_equal(history_floor(rig->history, topics[i]), model_floor(model, i));
        assert_int_equal(history_durable_floor(rig->history, topics[i]),
                         model_durable_floor(model, i));
    }
    size_t count = next_random(random) % (TOPICS + 1);
    struct cursor cursor = {next_random(random) % (rig->at.place + 1),
                            next_random(random) % (rig->at.durable + 1)};
    const struct history_entry *next = history_next(rig->history, topics, count, &cursor);
    assert_int_equal(next == NULL ? 0 : next->at.place + next->at.durable,
                     model_next(model, (1u << count) - 1, &cursor));
    uint64_t wanted = model_next(model, UINT32_MAX, &cursor);
    const struct history_entry *after = history_after(rig->history, &cursor);
    while (after != NULL && !history_is_new(after, &cursor)) {
        after = TAILQ_NEXT(after, link);
    }
    assert_int_equal(after == NULL ? 0 : after->at.place + after->at.durable, wanted);
}

static void run_by_chance(uint32_t seed) {
    static struct model model;
    uint32_t random = seed;
    struct rig rig;
    struct topic *topics[TOPICS];
    char names[TOPICS][8];
    size_t capacity = 1 + next_random(&random) % 9;
    memset(&model, 0, sizeof model);
    rig_begin(&rig, next_random(&random) % 30000, capacity);
    for (int i = 0; i < TOPICS; i++) {
        snprintf(names[i], sizeof names[i], "t%d", i);
        topics[i] = rig_subscribe(&rig, names[i]);
    }
    for (int step = 0; step < STEPS; step++) {
        model_add(&model, &rig, &random, names);
        if (next_random(&random) % 500 == 0) {
            history_forget(rig.history);
            history_start_durable(rig.history, rig.at.durable);
            model.forgotten = model.last;
        }
        if (step % 16 == 0) {
            expect_model(&model, &rig, &random, topics, capacity);
        }
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
            rig.at.place++;
            history_add(rig.history, HISTORY_EPHEMERAL, topics_touch(&rig.topics, event.topic),
                        &rig.at, frame);
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
          TEST(test_next_of_several_topics_and_breaks), TEST(test_after),
          TEST(test_both_kinds_stand_in_the_order_in_which_they_came),
          TEST(test_both_kinds_leave_as_the_oldest),
          TEST(test_floors_of_one_kind_are_none_of_the_other),
          TEST(test_durable_start_is_a_floor_for_all), TEST(test_forget), TEST(test_is_new),
          TEST(test_every_cursor_in_every_small_log), TEST(test_by_chance),
          TEST(test_flood_stays_within_its_memory))
