#include "table.h"

#include "broker.h"
#include "pg_array.h"

#include <inttypes.h>
#include <stdlib.h>

/* The columns of pgsse.page. */
enum page_column {
    COLUMN_ID,
    COLUMN_TOPIC,
    COLUMN_IS_GAP,
    COLUMN_TYPE,
    COLUMN_DATA,
    COLUMN_PUBLISHER_ID,
    COLUMN_RETRY,
    COLUMN_COMMENT,
    COLUMN_IS_TEXT,
    COLUMN_HAS_MORE,
};

enum { NUMBER_BYTES = 24 };

/* Each begins with how long it may wait for a lock, in ms: less than we wait for the statement, so
 * that the server ends it, and what is given up does not pile up there. */
#define PATIENCE "pg_catalog.set_config('lock_timeout', $1, true)"

/* With what else is asked here later: a role that may not do all of it is told so at once. (The
 * functions, and their tables, are locked when they run: not before the first row is there.) */
static const char look_statement[] =
    "SELECT pgsse.version(), pgsse.head(), 'pgsse.events'::pg_catalog.regclass::pg_catalog.oid, "
    "(SELECT count(*) FROM pgsse.page(0, 0, NULL, 1, 1)), "
    "(SELECT count(*) FROM pgsse.subscribed('{}', '{}', '{}')) FROM " PATIENCE;
static const char page_statement[] =
    "SELECT r.id, r.topic, r.is_floor, r.type, r.data, r.publisher_id, r.retry, r.comment, "
    "r.is_text, r.has_more "
    "FROM " PATIENCE " AS p, LATERAL pgsse.page($2::bigint + length(p) * 0, $3::bigint, "
    "$4::text[], $5::integer, $6::bigint) AS r";
static const char check_statement[] =
    "SELECT pgsse.subscribed($2::integer[], $3::text[], $4::text[]) FROM " PATIENCE;
static const char prune_statement[] =
    "SELECT pgsse.prune(nullif($2, '0 ms')::interval, nullif($3, '0')::bigint, $4::bigint) "
    "FROM " PATIENCE;

static void begin_next(struct table *table);
static void forget_gaps(struct table *table);

static bool is_true(const struct pg_result *result, int row, int column) {
    return pg_value(result, row, column)[0] == 't';
}

static uint64_t number_at(const struct pg_result *result, int row, int column) {
    return strtoull(pg_value(result, row, column), NULL, 10);
}

/* --- statements ------------------------------------------------------------------------------ */

static void on_timeout(struct loop_timer *timer) {
    struct table *table = container_of(timer, struct table, timeout);
    pg_drop(table->pg, "the table of durable events cannot be read in time");
}

/* parameters[0] is set here. */
static void run(struct table *table, enum table_task task, const char *sql, int parameter_count,
                const char **parameters,
                void (*on_result)(void *self, const struct pg_result *result)) {
    struct broker *broker = table->broker;
    char patience[NUMBER_BYTES];
    table->task = task;
    snprintf(patience, sizeof patience, "%" PRId64, broker->config->canary_timeout * 3 / 4);
    parameters[0] = patience;
    loop_timer_start(broker->loop, &table->timeout, broker->config->canary_timeout, on_timeout);
    pg_query(table->pg, sql, parameter_count, parameters, on_result);
}

/* What was under way is wanted still. */
static void take_back(struct table *table) {
    struct replay *replay;
    while ((replay = TAILQ_FIRST(&table->checking)) != NULL) {
        replay_await_check(replay);
    }
    table->page = NULL;
}

/* What a page holds cannot be read, and will not be: not because of a lock, a time limit or a
 * server that stops. (Internal errors, data that are broken, errors raised by functions.) */
static bool is_lasting(const struct pg_result *result) {
    static const char *const classes[] = {"XX", "22", "P0"};
    for (size_t i = 0; i < length_of(classes); i++) {
        if (strncmp(result->sqlstate, classes[i], 2) == 0) {
            return true;
        }
    }
    return false;
}

