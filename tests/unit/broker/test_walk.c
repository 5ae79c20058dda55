/* The walk by itself: which steps come in which order, what a step that is not taken does, and where
 * a walk stops. What its readers make of the steps is in test_replay.c, test_resume.c and others.
 *
 * Steps are written as text:
 *
 *   E2@5/1     an event with the number 2; D2: it is durable. E2!: its frame can be shared
 *   G@5        a gap that any topic may have; G(a): of a; GG(a): durable events may be missing
 *   B@5        a break
 *   H@7        the head
 *   F, W, P    FULL, WAIT, PAUSE
 *
 * Places are written as in broker_rig.h. */
#include "table_rig.h"
#include "walk.h"

static struct {
    struct walk walk;
    struct topic *topics[NAMES_MAX];
    unsigned pages; /* calls of on_page */
} reader;

static void on_page(struct page_waiter *waiter) {
    assert_ptr_equal(waiter, &reader.walk.waiter);
    reader.pages++;
}

/* Before the broker's end: a walk must not wait for a page then. */
static void leave(void) {
    walk_end(&reader.walk);
    reader.pages = 0;
}

/* A handler whose live clients have those topics; NULL: none. */
static void connect_for(const char *first, const char *second) {
    peer_introduce(&peer);
    peer_send(&peer, resume_of(POSITION_NONE, NULL, first, second));
    assert_int_equal(peer.handler->state, HANDLER_SERVED);
}

static struct cursor cursor_of(const struct position *position) {
    struct cursor cursor = {.durable = position->durable};
    assert_true(markers_resolve(&rig.broker->journal.markers, position, &cursor.place));
    return cursor;
}

/* A walk over all that the handler is interested in. */
static void begin_for_handler(struct position from) {
    struct cursor cursor = cursor_of(&from);
    walk_begin(&reader.walk, &peer.handler->delivery, NULL, 0, &cursor, &from, on_page);
    walk_begin_turn(&reader.walk);
}

/* A walk over these names alone; the handler is interested in them. */
static void begin_for_client(struct position from, const char *first, const char *second) {
    const char *const names[] = {first, second};
    size_t count = 0;
    struct cursor cursor = cursor_of(&from);
    for (size_t i = 0; i < length_of(names) && names[i] != NULL; i++) {
        reader.topics[count] = topics_find(&rig.broker->journal.topics, key_of(names[i]));
        assert_non_null(reader.topics[count++]);
    }
    walk_begin(&reader.walk, &peer.handler->delivery, reader.topics, count, &cursor, &from,
               on_page);
    walk_begin_turn(&reader.walk);
}

static void print_gap(const struct walk_step *step, struct buf *text) {
    buf_append_text(text, step->is_durable ? "GG" : "G");
    if (!topic_key_is_none(step->topic)) {
        struct slice name = topic_key_name(step->topic);
        buf_printf(text, "(%.*s)", (int)name.length, name.at);
    }
}

static void print_step(const struct walk_step *step, struct buf *text) {
    static const char stops[] = {[WALK_FULL] = 'F', [WALK_WAIT] = 'W', [WALK_PAUSE] = 'P'};
    buf_append_text(text, text->length > 0 ? " " : "");
    switch (step->kind) {
    case WALK_EVENT:
        buf_printf(text, "%c%u%s", step->event.is_durable ? 'D' : 'E', event_number(&step->event),
                   step->frame != NULL ? "!" : "");
        assert_true(position_equals(&step->event.position, &step->position));
        break;
    case WALK_GAP:
        print_gap(step, text);
        break;
    case WALK_BREAK:
        buf_append_text(text, "B");
        break;
    case WALK_HEAD:
        buf_append_text(text, "H");
        break;
    case WALK_FULL:
    case WALK_WAIT:
    case WALK_PAUSE:
        buf_append(text, &stops[step->kind], 1);
        return;
    }
    print_place(&step->position, text);
}

/* Takes that many steps, or all up to one that cannot be taken. Each is asked for twice, and is the
 * same step. */
