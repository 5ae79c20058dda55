#include "table.h"

#include "log.h"
#include "pg_array.h"
#include "schema.h"

#include <inttypes.h>

enum { NUMBER_BYTES = 24 };

/* Each statement first sets how long it may wait for a lock, in ms. This is less than
 * canary_timeout, so that the server ends a blocked statement. Else statements that the broker
 * has given up would pile up there. */
#define PATIENCE "pg_catalog.set_config('lock_timeout', $1, true)"

/* Asks for the schema's owners before any code of the schema is run. */
static const char trust_statement[] = "SELECT " TABLE_TRUST_COLUMNS ", " PATIENCE;

/* The arguments have exactly the parameters' types, so that no other function of that name can be a
 * better match. */
static const char look_statement[] = "SELECT " TABLE_LOOK_COLUMNS " FROM " PATIENCE;
static const char page_statement[] =
    "SELECT " TABLE_PAGE_COLUMNS " FROM " PATIENCE
    " AS p, LATERAL pgsse.page($2::bigint OPERATOR(pg_catalog.+) "
    "(pg_catalog.length(p) OPERATOR(pg_catalog.*) 0), $3::bigint, $4::pg_catalog.text[], "
    "$5::integer, $6::bigint, $7::pg_catalog.text[]) AS r";
static const char check_statement[] =
    "SELECT pgsse.subscribed($2::integer[], $3::pg_catalog.text[], $4::pg_catalog.text[], "
    "$5::pg_catalog.text[]) FROM " PATIENCE;
static const char prune_statement[] =
    "SELECT pgsse.prune($2::interval, $3::bigint, $4::bigint) FROM " PATIENCE;

static const char prove_statement[] = "SELECT " SERVER_QUERY " FROM " PATIENCE;

static void begin_next(struct table *table);

/* --- statements ------------------------------------------------------------------------------ */

/* Sets parameters[0]. The connection may be lost before this returns. */
static void run(struct table *table, const char *sql, int parameter_count, const char **parameters,
                void (*on_result)(void *self, const struct pg_result *result)) {
    char patience[NUMBER_BYTES];
    snprintf(patience, sizeof patience, "%" PRId64, table->config->canary_timeout * 3 / 4);
    parameters[0] = patience;
    pg_query(table->pg, sql, parameter_count, parameters, on_result);
}

/* The statement under way has no outcome: its checks and its page are still wanted. */
static void take_back(struct table *table) {
    checks_take_back(&table->checks);
    table->page = NULL;
}

/* True for errors that will come again when the page is read again: internal errors, broken data,
 * errors raised by functions. Not for locks, time limits or a server that stops. */
static bool is_lasting(const struct pg_result *result) {
    static const char *const classes[] = {"XX", "22", "P0"};
    for (size_t i = 0; i < length_of(classes); i++) {
        if (strncmp(result->sqlstate, classes[i], 2) == 0) {
            return true;
        }
    }
    return false;
}

/* Other pages are read first. After TABLE_PAGE_FAILURES_MAX failures the page becomes a gap, and
 * its readers are told that they miss something. */
static void put_page_back(struct table *table) {
    struct table_page *page = table->page;
    table->page = NULL;
    if (table_pages_put_back(&table->pages, page) < TABLE_PAGE_FAILURES_MAX) {
        return;
    }
    log_error("durable events after id %" PRIu64 " cannot be read: they are left out", page->after);
    struct gap gap = gap_of(table->page_end, (struct topic_key){0});
    table_page_add_gap(page, &gap);
    table_pages_settle(&table->pages, page, table->page_end);
}

static bool is_resting(const struct table *table) {
    return loop_timer_is_started(&table->rest);
}

static void on_rested(struct loop_timer *timer) {
    begin_next(container_of(timer, struct table, rest));
}

/* Postgres has refused a statement, but the connection works. The schema may have gone, so the next
 * statement looks at it. */
