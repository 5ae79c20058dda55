#include "database.h"

#include "buf.h"
#include "pg.h"
#include "played.h"
#include "real.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>

#define SERVER "1/20260220100000000000"

enum { PARAMETERS_MAX = 7, PAGE_COLUMNS = 10, ROWS_MAX = 100000, NOTES_MAX = 400000 };
enum { RECENT_NOTES = 200, LOCK_WAIT_MS = 10, RIGHT_GRACE_US = 1500000 };

struct row {
    uint64_t id;
    int topic;
    uint32_t number;
    uint32_t filler_bytes;
    bool is_pruned;
};

struct note {
    char *channel;
    char *payload;
    int pid;
};

static struct {
    struct database_settings settings;
    bool is_up;
    bool is_installed; /* the schema */
    bool is_locked;    /* its table: whoever needs that waits */
    unsigned oid;      /* of the table: another one each time */
    uint64_t leap_to;  /* the first id that this table may have given, as pgsse._leap has it */
    struct row rows[ROWS_MAX];
    size_t row_count;
    uint64_t last_id;
    uint64_t floors[TOPICS];
    struct note notes[NOTES_MAX];
    size_t note_count;
    bool rights[USERS][TOPICS];
    size_t lost_at[USERS][TOPICS]; /* the notification that said so */
    /* When that broker has heard that a right is lost. */
    int64_t lost_us[DATABASE_BROKERS][USERS][TOPICS];
    int last_pid;
    int broker; /* that sessions are created for */
} server;

/* --- rows ------------------------------------------------------------------------------------- */

/* The answer to a statement, cell by cell. */
struct answer {
    struct buf cells; /* of owned char * */
    int columns;
    int rows;
    const char *sqlstate; /* "": it is no failure */
};

static void put(struct answer *answer, const char *text) {
    char *copy = must_strdup(text, strlen(text));
    buf_append(&answer->cells, &copy, sizeof copy);
}

static void put_number(struct answer *answer, uint64_t number) {
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, number);
    put(answer, text);
}

static void answer_release(struct answer *answer) {
    char **cells = (char **)(void *)answer->cells.bytes;
    for (size_t i = 0; i < answer->cells.length / sizeof *cells; i++) {
        free(cells[i]);
    }
    buf_release(&answer->cells);
    *answer = (struct answer){.sqlstate = ""};
}

const char *pg_value(const struct pg_result *result, int row, int column) {
    const struct answer *answer = result->handle;
    char *const *cells = (char *const *)(void *)answer->cells.bytes;
    if (row >= answer->rows || column >= answer->columns) {
        return "";
    }
    return cells[row * answer->columns + column];
}

/* --- sessions --------------------------------------------------------------------------------- */

enum session_state { SESSION_STOPPED, SESSION_WAITING, SESSION_READY, SESSION_BUSY };

struct pg {
    LIST_ENTRY(pg) link;
    struct loop *loop;
    struct pg_settings settings;
    struct pg_owner owner;
    int broker;
    enum session_state state;
    int pid;
    unsigned failures;
    bool is_listening;
    size_t heard; /* of server.notes */
    char channels[1024];
    char *sql; /* of the statement under way */
    int64_t begun_us;
    char *parameters[PARAMETERS_MAX];
    void (*on_result)(void *self, const struct pg_result *result);
    bool is_executed;
    bool is_answered; /* the answer is on its way */
    struct answer answer;
    struct loop_timer attempt;
    struct loop_timer statement;
    struct loop_timer timeout;
    struct loop_timer delivery;
};
LIST_HEAD(pg_list, pg);
static struct pg_list sessions;

static int64_t delay(uint32_t most_ms) {
    return draw(most_ms + 1);
}

static int64_t statement_delay(void) {
    return delay(one_in(8) ? server.settings.slow_ms : 2);
}