/* Others come first; and in the end those who wait for it are told that they miss something. */
static void put_page_back(struct table *table) {
    struct page *page = table->page;
    table->page = NULL;
    if (pages_put_back(&table->pages, page) < TABLE_PAGE_FAILURES_MAX) {
        return;
    }
    log_error("durable events behind id %" PRIu64 " cannot be read: they are left out",
              page->after);
    struct page_gap gap = page_gap_of(table->page_end, (struct slice){"", 0});
    page_add_gap(page, &gap);
    pages_settle(&table->pages, page, table->page_end);
    broker_on_page(table->broker, page);
}

static bool is_resting(const struct table *table) {
    return loop_timer_is_started(&table->rest);
}

static void on_rested(struct loop_timer *timer) {
    begin_next(container_of(timer, struct table, rest));
}

/* The connection is sound, but something there is not: the schema may have gone, so it is looked at
 * next. */
static void on_refused(struct table *table, const struct pg_result *result) {
    struct broker *broker = table->broker;
    table->must_look = true;
    table->is_failing = true;
    if (result->sqlstate[0] != '\0') { /* else the connection breaks: that is told in a moment */
        broker_on_table_lost(broker, result->message);
    }
    loop_timer_start(broker->loop, &table->rest, broker->config->reconnect_min, on_rested);
    if (table->page != NULL && is_lasting(result)) {
        put_page_back(table);
    }
    take_back(table);
}

/* True if the outcome can be used. */
static bool end_statement(struct table *table, const struct pg_result *result) {
    loop_timer_stop(table->broker->loop, &table->timeout);
    if (!result->is_ok && strncmp(result->sqlstate, "57P", 3) == 0) {
        pg_drop(table->pg, result->message); /* the server ends the session */
        return false;
    }
    if (!result->is_ok) {
        on_refused(table, result);
        return false;
    }
    pg_settled(table->pg);
    if (table->task == TABLE_READS && table->is_failing) {
        table->is_failing = false;
        broker_on_table_looked(table->broker);
    }
    return true;
}

/* --- is it there? ---------------------------------------------------------------------------- */

static void change_state(struct table *table, enum table_state state, uint64_t head) {
    bool was_known = table_serves(table, 0);
    table->before = table->state;
    table->state = state;
    table->head = head;
    forget_gaps(table);
    pages_forget(&table->pages);
    broker_on_table_changed(table->broker, was_known);
}

static void become_absent(struct table *table, const char *reason) {
    if (table->state != TABLE_ABSENT || strcmp(table->reason, reason) != 0) {
        log_info("no durable events: %s", reason);
    }
    snprintf(table->reason, sizeof table->reason, "%s", reason);
    if (table->state != TABLE_ABSENT) {
        change_state(table, TABLE_ABSENT, 0);
    }
}

static void become_present(struct table *table, uint64_t head, uint64_t identity) {
    if (table->state != TABLE_PRESENT || table->identity != identity) {
        log_info("durable events are read from id %" PRIu64 " on", head);
        table->identity = identity;
        change_state(table, TABLE_PRESENT, head);
    }
}

/* Not there, or not for us: class 3F and 42 of SQLSTATE. */
static bool is_missing(const struct pg_result *result) {
    return strncmp(result->sqlstate, "3F", 2) == 0 || strncmp(result->sqlstate, "42", 2) == 0;
}

static void on_looked(void *self, const struct pg_result *result) {
    struct table *table = self;
    char reason[TABLE_REASON_BYTES];
    loop_timer_stop(table->broker->loop, &table->timeout);
    if (!result->is_ok && !is_missing(result)) {
        pg_drop(table->pg, result->message);
        return;
    }
    table->must_look = false;
    table->is_failing = table->is_failing && result->is_ok;
    if (!table->is_failing) {
        broker_on_table_looked(table->broker);
    }
    if (!result->is_ok) {
        snprintf(reason, sizeof reason,
                 "the schema pgsse is not installed, or not for this role (" SCHEMA_COMMAND "): "
                 "%s",
                 result->message);
        become_absent(table, reason);
        pg_settled(table->pg);
    } else if (number_at(result, 0, 0) != SCHEMA_VERSION) {
        snprintf(reason, sizeof reason, "the schema pgsse has version %s, wanted is %d",
                 pg_value(result, 0, 0), SCHEMA_VERSION);
        become_absent(table, reason);
    } else {
        become_present(table, number_at(result, 0, 1), number_at(result, 0, 2));
    }
    begin_next(table);
}