static void take(struct buf *text, bool has_room, size_t count) {
    struct walk_step step;
    struct walk_step again;
    for (size_t i = 0; i < count; i++) {
        enum walk_kind kind = walk_next(&reader.walk, has_room, &step);
        assert_int_equal(walk_next(&reader.walk, has_room, &again), kind);
        assert_int_equal(step.kind, kind);
        print_step(&step, text);
        if (kind == WALK_FULL || kind == WALK_WAIT || kind == WALK_PAUSE) {
            return;
        }
        assert_true(position_equals(&step.position, &again.position));
        walk_take(&reader.walk, &step);
        assert_true(position_equals(&reader.walk.position, &step.position));
        if (kind == WALK_HEAD) {
            return;
        }
    }
}

static void expect_steps(const char *wanted) {
    struct buf text = {0};
    take(&text, true, 100);
    expect_buf(&text, wanted);
}

static void expect_without_room(const char *wanted) {
    struct buf text = {0};
    take(&text, false, 100);
    expect_buf(&text, wanted);
}

/* The same, over several turns and pages. */
static void expect_all_turns(const char *wanted) {
    struct buf text = {0};
    for (int turn = 0; turn < 100; turn++) {
        size_t before = text.length;
        take(&text, true, 100);
        if (memchr(text.bytes + before, 'H', text.length - before) != NULL) {
            break;
        }
        text.length -= text.length > 2 ? 2 : 1; /* W or P */
        fake_settle();
        walk_begin_turn(&reader.walk);
    }
    expect_buf(&text, wanted);
}

/* 1:a  #2:a  #3:b  2:b  break 3  4:a */
static struct position scene_begin(int64_t history_bytes, int64_t ring_capacity) {
    database_clear(1);
    table_rig_begin_with(history_bytes, ring_capacity);
    struct position start = table_rig_position();
    rig_publish("a", 101);
    table_rig_publish("a", 2);
    table_rig_publish("b", 3);
    rig_publish("b", 102);
    rig_break();
    fake_connect();
    fake_settle();
    rig_publish("a", 104);
    return start;
}

/* --- positions and their order
 * -------------------------------------------------------------------- */

/* A client's position moves by a step's own part, a handler's is the one that was written. */
static void test_positions(void **state) {
    struct position start = scene_begin(RIG_HISTORY_BYTES, 100);
    connect_for("a", "b");
    begin_for_client(start, "a", NULL);
    expect_steps("E101!@1/1 D2!@2/1 B@2/3 E104@2/4 H@3/4");
    leave();
    begin_for_client(start, "b", NULL);
    expect_steps("D3@3/0 E102!@3/2 B@3/3 H@3/4");
    leave();
    begin_for_handler(start);
    expect_steps("E101!@1/1 D2!@2/1 D3!@3/1 E102!@3/2 B@3/3 E104!@3/4 H@3/4");
    leave();
}

/* A part of a handler's position that is further than the log stays. */
static void test_positions_never_move_back(void **state) {
    struct position start = scene_begin(RIG_HISTORY_BYTES, 100);
    connect_for("a", "b");
    start.durable = 3;
    begin_for_handler(start);
    expect_steps("E101@3/1 E102!@3/2 B@3/3 E104!@3/4 H@3/4");
    leave();
    start.durable = 1;
    start.since = 2;
    begin_for_handler(start);
    expect_steps("D2@2/2 D3@3/2 B@3/3 E104!@3/4 H@3/4");
    leave();
}

/* One entry of each topic is kept: what was dropped is told, what only the table has is read from
 * there, then comes the log. */
static void test_order_of_a_turn(void **state) {
    struct position start = scene_begin(RIG_HISTORY_BYTES, 1);
    connect_for("a", "b");
    begin_for_client(start, "a", "b");
    expect_steps("G(a)@1/0 W");
    fake_settle();
    assert_int_equal(reader.pages, 1);
    walk_begin_turn(&reader.walk);
    expect_steps("D2@2/0 D3@3/0 E102!@3/2 B@3/3 E104!@3/4 H@3/4");
    leave();
    begin_for_handler(start);
    expect_all_turns("G(a)@1/0 D2@2/0 D3@3/0 E102!@3/2 B@3/3 E104!@3/4 H@3/4");
    leave();
}

/* A handler is not told of what the break that comes next tells. A client's reader makes one refresh
 * of both. */