static void forget_statement(struct pg *pg) {
    free(pg->sql);
    pg->sql = NULL;
    for (size_t i = 0; i < PARAMETERS_MAX; i++) {
        free(pg->parameters[i]);
        pg->parameters[i] = NULL;
    }
    answer_release(&pg->answer);
    pg->is_executed = pg->is_answered = false;
}

static void hang_up(struct pg *pg) {
    forget_statement(pg);
    loop_timer_stop(pg->loop, &pg->attempt);
    loop_timer_stop(pg->loop, &pg->statement);
    loop_timer_stop(pg->loop, &pg->timeout);
    loop_timer_stop(pg->loop, &pg->delivery);
    pg->is_listening = false;
}

static void on_connected(struct loop_timer *timer);

static void on_attempt(struct loop_timer *timer) {
    struct pg *pg = container_of(timer, struct pg, attempt);
    if (pg->owner.on_attempt != NULL) {
        pg->owner.on_attempt(pg->owner.self);
    }
    loop_timer_start(pg->loop, &pg->attempt, delay(5), on_connected);
}

static void connect_after(struct pg *pg, int64_t ms) {
    hang_up(pg);
    pg->state = SESSION_WAITING;
    loop_timer_start(pg->loop, &pg->attempt, ms, on_attempt);
}

static void lose(struct pg *pg, const char *reason) {
    unsigned doublings = pg->failures < 5 ? pg->failures : 5;
    int64_t pause = pg->failures++ == 0 ? 0 : pg->settings.reconnect_min_ms << doublings;
    bool is_long = pause > pg->settings.reconnect_max_ms;
    trace("session %s of broker %d is lost: %s", pg->settings.name, pg->broker, reason);
    connect_after(pg, is_long ? pg->settings.reconnect_max_ms : pause);
    pg->owner.on_lost(pg->owner.self, reason);
}

static void on_connected(struct loop_timer *timer) {
    struct pg *pg = container_of(timer, struct pg, attempt);
    if (!server.is_up) {
        lose(pg, "the server is away");
        return;
    }
    pg->state = SESSION_READY;
    pg->pid = ++server.last_pid;
    pg->owner.on_connected(pg->owner.self);
}

struct pg *pg_create(struct loop *loop, const struct pg_settings *settings,
                     const struct pg_owner *owner) {
    struct pg *pg = must_zalloc(sizeof *pg);
    pg->loop = loop;
    pg->settings = *settings;
    pg->owner = *owner;
    pg->broker = server.broker;
    pg->answer.sqlstate = "";
    LIST_INSERT_HEAD(&sessions, pg, link);
    return pg;
}

void pg_destroy(struct pg **place) {
    struct pg *pg = *place;
    *place = NULL;
    hang_up(pg);
    LIST_REMOVE(pg, link);
    free(pg);
}

void pg_start(struct pg *pg) {
    connect_after(pg, 0);
}

void pg_stop(struct pg *pg) {
    hang_up(pg);
    pg->state = SESSION_STOPPED;
}

void pg_renew(struct pg *pg) {
    if (pg->state != SESSION_STOPPED) {
        connect_after(pg, 0);
    }
}

void pg_drop(struct pg *pg, const char *reason) {
    lose(pg, reason);
}

void pg_settled(struct pg *pg) {
    pg->failures = 0;
}

bool pg_is_connected(const struct pg *pg) {
    return pg->state == SESSION_READY || pg->state == SESSION_BUSY;
}

bool pg_is_ready(const struct pg *pg) {
    return pg->state == SESSION_READY;
}

int pg_session_pid(const struct pg *pg) {
    return pg->pid;
}

const char *pg_encoding(const struct pg *pg) {
    (void)pg;
    return "UTF8";
}

bool pg_encoding_is_served(const char *encoding) {
    (void)encoding;
    return true;
}

/* --- statements ------------------------------------------------------------------------------- */

static void on_statement(struct loop_timer *timer);