static void look(struct table *table) {
    const char *parameters[1];
    run(table, TABLE_LOOKS, look_statement, length_of(parameters), parameters, on_looked);
}

/* --- rows -> frames -------------------------------------------------------------------------- */

static void read_row(const struct pg_result *result, int row, struct event_row *event) {
    *event = (struct event_row){
        .topic = slice_of(pg_value(result, row, COLUMN_TOPIC)),
        .type = slice_of(pg_value(result, row, COLUMN_TYPE)),
        .data = slice_of(pg_value(result, row, COLUMN_DATA)),
        .publisher_id = slice_of(pg_value(result, row, COLUMN_PUBLISHER_ID)),
        .retry = slice_of(pg_value(result, row, COLUMN_RETRY)),
        .comment = slice_of(pg_value(result, row, COLUMN_COMMENT)),
        .is_text = is_true(result, row, COLUMN_IS_TEXT),
    };
}

static bool has_more(const struct pg_result *result) {
    return result->rows > 0 && is_true(result, result->rows - 1, COLUMN_HAS_MORE);
}

static void page_parameters(char after[NUMBER_BYTES], uint64_t id, char rows[NUMBER_BYTES],
                            int most_rows, char bytes[NUMBER_BYTES], int most_bytes) {
    snprintf(after, NUMBER_BYTES, "%" PRIu64, id);
    snprintf(rows, NUMBER_BYTES, "%d", most_rows);
    snprintf(bytes, NUMBER_BYTES, "%d", most_bytes);
}

/* --- readings -------------------------------------------------------------------------------- */

static void on_poll(struct loop_timer *timer);

static void poll_again(struct table *table) {
    struct broker *broker = table->broker;
    loop_timer_start(broker->loop, &table->poll, broker->config->table_poll, on_poll);
}

static void on_poll(struct loop_timer *timer) {
    struct table *table = container_of(timer, struct table, poll);
    table->must_look = true; /* it may have been replaced */
    poll_again(table);
    (void)table_ask_reading(table);
}

/* Each of them once: until the reading has passed it, it stands in every page. */
static void hear_gap(struct table *table, const struct page_gap *heard) {
    struct table_gap *gap;
    HASH_FIND(hh, table->gaps, heard->topic, heard->topic_length, gap);
    if (gap != NULL && gap->page.id >= heard->id) {
        return;
    }
    if (gap == NULL) {
        gap = must_zalloc(sizeof *gap);
        gap->page = *heard;
        HASH_ADD_KEYPTR(hh, table->gaps, gap->page.topic, gap->page.topic_length, gap);
    }
    gap->page.id = heard->id;
    broker_receive_gap(table->broker, heard);
}

static void forget_gaps(struct table *table) {
    struct table_gap *gap;
    struct table_gap *next;
    HASH_ITER(hh, table->gaps, gap, next) {
        HASH_DEL(table->gaps, gap);
        free(gap);
    }
}

/* What was pruned lies behind us now, too. */
static void end_reading(struct table *table) {
    const struct table_gap *gap;
    for (gap = table->gaps; gap != NULL; gap = gap->hh.next) {
        table->head = gap->page.id > table->head ? gap->page.id : table->head;
    }
    forget_gaps(table);
    table->done = table->begun;
    broker_on_table_read(table->broker);
}

/* The head goes on to the first event, or behind all gaps: who is told of them now is then told
 * again when it comes back only of those that reach beyond that event. */
static void skip_pruned(struct table *table, const struct pg_result *result) {
    uint64_t head = table->head;
    for (int i = 0; i < result->rows; i++) {
        uint64_t id = number_at(result, i, COLUMN_ID);
        if (!is_true(result, i, COLUMN_IS_GAP)) {
            head = id - 1 > table->head ? id - 1 : table->head;
            break;
        }
        head = id > head ? id : head;
    }
    table->head = head;
}

