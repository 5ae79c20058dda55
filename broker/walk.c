#include "walk.h"

#include <stdlib.h>

static struct journal *journal_of(const struct walk *walk) {
    return walk->delivery->journal;
}

static const struct history *history_of(const struct walk *walk) {
    return &journal_of(walk)->history;
}

static struct table *table_of(const struct walk *walk) {
    return &journal_of(walk)->table;
}

/* --- names ------------------------------------------------------------------------------------ */

static bool is_of_client(const struct walk *walk) {
    return walk->topics != NULL;
}

static bool be_at(struct walk_name *name, struct topic *topic, uint64_t *losses_told) {
    check(topic != NULL);
    name->topic = topic;
    name->losses_told = losses_told;
    return true;
}

static bool next_topic(const struct walk *walk, struct walk_name *name) {
    size_t i = name->next;
    if (i == walk->topic_count) {
        return false;
    }
    name->next++;
    return be_at(name, walk->topics[i], &walk->losses_told[i]);
}

static bool next_interest(const struct walk *walk, struct walk_name *name) {
    struct interest *interest = name->interest == NULL ? LIST_FIRST(&walk->delivery->interests)
                                                       : LIST_NEXT(name->interest, of_delivery);
    if (interest == NULL) {
        return false;
    }
    name->interest = interest;
    return be_at(name, interest->topic, &interest->losses_told);
}

/* name: zero-initialised, before the first. False after the last. */
static bool next_name(const struct walk *walk, struct walk_name *name) {
    return is_of_client(walk) ? next_topic(walk, name) : next_interest(walk, name);
}

static bool is_about(const struct walk *walk, const struct gap *gap) {
    if (!is_of_client(walk)) {
        return !LIST_EMPTY(&walk->delivery->interests) && delivery_misses(walk->delivery, gap);
    }
    for (size_t i = 0; i < walk->topic_count; i++) {
        if (gap_is_about(gap, walk->topics[i])) {
            return true;
        }
    }
    return false;
}

/* --- steps ------------------------------------------------------------------------------------ */

/* From where the walk is now. */
static struct walk_step step_of(const struct walk *walk, enum walk_kind kind) {
    return (struct walk_step){
        .kind = kind, .position = walk->position, .topic = TOPIC_KEY_NONE, .at = walk->cursor};
}

/* The event is decoded. Its frame is shared only if it was written with the step's position. */
static void step_to_event(struct payload *frame, struct walk_step *step) {
    step->frame = position_equals(&step->event.position, &step->position) ? frame : NULL;
    step->event.position = step->position;
}

static struct walk_step step_to_gap(const struct walk *walk, const struct gap *gap) {
    struct walk_step step = step_of(walk, WALK_GAP);
    step.is_durable = true;
    step.topic = gap_topic(gap);
    step.gap = gap;
    return step;
}

/* --- what the log has dropped -------------------------------------------------------------- */

static bool is_loss(const struct walk *walk, const struct walk_name *name) {
    const struct history *history = history_of(walk);
    return history_floor(history, name->topic) > walk->cursor.place &&
           history_losses(history, name->topic) > *name->losses_told;
}

static const struct entry *if_new(const struct entry *entry, const struct cursor *cursor) {
    return entry != NULL && entry_is_new(entry, cursor) ? entry : NULL;
}

/* True if the next entry of every topic of the handler is a break. All topics must be looked at: a
 * client may have two, and an event of the other one may come before the break. Any event may match
 * a pattern. */
static bool is_at_break(const struct walk *walk) {
    const struct history *history = history_of(walk);
    const struct cursor *cursor = &walk->cursor;
    const struct entry *next = history_next(history, NULL, 0, cursor);
    struct walk_name name = {0};
    while (next != NULL && next->kind == ENTRY_BREAK && next_name(walk, &name)) {
        next = topic_has_pattern(name.topic) ? if_new(history_after(history, cursor), cursor)
                                             : history_next(history, &name.topic, 1, cursor);
    }
    return next != NULL && next->kind == ENTRY_BREAK;
}

/* While pages of the table are read, the log goes on dropping events that the walk has not reached.
 * To tell each of these losses would be a refresh with each page. Only the first is told; the
 * others are told together before the log is read. */
static bool is_told_later(const struct walk *walk, const struct walk_name *name) {
    return walk->turn.stage == WALK_LOSSES && walk->turn.is_paging && *name->losses_told > 0;
}

/* If a break comes next, its refresh tells a handler of what was dropped, too. (A client's reader
 * makes one refresh of both.) */