static void on_refused(struct table *table, const struct pg_result *result) {
    table->must_look = true;
    table->is_failing = true;
    if (result->sqlstate[0] != '\0') { /* "": the connection breaks, on_lost follows */
        table->owner.on_lost(table->owner.self, result->message);
    }
    loop_timer_start(table->loop, &table->rest, table->config->reconnect_min, on_rested);
    if (table->page != NULL && is_lasting(result)) {
        put_page_back(table);
    }
    take_back(table);
}

/* True if the outcome can be used. */
static bool end_statement(struct table *table, const struct pg_result *result) {
    if (!result->is_ok && strncmp(result->sqlstate, "57P", 3) == 0) {
        pg_drop(table->pg, result->message); /* the server is ending the session */
        return false;
    }
    if (!result->is_ok) {
        on_refused(table, result);
        return false;
    }
    pg_settled(table->pg);
    if (table->task == TABLE_READS && table->is_failing) {
        table->is_failing = false;
        table->owner.on_proved(table->owner.self);
    }
    return true;
}

/* The answer is not from the schema's own function, or not even from Postgres. */
static bool refuse_page(struct table *table) {
    static const struct pg_result broken = {.sqlstate = "XX000",
                                            .message = "the answer of pgsse.page is not a page"};
    on_refused(table, &broken);
    return false;
}

/* As end_statement, for a page that was asked for after that id. */
static bool end_page(struct table *table, const struct pg_result *result, uint64_t after) {
    return end_statement(table, result) &&
           (table_result_is_page(result, after) || refuse_page(table));
}

/* --- is the schema there? --------------------------------------------------------------------- */

/* A statement about the server or the schema, without further parameters. It counts as a pruning,
 * so that a reading comes next. */
static void ask(struct table *table, const char *sql,
                void (*on_result)(void *self, const struct pg_result *result)) {
    const char *parameters[1];
    table->task = TABLE_PRUNES;
    run(table, sql, length_of(parameters), parameters, on_result);
}