static void on_timeout(struct loop_timer *timer) {
    struct pg *pg = container_of(timer, struct pg, timeout);
    lose(pg, pg->settings.timeout_reason);
}

void pg_set_timeout(struct pg *pg, int64_t timeout_ms) {
    if (pg->state == SESSION_BUSY && timeout_ms > 0) {
        loop_timer_start(pg->loop, &pg->timeout, timeout_ms, on_timeout);
    } else {
        loop_timer_stop(pg->loop, &pg->timeout);
    }
}

void pg_query(struct pg *pg, const char *sql, int parameter_count, const char *const *parameters,
              void (*on_result)(void *self, const struct pg_result *result)) {
    check(pg->state == SESSION_READY && parameter_count <= PARAMETERS_MAX);
    pg->state = SESSION_BUSY;
    pg->sql = must_strdup(sql, strlen(sql));
    for (int i = 0; i < parameter_count; i++) {
        const char *text = parameters[i];
        pg->parameters[i] = text == NULL ? NULL : must_strdup(text, strlen(text));
    }
    pg->on_result = on_result;
    pg->begun_us = played_us();
    loop_timer_start(pg->loop, &pg->statement, statement_delay(), on_statement);
    pg_set_timeout(pg, pg->settings.statement_timeout_ms);
}

void pg_execute(struct pg *pg, const char *name, int parameter_count, const char *const *parameters,
                void (*on_result)(void *self, const struct pg_result *result)) {
    pg_query(pg, name, parameter_count, parameters, on_result);
}

/* Its broker knows of the rights that are lost by now. */
static void note_losses(const struct pg *pg) {
    for (int user = 0; user < USERS; user++) {
        for (int topic = 0; topic < TOPICS; topic++) {
            int64_t *lost_us = &server.lost_us[pg->broker][user][topic];
            if (*lost_us == INT64_MAX && server.lost_at[user][topic] <= pg->heard) {
                *lost_us = played_us();
            }
        }
    }
}

/* "LISTEN a; LISTEN b; " -> "a b" */
static void do_listen(struct pg *pg) {
    char *copy = must_strdup(pg->sql, strlen(pg->sql));
    char *rest = copy;
    char *word;
    size_t length = 0;
    while ((word = strsep(&rest, "; ")) != NULL) {
        if (word[0] != '\0' && strcmp(word, "LISTEN") != 0) {
            length += (size_t)snprintf(pg->channels + length, sizeof pg->channels - length, "%s%s",
                                       length > 0 ? " " : "", word);
        }
    }
    free(copy);
    pg->is_listening = true;
    pg->heard = server.note_count;
    note_losses(pg);
}

static void notify_from(const char *channel, const char *payload, int pid);

static void do_marker(struct pg *pg) {
    struct buf payload = {0};
    buf_printf(&payload, "%s,\"pid\":%d,\"at\":%" PRIi64 "}", pg->parameters[0], pg->pid,
               played_us());
    buf_append(&payload, "", 1);
    notify_from("pgsse_marker", payload.bytes, pg->pid);
    buf_release(&payload);
    put(&pg->answer, "0.01");
    put(&pg->answer, SERVER);
    put(&pg->answer, "");
}

static void do_channels(struct pg *pg) {
    put(&pg->answer, pg->channels);
    put_number(&pg->answer, (uint64_t)pg->pid);
    put(&pg->answer, SERVER);
    put_number(&pg->answer, (uint64_t)played_us());
}

static uint64_t head(void) {
    return server.last_id > 1 ? server.last_id : 1;
}

static void do_owner(struct pg *pg) {
    if (server.is_installed) {
        put(&pg->answer, ""); /* a superuser's */
        pg->answer.rows++;
    }
}

static void do_server(struct pg *pg) {
    put(&pg->answer, SERVER);
}

static void do_look(struct pg *pg) {
    put(&pg->answer, "4");
    put_number(&pg->answer, head());
    put_number(&pg->answer, server.oid);
    put(&pg->answer, "0");
    put(&pg->answer, "0");
}

