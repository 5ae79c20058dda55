/* A broker_rig with a table: stands in for common/pg in the program that includes this. The
 * connections of LISTEN and markers never come up (the test plays those, as in broker_rig.h); that
 * of the table asks a database that is an array here. Its statements are answered when the test
 * says so.
 */
#pragma once

#include "broker_rig.h"
#include "pg.h"

enum { DATABASE_ROWS = 8192, FAKE_PARAMETERS = 6 };

struct database_row {
    uint64_t id;
    const char *topic; /* static */
    unsigned number;
    size_t filler; /* bytes more */
    bool is_pruned;
    bool is_floor; /* the newest of its topic that is pruned */
    bool is_bad;   /* put there around the functions */
};

struct database {
    bool is_missing; /* there is no schema */
    const char *version;
    unsigned oid;
    struct database_row rows[DATABASE_ROWS];
    size_t count;
    uint64_t last_id;
    bool floors_first; /* as pgsse.page has them now: before all events, and none is left out */
    const char *page_fault; /* SQLSTATE, or NULL */
    size_t page_rows;       /* a page has no more; 0: as asked for */
    bool bounds_floors;     /* a page has none behind its end */
    char rights[512];       /* " user/topic user/topic " */
};

static struct database database;

static unused void database_clear(unsigned oid) {
    database = (struct database){.version = "1", .oid = oid, .last_id = 1, .floors_first = true};
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

/* The one of the table; only one broker at a time. */
static struct pg *fake;

struct fake_rows {
    struct buf cells; /* of char * */
    size_t columns;
    int count;
};

bool pg_dsn_is_valid(const char *dsn, const char **reason) {
    (void)dsn;
    (void)reason;
    return true;
}

bool pg_encoding_is_served(const char *encoding) {
    (void)encoding;
    return true;
}

const char *pg_encoding(const struct pg *pg) {
    (void)pg;
    return "UTF8";
}

struct pg *pg_create(struct loop *loop, const struct pg_settings *settings,
                     const struct pg_owner *owner) {
    (void)loop;
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
    (void)pg;
}

void pg_stop(struct pg *pg) {
    (void)pg;
}

void pg_drop(struct pg *pg, const char *reason) {
    fake_forget_statement(pg);
    pg->state = FAKE_DOWN;
    pg->owner.on_lost(pg->owner.self, reason);
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

const char *pg_value(const struct pg_result *result, int row, int column) {
    const struct fake_rows *rows = result->handle;
    assert_true(row >= 0 && row < rows->count && column >= 0 && (size_t)column < rows->columns);
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

/* Whether the text of an array has that text as an element; NULL has all. */
static bool array_has(const char *array, const char *text) {
    char element[300];
    snprintf(element, sizeof element, "\"%s\"", text);
    return array == NULL || strstr(array, element) != NULL;
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

/* $2 and so on: the first one says how long a lock is waited for. */
static const char *fake_text(size_t i) {
    return fake->parameters[1 + i];
}

static uint64_t fake_number(size_t i) {
    return fake_text(i) == NULL ? UINT64_MAX : strtoull(fake_text(i), NULL, 10);
}

/* As pgsse.page finds them: floors are not bounded by its end. */
static bool is_on_page(const struct database_row *row) {
    return row->id > fake_number(0) && array_has(fake_text(2), row->topic) &&
           (row->is_pruned ? row->is_floor : row->id <= fake_number(1)) &&
           (!database.bounds_floors || row->id <= fake_number(1));
}

static void page_row(struct fake_rows *rows, const struct database_row *row) {
    char *filler = repeated('f', row->filler);
    cell_number(rows, row->id);
    cell(rows, row->topic);
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
    free(filler);
    rows->count++;
}

static bool page_floors(struct fake_rows *rows) {
    for (size_t i = 0; i < database.count && database.floors_first; i++) {
        const struct database_row *row = &database.rows[i];
        if (row->is_pruned && is_on_page(row)) {
            page_row(rows, row);
            cell(rows, "f");
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
    int floors = rows->count;
    for (size_t i = 0; i < database.count && !has_more; i++) {
        const struct database_row *row = &database.rows[i];
        if (is_on_page(row) && !(is_without_floors && row->is_pruned)) {
            bytes += row->is_pruned ? 0 : row->filler + 10;
            has_more = taken > 0 && (taken >= rows_max || bytes > fake_number(4));
            if (!has_more) {
                page_row(rows, row);
                cell(rows, "f");
                taken++;
            }
        }
    }
    char **cells = (char **)(void *)rows->cells.bytes;
    for (int i = floors; i < rows->count && has_more; i++) {
        cells[(size_t)i * 10 + 9][0] = 't';
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
}

/* What is under way: 'l'ook, 'p'age, 'r'eading, 'c'heck, or 0. */
static unused char fake_task(void) {
    if (fake->state != FAKE_BUSY) {
        return 0;
    }
    if (strstr(fake->sql, "pgsse.version()") != NULL) {
        return 'l';
    }
    return strstr(fake->sql, "pgsse.subscribed") != NULL ? 'c' : fake_text(1) == NULL ? 'r' : 'p';
}

/* What the statement under way sees is what is there now. */
static void fake_execute(struct fake_rows *rows) {
    switch (fake_task()) {
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
    struct pg_result result = {.is_ok = true, .rows = rows->count, .handle = rows};
    if (database.is_missing) {
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

static unused void fake_connect(void) {
    fake->state = FAKE_READY;
    fake->owner.on_connected(fake->owner.self);
}

/* All, until there is nothing more to ask. */
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

/* LISTEN is in force, and the table has been seen, with what the test has stored before. */
static unused void table_rig_begin_with(struct rig *rig, int64_t history_bytes,
                                        int64_t ring_capacity) {
    rig_begin_with(rig, history_bytes, ring_capacity);
    rig->broker->table.state = TABLE_UNKNOWN;
    rig_listen(rig);
    fake_connect();
    fake_settle();
    assert_int_equal(rig->broker->table.state, TABLE_PRESENT);
}

static unused void table_rig_begin(struct rig *rig) {
    table_rig_begin_with(rig, RIG_HISTORY_BYTES, RIG_RING_CAPACITY);
}

/* The table's own hint, as its functions send it. */
static unused void table_rig_hint(struct rig *rig, const char *payload) {
    broker_receive(rig->broker, SCHEMA_CHANNEL, slice_of(payload), 79);
}

/* A durable event, heard of by the table's poll: so it takes no place. */
static unused void table_rig_read(struct rig *rig) {
    (void)table_ask_reading(&rig->broker->table);
    fake_settle();
}

static unused void table_rig_publish(struct rig *rig, const char *topic, unsigned number) {
    (void)database_store(topic, number, 0);
    table_rig_read(rig);
}

/* It has gone, or is another one. */
static unused void table_rig_look(struct rig *rig) {
    rig->broker->table.must_look = true;
    table_rig_read(rig);
}

static unused struct position table_rig_position(const struct rig *rig) {
    struct position position;
    broker_position(rig->broker, &position);
    return position;
}

static unused void peer_connection(struct peer *peer, uint64_t token, const char *user,
                                   const char *first, const char *second, enum position_kind kind,
                                   uint64_t durable) {
    struct wire_subscribe message = {.token = token,
                                     .form = WIRE_FORM_CONNECTIONS,
                                     .user = slice_of(user),
                                     .position_kind = kind,
                                     .position = {.durable = durable},
                                     .topics = topics_of(first, second)};
    peer_send(peer, wire_encode_subscribe(&message));
}

static unused void peer_leave_connection(struct peer *peer, uint64_t token, const char *first,
                                         const char *second) {
    struct wire_unsubscribe message = {
        .token = token, .form = WIRE_FORM_CONNECTIONS, .topics = topics_of(first, second)};
    peer_send(peer, wire_encode_unsubscribe(&message));
}
