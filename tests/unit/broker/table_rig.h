/* A broker_rig with a table: replaces common/pg in the program that includes this file. The
 * connections of LISTEN and markers never come up (the test plays those, as in broker_rig.h). The
 * table's connection asks a database that is an array here. Its statements are answered when the
 * test says so. */
#pragma once

#include "broker_rig.h"
#include "pg.h"

enum { DATABASE_ROWS = 8192, FAKE_PARAMETERS = 7 };

struct database_row {
    uint64_t id;
    const char *topic; /* static */
    unsigned number;
    size_t filler; /* bytes more */
    bool is_pruned;
    bool is_floor;      /* the newest of its topic that is pruned */
    bool is_bad;        /* inserted without the schema's functions */
    const char *tenant; /* static; NULL: "" */
};

struct database {
    bool is_missing;      /* there is no schema */
    const char *stranger; /* who owns it; "": a superuser */
    bool is_garbled;      /* a reading's answer has no last column */
    const char *version;
    unsigned oid;
    const char *server;
    struct database_row rows[DATABASE_ROWS];
    size_t count;
    uint64_t last_id;
    uint64_t leap_from; /* ids from here to before leap_to are of an earlier table */
    uint64_t leap_to;
    bool floors_first;      /* as in pgsse.page today: all floors, before the events */
    const char *page_fault; /* SQLSTATE, or NULL */
    size_t page_rows;       /* the most rows of a page; 0: as asked for */
    bool bounds_floors;     /* a page has no floors after its end */
    char rights[512];       /* " user/topic user/topic " */
    const char *stray;      /* the topic that all rows of a page have; NULL: their own */
    uint64_t stray_number;  /* what a check grants besides; 0: nothing */
    uint64_t stray_end;     /* where each page says that it ends; 0: where it does */
};

static struct database database;

static unused void database_clear(unsigned oid) {
    database = (struct database){.version = "4",
                                 .stranger = "",
                                 .oid = oid,
                                 .server = RIG_SERVER,
                                 .last_id = 1,
                                 .floors_first = true};
}

/* Returns its id. */
static unused uint64_t database_store(const char *topic, unsigned number, size_t filler) {
    assert_true(database.count < DATABASE_ROWS);
    database.rows[database.count++] = (struct database_row){
        .id = ++database.last_id, .topic = topic, .number = number, .filler = filler};
    return database.last_id;
}

/* All of a topic up to that id. */
static unused void database_prune(const char *topic, uint64_t up_to) {
    struct database_row *floor = NULL;
    for (size_t i = 0; i < database.count; i++) {
        struct database_row *row = &database.rows[i];
        if (strcmp(row->topic, topic) == 0) {
            row->is_pruned = row->is_pruned || row->id <= up_to;
            row->is_floor = false;
            floor = row->is_pruned ? row : floor;
        }
    }
    if (floor != NULL) {
        floor->is_floor = true;
    }
}

/* --- pg.h ---------------------------------------------------------------------------------------
 */

enum fake_state { FAKE_DOWN, FAKE_READY, FAKE_BUSY };

struct pg {
    struct pg_owner owner;
    enum fake_state state;
    const char *sql;
    char *parameters[FAKE_PARAMETERS];
    bool is_settled;
    unsigned statements; /* begun */
    void (*on_result)(void *self, const struct pg_result *result);
};

/* The table's connection; there is only one broker at a time. */
static struct pg *fake;

struct fake_rows {
    struct buf cells; /* of char * */
    size_t columns;
    int count;
};

bool pg_dsn_is_valid(const char *dsn, const char **reason) {
    return true;
}

bool pg_encoding_is_served(const char *encoding) {
    return true;
}

const char *pg_encoding(const struct pg *pg) {
    return "UTF8";
}

struct pg *pg_create(struct loop *loop, const struct pg_settings *settings,
                     const struct pg_owner *owner) {
    struct pg *pg = must_zalloc(sizeof *pg);
    pg->owner = *owner;
    fake = strcmp(settings->name, "table") == 0 ? pg : fake;
    return pg;
}

static void fake_forget_statement(struct pg *pg) {
    for (size_t i = 0; i < FAKE_PARAMETERS; i++) {
        free(pg->parameters[i]);
        pg->parameters[i] = NULL;
    }
    pg->sql = NULL;
}

void pg_destroy(struct pg **place) {
    fake = fake == *place ? NULL : fake;
    fake_forget_statement(*place);
    free(*place);
    *place = NULL;
}

void pg_start(struct pg *pg) {
}