static bool array_has_element(const char *array, const char *name, size_t length,
                              const char *rest) {
    char element[TOPIC_NAME_BYTES + 4];
    snprintf(element, sizeof element, "\"%.*s%s\"", (int)length, name, rest);
    return strstr(array, element) != NULL;
}

/* The topic, or a pattern that matches it. */
static bool array_has(const char *array, const char *name) {
    size_t length = strlen(name);
    bool is_there = array == NULL || array_has_element(array, name, length, "");
    for (size_t i = 0; i <= length && !is_there; i++) {
        is_there = array_has_element(array, name, i, "*");
    }
    return is_there;
}

static void put_floor(struct answer *answer, uint64_t id, const char *topic) {
    put_number(answer, id);
    put(answer, topic);
    put(answer, "t");
    for (int column = 3; column < PAGE_COLUMNS; column++) {
        put(answer, "");
    }
    answer->rows++;
}

static void put_row(struct answer *answer, const struct row *row, const char *topic) {
    struct buf data = {0};
    put_number(answer, row->id);
    put(answer, topic);
    put(answer, "f");
    put(answer, "");
    buf_printf(&data, "{\"n\":%u,\"f\":\"%0*d\"}", row->number, (int)row->filler_bytes + 1, 0);
    buf_append(&data, "", 1);
    put(answer, data.bytes);
    buf_release(&data);
    for (int column = 5; column < PAGE_COLUMNS; column++) {
        put(answer, column == 8 ? "f" : "");
    }
    answer->rows++;
}

/* Floors first, in the order of their ids, as the schema's own function does. */
static void put_floors(struct answer *answer, uint64_t after, const char *topics) {
    uint64_t last = after;
    for (;;) {
        int next = -1;
        for (int topic = 0; topic < TOPICS; topic++) {
            if (server.floors[topic] > last && array_has(topics, topic_name(topic)) &&
                (next < 0 || server.floors[topic] < server.floors[next])) {
                next = topic;
            }
        }
        if (next < 0) {
            return;
        }
        last = server.floors[next];
        put_floor(answer, last, topic_name(next));
    }
}

/* Who stands at an id that this table cannot have given. */
static void put_leap(struct answer *answer, uint64_t after) {
    if (after > 1 && after < server.leap_to) {
        put_floor(answer, server.leap_to, "");
    }
}

/* The page ends before that id. */
static void put_end(struct answer *answer, uint64_t before) {
    put_number(answer, before - 1);
    for (int column = 1; column < PAGE_COLUMNS; column++) {
        put(answer, "");
    }
    answer->rows++;
}

/* $2 after, $3 up to, $4 topics, $5 rows, $6 bytes */
static void do_page(struct pg *pg) {
    uint64_t after = strtoull(pg->parameters[1], NULL, 10);
    uint64_t up_to = pg->parameters[2] == NULL ? UINT64_MAX : strtoull(pg->parameters[2], NULL, 10);
    uint64_t most = strtoull(pg->parameters[4], NULL, 10);
    uint64_t most_bytes = strtoull(pg->parameters[5], NULL, 10);
    uint64_t bytes = 0;
    uint64_t taken = 0;
    if (server.settings.page_rows > 0 && server.settings.page_rows < most) {
        most = server.settings.page_rows;
    }
    put_floors(&pg->answer, after, pg->parameters[3]);
    put_leap(&pg->answer, after);
    for (size_t i = 0; i < server.row_count; i++) {
        const struct row *row = &server.rows[i];
        const char *name = topic_name(row->topic);
        if (row->is_pruned || row->id <= after || row->id > up_to ||
            !array_has(pg->parameters[3], name)) {
            continue;
        }
        bytes += row->filler_bytes + 20;
        if (taken > 0 && (taken == most || bytes > most_bytes)) {
            put_end(&pg->answer, row->id);
            return;
        }
        put_row(&pg->answer, row, name);
        taken++;
    }
}