static void on_read(void *self, const struct pg_result *result) {
    struct table *table = self;
    struct event_row row;
    if (!end_statement(table, result)) {
        return;
    }
    skip_pruned(table, result);
    for (int i = 0; i < result->rows; i++) {
        uint64_t id = number_at(result, i, COLUMN_ID);
        read_row(result, i, &row);
        if (is_true(result, i, COLUMN_IS_GAP)) {
            struct page_gap gap = page_gap_of(id, row.topic);
            hear_gap(table, &gap);
        } else if (id > table->head) {
            table->head = id;
            broker_receive_row(table->broker, &row);
        }
    }
    if (!has_more(result)) {
        end_reading(table);
    }
    begin_next(table);
}

static void read_on(struct table *table) {
    char after[NUMBER_BYTES];
    char rows[NUMBER_BYTES];
    char bytes[NUMBER_BYTES];
    const char *parameters[] = {NULL, after, NULL, NULL, rows, bytes};
    page_parameters(after, table->head, rows, TABLE_READING_ROWS, bytes, TABLE_READING_BYTES);
    table->begun = table->asked;
    run(table, TABLE_READS, page_statement, length_of(parameters), parameters, on_read);
}

uint64_t table_ask_reading(struct table *table) {
    table->asked = table->begun + 1;
    begin_next(table);
    return table->asked;
}

bool table_has_read(const struct table *table, uint64_t reading) {
    return table->done >= reading;
}

/* --- checks ---------------------------------------------------------------------------------- */

static void on_checked(void *self, const struct pg_result *result) {
    struct table *table = self;
    struct replay *replay;
    if (!end_statement(table, result)) {
        return;
    }
    replay = TAILQ_FIRST(&table->checking);
    for (int row = 0; row < result->rows; row++) {
        uint64_t number = number_at(result, row, 0);
        while (replay != NULL && replay->check_number < number / WIRE_TOPICS_MAX) {
            replay = TAILQ_NEXT(replay, link); /* some may have left meanwhile */
        }
        if (replay != NULL && replay->check_number == number / WIRE_TOPICS_MAX) {
            replay->granted |= (uint64_t)1 << (number % WIRE_TOPICS_MAX);
        }
    }
    table->is_handing_out = true;
    while ((replay = TAILQ_FIRST(&table->checking)) != NULL) {
        replay_on_checked(replay);
    }
    table->is_handing_out = false;
    begin_next(table);
}

static void add_check(struct replay *replay, uint64_t number, struct buf arrays[3]) {
    replay->check_number = number;
    replay->granted = 0;
    for (size_t i = 0; i < replay->topic_count; i++) {
        const struct topic *topic = replay->topics[i];
        pg_array_add_number(&arrays[0], number * WIRE_TOPICS_MAX + i);
        pg_array_add(&arrays[1], slice_of(replay->user));
        pg_array_add(&arrays[2], (struct slice){topic->name, topic->name_length});
    }
}

static void check_users(struct table *table) {
    struct buf arrays[3] = {0};
    struct replay *replay;
    for (size_t i = 0; i < length_of(arrays); i++) {
        pg_array_begin(&arrays[i]);
    }
    for (uint64_t number = 0;
         number < TABLE_CHECKS_MAX && (replay = TAILQ_FIRST(&table->unchecked)) != NULL; number++) {
        add_check(replay, number, arrays);
        replay_begin_check(replay);
    }
    for (size_t i = 0; i < length_of(arrays); i++) {
        pg_array_end(&arrays[i]);
    }
    const char *parameters[] = {NULL, arrays[0].bytes, arrays[1].bytes, arrays[2].bytes};
    run(table, TABLE_CHECKS, check_statement, length_of(parameters), parameters, on_checked);
    for (size_t i = 0; i < length_of(arrays); i++) {
        buf_release(&arrays[i]);
    }
}

/* --- pages ----------------------------------------------------------------------------------- */

static void add_row(struct table *table, const struct pg_result *result, int i) {
    uint64_t id = number_at(result, i, COLUMN_ID);
    struct event_row row;
    read_row(result, i, &row);
    if (is_true(result, i, COLUMN_IS_GAP)) {
        struct page_gap gap = page_gap_of(id, row.topic);
        page_add_gap(table->page, &gap);
        return;
    }
    struct payload *frame = broker_row_frame(table->broker, &row, id);
    if (frame != NULL) {
        page_add(table->page, id, frame);
    }
}