static bool next_loss(struct walk *walk, struct walk_step *step) {
    struct walk_name *name = &walk->turn.name;
    while (name->topic == NULL || !is_loss(walk, name) || is_told_later(walk, name)) {
        if (!next_name(walk, name)) {
            return false;
        }
    }
    if (!is_of_client(walk) && is_at_break(walk)) {
        return false;
    }
    *step = step_of(walk, WALK_GAP);
    step->topic = topic_key_of(name->topic);
    return true;
}

/* --- pages of the table -------------------------------------------------------------------- */

/* True if some durable events after the cursor are only in the table, or were pruned. */
static bool needs_page(const struct walk *walk) {
    const struct table *table = table_of(walk);
    uint64_t id = walk->cursor.durable;
    struct walk_name name = {0};
    if (table->state != TABLE_PRESENT || id >= table->head) {
        return false;
    }
    while (next_name(walk, &name)) {
        if (history_durable_floor(history_of(walk), name.topic) > id) {
            return true;
        }
    }
    return false;
}

const struct table_page *walk_find_page(struct walk *walk, uint64_t after) {
    const struct table_page *page =
        table_find_page(table_of(walk), walk->topics, walk->topic_count, after, &walk->waiter);
    return page->state == TABLE_PAGE_WANTED ? NULL : page;
}

void walk_stop_waiting(struct walk *walk) {
    page_waiter_leave(&walk->waiter);
}

static void move_to_id(struct walk *walk, uint64_t id) {
    walk->cursor.durable = id;
    walk->position.durable = id;
}

static bool is_news(const struct walk *walk, const struct gap *gap) {
    return gap->id > walk->cursor.durable && !gap_memory_knows(&walk->gaps_told, gap) &&
           is_about(walk, gap);
}

/* What a client's walk forgets is told again. A handler's has to remember all gaps of a page: it
 * tells them one by one, as there is room for them. */
static void note_gap(struct walk *walk, const struct gap *gap) {
    if (is_of_client(walk) && gap_memory_count(&walk->gaps_told) >= WALK_GAPS_MAX) {
        gap_memory_clear(&walk->gaps_told);
    }
    check(gap_memory_add(&walk->gaps_told, gap));
}

bool walk_on_gap(struct walk *walk, const struct gap *gap) {
    bool is_told = is_news(walk, gap);
    if (is_told) {
        note_gap(walk, gap);
    }
    return is_told;
}

/* True if whoever was told of the other gap was told of this one, too. */
static bool is_within(const struct gap *gap, const struct gap *other) {
    return gap->id <= other->id && (topic_key_is_none(gap_topic(other)) ||
                                    topic_key_equals(gap_topic(gap), gap_topic(other)));
}

static bool is_last_of_page(const struct walk *walk, const struct gap *gap, const struct gap *end) {
    for (const struct gap *next = gap + 1; next < end; next++) {
        if (is_news(walk, next) && !is_within(next, gap)) {
            return false;
        }
    }
    return true;
}

/* Only the last refresh of a page carries the position after all of its gaps: if the connection
 * ends before that, the others are told again. */
static bool next_gap_of_page(struct walk *walk, struct walk_step *step) {
    struct walk_turn *turn = &walk->turn;
    size_t count;
    const struct gap *gaps = table_page_gaps(turn->page, &count);
    uint64_t after = table_page_skip(turn->page, walk->cursor.durable);
    for (; turn->page_gap < count; turn->page_gap++) {
        const struct gap *gap = &gaps[turn->page_gap];
        if (is_news(walk, gap)) {
            *step = step_to_gap(walk, gap);
            if (is_last_of_page(walk, gap, gaps + count)) {
                step->at.durable = after;
                step->position.durable = after;
            }
            return true;
        }
    }
    if (count > 0) {
        move_to_id(walk, after);
    }
    return false;
}

static void step_to_row(const struct walk *walk, const struct table_row *row,
                        struct walk_step *step) {
    *step = step_of(walk, WALK_EVENT);
    step->at.durable = row->id;
    step->position.durable = row->id;
    check(wire_decode_event(wire_body(row->frame), &step->event));
    step_to_event(row->frame, step);
}

/* A client's page has its names only. */
static bool is_wanted(const struct walk *walk, const struct walk_step *step) {
    return is_of_client(walk) || delivery_wants(walk->delivery, step->event.topic);
}

/* False: the page is at its end. */
static bool next_row(struct walk *walk, bool has_room, struct walk_step *step) {
    const struct table_page *page = walk->turn.page;
    const struct table_row *row;
    while ((row = table_page_next(page, walk->cursor.durable)) != NULL) {
        if (!has_room) {
            *step = step_of(walk, WALK_FULL);
            return true;
        }
        step_to_row(walk, row, step);
        if (is_wanted(walk, step)) {
            return true;
        }
        move_to_id(walk, row->id);
    }
    move_to_id(walk, page->end);
    walk->turn.page = NULL;
    return false;
}