void pg_stop(struct pg *pg) {
}

void pg_drop(struct pg *pg, const char *reason) {
    fake_forget_statement(pg);
    pg->state = FAKE_DOWN;
    pg->owner.on_lost(pg->owner.self, reason);
}

void pg_renew(struct pg *pg) {
    fake_forget_statement(pg);
    pg->state = FAKE_DOWN;
}

int pg_session_pid(const struct pg *pg) {
    return 0;
}

void pg_settled(struct pg *pg) {
    pg->is_settled = true;
}

bool pg_is_connected(const struct pg *pg) {
    return pg->state != FAKE_DOWN;
}

bool pg_is_ready(const struct pg *pg) {
    return pg->state == FAKE_READY;
}

void pg_query(struct pg *pg, const char *sql, int parameter_count, const char *const *parameters,
              void (*on_result)(void *self, const struct pg_result *result)) {
    assert_int_equal(pg->state, FAKE_READY);
    pg->state = FAKE_BUSY;
    pg->statements++;
    pg->sql = sql;
    pg->on_result = on_result;
    for (int i = 0; i < parameter_count; i++) {
        pg->parameters[i] =
            parameters[i] == NULL ? NULL : must_strdup(parameters[i], strlen(parameters[i]));
    }
}

void pg_execute(struct pg *pg, const char *name, int parameter_count, const char *const *parameters,
                void (*on_result)(void *self, const struct pg_result *result)) {
    pg_query(pg, name, parameter_count, parameters, on_result);
}

void pg_set_timeout(struct pg *pg, int64_t timeout_ms) {
    (void)pg;
    (void)timeout_ms;
}

const char *pg_value(const struct pg_result *result, int row, int column) {
    const struct fake_rows *rows = result->handle;
    if (row < 0 || row >= rows->count || column < 0 || (size_t)column >= rows->columns) {
        return "";
    }
    char *const *cells = (char *const *)(void *)rows->cells.bytes;
    return cells[(size_t)row * rows->columns + (size_t)column];
}

/* --- what the database answers -------------------------------------------------------------------
 */

static void cell(struct fake_rows *rows, const char *text) {
    char *copy = must_strdup(text, strlen(text));
    buf_append(&rows->cells, &copy, sizeof copy);
}

static void cell_number(struct fake_rows *rows, uint64_t number) {
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    cell(rows, text);
}

static void rows_release(struct fake_rows *rows) {
    char **cells = (char **)(void *)rows->cells.bytes;
    for (size_t i = 0; i < rows->cells.length / sizeof *cells; i++) {
        free(cells[i]);
    }
    buf_release(&rows->cells);
}

static uint64_t database_head(void) {
    return database.last_id;
}

static bool array_has_element(const char *array, const char *text, size_t length,
                              const char *rest) {
    char element[300];
    snprintf(element, sizeof element, "\"%.*s%s\"", (int)length, text, rest);
    return strstr(array, element) != NULL;
}

/* True if the array's text has that topic, or a pattern that matches it, or is NULL. */
static bool array_has(const char *array, const char *topic) {
    size_t length = strlen(topic);
    bool is_there = array == NULL || array_has_element(array, topic, length, "");
    bool is_users = strncmp(topic, TOPIC_USER_PREFIX, strlen(TOPIC_USER_PREFIX)) == 0;
    for (size_t i = 0; i <= length && !is_there && !is_users; i++) {
        is_there = array_has_element(array, topic, i, "*");
    }
    return is_there;
}

/* The i-th element. */
static struct slice array_at(const char *array, size_t i) {
    const char *at = array + 1;
    for (; i > 0; i--) {
        at = strchr(at, ',') + 1;
    }
    struct slice element = {at, strcspn(at, ",}")};
    if (*at == '"') {
        element = (struct slice){at + 1, element.length - 2};
    }
    return element;
}

static size_t array_length(const char *array) {
    size_t length = array[1] == '}' ? 0 : 1;
    for (const char *at = array; *at != '\0'; at++) {
        length += *at == ',' ? 1 : 0;
    }
    return length;
}

/* $2 and so on; $1 is the time limit for locks. */
static const char *fake_text(size_t i) {
    return fake->parameters[1 + i];
}

static uint64_t fake_number(size_t i) {
    return fake_text(i) == NULL ? UINT64_MAX : strtoull(fake_text(i), NULL, 10);
}