/* The element of {"u0","u1"} or {1,2}; "" behind the last. */
static struct slice array_at(const char *array, size_t place) {
    const char *at = array + 1;
    for (; place > 0 && *at != '\0'; place--) {
        at += strcspn(at, ",}");
        at += *at == ',' ? 1 : strlen(at);
    }
    struct slice element = {at, strcspn(at, ",}")};
    if (element.length > 2 && element.at[0] == '"') {
        element = (struct slice){at + 1, element.length - 2};
    }
    return element;
}

/* $2 the questions' numbers, $3 users, $4 topics: the numbers of those that are so. */
static void do_subscribed(struct pg *pg) {
    for (size_t i = 0;; i++) {
        struct slice number = array_at(pg->parameters[1], i);
        struct slice user = array_at(pg->parameters[2], i);
        struct slice topic = array_at(pg->parameters[3], i);
        if (number.length == 0) {
            return;
        }
        if (server.rights[user.at[1] - '0'][topic_find(topic)]) {
            char *text = must_strdup(number.at, number.length);
            put(&pg->answer, text);
            free(text);
            pg->answer.rows++;
        }
    }
}

static const struct {
    const char *sign; /* what tells the statement from those behind it */
    int columns;
    bool is_one_row;
    bool is_of_schema; /* it needs that, and its table */
    void (*run)(struct pg *pg);
} statements[] = {
    {"pg_listening_channels", 4, true, false, do_channels},
    {"pg_notification_queue_usage", 3, true, false, do_marker},
    {"LISTEN ", 0, false, false, do_listen},
    {"nspowner", 1, false, false, do_owner},
    {"pg_postmaster_start_time", 1, true, false, do_server},
    {"pgsse.version()", 5, true, true, do_look},
    {"pgsse.subscribed", 1, false, true, do_subscribed},
    {"pgsse.page", PAGE_COLUMNS, false, true, do_page},
};

/* The first parameter of a statement that may meet a lock says how long it waits for that. */
static const char *lock_fault(const struct pg *pg) {
    int64_t waited_ms = (played_us() - pg->begun_us) / 1000;
    if (!server.is_installed) {
        return "3F000";
    }
    bool is_over = server.is_locked && waited_ms >= strtoll(pg->parameters[0], NULL, 10);
    return is_over ? "55P03" : "";
}

/* False: it waits for a lock. */
static bool execute(struct pg *pg) {
    for (size_t i = 0; i < length_of(statements); i++) {
        if (strstr(pg->sql, statements[i].sign) == NULL) {
            continue;
        }
        const char *fault = statements[i].is_of_schema ? lock_fault(pg) : "";
        if (statements[i].is_of_schema && server.is_locked && fault[0] == '\0') {
            return false;
        }
        pg->is_executed = true;
        pg->answer.columns = statements[i].columns;
        pg->answer.rows = statements[i].is_one_row;
        if (server.settings.fails_at_times && one_in(2000)) {
            fault = "57014";
        }
        if (fault[0] == '\0') {
            statements[i].run(pg);
        } else {
            pg->answer = (struct answer){.sqlstate = fault};
        }
        return true;
    }
    die(3, "no such statement is played: %s", pg->sql);
}

/* It comes when the server executes the statement, perhaps again and again, and when the answer is
 * there. */
static void on_statement(struct loop_timer *timer) {
    struct pg *pg = container_of(timer, struct pg, statement);
    if (!pg->is_executed && !execute(pg)) {
        loop_timer_start(pg->loop, timer, LOCK_WAIT_MS, on_statement);
        return;
    }
    if (!pg->is_answered) {
        pg->is_answered = true;
        loop_timer_start(pg->loop, timer, statement_delay(), on_statement);
        return;
    }
    struct answer answer = pg->answer;
    struct pg_result result = {.is_ok = answer.sqlstate[0] == '\0',
                               .sqlstate = answer.sqlstate,
                               .message = "ended by the server",
                               .rows = answer.rows,
                               .columns = answer.columns,
                               .handle = &answer};
    pg->answer = (struct answer){.sqlstate = ""};
    forget_statement(pg);
    loop_timer_stop(pg->loop, &pg->timeout);
    pg->state = SESSION_READY;
    pg->on_result(pg->owner.self, &result);
    answer_release(&answer);
}