static bool next_of_page(struct walk *walk, bool has_room, struct walk_step *step) {
    struct walk_turn *turn = &walk->turn;
    if (turn->page == NULL) {
        return false;
    }
    if (!turn->has_told_gaps && next_gap_of_page(walk, step)) {
        return true;
    }
    turn->has_told_gaps = true;
    return next_row(walk, has_room, step);
}

static bool begin_page(struct walk *walk) {
    struct walk_turn *turn = &walk->turn;
    turn->page = walk_find_page(walk, walk->cursor.durable);
    turn->page_gap = 0;
    turn->has_told_gaps = false;
    return turn->page != NULL;
}

/* A page that was begun is read to its end, also if the log has the rest. */
static bool next_of_table(struct walk *walk, bool has_room, struct walk_step *step) {
    do {
        if (next_of_page(walk, has_room, step)) {
            return true;
        }
        if (!needs_page(walk)) {
            return false;
        }
        step->kind = has_room ? WALK_WAIT : WALK_FULL;
    } while (has_room && begin_page(walk));
    return true;
}

/* --- gaps of the reading under way --------------------------------------------------------- */

/* A reader that reaches the head now has not been told of them. */
static bool next_open_gap(struct walk *walk, struct walk_step *step) {
    const struct gap_memory *open = &table_of(walk)->gaps;
    struct walk_turn *turn = &walk->turn;
    if (turn->open_gap == NULL) {
        turn->open_gap = gap_memory_next(open, NULL);
    }
    while (turn->open_gap != NULL && !is_news(walk, turn->open_gap)) {
        turn->open_gap = gap_memory_next(open, turn->open_gap);
    }
    if (turn->open_gap != NULL) {
        *step = step_to_gap(walk, turn->open_gap);
    }
    return turn->open_gap != NULL;
}

/* --- the log ------------------------------------------------------------------------------- */

static bool is_for_handler(const struct walk *walk, const struct entry *entry) {
    return entry->topic == NULL || delivery_wants(walk->delivery, topic_key_of(entry->topic));
}

/* Without room any new entry is the next one: which of them the handler wants is known only when it
 * goes on, since its topics may change until then. */
static const struct entry *next_for_handler(struct walk *walk, bool has_room, bool *is_at_head) {
    struct walk_turn *turn = &walk->turn;
    if (turn->entry == NULL) {
        turn->entry = history_after(history_of(walk), &walk->cursor);
    }
    for (; turn->entry != NULL && turn->entries < WALK_ENTRIES; turn->entries++) {
        if (entry_is_new(turn->entry, &walk->cursor)) {
            if (!has_room || is_for_handler(walk, turn->entry)) {
                *is_at_head = false;
                return turn->entry;
            }
            cursor_pass(&walk->cursor, &turn->entry->at);
        }
        turn->entry = TAILQ_NEXT(turn->entry, link);
    }
    *is_at_head = turn->entry == NULL;
    return NULL;
}

/* NULL: *is_at_head tells whether nothing comes any more, or so many entries were looked at that
 * the next turn has to go on. */
static const struct entry *next_entry(struct walk *walk, bool has_room, bool *is_at_head) {
    const struct history *history = history_of(walk);
    if (!is_of_client(walk)) {
        return next_for_handler(walk, has_room, is_at_head);
    }
    if (walk->has_pattern) {
        return history_next_match(history, walk->topics, walk->topic_count, &walk->cursor,
                                  is_at_head);
    }
    const struct entry *entry =
        history_next(history, walk->topics, walk->topic_count, &walk->cursor);
    *is_at_head = entry == NULL;
    return entry;
}

/* written: a frame in the log carries the position of a reader that has everything up to it. A
 * client's position moves by the entry's own part only. A handler's position moves by both. Where
 * the handler's walk is further, its own part is kept: positions never go back. */
static void move_step(const struct walk *walk, const struct entry *entry,
                      const struct position *written, struct walk_step *step) {
    bool has_id = entry->kind == ENTRY_DURABLE;
    bool moves_place = !has_id;
    bool moves_id = has_id;
    if (!is_of_client(walk)) {
        moves_place = entry->at.place >= walk->cursor.place;
        moves_id = entry->at.durable >= walk->cursor.durable;
    }
    if (moves_place) {
        step->at.place = entry->at.place;
        step->position = *written;
        step->position.durable = walk->position.durable;
    }
    if (moves_id) {
        step->at.durable = entry->at.durable;
        step->position.durable = written->durable;
    }
}