/* As in pgsse.page: a page's end does not bound its floors. */
static bool is_on_page(const struct database_row *row) {
    return row->id > fake_number(0) && array_has(fake_text(2), row->topic) &&
           (row->is_pruned ? row->is_floor : row->id <= fake_number(1)) &&
           (!database.bounds_floors || row->id <= fake_number(1));
}

static void page_row(struct fake_rows *rows, const struct database_row *row) {
    char *filler = repeated('f', row->filler);
    cell_number(rows, row->id);
    cell(rows, database.stray != NULL ? database.stray : row->topic);
    cell(rows, row->is_pruned ? "t" : "f");
    cell(rows, row->is_bad ? "\n" : "");
    if (row->is_pruned) {
        cell(rows, "");
    } else {
        cell_number(rows, row->number);
    }
    cell(rows, "");
    cell(rows, "");
    cell(rows, filler);
    cell(rows, "f");
    cell(rows, row->tenant == NULL ? "" : row->tenant);
    free(filler);
    rows->count++;
}

/* The page ends before that id. */
static void page_end(struct fake_rows *rows, uint64_t before) {
    cell_number(rows, before - 1);
    for (size_t i = 1; i < rows->columns; i++) {
        cell(rows, "");
    }
    rows->count++;
}

static void page_leap(struct fake_rows *rows) {
    if (database.leap_from <= fake_number(0) && fake_number(0) < database.leap_to) {
        struct database_row leap = {.id = database.leap_to, .topic = "", .is_pruned = true};
        page_row(rows, &leap);
    }
}

static bool page_floors(struct fake_rows *rows) {
    for (size_t i = 0; i < database.count && database.floors_first; i++) {
        const struct database_row *row = &database.rows[i];
        if (row->is_pruned && is_on_page(row)) {
            page_row(rows, row);
        }
    }
    return database.floors_first;
}

static void answer_page(struct fake_rows *rows) {
    uint64_t rows_max = fake_number(3);
    size_t bytes = 0;
    uint64_t taken = 0;
    bool has_more = false;
    rows->columns = 10;
    if (database.page_rows > 0 && database.page_rows < rows_max) {
        rows_max = database.page_rows;
    }
    bool is_without_floors = page_floors(rows);
    page_leap(rows);
    for (size_t i = 0; i < database.count && !has_more; i++) {
        const struct database_row *row = &database.rows[i];
        if (is_on_page(row) && !(is_without_floors && row->is_pruned)) {
            bytes += row->is_pruned ? 0 : row->filler + 10;
            has_more = taken > 0 && (taken >= rows_max || bytes > fake_number(4));
            if (has_more) {
                page_end(rows, row->id);
            } else {
                page_row(rows, row);
                taken++;
            }
        }
    }
    if (database.stray_end != 0) {
        page_end(rows, database.stray_end + 1);
    }
}

static void answer_look(struct fake_rows *rows) {
    rows->columns = 5;
    rows->count = 1;
    cell(rows, database.version);
    cell_number(rows, database_head());
    cell_number(rows, database.oid);
    cell(rows, "0");
    cell(rows, "0");
}

static void answer_trust(struct fake_rows *rows) {
    rows->columns = 1;
    rows->count = 1;
    cell(rows, database.stranger);
}

static void answer_check(struct fake_rows *rows) {
    rows->columns = 1;
    for (size_t i = 0; i < array_length(fake_text(0)); i++) {
        char right[300];
        struct slice user = array_at(fake_text(1), i);
        struct slice topic = array_at(fake_text(2), i);
        snprintf(right, sizeof right, " %.*s/%.*s ", (int)user.length, user.at, (int)topic.length,
                 topic.at);
        if (strstr(database.rights, right) != NULL) {
            struct slice number = array_at(fake_text(0), i);
            char text[24];
            snprintf(text, sizeof text, "%.*s", (int)number.length, number.at);
            cell(rows, text);
            rows->count++;
        }
    }
    if (database.stray_number != 0) {
        cell_number(rows, database.stray_number);
        rows->count++;
    }
}

static void answer_prove(struct fake_rows *rows) {
    rows->columns = 1;
    rows->count = 1;
    cell(rows, database.server);
}

/* What is under way: 's'erver, 't'rust, 'l'ook, 'p'age, 'r'eading, 'c'heck, or 0. */
static unused char fake_task(void) {
    if (fake->state != FAKE_BUSY) {
        return 0;
    }
    if (strstr(fake->sql, "pg_postmaster_start_time") != NULL) {
        return 's';
    }
    if (strstr(fake->sql, "nspowner") != NULL) {
        return 't';
    }
    if (strstr(fake->sql, "pgsse.version()") != NULL) {
        return 'l';
    }
    return strstr(fake->sql, "pgsse.subscribed") != NULL ? 'c' : fake_text(1) == NULL ? 'r' : 'p';
}