static void on_page(void *self, const struct pg_result *result) {
    struct table *table = self;
    uint64_t end = table->page_end;
    if (!end_statement(table, result)) {
        return;
    }
    for (int i = 0; i < result->rows; i++) {
        add_row(table, result, i);
    }
    if (has_more(result)) {
        end = number_at(result, result->rows - 1, COLUMN_ID);
    }
    struct page *page = table->page;
    table->page = NULL;
    pages_settle(&table->pages, page, end);
    broker_on_page(table->broker, page);
    begin_next(table);
}

static void add_topics(struct buf *array, struct slice names) {
    pg_array_begin(array);
    for (size_t at = 0; at < names.length; at += strlen(names.at + at) + 1) {
        pg_array_add(array, slice_of(names.at + at));
    }
    pg_array_end(array);
}

static void read_page(struct table *table, struct page *page) {
    char after[NUMBER_BYTES];
    char end[NUMBER_BYTES];
    char rows[NUMBER_BYTES];
    char bytes[NUMBER_BYTES];
    struct buf topics = {0};
    table->page = page;
    table->page_end = table->head;
    page_parameters(after, page->after, rows, PAGE_ROWS_MAX, bytes, PAGE_BYTES_MAX);
    snprintf(end, sizeof end, "%" PRIu64, table->page_end);
    add_topics(&topics, page_topics(page));
    const char *parameters[] = {
        NULL, after, end, page_topics(page).length == 0 ? NULL : topics.bytes, rows, bytes};
    run(table, TABLE_PAGES, page_statement, length_of(parameters), parameters, on_page);
    buf_release(&topics);
}

/* --- prunings -------------------------------------------------------------------------------- */

static void on_prune_due(struct loop_timer *timer) {
    struct table *table = container_of(timer, struct table, prune);
    table->must_prune = true;
    begin_next(table);
}

static void prune_again(struct table *table, bool is_at_once) {
    const struct config *config = table->broker->config;
    if (config->retain_age > 0 || config->retain_count > 0) {
        loop_timer_start(table->broker->loop, &table->prune, is_at_once ? 0 : TABLE_PRUNE_MS,
                         on_prune_due);
    }
}

/* What Postgres refuses here (prune is the owner's) is no fault of the connection. */
static void on_pruned(void *self, const struct pg_result *result) {
    static struct log_limit limit;
    struct table *table = self;
    loop_timer_stop(table->broker->loop, &table->timeout);
    table->is_pruning = false;
    if (!result->is_ok) {
        log_limited(&limit, LOG_LEVEL_WARNING, "durable events cannot be pruned: %s",
                    result->message);
    }
    prune_again(table, result->is_ok && number_at(result, 0, 0) == TABLE_PRUNED_MAX);
    begin_next(table);
}

/* One that another pruning holds up is given up: that one does the same. */
static void prune(struct table *table) {
    const struct config *config = table->broker->config;
    char age[2 * NUMBER_BYTES];
    char count[NUMBER_BYTES];
    char most[NUMBER_BYTES];
    const char *parameters[] = {NULL, age, count, most};
    snprintf(age, sizeof age, "%lld ms", (long long)config->retain_age);
    snprintf(count, sizeof count, "%lld", (long long)config->retain_count);
    snprintf(most, sizeof most, "%d", TABLE_PRUNED_MAX);
    table->must_prune = false;
    table->is_pruning = true;
    run(table, TABLE_PRUNES, prune_statement, length_of(parameters), parameters, on_pruned);
    loop_timer_start(table->broker->loop, &table->timeout, TABLE_PRUNE_MS, on_timeout);
}

/* --- what is next ---------------------------------------------------------------------------- */