/* --- notifications ---------------------------------------------------------------------------- */

static void on_delivery(struct loop_timer *timer) {
    struct pg *pg = container_of(timer, struct pg, delivery);
    int pid = pg->pid;
    size_t pending = server.note_count - pg->heard;
    size_t most = one_in(3) ? pending : 1 + draw((uint32_t)pending);
    for (size_t i = 0; i < most && pg->is_listening && pg->pid == pid; i++) {
        const struct note *note = &server.notes[pg->heard++];
        note_losses(pg);
        pg->owner.on_notification(pg->owner.self, note->channel, slice_of(note->payload),
                                  note->pid);
    }
    if (pg->is_listening && pg->pid == pid && pg->heard < server.note_count) {
        loop_timer_start(pg->loop, timer, delay(2), on_delivery);
    }
}

static void notify_from(const char *channel, const char *payload, int pid) {
    struct pg *pg;
    if (server.note_count == NOTES_MAX) {
        die(3, "more than %d notifications", NOTES_MAX);
    }
    server.notes[server.note_count++] = (struct note){must_strdup(channel, strlen(channel)),
                                                      must_strdup(payload, strlen(payload)), pid};
    real_order_count(strcmp(channel, "pgsse_marker") == 0 ? payload : NULL, pid);
    LIST_FOREACH(pg, &sessions, link) {
        if (pg->is_listening && !loop_timer_is_started(&pg->delivery)) {
            loop_timer_start(pg->loop, &pg->delivery, delay(2), on_delivery);
        }
    }
}

void database_notify(const char *channel, const char *payload) {
    notify_from(channel, payload, 9);
}

void database_publish(int topic) {
    char payload[128];
    snprintf(payload, sizeof payload, "{\"topic\":\"%s\",\"data\":{\"n\":%u}}", topic_name(topic),
             judge_published(topic, EPHEMERAL, server.note_count + 1));
    database_notify("topic_broadcast_1", payload);
}

void database_publish_durable(int topic, uint32_t filler_bytes) {
    if (server.row_count == ROWS_MAX) {
        die(3, "more than %d rows", ROWS_MAX);
    }
    if (!server.is_installed || server.is_locked) {
        return;
    }
    server.last_id += 1 + draw(3); /* a transaction that was rolled back leaves a hole */
    server.rows[server.row_count++] =
        (struct row){.id = server.last_id,
                     .topic = topic,
                     .number = judge_published(topic, DURABLE, server.last_id),
                     .filler_bytes = filler_bytes};
    database_notify("pgsse_hint", "{}");
}

/* --- what happens to it ----------------------------------------------------------------------- */

void database_begin(const struct database_settings *settings) {
    server.settings = *settings;
    server.is_up = true;
    server.last_pid = 100;
    LIST_INIT(&sessions);
}

void database_calm(void) {
    server.settings = (struct database_settings){.slow_ms = 2};
    server.is_locked = false;
    database_install();
}

void database_release(void) {
    for (size_t i = 0; i < server.note_count; i++) {
        free(server.notes[i].channel);
        free(server.notes[i].payload);
    }
}

void database_create_for(int broker) {
    server.broker = broker;
}

void database_prune(int topic, uint64_t but_last) {
    uint64_t up_to = server.last_id > but_last ? server.last_id - but_last : 0;
    for (size_t i = 0; i < server.row_count; i++) {
        struct row *row = &server.rows[i];
        if (row->topic == topic && row->id <= up_to && !row->is_pruned) {
            row->is_pruned = true;
            server.floors[topic] = row->id;
        }
    }
    trace("t%d is pruned up to %" PRIu64, topic, up_to);
}