/* The statement under way sees the database as it is now. */
static void fake_execute(struct fake_rows *rows) {
    switch (fake_task()) {
    case 's':
        answer_prove(rows);
        return;
    case 't':
        answer_trust(rows);
        return;
    case 'l':
        answer_look(rows);
        return;
    case 'c':
        answer_check(rows);
        return;
    default:
        answer_page(rows);
        return;
    }
}

static void fake_deliver(struct fake_rows *rows) {
    int columns = (int)rows->columns - (database.is_garbled && fake_task() == 'r' ? 1 : 0);
    struct pg_result result = {
        .is_ok = true, .rows = rows->count, .columns = columns, .handle = rows};
    if (database.is_missing && fake_task() != 's') {
        result = (struct pg_result){.sqlstate = "3F000", .message = "no schema", .handle = rows};
    }
    if (fake_task() == 'p' && database.page_fault != NULL) {
        result = (struct pg_result){
            .sqlstate = database.page_fault, .message = "it cannot be read", .handle = rows};
    }
    fake_forget_statement(fake);
    fake->state = FAKE_READY;
    fake->on_result(fake->owner.self, &result);
    rows_release(rows);
}

/* Answers one statement; false if none is under way. */
static unused bool fake_step(void) {
    struct fake_rows rows = {0};
    if (fake_task() == 0) {
        return false;
    }
    fake_execute(&rows);
    fake_deliver(&rows);
    return true;
}

/* Connects; if LISTEN is verified, the connection is proved, too. */
static unused void fake_connect(void) {
    fake->state = FAKE_READY;
    fake->owner.on_connected(fake->owner.self);
    if (fake_task() == 's') {
        (void)(fake_step() == true);
    }
}

/* Answers all statements, until there is nothing more to ask. */
static unused void fake_settle(void) {
    if (fake->state == FAKE_DOWN) {
        fake_connect();
    }
    for (int i = 0; i < 10000 && fake_step(); i++) {
    }
    assert_int_equal(fake_task(), 0);
}

/* --- rigs with a table --------------------------------------------------------------------------
 */

/* LISTEN is in force, and the table was looked at, with what the test has stored before. */
static unused void table_rig_begin_with(int64_t history_bytes, int64_t ring_capacity) {
    rig_begin_with(history_bytes, ring_capacity);
    rig.broker->journal.table.state = TABLE_UNKNOWN;
    rig_listen();
    fake_connect();
    fake_settle();
    assert_int_equal(rig.broker->journal.table.state, TABLE_PRESENT);
}

static unused void table_rig_begin(void) {
    table_rig_begin_with(RIG_HISTORY_BYTES, RIG_RING_CAPACITY);
}

/* A hint, as the schema's functions send it. */
static unused void table_rig_hint(const char *payload) {
    rig_hear(SCHEMA_HINT_CHANNEL, slice_of(payload), 79);
}

/* The table's poll reads new events without a hint, so no place is counted. */
static unused void table_rig_read(void) {
    (void)table_ask_reading(&rig.broker->journal.table);
    fake_settle();
}

static unused void table_rig_publish(const char *topic, unsigned number) {
    (void)database_store(topic, number, 0);
    table_rig_read();
}

/* Looks at the schema again: it has gone, or is another one. */
static unused void table_rig_look(void) {
    rig.broker->journal.table.must_look = true;
    table_rig_read();
}

static unused struct position table_rig_position(void) {
    struct position position;
    journal_position(&rig.broker->journal, &position);
    return position;
}

static unused void peer_connection(struct peer *from, uint64_t token, const char *user,
                                   const char *first, const char *second, enum position_kind kind,
                                   uint64_t durable) {
    struct wire_subscribe message = {.token = token,
                                     .form = WIRE_FORM_USER,
                                     .user = slice_of(user),
                                     .position_kind = kind,
                                     .position = {.durable = durable},
                                     .topics = topics_of(first, second)};
    peer_send(from, wire_encode_subscribe(&message));
}

static unused void peer_leave_connection(struct peer *from, uint64_t token, const char *first,
                                         const char *second) {
    struct wire_unsubscribe message = {
        .token = token, .form = WIRE_FORM_USER, .topics = topics_of(first, second)};
    peer_send(from, wire_encode_unsubscribe(&message));
}