static void test_losses_before_a_break(void **state) {
    rig_begin_with(RIG_HISTORY_BYTES, 1);
    rig_listen();
    struct position start = rig_position();
    rig_publish("a", 1);
    rig_break();
    rig_publish("a", 3);
    connect_for("a", NULL);
    begin_for_handler(start);
    expect_steps("B@2 E3!@3 H@3");
    leave();
    begin_for_client(start, "a", NULL);
    expect_steps("G(a)@0 B@2 E3!@3 H@3");
    leave();
}

/* --- room
 * ----------------------------------------------------------------------------------------- */

/* Without room no page is asked for, and nothing comes that needs room. */
static void test_without_room(void **state) {
    static const bool is_for_handler[] = {false, true};
    for (size_t i = 0; i < length_of(is_for_handler); i++) {
        struct position start = scene_begin(RIG_HISTORY_BYTES, 1);
        connect_for("a", "b");
        if (is_for_handler[i]) {
            begin_for_handler(start);
        } else {
            begin_for_client(start, "a", "b");
        }
        expect_without_room("G(a)@1/0 F");
        assert_int_equal(fake_task(), 0);
        expect_steps("W");
        fake_settle();
        walk_begin_turn(&reader.walk);
        expect_without_room("F");
        struct buf text = {0};
        take(&text, true, 1);
        take(&text, false, 1); /* in the middle of the page */
        take(&text, true, 1);
        take(&text, false, 1);
        take(&text, true, 1);
        take(&text, false, 1);
        take(&text, true, 1); /* the break */
        take(&text, false, 1);
        take(&text, true, 1);
        take(&text, false, 1); /* the head needs no room */
        expect_buf(&text, "D2@2/0 F D3@3/0 F E102!@3/2 F B@3/3 F E104!@3/4 H@3/4");
        leave();
    }
}

/* A reader that has left is not called when the page is there. */
static void test_stops_waiting(void **state) {
    struct position start = scene_begin(0, 1);
    connect_for("a", NULL);
    begin_for_client(start, "a", NULL);
    expect_steps("G(a)@1/0 W");
    walk_stop_waiting(&reader.walk);
    fake_settle();
    assert_int_equal(reader.pages, 0);
    walk_begin_turn(&reader.walk);
    expect_steps("D2@2/0 H@3/4");
    leave();
}

static void test_backlog(void **state) {
    static const struct {
        int64_t history_bytes;
        const char *topic;
        uint64_t id;
        bool is_at_head_place;
        bool has_backlog;
    } cases[] = {
        {RIG_HISTORY_BYTES, "a", 3, true, false},
        {RIG_HISTORY_BYTES, "a", 1, true, true},
        {RIG_HISTORY_BYTES, "a", 3, false, true},
        {RIG_HISTORY_BYTES, "c", 1, true, false},
        {RIG_HISTORY_BYTES, "c", 1, false, true}, /* the break */
        {0, "a", 1, true, true},                  /* in the table only */
        {0, "a", 3, false, true},                 /* lost */
        {0, "a", 3, true, false},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct position start = scene_begin(cases[i].history_bytes, 100);
        struct position from = cases[i].is_at_head_place ? table_rig_position() : start;
        from.durable = cases[i].id;
        connect_for(cases[i].topic, NULL);
        begin_for_client(from, cases[i].topic, NULL);
        assert_int_equal(walk_has_backlog(&reader.walk), cases[i].has_backlog);
        leave();
    }
}

/* --- entries of other topics
 * ---------------------------------------------------------------------- */

/* Both kinds of walks that look at every entry stop after so many of them, and go on there. */
static void test_pauses(void **state) {
    enum { OTHERS = 2 * WALK_ENTRIES + 10 };
    static const struct {
        const char *name;
        uint64_t entries;
    } cases[] = {{"o*", HISTORY_STEPS}, {NULL, WALK_ENTRIES}};
    rig_begin_with(INT64_C(1) << 30, OTHERS + 10);
    rig_listen();
    struct position start = rig_position();
    for (unsigned i = 0; i < OTHERS; i++) {
        rig_publish("x", 1);
    }
    connect_for("o*", NULL);
    for (size_t i = 0; i < length_of(cases); i++) {
        if (cases[i].name == NULL) {
            begin_for_handler(start);
        } else {
            begin_for_client(start, cases[i].name, NULL);
        }
        for (uint64_t pause = 1; pause <= OTHERS / cases[i].entries; pause++) {
            struct walk_step step;
            assert_int_equal(walk_next(&reader.walk, true, &step), WALK_PAUSE);
            assert_int_equal(reader.walk.cursor.place, pause * cases[i].entries);
            walk_begin_turn(&reader.walk);
        }
        expect_steps("H@16394");
        leave();
    }
}