/* Its ids are above all that a table before gave: see pgsse._leap. */
void database_install(void) {
    if (server.is_installed) {
        return;
    }
    uint64_t now_us = (uint64_t)played_wall_us();
    server.is_installed = true;
    server.oid++;
    server.leap_to = now_us > server.last_id ? now_us : server.last_id + 1;
    server.last_id = server.leap_to;
    trace("the schema is installed: ids after %" PRIu64, server.last_id);
}

void database_drop(void) {
    if (!server.is_installed) {
        return;
    }
    trace("the schema is dropped");
    server.is_installed = false;
    server.row_count = 0;
    memset(server.floors, 0, sizeof server.floors);
}

unsigned database_tables(void) {
    return server.oid;
}

void database_set_locked(bool is_locked) {
    server.is_locked = is_locked;
    trace("the table is %s", is_locked ? "locked" : "free");
}

const bool *database_rights(int user) {
    return server.rights[user];
}

bool database_right(int user, int topic) {
    return server.rights[user][topic];
}

void database_set_right(int user, int topic, bool has_it) {
    char payload[64];
    server.rights[user][topic] = has_it;
    server.lost_at[user][topic] = server.note_count + 1;
    for (int broker = 0; broker < DATABASE_BROKERS; broker++) {
        server.lost_us[broker][user][topic] = INT64_MAX;
    }
    trace("user %d %s t%d", user, has_it ? "gets" : "loses", topic);
    if (!has_it) {
        snprintf(payload, sizeof payload, "{\"recheck\":\"u%d\"}", user);
        database_notify("pgsse_hint", payload);
    }
}

void database_forbidden_us(int broker, int user, int64_t forbidden_us[TOPICS]) {
    for (int topic = 0; topic < TOPICS; topic++) {
        int64_t lost_us = server.lost_us[broker][user][topic];
        bool is_known = !server.rights[user][topic] && lost_us != INT64_MAX;
        forbidden_us[topic] = is_known ? lost_us + RIGHT_GRACE_US : INT64_MAX;
    }
}

void database_repeat_marker(void) {
    size_t recent =
        one_in(2) || server.note_count < RECENT_NOTES ? server.note_count : RECENT_NOTES;
    for (int tries = 0; tries < 200 && recent > 0; tries++) {
        const struct note *note = &server.notes[server.note_count - 1 - draw((uint32_t)recent)];
        if (strcmp(note->channel, "pgsse_marker") == 0) {
            trace("a marker is repeated: %s", note->payload);
            notify_from("pgsse_marker", note->payload, one_in(3) ? 9 : note->pid);
            return;
        }
    }
}

void database_forget_listen(int broker) {
    struct pg *pg;
    LIST_FOREACH(pg, &sessions, link) {
        if (pg->broker == broker && pg->is_listening) {
            trace("the server forgets that broker %d listens", broker);
            pg->is_listening = false;
            pg->channels[0] = '\0';
        }
    }
}

void database_end_session(const char *name, int broker) {
    struct pg *pg;
    LIST_FOREACH(pg, &sessions, link) {
        if (pg->broker == broker && strcmp(pg->settings.name, name) == 0 && pg_is_connected(pg)) {
            lose(pg, "it was ended");
            return;
        }
    }
}

void database_set_up(bool is_up) {
    struct pg *pg;
    struct pg *next;
    server.is_up = is_up;
    trace("the server %s", is_up ? "comes" : "goes");
    for (pg = LIST_FIRST(&sessions); !is_up && pg != NULL; pg = next) {
        next = LIST_NEXT(pg, link);
        if (pg_is_connected(pg)) {
            lose(pg, "the server went");
        }
    }
}
