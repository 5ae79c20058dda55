/* The log: what it keeps, what it drops first, and that its floors remember every drop. */
#include "history.h"
#include "one_slot.h"
#include "wire.h"

/* A log without broker; handlers are only addresses. */
static struct rig {
    struct topics topics;
    struct history *history; /* its floors are too large for a stack */
    struct interest_list subscriptions;
    struct cursor at; /* of the newest entry */
} rig;

static void rig_end(void) {
    struct interest *subscription;
    history_release(rig.history);
    assert_int_equal(rig.history->bytes, 0);
    assert_int_equal(rig.history->count, 0);
    while ((subscription = LIST_FIRST(&rig.subscriptions)) != NULL) {
        topics_end(&rig.topics, subscription);
    }
    assert_int_equal(topics_count(&rig.topics), 0);
    topics_release(&rig.topics);
    free(rig.history);
}

static void rig_begin(size_t bytes_max, size_t ring_capacity) {
    fixture_begin(rig_end);
    rig = (struct rig){0};
    topics_init(&rig.topics);
    rig.history = must_zalloc(sizeof *rig.history);
    history_init(rig.history, &rig.topics, bytes_max, ring_capacity);
}

static struct topic *rig_subscribe(const char *name) {
    return topics_subscribe(&rig.topics, key_of(name), (struct delivery *)(void *)&rig,
                            &rig.subscriptions, 1);
}

/* A frame of so many bytes. */
static struct payload *frame_of(size_t length) {
    char *bytes = repeated('f', length);
    struct payload *frame = payload_create(bytes, length);
    free(bytes);
    return frame;
}

static void rig_add_kind(enum entry_kind kind, const char *name, size_t length) {
    struct payload *frame = frame_of(length);
    struct topic *topic = name == NULL ? NULL : topics_touch(&rig.topics, key_of(name));
    bool is_durable = kind == ENTRY_DURABLE;
    rig.at.place += is_durable ? 0 : 1;
    rig.at.durable += is_durable ? 1 : 0;
    history_add(rig.history, kind, topic, &rig.at, frame);
    assert_true(rig.history->bytes <= rig.history->bytes_max);
    payload_unref(&frame);
}

/* At the next place. */
static void rig_add(const char *name, size_t length) {
    rig_add_kind(ENTRY_EPHEMERAL, name, length);
}

static void rig_add_break(void) {
    rig_add_kind(ENTRY_BREAK, NULL, 50);
}

static const struct cursor *at_place(uint64_t place) {
    static struct cursor cursor;
    cursor = (struct cursor){place, 0};
    return &cursor;
}

static struct slice name_of(const struct topic *topic) {
    return topic_key_name(topic_key_of(topic));
}

/* "1:a 2:b 3:|", oldest first; of durable ones the ids: "#2:a". */
static void expect_log(const char *wanted) {
    struct buf text = {0};
    const struct entry *entry;
    TAILQ_FOREACH(entry, &rig.history->entries, link) {
        bool is_durable = entry->kind == ENTRY_DURABLE;
        struct slice name = entry->topic == NULL ? LITERAL("|") : name_of(entry->topic);
        buf_printf(&text, "%s%s%u:%.*s", text.length > 0 ? " " : "", is_durable ? "#" : "",
                   (unsigned)(is_durable ? entry->at.durable : entry->at.place), (int)name.length,
                   name.at);
    }
    expect_buf(&text, wanted);
}

static uint64_t floor_of(const char *name) {
    const struct topic *topic = topics_find(&rig.topics, key_of(name));
    assert_non_null(topic);
    return history_floor(rig.history, topic);
}

/* --- what is kept --------------------------------------------------------------------------------
 */

static void test_keeps_references_in_order(void **state) {
    struct payload *frame = frame_of(10);
    rig_begin(1 << 20, 10);
    history_add(rig.history, ENTRY_EPHEMERAL, topics_touch(&rig.topics, key_of("a")), at_place(1),
                frame);
    assert_int_equal(frame->references, 2);
    history_add(rig.history, ENTRY_BREAK, NULL, at_place(2), frame);
    history_add(rig.history, ENTRY_EPHEMERAL, topics_touch(&rig.topics, key_of("b")), at_place(5),
                frame);
    assert_int_equal(frame->references, 4);
    expect_log("1:a 2:| 5:b");
    assert_int_equal(rig.history->count, 3);
    assert_int_equal(rig.history->dropped, 0);
    (void)fixture_finish(NULL);
    assert_int_equal(frame->references, 1);
    payload_unref(&frame);
}