/* The last client of the topic leaves between two turns. */
static void test_topic_that_leaves(void **state) {
    struct position start = scene_begin(RIG_HISTORY_BYTES, 100);
    struct buf text = {0};
    connect_for("a", "b");
    begin_for_handler(start);
    take(&text, true, 1);
    peer_unsubscribe(&peer, 0, "b", NULL);
    walk_begin_turn(&reader.walk);
    take(&text, true, 100);
    expect_buf(&text, "E101!@1/1 D2!@2/1 B@3/3 E104!@3/4 H@3/4");
    leave();
}

/* --- gaps of the table
 * ---------------------------------------------------------------------------- */

/* Rows from 2 on, a letter each, two on a page; nothing of them is in the log. */
static struct position table_begin(const char *topics) {
    static const char *const names[] = {"a", "b", "c"};
    database_clear(1);
    for (const char *topic = topics; *topic != '\0'; topic++) {
        (void)database_store(names[*topic - 'a'], (unsigned)(topic - topics) + 2, 0);
    }
    database.page_rows = 2;
    table_rig_begin();
    struct position start = table_rig_position();
    start.durable = 1;
    return start;
}

/* Only the last gap of a page carries the position after all of them. A gap is told once, however
 * many pages show it, also to a client of a pattern that gets other topics' events meanwhile. */
static void test_gaps_of_pages(void **state) {
    struct position start = table_begin("aaaaabcb");
    database_prune("b", 7);
    database_prune("c", 8);
    connect_for("*", "b");
    static const char heard[] =
        "GG(b)@1/0 GG(c)@1/0 D2@2/0 D3@3/0 D4@4/0 D5@5/0 D6@6/0 D9@9/0 H@9/0";
    begin_for_client(start, "*", NULL);
    expect_all_turns(heard);
    leave();
    begin_for_handler(start);
    expect_all_turns(heard);
    leave();
    start.durable = 6;
    begin_for_handler(start);
    expect_all_turns("GG(b)@6/0 GG(c)@8/0 D9@9/0 H@9/0");
    leave();
}

/* Two events of b, of which the log keeps one. */
static void lose_one(unsigned number) {
    rig_publish("b", number);
    rig_publish("b", number + 1);
    walk_begin_turn(&reader.walk);
}

/* While pages are read, the log drops events again and again. That is told with the first page, and
 * once more before the log is read. */
static void test_losses_while_pages_are_read(void **state) {
    static const bool is_for_handler[] = {false, true};
    for (size_t i = 0; i < length_of(is_for_handler); i++) {
        database_clear(1);
        for (unsigned number = 2; number < 8; number++) {
            (void)database_store("a", number, 0);
        }
        database.page_rows = 2;
        table_rig_begin_with(RIG_HISTORY_BYTES, 1);
        struct position start = table_rig_position();
        start.durable = 1;
        connect_for("*", NULL);
        if (is_for_handler[i]) {
            begin_for_handler(start);
        } else {
            begin_for_client(start, "*", NULL);
        }
        expect_steps("W");
        fake_settle();
        lose_one(101);
        expect_steps("G(*)@1/0 D2@2/0 D3@3/0 W");
        fake_settle();
        lose_one(103);
        expect_steps("D4@4/0 D5@5/0 W");
        fake_settle();
        lose_one(105);
        expect_steps("D6@6/0 D7@7/0 G(*)@7/0 E106!@7/6 H@7/6");
        leave();
    }
}

/* A handler's pages have the events of all topics. */
static void test_rows_of_other_topics(void **state) {
    struct position start = table_begin("abbac");
    connect_for("a", NULL);
    begin_for_handler(start);
    expect_all_turns("D2@2/0 D5@5/0 H@6/0");
    leave();
}