/* False: there is nothing of that kind to do. */
static bool begin_task(struct table *table, enum table_task task) {
    struct page *page;
    switch (task) {
    case TABLE_LOOKS:
        return false; /* begin_next did */
    case TABLE_READS:
        if (table->asked > table->done && broker_is_listening(table->broker)) {
            read_on(table);
            return true;
        }
        return false;
    case TABLE_CHECKS:
        if (!TAILQ_EMPTY(&table->unchecked)) {
            check_users(table);
            return true;
        }
        return false;
    case TABLE_PAGES:
        page = pages_next_wanted(&table->pages);
        if (page != NULL) {
            read_page(table, page);
            return true;
        }
        return false;
    case TABLE_PRUNES:
        if (table->must_prune) {
            prune(table);
            return true;
        }
        return false;
    }
    return false;
}

static void begin_next(struct table *table) {
    if (!pg_is_ready(table->pg) || table->is_handing_out || is_resting(table)) {
        return;
    }
    if (table->must_look || table->state == TABLE_UNKNOWN) {
        if (broker_is_listening(table->broker)) {
            look(table);
        }
        return;
    }
    if (table->state == TABLE_ABSENT) {
        table->begun = table->asked; /* there is nothing to read */
        table->done = table->asked;
        return;
    }
    enum table_task first = table->task;
    for (unsigned i = 0; i < TABLE_TASKS; i++) {
        if (begin_task(table, (enum table_task)((first + 1 + i) % TABLE_TASKS))) {
            return;
        }
    }
}

void table_go_on(struct table *table) {
    begin_next(table);
}

/* --- life ------------------------------------------------------------------------------------ */

/* LISTEN may have found another server than before: the table has to be that one's. */
void table_on_listening(struct table *table, bool is_again) {
    if (is_again && pg_is_connected(table->pg)) {
        table->is_following = true;
        pg_drop(table->pg, "LISTEN was lost");
    }
    (void)table_ask_reading(table);
}

static void on_connected(void *self) {
    struct table *table = self;
    table->must_look = true;
    broker_judge(table->broker);
    (void)table_ask_reading(table);
}

static void on_lost(void *self, const char *reason) {
    struct table *table = self;
    loop_timer_stop(table->broker->loop, &table->timeout);
    take_back(table);
    if (table->is_pruning) {
        table->is_pruning = false;
        prune_again(table, false);
    }
    if (table->is_following) {
        table->is_following = false;
        return;
    }
    broker_on_table_lost(table->broker, reason);
    if (table->state == TABLE_UNKNOWN && broker_is_listening(table->broker) &&
        ++table->losses == TABLE_PATIENCE) {
        broker_on_table_read(table->broker);
    }
}

bool table_serves(const struct table *table, uint64_t id) {
    return table->state != TABLE_UNKNOWN || (id == 0 && table->losses >= TABLE_PATIENCE);
}

void table_visit_gaps(const struct table *table, void *argument,
                      void (*tell)(void *argument, const struct page_gap *gap)) {
    const struct table_gap *gap;
    for (gap = table->gaps; gap != NULL; gap = gap->hh.next) {
        tell(argument, &gap->page);
    }
}

bool table_is_connected(const struct table *table) {
    return pg_is_connected(table->pg);
}

void table_init(struct table *table, struct broker *broker) {
    *table = (struct table){.broker = broker};
    pages_init(&table->pages);
    TAILQ_INIT(&table->unchecked);
    TAILQ_INIT(&table->checking);
    struct pg_settings settings = {
        .name = "table",
        .dsn = broker->config->database_url,
        .reconnect_min_ms = broker->config->reconnect_min,
        .reconnect_max_ms = broker->config->reconnect_max,
    };
    struct pg_owner owner = {table, on_connected, on_lost, NULL, NULL};
    table->pg = pg_create(broker->loop, &settings, &owner);
}

void table_start(struct table *table) {
    pg_start(table->pg);
    poll_again(table);
    prune_again(table, true);
}

void table_release(struct table *table) {
    loop_timer_stop(table->broker->loop, &table->poll);
    loop_timer_stop(table->broker->loop, &table->timeout);
    loop_timer_stop(table->broker->loop, &table->prune);
    loop_timer_stop(table->broker->loop, &table->rest);
    pages_release(&table->pages);
    forget_gaps(table);
    pg_destroy(&table->pg);
}