static void change_state(struct table *table, enum table_state state, uint64_t head) {
    bool was_known = table_serves(table, 0);
    table->previous_state = table->state;
    table->state = state;
    table->head = head;
    gap_memory_clear(&table->gaps);
    table_pages_forget(&table->pages);
    table->owner.on_changed(table->owner.self, was_known);
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

/* The schema is not there, or not for this role: SQLSTATE classes 3F and 42. */
static bool is_missing(const struct pg_result *result) {
    return strncmp(result->sqlstate, "3F", 2) == 0 || strncmp(result->sqlstate, "42", 2) == 0;
}

/* False: there is no answer, and the connection is given up. */
static bool end_look(struct table *table, const struct pg_result *result) {
    if (!result->is_ok && !is_missing(result)) {
        pg_drop(table->pg, result->message);
        return false;
    }
    return true;
}

/* reason: why the schema cannot be used; NULL if it can. */
static void end_looking(struct table *table, const char *reason) {
    table->must_look = false;
    table->is_failing = table->is_failing && reason == NULL;
    if (!table->is_failing) {
        table->owner.on_proved(table->owner.self);
    }
    if (reason != NULL) {
        become_absent(table, reason);
        pg_settled(table->pg);
    }
}

static void on_looked(void *self, const struct pg_result *result) {
    struct table *table = self;
    char reason[TABLE_REASON_BYTES];
    uint64_t head;
    uint64_t identity;
    if (!end_look(table, result)) {
        return;
    }
    if (table_result_is_schema(result, &head, &identity, reason)) {
        end_looking(table, NULL);
        become_present(table, head, identity);
    } else {
        end_looking(table, reason);
    }
    begin_next(table);
}

/* Compares this connection's server with LISTEN's, before anything is read: the table of another
 * server has other ids. */
static void on_proved(void *self, const struct pg_result *result) {
    struct table *table = self;
    if (!result->is_ok || result->rows != 1) {
        pg_drop(table->pg, result->is_ok ? "Postgres answers nonsense" : result->message);
    } else if (!server_is_known(table->server)) {
        return; /* LISTEN was lost meanwhile; when it is back, table_renew is called */
    } else if (!server_is(table->server, pg_value(result, 0, 0))) {
        pg_drop(table->pg, "it is at another server, or database, than LISTEN");
        table->owner.on_astray(table->owner.self);
    } else {
        table->is_proved = true;
        begin_next(table);
    }
}

static void prove(struct table *table) {
    ask(table, prove_statement, on_proved);
}

/* The schema's owner decides what code its functions run, so an untrusted owner's schema is not
 * used. */
static void on_trusted(void *self, const struct pg_result *result) {
    struct table *table = self;
    char reason[TABLE_REASON_BYTES];
    if (!end_look(table, result)) {
        return;
    }
    if (table_result_is_trusted(result, reason)) {
        ask(table, look_statement, on_looked);
        return;
    }
    end_looking(table, reason);
    begin_next(table);
}

static void look(struct table *table) {
    ask(table, trust_statement, on_trusted);
}

/* --- readings -------------------------------------------------------------------------------- */

static void page_parameters(char after[NUMBER_BYTES], uint64_t id, char rows[NUMBER_BYTES],
                            int most_rows, char bytes[NUMBER_BYTES], int most_bytes) {
    snprintf(after, NUMBER_BYTES, "%" PRIu64, id);
    snprintf(rows, NUMBER_BYTES, "%d", most_rows);
    snprintf(bytes, NUMBER_BYTES, "%d", most_bytes);
}

static void on_poll(struct loop_timer *timer);

static void poll_again(struct table *table) {
    loop_timer_start(table->loop, &table->poll, table->config->table_poll, on_poll);
}

static void on_poll(struct loop_timer *timer) {
    struct table *table = container_of(timer, struct table, poll);
    table->must_look = true; /* the schema may have been replaced */
    poll_again(table);
    (void)table_ask_reading(table);
}

/* The head moves past the gaps that the reading has met, too. */
static void end_reading(struct table *table) {
    table->head = gap_memory_end(&table->gaps, table->head);
    gap_memory_clear(&table->gaps);
    table->reading_done = table->reading_started;
    table->owner.on_read(table->owner.self);
}

/* The head after telling the gaps: just before the first event, else the highest gap. A client that
 * is told now and returns later is told again only of gaps beyond that event. */
static uint64_t head_after_gaps(const struct table *table, const struct pg_result *result) {
    uint64_t head = table->head;
    for (int i = 0; i < table_result_rows(result); i++) {
        uint64_t id = table_result_id(result, i);
        if (!table_result_is_gap(result, i)) {
            return id - 1 > table->head ? id - 1 : table->head;
        }
        head = id > head ? id : head;
    }
    return head;
}

/* The gap in that row. False if no client can have its topic, because a name in it is not valid. */
static bool read_gap(const struct pg_result *result, int i, struct gap *gap) {
    struct event_row row;
    char room[TOPIC_KEY_BYTES_MAX];
    table_result_row(result, i, &row);
    struct topic_key topic = event_row_topic(&row, room);
    *gap = gap_of(table_result_id(result, i), topic);
    return row.topic.length == 0 || !topic_key_is_none(topic);
}

static void receive_gaps(struct table *table, const struct pg_result *result) {
    struct buf news = {0}; /* of struct gap */
    uint64_t head = head_after_gaps(table, result);
    for (int i = 0; i < table_result_rows(result); i++) {
        struct gap gap;
        if (table_result_is_gap(result, i) && read_gap(result, i, &gap) &&
            gap_memory_add(&table->gaps, &gap)) {
            buf_append(&news, &gap, sizeof gap);
        }
    }
    if (news.length > 0) {
        table->owner.on_gaps(table->owner.self, (const struct gap *)(const void *)news.bytes,
                             news.length / sizeof(struct gap), head);
    }
    table->head = head;
    buf_release(&news);
}

static void on_read(void *self, const struct pg_result *result) {
    struct table *table = self;
    struct event_row row;
    if (!end_page(table, result, table->head)) {
        return;
    }
    receive_gaps(table, result);
    for (int i = 0; i < table_result_rows(result); i++) {
        uint64_t id = table_result_id(result, i);
        if (table_result_is_gap(result, i) || id <= table->head) {
            continue;
        }
        table->head = id;
        table_result_row(result, i, &row);
        table->owner.on_row(table->owner.self, &row, id);
    }
    if (!table_result_has_more(result)) {
        end_reading(table);
    }
    begin_next(table);
}

static void read_on(struct table *table) {
    char after[NUMBER_BYTES];
    char rows[NUMBER_BYTES];
    char bytes[NUMBER_BYTES];
    const char *parameters[] = {NULL, after, NULL, NULL, rows, bytes, NULL};
    page_parameters(after, table->head, rows, TABLE_READING_ROWS, bytes, TABLE_READING_BYTES);
    table->reading_started = table->reading_wanted;
    run(table, page_statement, length_of(parameters), parameters, on_read);
}

uint64_t table_ask_reading(struct table *table) {
    table->reading_wanted = table->reading_started + 1;
    begin_next(table);
    return table->reading_wanted;
}

bool table_has_read(const struct table *table, uint64_t reading) {
    return table->reading_done >= reading;
}

/* --- checks ---------------------------------------------------------------------------------- */

static void on_checked(void *self, const struct pg_result *result) {
    struct table *table = self;
    if (!end_statement(table, result)) {
        return;
    }
    table->is_handing_out = true;
    checks_end(&table->checks, result);
    table->is_handing_out = false;
    begin_next(table);
}

static void check_users(struct table *table) {
    struct buf arrays[CHECKS_ARRAYS] = {0};
    checks_begin(&table->checks, arrays);
    const char *parameters[] = {NULL, arrays[0].bytes, arrays[1].bytes, arrays[2].bytes,
                                arrays[3].bytes};
    run(table, check_statement, length_of(parameters), parameters, on_checked);
    for (size_t i = 0; i < length_of(arrays); i++) {
        buf_release(&arrays[i]);
    }
}

void table_ask_check(struct table *table, struct check *check) {
    check_ask(&table->checks, check);
    begin_next(table);
}

/* --- pages ----------------------------------------------------------------------------------- */

static void add_row(struct table *table, const struct pg_result *result, int i) {
    uint64_t id = table_result_id(result, i);
    struct event_row row;
    char room[TOPIC_KEY_BYTES_MAX];
    bool is_missed = true;
    struct payload *frame = NULL;
    table_result_row(result, i, &row);
    struct topic_key topic = event_row_topic(&row, room);
    bool is_nobodys = row.topic.length > 0 && topic_key_is_none(topic);
    if (is_nobodys || !table_page_wants(table->page, topic)) {
        return; /* a page that answers what was not asked */
    }
    if (!table_result_is_gap(result, i)) {
        frame = table->owner.frame_of(table->owner.self, &row, id, &is_missed);
    }
    if (frame != NULL) {
        table_page_add(table->page, id, frame);
    } else if (is_missed) {
        struct gap gap = gap_of(id, topic);
        table_page_add_gap(table->page, &gap);
    }
}

static void on_page(void *self, const struct pg_result *result) {
    struct table *table = self;
    uint64_t end = table->page_end;
    if (!end_page(table, result, table->page->after)) {
        return;
    }
    for (int i = 0; i < table_result_rows(result); i++) {
        add_row(table, result, i);
    }
    if (table_result_has_more(result)) {
        end = table_result_end(result);
    }
    struct table_page *page = table->page;
    table->page = NULL;
    table_pages_settle(&table->pages, page, end);
    begin_next(table);
}

static void add_topics(struct buf *names, struct buf *tenants, struct slice keys) {
    pg_array_begin(names);
    pg_array_begin(tenants);
    for (size_t at = 0; at < keys.length; at += strlen(keys.at + at) + 1) {
        struct topic_key key = {slice_of(keys.at + at)};
        pg_array_add(names, topic_key_name(key));
        pg_array_add(tenants, topic_key_tenant(key));
    }
    pg_array_end(names);
    pg_array_end(tenants);
}

static void read_page(struct table *table, struct table_page *page) {
    char after[NUMBER_BYTES];
    char end[NUMBER_BYTES];
    char rows[NUMBER_BYTES];
    char bytes[NUMBER_BYTES];
    struct buf names = {0};
    struct buf tenants = {0};
    bool has_all = table_page_topics(page).length == 0;
    table->page = page;
    table->page_end = table->head;
    page_parameters(after, page->after, rows, TABLE_PAGE_ROWS_MAX, bytes, TABLE_PAGE_BYTES_MAX);
    snprintf(end, sizeof end, "%" PRIu64, table->page_end);
    add_topics(&names, &tenants, table_page_topics(page));
    const char *parameters[] = {NULL,
                                after,
                                end,
                                has_all ? NULL : names.bytes,
                                rows,
                                bytes,
                                has_all ? NULL : tenants.bytes};
    run(table, page_statement, length_of(parameters), parameters, on_page);
    buf_release(&names);
    buf_release(&tenants);
}

const struct table_page *table_find_page(struct table *table, struct topic *const *topics,
                                         size_t topic_count, uint64_t after,
                                         struct page_waiter *waiter) {
    struct table_page *page = table_pages_find(&table->pages, topics, topic_count, after);
    if (page->state == TABLE_PAGE_WANTED) {
        table_page_await(page, waiter);
        begin_next(table);
    }
    return page;
}

/* --- prunings -------------------------------------------------------------------------------- */

static void on_prune_due(struct loop_timer *timer) {
    struct table *table = container_of(timer, struct table, prune);
    table->must_prune = true;
    begin_next(table);
}

static void prune_again(struct table *table, bool is_at_once) {
    const struct config *config = table->config;
    if (config->retain_age > 0 || config->retain_count > 0) {
        loop_timer_start(table->loop, &table->prune, is_at_once ? 0 : TABLE_PRUNE_MS, on_prune_due);
    }
}

/* An error here is not a fault of the connection: only the schema's owner may call prune. */
static void on_pruned(void *self, const struct pg_result *result) {
    static struct log_limit limit;
    struct table *table = self;
    table->is_pruning = false;
    if (!result->is_ok) {
        log_limited(&limit, LOG_LEVEL_WARNING, "durable events cannot be pruned: %s",
                    result->message);
    }
    prune_again(table, result->is_ok && pg_number(result, 0, 0) == TABLE_PRUNED_MAX);
    begin_next(table);
}

/* A pruning that has to wait for another one is given up, since the other one does the same
 * work. */
static void prune(struct table *table) {
    const struct config *config = table->config;
    char age[2 * NUMBER_BYTES];
    char count[NUMBER_BYTES];
    char most[NUMBER_BYTES];
    const char *parameters[] = {NULL, config->retain_age > 0 ? age : NULL,
                                config->retain_count > 0 ? count : NULL, most};
    snprintf(age, sizeof age, "%lld ms", (long long)config->retain_age);
    snprintf(count, sizeof count, "%lld", (long long)config->retain_count);
    snprintf(most, sizeof most, "%d", TABLE_PRUNED_MAX);
    table->must_prune = false;
    table->is_pruning = true;
    run(table, prune_statement, length_of(parameters), parameters, on_pruned);
    pg_set_timeout(table->pg, TABLE_PRUNE_MS);
}

/* --- what is next ----------------------------------------------------------------------------
 *
 * Each returns false if there is nothing of that kind to do. */

static bool begin_reading(struct table *table) {
    if (table->reading_wanted == table->reading_done || !server_is_known(table->server)) {
        return false;
    }
    read_on(table);
    return true;
}

static bool begin_checks(struct table *table) {
    if (TAILQ_EMPTY(&table->checks.waiting)) {
        return false;
    }
    check_users(table);
    return true;
}

static bool begin_page(struct table *table) {
    struct table_page *page = table_pages_next_wanted(&table->pages);
    if (page == NULL) {
        return false;
    }
    read_page(table, page);
    return true;
}

static bool begin_pruning(struct table *table) {
    if (!table->must_prune) {
        return false;
    }
    prune(table);
    return true;
}

/* Tasks take turns: the search begins with the task after the last one. */
static void begin_task(struct table *table) {
    static bool (*const tasks[TABLE_TASKS])(struct table * table) = {
        [TABLE_READS] = begin_reading,
        [TABLE_CHECKS] = begin_checks,
        [TABLE_PAGES] = begin_page,
        [TABLE_PRUNES] = begin_pruning,
    };
    unsigned last = table->task;
    for (unsigned i = 1; i <= TABLE_TASKS; i++) {
        table->task = (enum table_task)((last + i) % TABLE_TASKS);
        if (tasks[table->task](table)) {
            return;
        }
    }
}

static void begin_next(struct table *table) {
    if (!pg_is_ready(table->pg) || table->is_handing_out || is_resting(table)) {
        return;
    }
    bool is_verified = server_is_known(table->server);
    if (!table->is_proved) {
        if (is_verified) {
            prove(table);
        }
        return;
    }
    if (table->must_look || table->state == TABLE_UNKNOWN) {
        if (is_verified) {
            look(table);
        }
        return;
    }
    if (table->state == TABLE_ABSENT) {
        table->reading_started = table->reading_wanted; /* no table, nothing to read */
        table->reading_done = table->reading_wanted;
        return;
    }
    begin_task(table);
}

/* --- life ------------------------------------------------------------------------------------ */

void table_on_verified(struct table *table) {
    (void)table_ask_reading(table);
}

static void on_connected(void *self) {
    struct table *table = self;
    table->is_proved = false;
    table->must_look = true;
    (void)table_ask_reading(table);
}

static void forget_statement(struct table *table) {
    take_back(table);
    if (table->is_pruning) {
        table->is_pruning = false;
        prune_again(table, false);
    }
}

void table_renew(struct table *table) {
    forget_statement(table);
    pg_renew(table->pg);
}

static void on_lost(void *self, const char *reason) {
    struct table *table = self;
    forget_statement(table);
    table->owner.on_lost(table->owner.self, reason);
    if (table->state == TABLE_UNKNOWN && server_is_known(table->server) &&
        ++table->losses == TABLE_PATIENCE) {
        table->owner.on_read(table->owner.self);
    }
}

bool table_serves(const struct table *table, uint64_t id) {
    return table->state != TABLE_UNKNOWN || (id == 0 && table->losses >= TABLE_PATIENCE);
}

bool table_is_connected(const struct table *table) {
    return pg_is_connected(table->pg);
}

void table_init(struct table *table, struct loop *loop, const struct config *config,
                const struct server *server, const struct table_owner *owner) {
    *table = (struct table){.owner = *owner, .loop = loop, .config = config, .server = server};
    table_pages_init(&table->pages);
    checks_init(&table->checks);
    struct pg_settings settings =
        pg_settings_of(config, "table", config->canary_timeout,
                       "the table of durable events cannot be read in time");
    struct pg_owner pg_owner = {table, on_connected, on_lost, NULL, NULL};
    table->pg = pg_create(loop, &settings, &pg_owner);
}

void table_start(struct table *table) {
    pg_start(table->pg);
    poll_again(table);
    prune_again(table, true);
}

void table_release(struct table *table) {
    loop_timer_stop(table->loop, &table->poll);
    loop_timer_stop(table->loop, &table->prune);
    loop_timer_stop(table->loop, &table->rest);
    table_pages_release(&table->pages);
    gap_memory_clear(&table->gaps);
    pg_destroy(&table->pg);
}