static void step_to_entry(const struct walk *walk, const struct entry *entry,
                          struct walk_step *step) {
    struct wire_refresh refresh;
    *step = step_of(walk, entry->kind == ENTRY_BREAK ? WALK_BREAK : WALK_EVENT);
    if (entry->kind == ENTRY_BREAK) {
        check(wire_decode_refresh(wire_body(entry->frame), &refresh));
        move_step(walk, entry, &refresh.position, step);
    } else {
        check(wire_decode_event(wire_body(entry->frame), &step->event));
        move_step(walk, entry, &step->event.position, step);
        step_to_event(entry->frame, step);
    }
}

static void step_to_head(const struct walk *walk, struct walk_step *step) {
    *step = step_of(walk, WALK_HEAD);
    step->at = journal_cursor(journal_of(walk));
    journal_position(journal_of(walk), &step->position);
}

static void next_of_log(struct walk *walk, bool has_room, struct walk_step *step) {
    bool is_at_head;
    const struct entry *entry = next_entry(walk, has_room, &is_at_head);
    if (is_at_head) {
        step_to_head(walk, step);
    } else if (entry == NULL) {
        step->kind = WALK_PAUSE;
    } else if (!has_room) {
        step->kind = WALK_FULL;
    } else {
        step_to_entry(walk, entry, step);
    }
}

/* --- the walk --------------------------------------------------------------------------------- */

void walk_begin(struct walk *walk, struct delivery *delivery, struct topic *const *topics,
                size_t topic_count, const struct cursor *cursor, const struct position *position,
                void (*on_page)(struct page_waiter *waiter)) {
    *walk = (struct walk){
        .delivery = delivery,
        .topics = topics,
        .topic_count = topic_count,
        .cursor = *cursor,
        .position = *position,
        .waiter.on_page = on_page,
    };
    if (is_of_client(walk)) {
        walk->losses_told = must_zalloc(topic_count * sizeof *walk->losses_told);
    }
    for (size_t i = 0; i < topic_count; i++) {
        walk->has_pattern = walk->has_pattern || topic_has_pattern(topics[i]);
    }
}

void walk_end(struct walk *walk) {
    walk_stop_waiting(walk);
    gap_memory_clear(&walk->gaps_told);
    free(walk->losses_told);
    walk->losses_told = NULL;
}

void walk_begin_turn(struct walk *walk) {
    walk->turn = (struct walk_turn){.is_paging = needs_page(walk)};
}

/* False: this part of the turn has nothing more. */
static bool next_of_stage(struct walk *walk, bool has_room, struct walk_step *step) {
    switch (walk->turn.stage) {
    case WALK_EARLY_GAPS:
        return is_of_client(walk) && next_open_gap(walk, step);
    case WALK_LOSSES:
        return next_loss(walk, step);
    case WALK_PAGES:
        return next_of_table(walk, has_room, step);
    case WALK_LATE_LOSSES:
        return walk->turn.is_paging && next_loss(walk, step);
    case WALK_LATE_GAPS:
        return !is_of_client(walk) && next_open_gap(walk, step);
    case WALK_LOG:
        next_of_log(walk, has_room, step);
        break;
    }
    return true;
}

enum walk_kind walk_next(struct walk *walk, bool has_room, struct walk_step *step) {
    while (!next_of_stage(walk, has_room, step)) {
        walk->turn.stage++;
        walk->turn.name = (struct walk_name){0};
    }
    return step->kind;
}

void walk_take(struct walk *walk, const struct walk_step *step) {
    const struct walk_name *name = &walk->turn.name;
    walk->cursor = step->at;
    walk->position = step->position;
    if (step->kind == WALK_EVENT && step->event.is_durable) {
        /* a gap after the event is told again: its refresh came before the event */
        gap_memory_pass(&walk->gaps_told, step->event.topic, step->at.durable);
    } else if (step->kind == WALK_GAP && step->gap != NULL) {
        note_gap(walk, step->gap);
    } else if (step->kind == WALK_GAP) {
        *name->losses_told = history_losses(history_of(walk), name->topic);
    }
}

bool walk_has_backlog(struct walk *walk) {
    struct walk_step step;
    bool is_at_head;
    return next_loss(walk, &step) || needs_page(walk) ||
           next_entry(walk, true, &is_at_head) != NULL || !is_at_head ||
           !gap_memory_is_empty(&table_of(walk)->gaps);
}

void walk_on_table_changed(struct walk *walk) {
    move_to_id(walk, table_of(walk)->head);
    gap_memory_clear(&walk->gaps_told); /* they were the old table's */
}
