/* Faults that a real Postgres cannot be made to cause. A fake server in the same loop begins a
 * COPY, and libpq's socket disappears, or its write fails, when the test says so. */
#include "acceptor.h"
#include "log.h"
#include "pg.h"
#include "sock.h"
#include "support.h"

#include <dlfcn.h>

enum { SESSIONS = 8, PAUSE_MS = 20, PATIENCE_S = 20 };

/* --- libpq ------------------------------------------------------------------------------------ */

struct pg_conn;
int PQflush(struct pg_conn *connection);
int PQsocket(const struct pg_conn *connection);

static struct {
    int flushes; /* this many more go well; -1: all */
    int sockets; /* the same */
} libpq;

/* True for the one call that fails: later ones, on the next connection, succeed again. */
static bool is_the_failing_one(int *left) {
    return *left >= 0 && (*left)-- == 0;
}

int PQflush(struct pg_conn *connection) {
    int (*real)(struct pg_conn *) = (int (*)(struct pg_conn *))dlsym(RTLD_NEXT, "PQflush");
    return is_the_failing_one(&libpq.flushes) ? -1 : real(connection);
}

int PQsocket(const struct pg_conn *connection) {
    int (*real)(const struct pg_conn *) =
        (int (*)(const struct pg_conn *))dlsym(RTLD_NEXT, "PQsocket");
    return is_the_failing_one(&libpq.sockets) ? -1 : real(connection);
}

/* --- Postgres --------------------------------------------------------------------------------- */

struct session {
    struct rig *rig;
    struct loop_io io;
    struct buf in;
    bool is_greeted;
};

struct rig {
    struct loop *loop;
    struct pg *pg;
    struct directory directory;
    char dsn[128];
    int listen_fd;
    struct acceptor acceptor;
    struct session sessions[SESSIONS];
    size_t session_count;
    struct slice setup_answer; /* to SET client_encoding; the next SET is answered normally */
    struct slice answer;       /* to a statement */
    unsigned connected, lost, results, good_results;
    bool asks_again; /* on_result starts a statement */
    int64_t timeout_ms;
    char reason[256];
};

#define READY "Z\0\0\0\5I"
#define DONE  "C\0\0\0\10SET\0" READY
#define GREETING                        \
    "R\0\0\0\10\0\0\0\0"                \
    "S\0\0\0\31server_encoding\0UTF8\0" \
    "S\0\0\0\31client_encoding\0UTF8\0" \
    "K\0\0\0\14\0\0\0\7\0\0\0\11" READY
#define COPY_OUT  "H\0\0\0\7\0\0\0"
#define COPY_IN   "G\0\0\0\7\0\0\0"
#define COPY_BOTH "W\0\0\0\7\0\0\0"