static void test_oldest_goes_first(void **state) {
    rig_begin(8 * 1024, 1000);
    rig_add("a", 3000);
    rig_add("b", 100);
    rig_add("a", 3000);
    expect_log("1:a 2:b 3:a");
    rig_add("c", 3000);
    expect_log("2:b 3:a 4:c");
    assert_int_equal(rig.history->dropped, 1);
    rig_add("d", 4000);
    expect_log("4:c 5:d"); /* as many as needed, of any topic */
    assert_int_equal(rig.history->dropped, 3);
}

static void test_capacity_of_one_topic(void **state) {
    static const struct {
        size_t capacity;
        const char *log;
    } cases[] = {{1, "6:b 7:a"},
                 {2, "3:b 5:a 6:b 7:a"},
                 {3, "1:b 3:b 4:a 5:a 6:b 7:a"},
                 {4, "1:b 2:a 3:b 4:a 5:a 6:b 7:a"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        rig_begin(1 << 20, cases[i].capacity);
        for (const char *name = "babaaba"; *name != '\0'; name++) {
            rig_add((char[]){*name, '\0'}, 10);
        }
        expect_log(cases[i].log);
        assert_int_equal(rig.history->count + rig.history->dropped, 7);
    }
}

static void test_breaks_have_no_capacity(void **state) {
    rig_begin(1 << 20, 1);
    rig_add_break();
    rig_add_break();
    rig_add("a", 1);
    rig_add_break();
    expect_log("1:| 2:| 3:a 4:|");
}

/* Nothing fits: nothing is kept, and only floors are left. */
static void test_nothing_fits(void **state) {
    static const size_t limits[] = {0, 1, 100, 1000};
    for (size_t i = 0; i < length_of(limits); i++) {
        rig_begin(limits[i], 10);
        (void)rig_subscribe("read");
        rig_add("read", 1000);
        rig_add("unread", 1000);
        assert_int_equal(rig.history->count, 0);
        assert_int_equal(rig.history->bytes, 0);
        assert_int_equal(rig.history->dropped, 2);
        assert_null(topics_find(&rig.topics, key_of("unread")));
        assert_int_equal(floor_of("read"), 1);
    }
}

/* One event is larger than the limit: it displaces all others and itself. */
static void test_one_event_larger_than_the_limit(void **state) {
    rig_begin(4096, 10);
    (void)rig_subscribe("a");
    rig_add("a", 10);
    rig_add("b", 5000);
    expect_log("");
    assert_null(topics_find(&rig.topics, key_of("b")));
    assert_int_equal(floor_of("a"), 1);
    rig_add("a", 10);
    expect_log("3:a");
}

/* --- floors
 * --------------------------------------------------------------------------------------- */

static void test_floor_is_the_newest_that_was_dropped(void **state) {
    rig_begin(1 << 20, 2);
    (void)rig_subscribe("a");
    (void)rig_subscribe("b");
    (void)rig_subscribe("c");
    assert_int_equal(floor_of("a"), 0); /* the start */
    rig_add("a", 10);
    rig_add("b", 10);
    rig_add("a", 10);
    assert_int_equal(floor_of("a"), 0);
    rig_add("a", 10);
    assert_int_equal(floor_of("a"), 1);
    rig_add("a", 10);
    assert_int_equal(floor_of("a"), 3);
    assert_int_equal(floor_of("b"), 0);
    rig_add("b", 10);
    rig_add("b", 10);
    assert_int_equal(floor_of("b"), 2);
    assert_int_equal(floor_of("a"), 3);
    assert_int_equal(floor_of("c"), 0);
}

/* A floor stays when its topic is freed, and the topic may come back. */
static void test_floor_of_a_topic_that_was_forgotten(void **state) {
    rig_begin(4096, 10);
    rig_add("a", 10);
    rig_add("filler", 3500);
    assert_null(topics_find(&rig.topics, key_of("a")));
    (void)rig_subscribe("a");
    assert_int_equal(floor_of("a"), 1);
}

static void test_break_that_leaves_is_a_floor_for_all(void **state) {
    rig_begin(4096, 10);
    (void)rig_subscribe("a");
    (void)rig_subscribe("b");
    rig_add("a", 10);
    rig_add_break();
    rig_add("b", 10);
    assert_int_equal(floor_of("b"), 0); /* in the log it is no floor */
    rig_add("filler", 3500);
    expect_log("4:filler");
    assert_int_equal(floor_of("a"), 2); /* higher than its own */
    assert_int_equal(floor_of("b"), 3); /* its own is higher */
    (void)rig_subscribe("new");
    assert_int_equal(floor_of("new"), 2);
}

/* While both topics exist, their floors are independent. A freed topic leaves its floors in the
 * slot, and a new topic of that slot begins with them. */
static void test_topics_of_one_slot(void **state) {
    const char *one;
    const char *other;
    find_names_of_one_slot(&one, &other);
    rig_begin(4096, 1);
    (void)rig_subscribe(one);
    rig_add(one, 10);   /* 1 */
    rig_add(other, 10); /* 2 */
    rig_add(other, 10); /* 3: 2 goes */
    assert_int_equal(floor_of(one), 0);
    assert_int_equal(floor_of(other), 2);
    rig_add(one, 10); /* 4: 1 goes; the other topic has lost a newer one */
    assert_int_equal(floor_of(one), 1);
    rig_add("filler", 3500); /* all others go */
    assert_null(topics_find(&rig.topics, key_of(other)));
    assert_int_equal(floor_of(one), 4);
    (void)rig_subscribe(other);
    assert_int_equal(floor_of(other), 3);
}

static void test_new_topic_has_the_floors_of_its_slot(void **state) {
    const char *one;
    const char *other;
    find_names_of_one_slot(&one, &other);
    rig_begin(4096, 10);
    rig_add(one, 10); /* 1 */
    rig_add("filler", 3500);
    (void)rig_subscribe(other);
    assert_int_equal(floor_of(other), 1);
}

/* --- topics
 * --------------------------------------------------------------------------------------- */

static void test_topics_without_subscriber_vanish_with_their_last_entry(void **state) {
    rig_begin(1 << 20, 1);
    struct topic *wanted = rig_subscribe("wanted");
    rig_add("unread", 10);
    rig_add("wanted", 10);
    rig_add("unread", 10); /* the one before goes, the topic stays */
    assert_non_null(topics_find(&rig.topics, key_of("unread")));
    assert_int_equal(topics_count(&rig.topics), 2);
    rig.history->bytes_max = 0; /* all have to go at the next */
    rig_add_break();
    assert_null(topics_find(&rig.topics, key_of("unread")));
    assert_ptr_equal(topics_find(&rig.topics, key_of("wanted")), wanted);
    assert_int_equal(wanted->trail.count, 0);
}

/* --- reading
 * -------------------------------------------------------------------------------------- */

static void test_next_of_several_topics_and_breaks(void **state) {
    rig_begin(1 << 20, 100);
    struct topic *topics[] = {rig_subscribe("a"), rig_subscribe("b"), rig_subscribe("none")};
    for (const char *name = "cab|cc|ba"; *name != '\0'; name++) {
        if (*name == '|') {
            rig_add_break();
        } else {
            rig_add((char[]){*name, '\0'}, 10);
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
        const struct entry *entry =
            history_next(rig.history, topics, cases[i].topic_count, at_place(cases[i].place));
        if ((entry == NULL ? 0 : entry->at.place) != cases[i].next) {
            fail_msg("case %zu", i);
        }
    }
}

static void test_after(void **state) {
    static const uint64_t places[] = {3, 4, 8, 9};
    static const struct {
        uint64_t place;
        uint64_t after; /* 0: none */
    } cases[] = {{0, 3}, {2, 3}, {3, 4}, {4, 8}, {5, 8}, {7, 8}, {8, 9}, {9, 0}, {UINT64_MAX, 0}};
    struct payload *frame = frame_of(10);
    rig_begin(1 << 20, 100);
    assert_null(history_after(rig.history, at_place(0)));
    for (size_t i = 0; i < length_of(places); i++) {
        history_add(rig.history, ENTRY_EPHEMERAL, topics_touch(&rig.topics, key_of("a")),
                    at_place(places[i]), frame);
    }
    for (size_t i = 0; i < length_of(cases); i++) {
        const struct entry *entry = history_after(rig.history, at_place(cases[i].place));
        assert_int_equal(entry == NULL ? 0 : entry->at.place, cases[i].after);
    }
    payload_unref(&frame);
}

/* --- durable events
 * ------------------------------------------------------------------------------- */

static uint64_t durable_floor_of(const char *name) {
    const struct topic *topic = topics_find(&rig.topics, key_of(name));
    assert_non_null(topic);
    return history_durable_floor(rig.history, topic);
}

/* In upper case durable, '|' a break. */
static void rig_add_all(const char *what, size_t length) {
    for (; *what != '\0'; what++) {
        char name[] = {*what, '\0'};
        if (*what == '|') {
            rig_add_break();
        } else if (*what >= 'A' && *what <= 'Z') {
            name[0] = (char)(*what - 'A' + 'a');
            rig_add_kind(ENTRY_DURABLE, name, length);
        } else {
            rig_add(name, length);
        }
    }
}

static void test_both_kinds_stand_in_the_order_in_which_they_came(void **state) {
    rig_begin(1 << 20, 100);
    rig_add_all("aAbA|Ba", 10);
    expect_log("1:a #1:a 2:b #2:a 3:| #3:b 4:a");
}

/* Capacity and bytes count both kinds alike. */
static void test_both_kinds_leave_as_the_oldest(void **state) {
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
        rig_begin(1 << 20, cases[i].capacity);
        rig_add_all("aAAaAaAa", 10);
        expect_log(cases[i].log);
        assert_int_equal(floor_of("a"), cases[i].floor);
        assert_int_equal(durable_floor_of("a"), cases[i].durable_floor);
    }
}

static void test_floors_of_one_kind_are_none_of_the_other(void **state) {
    rig_begin(1 << 20, 1);
    (void)rig_subscribe("c");
    history_start_durable(rig.history, 0);
    rig_add_all("AAA", 10);
    assert_int_equal(floor_of("a"), 0);
    assert_int_equal(durable_floor_of("a"), 2);
    assert_int_equal(durable_floor_of("c"), 0);
    rig_add_all("bbb", 10);
    assert_int_equal(floor_of("b"), 2);
    assert_int_equal(durable_floor_of("b"), 0);
    history_note_pruned(rig.history, key_of("a"), 7);
    assert_int_equal(durable_floor_of("a"), 7);
    history_note_pruned(rig.history, key_of("a"), 5); /* it only rises */
    assert_int_equal(durable_floor_of("a"), 7);
    assert_int_equal(durable_floor_of("c"), 0);
    history_note_pruned(rig.history, key_of("c"), 9); /* also if nothing of it was dropped */
    assert_int_equal(durable_floor_of("c"), 9);
    rig.history->bytes_max = 0;
    rig_add_break(); /* a dropped break is a floor for ephemeral events only */
    assert_int_equal(floor_of("c"), 4);
    assert_int_equal(durable_floor_of("c"), 9);
    history_note_pruned(rig.history, key_of(NULL), 11);
    assert_int_equal(durable_floor_of("c"), 11);
}

/* Durable events from before this broker's start are only in the table. */
static void test_durable_start_is_a_floor_for_all(void **state) {
    rig_begin(1 << 20, 1);
    (void)rig_subscribe("b");
    history_start_durable(rig.history, 40);
    rig.at.durable = 40;
    assert_int_equal(durable_floor_of("b"), 40);
    rig_add_all("AA", 10);
    assert_int_equal(durable_floor_of("a"), 41); /* its own is higher */
    assert_int_equal(durable_floor_of("b"), 40);
    assert_int_equal(floor_of("b"), 0);
}

/* Another table's ids may be lower, so the log and the durable floors are dropped. Ephemeral events
 * that are dropped with them raise their floors as usual. */
static void test_forget(void **state) {
    rig_begin(1 << 20, 2);
    (void)rig_subscribe("a");
    (void)rig_subscribe("b");
    rig_add_all("AAAAa|bB", 10);
    assert_true(durable_floor_of("a") > 0);
    uint64_t dropped = rig.history->dropped;
    uint64_t count = rig.history->count;
    history_forget(rig.history);
    expect_log("");
    assert_int_equal(rig.history->bytes, 0);
    assert_int_equal(rig.history->dropped, dropped + count);
    assert_int_equal(durable_floor_of("a"), 0);
    assert_int_equal(durable_floor_of("b"), 0);
    assert_int_equal(floor_of("a"), 2); /* the break's */
    assert_int_equal(floor_of("b"), 3);
    rig.at.durable = 1;
    history_start_durable(rig.history, 1);
    rig_add_all("AaA", 10);
    expect_log("4:a #3:a");
    assert_int_equal(durable_floor_of("a"), 2);
    assert_int_equal(durable_floor_of("b"), 1);
}

static void test_is_new(void **state) {
    static const struct {
        enum entry_kind kind;
        struct cursor cursor; /* of an entry at {5, 7} */
        bool is_new;
    } cases[] = {
        {ENTRY_EPHEMERAL, {4, 9}, true},  {ENTRY_EPHEMERAL, {5, 6}, false},
        {ENTRY_BREAK, {4, 9}, true},      {ENTRY_BREAK, {5, 6}, false},
        {ENTRY_DURABLE, {9, 6}, true},    {ENTRY_DURABLE, {4, 7}, false},
        {ENTRY_EPHEMERAL, {6, 0}, false}, {ENTRY_DURABLE, {0, 8}, false},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct entry entry = {.kind = cases[i].kind, .at = {5, 7}};
        if (entry_is_new(&entry, &cases[i].cursor) != cases[i].is_new) {
            fail_msg("case %zu", i);
        }
    }
}

/* --- every cursor in every small log
 * -------------------------------------------------------------- */

enum { SMALL = 6, SMALL_ALPHABET = 5 };
static const char small_alphabet[] = "aAbB|";

static bool is_about(const struct entry *entry, const char *names) {
    return entry->topic == NULL || strchr(names, name_of(entry->topic).at[0]) != NULL;
}

static const struct entry *naive_next(const char *names, const struct cursor *cursor) {
    const struct entry *entry;
    TAILQ_FOREACH(entry, &rig.history->entries, link) {
        bool is_place = entry->kind == ENTRY_EPHEMERAL || entry->kind == ENTRY_BREAK;
        if (is_about(entry, names) &&
            (is_place ? entry->at.place > cursor->place : entry->at.durable > cursor->durable)) {
            return entry;
        }
    }
    return NULL;
}

/* The entry returned may not be new itself, if newer ones were dropped; no entry before it is
 * new. */
static void expect_after(const struct cursor *cursor) {
    const struct entry *after = history_after(rig.history, cursor);
    const struct entry *wanted = naive_next("ab", cursor);
    const struct entry *entry = after;
    while (entry != NULL && entry != wanted) {
        assert_false(entry_is_new(entry, cursor));
        entry = TAILQ_NEXT(entry, link);
    }
    assert_ptr_equal(entry, wanted);
}

static void expect_all_cursors(struct topic *const topics[2]) {
    static const char *const names[] = {"", "a", "ab"};
    for (uint64_t place = 0; place <= rig.at.place + 1; place++) {
        for (uint64_t durable = 0; durable <= rig.at.durable + 1; durable++) {
            struct cursor cursor = {place, durable};
            for (size_t count = 0; count <= 2; count++) {
                assert_ptr_equal(history_next(rig.history, topics, count, &cursor),
                                 naive_next(names[count], &cursor));
            }
            expect_after(&cursor);
        }
    }
}

static void test_every_cursor_in_every_small_log(void **state) {
    static const size_t capacities[] = {SMALL, 2};
    for (unsigned word = 0; word < 5 * 5 * 5 * 5 * 5 * 5; word++) {
        char what[SMALL + 1] = "";
        unsigned rest = word;
        for (size_t i = 0; i < SMALL; i++, rest /= SMALL_ALPHABET) {
            what[i] = small_alphabet[rest % SMALL_ALPHABET];
        }
        rig_begin(1 << 20, capacities[word % 2]);
        struct topic *topics[] = {rig_subscribe("a"), rig_subscribe("b")};
        rig_add_all(what, 1);
        expect_all_cursors(topics);
    }
}

/* --- by chance, against a plain model
 * ------------------------------------------------------------- */

enum { TOPICS = 12, STEPS = 1500 };

/* All events that came, in order, and whether they are still there. Each step adds 1 to one of the
 * cursor's two parts, so the sum of the parts is the step's number. */
struct model {
    enum entry_kind kinds[STEPS + 1];
    int topics[STEPS + 1]; /* -1: a break */
    struct cursor at[STEPS + 1];
    bool is_kept[STEPS + 1];
    size_t last;
    size_t forgotten; /* durable events up to here are of another table */
};

static bool moves_place(enum entry_kind kind) {
    return kind == ENTRY_EPHEMERAL || kind == ENTRY_BREAK;
}

static void model_note_drops(struct model *model) {
    const struct entry *entry;
    uint64_t before = 0;
    memset(model->is_kept, 0, sizeof model->is_kept);
    TAILQ_FOREACH(entry, &rig.history->entries, link) {
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

/* No topic has more than the capacity. Dropped events are older than kept ones: of their topic
 * because of the capacity, of all topics because of the bytes. */
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

static void model_add(struct model *model, uint32_t *random, char names[TOPICS][8]) {
    static const enum entry_kind kinds[] = {ENTRY_EPHEMERAL, ENTRY_DURABLE, ENTRY_DURABLE,
                                            ENTRY_EPHEMERAL, ENTRY_DURABLE};
    int topic = (int)(next_random(random) % (TOPICS * 4)) / 4;
    enum entry_kind kind = kinds[next_random(random) % length_of(kinds)];
    if (next_random(random) % 40 == 0) {
        kind = ENTRY_BREAK;
        topic = -1;
    }
    rig_add_kind(kind, topic == -1 ? NULL : names[topic], 1 + next_random(random) % 900);
    model->last++;
    model->kinds[model->last] = kind;
    model->topics[model->last] = topic;
    model->at[model->last] = rig.at;
}

static void expect_model(struct model *model, uint32_t *random, struct topic *const topics[TOPICS],
                         size_t capacity) {
    model_note_drops(model);
    expect_oldest_went_first(model, capacity);
    for (int i = 0; i < TOPICS; i++) {
        assert_int_equal(history_floor(rig.history, topics[i]), model_floor(model, i));
        assert_int_equal(history_durable_floor(rig.history, topics[i]),
                         model_durable_floor(model, i));
    }
    size_t count = next_random(random) % (TOPICS + 1);
    struct cursor cursor = {next_random(random) % (rig.at.place + 1),
                            next_random(random) % (rig.at.durable + 1)};
    const struct entry *next = history_next(rig.history, topics, count, &cursor);
    assert_int_equal(next == NULL ? 0 : next->at.place + next->at.durable,
                     model_next(model, (1u << count) - 1, &cursor));
    uint64_t wanted = model_next(model, UINT32_MAX, &cursor);
    const struct entry *after = history_after(rig.history, &cursor);
    while (after != NULL && !entry_is_new(after, &cursor)) {
        after = TAILQ_NEXT(after, link);
    }
    assert_int_equal(after == NULL ? 0 : after->at.place + after->at.durable, wanted);
}

static void run_by_chance(uint32_t seed) {
    static struct model model;
    uint32_t random = seed;
    struct topic *topics[TOPICS];
    char names[TOPICS][8];
    size_t capacity = 1 + next_random(&random) % 9;
    memset(&model, 0, sizeof model);
    rig_begin(next_random(&random) % 30000, capacity);
    for (int i = 0; i < TOPICS; i++) {
        snprintf(names[i], sizeof names[i], "t%d", i);
        topics[i] = rig_subscribe(names[i]);
    }
    for (int step = 0; step < STEPS; step++) {
        model_add(&model, &random, names);
        if (next_random(&random) % 500 == 0) {
            history_forget(rig.history);
            history_start_durable(rig.history, rig.at.durable);
            model.forgotten = model.last;
        }
        if (step % 16 == 0) {
            expect_model(&model, &random, topics, capacity);
        }
    }
}

static void test_by_chance(void **state) {
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
    enum { FLOOD = 1000000, MIB = 1024 * 1024 };
    static const size_t limits[] = {1 * MIB, 32 * MIB};
    if (!is_measurable()) {
        skip();
    }
    for (size_t i = 0; i < length_of(limits); i++) {
        size_t before = proportional_bytes();
        rig_begin(limits[i], 1024);
        for (unsigned n = 0; n < FLOOD; n++) {
            char name[40];
            snprintf(name, sizeof name, "\nunread/topic/%u", n);
            struct wire_event event = {.topic = {slice_of(name)}, .body = LITERAL("data: 1\n\n")};
            struct payload *frame = wire_encode_event(&event);
            rig.at.place++;
            history_add(rig.history, ENTRY_EPHEMERAL, topics_touch(&rig.topics, event.topic),
                        &rig.at, frame);
            payload_unref(&frame);
        }
        size_t grown = proportional_bytes() - before;
        assert_int_equal(rig.history->count + rig.history->dropped, FLOOD);
        assert_int_equal(topics_count(&rig.topics), rig.history->count);
        if (grown > 8 * MIB + limits[i] / 2 * 3) {
            fail_msg("%zu KiB for a log of %zu KiB", grown / 1024, limits[i] / 1024);
        }
    }
}

/* --- patterns --------------------------------------------------------------------------------- */

static bool is_wanted(const struct entry *entry, struct topic *const *topics, size_t count) {
    bool is_wanted = entry->topic == NULL;
    for (size_t i = 0; i < count && !is_wanted; i++) {
        is_wanted = topic_key_covers(topic_key_of(topics[i]), topic_key_of(entry->topic));
    }
    return is_wanted;
}

/* All entries that are new and wanted, found one by one. */
static void expect_matches(struct topic *const *topics, size_t count, struct cursor cursor) {
    const struct entry *wanted;
    const struct cursor begin = cursor;
    bool is_at_head;
    TAILQ_FOREACH(wanted, &rig.history->entries, link) {
        if (!entry_is_new(wanted, &begin) || !is_wanted(wanted, topics, count)) {
            continue;
        }
        assert_ptr_equal(history_next_match(rig.history, topics, count, &cursor, &is_at_head),
                         wanted);
        assert_false(is_at_head);
        if (wanted->kind == ENTRY_DURABLE) {
            cursor.durable = wanted->at.durable;
        } else {
            cursor.place = wanted->at.place;
        }
    }
    assert_null(history_next_match(rig.history, topics, count, &cursor, &is_at_head));
    assert_true(is_at_head);
    assert_true(cursor.place >= begin.place && cursor.durable >= begin.durable);
}

static void test_matches_by_chance(void **state) {
    static const char *const names[] = {"a", "ab", "ac", "b", "user:a", "abc"};
    static const char *const wanted[] = {"a*", "*", "ab*", "b", "abc", "x*"};
    uint32_t random = 7;
    for (int round = 0; round < 20; round++) {
        rig_begin(3000 + next_random(&random) % 60000, 1 + next_random(&random) % 50);
        for (int i = 0; i < 400; i++) {
            enum entry_kind kind = next_random(&random) % 20 == 0  ? ENTRY_BREAK
                                   : next_random(&random) % 3 == 0 ? ENTRY_DURABLE
                                                                   : ENTRY_EPHEMERAL;
            rig_add_kind(kind, kind == ENTRY_BREAK ? NULL : names[next_random(&random) % 6], 10);
        }
        struct topic *topics[2];
        for (size_t i = 0; i < length_of(wanted); i++) {
            topics[0] = rig_subscribe(wanted[i]);
            topics[1] = rig_subscribe(wanted[next_random(&random) % 6]);
            for (int j = 0; j < 30; j++) {
                struct cursor cursor = {next_random(&random) % (rig.at.place + 2),
                                        next_random(&random) % (rig.at.durable + 2)};
                expect_matches(topics, 1 + next_random(&random) % 2, cursor);
            }
            expect_matches(topics, 2, (struct cursor){0, 0});
            expect_matches(topics, 2, rig.at);
        }
    }
}

static void test_match_after_many_others(void **state) {
    struct cursor cursor = {0};
    bool is_at_head;
    rig_begin(1 << 30, HISTORY_STEPS * 3);
    struct topic *topic = rig_subscribe("a*");
    for (int i = 0; i < HISTORY_STEPS * 2; i++) {
        rig_add("b", 1);
    }
    rig_add("ab", 1);
    for (uint64_t i = 1; i <= 2; i++) {
        assert_null(history_next_match(rig.history, &topic, 1, &cursor, &is_at_head));
        assert_false(is_at_head);
        assert_int_equal(cursor.place, i * HISTORY_STEPS);
    }
    assert_non_null(history_next_match(rig.history, &topic, 1, &cursor, &is_at_head));
    assert_false(is_at_head);
}

static void test_floors_of_patterns(void **state) {
    rig_begin(1 << 20, 1);
    struct topic *pattern = rig_subscribe("a*");
    struct topic *a = rig_subscribe("a");
    assert_int_equal(history_losses(rig.history, pattern), 0);
    rig_add("b", 1);
    rig_add("x", 1);
    rig_add("x", 1); /* drops 2 */
    assert_int_equal(history_floor(rig.history, pattern), 2);
    assert_int_equal(history_floor(rig.history, a), 0);
    assert_int_equal(history_losses(rig.history, pattern), 1);
    rig_add("b", 1); /* drops 1 */
    assert_int_equal(history_floor(rig.history, pattern), 2);
    assert_int_equal(history_losses(rig.history, pattern), 2);
    assert_int_equal(history_losses(rig.history, a), 0);
    rig_add_kind(ENTRY_DURABLE, "b", 1); /* drops 4 */
    rig_add_kind(ENTRY_DURABLE, "b", 1); /* drops 1 of the table */
    assert_int_equal(history_floor(rig.history, pattern), 4);
    assert_int_equal(history_durable_floor(rig.history, pattern), 1);
    assert_int_equal(history_losses(rig.history, pattern), 3);
    history_note_pruned(rig.history, key_of("c"), 7);
    assert_int_equal(history_durable_floor(rig.history, pattern), 7);
    assert_int_equal(history_durable_floor(rig.history, a), 0);
    history_note_pruned(rig.history, key_of("c"), 5);
    assert_int_equal(history_durable_floor(rig.history, pattern), 7);
    rig_add_break();
    history_forget(rig.history);
    assert_int_equal(history_durable_floor(rig.history, pattern), 0);
    assert_int_equal(history_floor(rig.history, pattern), 5);
    history_start_durable(rig.history, 3);
    assert_int_equal(history_durable_floor(rig.history, pattern), 3);
}

RUN_TESTS(TEST(test_keeps_references_in_order), TEST(test_oldest_goes_first),
          TEST(test_capacity_of_one_topic), TEST(test_breaks_have_no_capacity),
          TEST(test_nothing_fits), TEST(test_one_event_larger_than_the_limit),
          TEST(test_floor_is_the_newest_that_was_dropped),
          TEST(test_floor_of_a_topic_that_was_forgotten),
          TEST(test_break_that_leaves_is_a_floor_for_all), TEST(test_topics_of_one_slot),
          TEST(test_new_topic_has_the_floors_of_its_slot),
          TEST(test_topics_without_subscriber_vanish_with_their_last_entry),
          TEST(test_next_of_several_topics_and_breaks), TEST(test_after),
          TEST(test_both_kinds_stand_in_the_order_in_which_they_came),
          TEST(test_both_kinds_leave_as_the_oldest),
          TEST(test_floors_of_one_kind_are_none_of_the_other),
          TEST(test_durable_start_is_a_floor_for_all), TEST(test_forget), TEST(test_is_new),
          TEST(test_every_cursor_in_every_small_log), TEST(test_by_chance),
          TEST(test_flood_stays_within_its_memory), TEST(test_matches_by_chance),
          TEST(test_match_after_many_others), TEST(test_floors_of_patterns))