/* An event of the gap's topic comes before the gap, since its page was read before the pruning. */
static void test_gap_after_an_event_is_told_again(void **state) {
    struct position start = table_begin("bbbab");
    struct buf text = {0};
    struct gap gap = gap_of(4, key_of("b"));
    connect_for("*", NULL);
    begin_for_client(start, "*", NULL);
    take(&text, true, 1);
    fake_settle();
    walk_begin_turn(&reader.walk);
    assert_true(walk_on_gap(&reader.walk, &gap));
    assert_false(walk_on_gap(&reader.walk, &gap));
    take(&text, true, 2);
    assert_true(walk_on_gap(&reader.walk, &gap));
    database_prune("b", 4);
    walk_begin_turn(&reader.walk);
    expect_buf(&text, "W D2@2/0 D3@3/0");
    expect_all_turns("D5@5/0 D6@6/0 H@6/0");
    assert_false(walk_on_gap(&reader.walk, &gap)); /* it is before the cursor */
    leave();
}

/* A reading under way has met gaps: a client is told first, and a handler before the head. */
static void test_gaps_of_the_reading_under_way(void **state) {
    struct position start = table_begin("ab");
    (void)database_store("a", 4, 0);
    (void)database_store("x", 5, 0);
    (void)database_store("a", 6, 0);
    (void)database_store("x", 7, 0);
    database_prune("a", 6);
    database.page_rows = 1;
    (void)table_ask_reading(&rig.broker->journal.table);
    assert_true(fake_step());
    assert_false(gap_memory_is_empty(&rig.broker->journal.table.gaps));
    start.durable = 3;
    connect_for("a", "b");
    begin_for_client(start, "a", "b");
    assert_true(walk_has_backlog(&reader.walk));
    expect_without_room("GG(a)@3/0 F");
    leave();
    begin_for_client(start, "b", NULL);
    expect_without_room("H@5/0");
    leave();
    begin_for_handler(start);
    expect_without_room("F");
    leave();
    start.durable = rig.broker->journal.table.head;
    begin_for_client(start, "a", NULL);
    assert_true(walk_has_backlog(&reader.walk)); /* nothing else comes */
    leave();
    begin_for_handler(start);
    expect_steps("GG(a)@5/0 H@5/0");
    leave();
}

/* A client's walk remembers few gaps. What it has forgotten is told again. */
static void test_memory_of_a_client_is_bounded(void **state) {
    static const bool is_for_handler[] = {false, true};
    for (size_t i = 0; i < length_of(is_for_handler); i++) {
        char name[16];
        struct position start = table_begin("a");
        size_t told_again = 0;
        connect_for("*", NULL);
        if (is_for_handler[i]) {
            begin_for_handler(start);
        } else {
            begin_for_client(start, "*", NULL);
        }
        for (unsigned n = 0; n < 10 * WALK_GAPS_MAX; n++) {
            snprintf(name, sizeof name, "t%u", n % (2 * WALK_GAPS_MAX));
            struct gap gap = gap_of(9, key_of(name));
            bool is_told = walk_on_gap(&reader.walk, &gap);
            assert_true(is_told || n >= 2 * WALK_GAPS_MAX);
            told_again += is_told && n >= 2 * WALK_GAPS_MAX ? 1 : 0;
            assert_true(is_for_handler[i] ||
                        gap_memory_count(&reader.walk.gaps_told) <= WALK_GAPS_MAX);
        }
        assert_int_equal(told_again > 0, !is_for_handler[i]);
        leave();
    }
}

/* Ids and gaps were the old table's. */
static void test_another_table(void **state) {
    struct position start = table_begin("ab");
    struct gap gap = gap_of(9, key_of("a"));
    connect_for("a", NULL);
    begin_for_client(start, "a", NULL);
    assert_true(walk_on_gap(&reader.walk, &gap));
    walk_on_table_changed(&reader.walk);
    assert_true(walk_on_gap(&reader.walk, &gap));
    walk_begin_turn(&reader.walk);
    expect_steps("H@3/0");
    leave();
}

RUN_TESTS(TEST(test_positions), TEST(test_positions_never_move_back), TEST(test_order_of_a_turn),
          TEST(test_losses_before_a_break), TEST(test_without_room), TEST(test_stops_waiting),
          TEST(test_backlog), TEST(test_pauses), TEST(test_topic_that_leaves),
          TEST(test_gaps_of_pages), TEST(test_losses_while_pages_are_read),
          TEST(test_rows_of_other_topics), TEST(test_gap_after_an_event_is_told_again),
          TEST(test_gaps_of_the_reading_under_way), TEST(test_memory_of_a_client_is_bounded),
          TEST(test_another_table))