static uint32_t length_at(const char *at) {
    const unsigned char *bytes = (const unsigned char *)at;
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static void answer(struct session *session, struct slice message) {
    struct rig *rig = session->rig;
    if (!session->is_greeted) {
        session->is_greeted = true;
        send_all(session->io.fd, LITERAL(GREETING));
    } else if (memmem(message.at, message.length, "client_encoding", 15) != NULL) {
        struct slice bytes = rig->setup_answer;
        rig->setup_answer = LITERAL(DONE);
        send_all(session->io.fd, bytes);
    } else if (message.at[0] == 'Q') {
        send_all(session->io.fd, rig->answer);
    }
}

/* The first message has no kind. */
static void on_said(struct loop_io *io, unsigned ready) {
    struct session *session = container_of(io, struct session, io);
    if (!drain_all(io->fd, &session->in)) {
        loop_io_stop(session->rig->loop, io); /* closed when the rig ends */
        return;
    }
    for (;;) {
        size_t head = session->is_greeted ? 1 : 0;
        struct slice in = buf_slice(&session->in);
        if (in.length < head + 4 || in.length < head + length_at(in.at + head)) {
            return;
        }
        size_t length = head + length_at(in.at + head);
        answer(session, (struct slice){in.at, length});
        buf_consume(&session->in, length);
    }
}

static void on_connection(void *owner, int fd) {
    struct rig *rig = owner;
    assert_true(rig->session_count < SESSIONS);
    struct session *session = &rig->sessions[rig->session_count++];
    *session = (struct session){.rig = rig, .io = LOOP_IO_INIT};
    loop_io_start(rig->loop, &session->io, fd, LOOP_READ, on_said);
}

/* --- the rig ---------------------------------------------------------------------------------- */

static void on_result(void *self, const struct pg_result *result) {
    struct rig *rig = self;
    rig->results++;
    rig->good_results += result->is_ok ? 1 : 0;
    if (rig->asks_again) {
        rig->asks_again = false;
        libpq.flushes = 0;
        pg_query(rig->pg, "SELECT 2", 0, NULL, on_result);
    }
}

static void on_connected(void *self) {
    struct rig *rig = self;
    rig->connected++;
}

static void on_lost(void *self, const char *reason) {
    struct rig *rig = self;
    rig->lost++;
    snprintf(rig->reason, sizeof rig->reason, "%s", reason);
}

static void rig_begin(struct rig *rig, int64_t timeout_ms) {
    char path[96];
    const char *reason;
    *rig = (struct rig){
        .setup_answer = LITERAL(DONE), .answer = LITERAL(DONE), .timeout_ms = timeout_ms};
    libpq.flushes = libpq.sockets = -1;
    alarm(PATIENCE_S); /* libpq would repeat an unnoticed COPY for ever */
    log_init("pgsse-unit", LOG_LEVEL_ERROR);
    directory_make(&rig->directory);
    snprintf(path, sizeof path, "%s/.s.PGSQL.5432", rig->directory.path);
    snprintf(rig->dsn, sizeof rig->dsn, "host=%s port=5432 dbname=x user=x", rig->directory.path);
    rig->loop = loop_create();
    rig->listen_fd = sock_listen(path, 0600, &reason);
    assert_true(rig->listen_fd >= 0);
    acceptor_start(&rig->acceptor, rig->loop, rig->listen_fd, rig, on_connection);
    struct pg_settings settings = {.name = "unit",
                                   .dsn = rig->dsn,
                                   .reconnect_min_ms = PAUSE_MS,
                                   .reconnect_max_ms = PAUSE_MS,
                                   .statement_timeout_ms = rig->timeout_ms,
                                   .timeout_reason = "it took too long"};
    struct pg_owner owner = {rig, on_connected, on_lost, NULL, NULL};
    rig->pg = pg_create(rig->loop, &settings, &owner);
    pg_start(rig->pg);
}

static void rig_begin_connected(struct rig *rig, int64_t timeout_ms) {
    rig_begin(rig, timeout_ms);
    while (rig->connected == 0) {
        run_turns(rig->loop, 1);
    }
    assert_true(pg_is_ready(rig->pg));
    pg_settled(rig->pg);
}

static void rig_end(struct rig *rig) {
    pg_destroy(&rig->pg);
    acceptor_stop(&rig->acceptor);
    close(rig->listen_fd);
    for (size_t i = 0; i < rig->session_count; i++) {
        int fd = rig->sessions[i].io.fd;
        loop_io_stop(rig->loop, &rig->sessions[i].io);
        close(fd);
        buf_release(&rig->sessions[i].in);
    }
    loop_destroy(&rig->loop);
    directory_remove(&rig->directory);
    alarm(0);
}

/* The connection was lost once, on_result was not called, and the next connection works. */
static void expect_lost_and_back(struct rig *rig, unsigned connected_before, const char *reason) {
    unsigned results = rig->results;
    while (rig->connected == connected_before) {
        run_turns(rig->loop, 1);
    }
    assert_int_equal(rig->lost, 1);
    assert_int_equal(rig->results, results);
    if (strstr(rig->reason, reason) == NULL) {
        fail_msg("\"%s\" and not \"%s\"", rig->reason, reason);
    }
    rig->answer = LITERAL(DONE);
    pg_query(rig->pg, "SELECT 1", 0, NULL, on_result);
    while (rig->results == results) {
        run_turns(rig->loop, 1);
    }
    assert_int_equal(rig->good_results, results + 1);
    assert_int_equal(rig->lost, 1);
}

static const struct slice copies[] = {{COPY_OUT, sizeof COPY_OUT - 1},
                                      {COPY_IN, sizeof COPY_IN - 1},
                                      {COPY_BOTH, sizeof COPY_BOTH - 1}};

/* --- tests ------------------------------------------------------------------------------------ */

static void test_a_statement(void **state) {
    struct rig rig;
    rig_begin_connected(&rig, 0);
    pg_query(rig.pg, "SELECT 1", 0, NULL, on_result);
    while (rig.results == 0) {
        run_turns(rig.loop, 1);
    }
    assert_int_equal(rig.good_results, 1);
    assert_int_equal(rig.lost, 0);
    rig_end(&rig);
}

/* The timeout ends the session, unless the statement may take longer; the next one has it again. */
static void test_a_statement_without_an_answer(void **state) {
    struct rig rig;
    rig_begin_connected(&rig, 500);
    rig.answer = (struct slice){0};
    pg_query(rig.pg, "SELECT 1", 0, NULL, on_result);
    expect_lost_and_back(&rig, 1, "it took too long");
    rig_end(&rig);
}

static void test_a_statement_with_another_timeout(void **state) {
    struct rig rig;
    rig_begin_connected(&rig, 20);
    pg_set_timeout(rig.pg, 20); /* of no statement: nothing happens */
    rig.answer = (struct slice){0};
    pg_query(rig.pg, "SELECT 1", 0, NULL, on_result);
    pg_set_timeout(rig.pg, 0);
    for (int64_t end_ms = clock_ms() + 60; clock_ms() < end_ms;) {
        run_turns(rig.loop, 1);
        usleep(1000);
    }
    assert_int_equal(rig.lost, 0);
    pg_set_timeout(rig.pg, 1);
    while (rig.lost == 0) {
        run_turns(rig.loop, 1);
    }
    assert_string_equal(rig.reason, "it took too long");
    rig_end(&rig);
}

static void test_a_copy_ends_the_session(void **state) {
    for (size_t i = 0; i < length_of(copies); i++) {
        struct rig rig;
        rig_begin_connected(&rig, 0);
        rig.answer = copies[i];
        pg_query(rig.pg, "SELECT 1", 0, NULL, on_result);
        expect_lost_and_back(&rig, 1, "COPY");
        rig_end(&rig);
    }
}

static void test_a_copy_instead_of_the_settings(void **state) {
    for (size_t i = 0; i < length_of(copies); i++) {
        struct rig rig;
        rig_begin(&rig, 0);
        rig.setup_answer = copies[i];
        expect_lost_and_back(&rig, 0, "COPY");
        rig_end(&rig);
    }
}

/* A COPY after a good result, in the same read: the result that was kept is dropped. */
static void test_a_copy_after_an_outcome(void **state) {
    struct rig rig;
    rig_begin_connected(&rig, 0);
    rig.answer = LITERAL("C\0\0\0\10SET\0" COPY_OUT);
    pg_query(rig.pg, "SELECT 1; COPY t TO STDOUT", 0, NULL, on_result);
    expect_lost_and_back(&rig, 1, "COPY");
    rig_end(&rig);
}

/* The write that begins a statement fails, or the write after a read. */
static void test_a_write_fails(void **state) {
    for (int good = 0; good < 2; good++) {
        struct rig rig;
        rig_begin_connected(&rig, 0);
        libpq.flushes = good;
        rig.answer = LITERAL("C\0\0\0\10SET\0"); /* and nothing more: the answer is incomplete */
        pg_query(rig.pg, "SELECT 1", 0, NULL, on_result);
        expect_lost_and_back(&rig, 1, "");
        rig_end(&rig);
    }
}

/* The write fails in a callback, while libpq has more results: none of the session may be used any
 * more. */
static void test_a_write_fails_that_an_outcome_starts(void **state) {
    struct rig rig;
    rig_begin_connected(&rig, 0);
    rig.asks_again = true;
    pg_query(rig.pg, "SELECT 1", 0, NULL, on_result);
    while (rig.results == 0) {
        run_turns(rig.loop, 1);
    }
    expect_lost_and_back(&rig, 1, "");
    rig_end(&rig);
}

/* Every call for the socket fails once, from the first attempt to the end of a statement. */
static void test_the_socket_is_gone(void **state) {
    int asked = 0;
    for (int good = 0; asked == 0; good++) {
        struct rig rig;
        rig_begin(&rig, 0);
        libpq.sockets = good;
        while (rig.connected == 0 && rig.lost == 0) {
            run_turns(rig.loop, 1);
        }
        if (rig.lost == 0) {
            pg_query(rig.pg, "SELECT 1", 0, NULL, on_result);
            while (rig.results == 0 && rig.lost == 0) {
                run_turns(rig.loop, 1);
            }
        }
        if (libpq.sockets >= 0) {
            asked = good - libpq.sockets; /* fewer than allowed: all calls were tried */
            assert_int_equal(rig.lost, 0);
        } else {
            expect_lost_and_back(&rig, rig.connected, "");
        }
        rig_end(&rig);
    }
    assert_true(asked >= 5);
}

RUN_TESTS(TEST(test_a_statement), TEST(test_a_statement_without_an_answer),
          TEST(test_a_statement_with_another_timeout), TEST(test_a_copy_ends_the_session),
          TEST(test_a_copy_instead_of_the_settings), TEST(test_a_copy_after_an_outcome),
          TEST(test_a_write_fails), TEST(test_a_write_fails_that_an_outcome_starts),
          TEST(test_the_socket_is_gone))
