/* Configuration: units and limits, files with line numbers, printing, the order of the sources. */
#include "config_load.h"
#include "support.h"

#include <fcntl.h>
#include <getopt.h>
#include <sys/wait.h>

static struct config standard(void) {
    struct config config = {0};
    config_set_defaults(&config);
    return config;
}

static void test_defaults(void **state) {
    struct config config = standard();
    assert_string_equal(config.database_url, "");
    assert_string_equal(config.socket_dir, "/run/pgsse");
    assert_string_equal(config.base_path, "/topics");
    assert_string_equal(config.healthz_path, "/healthz");
    assert_string_equal(config.durable_path, "/api/events");
    assert_string_equal(config.health_path, "/health");
    assert_int_equal(config.history_bytes, 32 * 1024 * 1024);
    assert_int_equal(config.ring_capacity, 1024);
    assert_int_equal(config.slow_client, CONFIG_SLOW_REFRESH);
    assert_int_equal(config.gzip, CONFIG_ON);
    assert_int_equal(config.client_queue_bytes, 1024 * 1024);
    assert_int_equal(config.handler_queue_bytes, 16 * 1024 * 1024);
    assert_int_equal(config.stall_timeout, 60000);
    assert_int_equal(config.keep_alive, 15000);
    assert_int_equal(config.retry, 5000);
    assert_int_equal(config.max_stream_age, 0);
    assert_int_equal(config.max_body, 256 * 1024);
    assert_int_equal(config.max_durable_body, 1024 * 1024);
    assert_int_equal(config.canary_interval, 10000);
    assert_int_equal(config.canary_timeout, 5000);
    assert_int_equal(config.marker_memory, 86400000);
    assert_int_equal(config.table_poll, 10000);
    assert_int_equal(config.queue_poll, 30000);
    assert_int_equal(config.queue_warn, CONFIG_FRACTION_ONE / 2);
    assert_int_equal(config.reconnect_attempts, 0);
    assert_int_equal(config.hook_timeout, 30000);
    assert_string_equal(config.hook, "");
    assert_int_equal(config.socket_mode, 0660);
    assert_int_equal(config.log_level, LOG_LEVEL_INFO);
    config_release(&config);
    assert_null(config.socket_dir);
    assert_null(config.durable_path);
    assert_null(config.health_path);
}

static int64_t value_of(const struct config *config, const char *key) {
    const struct {
        const char *key;
        int64_t value;
    } fields[] = {
        {"keep_alive", config->keep_alive},
        {"retry", config->retry},
        {"max_stream_age", config->max_stream_age},
        {"client_queue_bytes", config->client_queue_bytes},
        {"max_notify_bytes", config->max_notify_bytes},
        {"max_durable_body", config->max_durable_body},
        {"table_poll", config->table_poll},
        {"socket_mode", config->socket_mode},
        {"reconnect_rate", config->reconnect_rate},
        {"queue_warn", config->queue_warn},
        {"log_level", config->log_level},
        {"history_bytes", config->history_bytes},
        {"ring_capacity", config->ring_capacity},
        {"slow_client", config->slow_client},
        {"gzip", config->gzip},
    };
    for (size_t i = 0; i < length_of(fields); i++) {
        if (strcmp(fields[i].key, key) == 0) {
            return fields[i].value;
        }
    }
    fail_msg("no field for %s", key);
    return -1;
}

static void test_numbers_and_units(void **state) {
    static const struct {
        const char *key;
        const char *value;
        int64_t wanted; /* -1: refused */
    } cases[] = {
        {"keep_alive", "15", 15000},
        {"keep_alive", "15s", 15000},
        {"keep_alive", "15 s", 15000},
        {"keep_alive", "100ms", 100},
        {"keep_alive", "99ms", -1},
        {"keep_alive", "0", -1},
        {"keep_alive", "1m", 60000},
        {"keep_alive", "1min", 60000},
        {"keep_alive", "1h", 3600000},
        {"keep_alive", "24h", 86400000},
        {"keep_alive", "1d", 86400000},
        {"keep_alive", "2d", -1},
        {"keep_alive", "86401", -1},
        {"keep_alive", "1.5s", -1},
        {"keep_alive", "-1", -1},
        {"keep_alive", "+1", -1},
        {"keep_alive", " 1", -1},
        {"keep_alive", "", -1},
        {"keep_alive", "s", -1},
        {"keep_alive", "1 x", -1},
        {"keep_alive", "1S", -1},
        {"keep_alive", "1sec", -1},
        {"keep_alive", "1s ", -1},
        {"keep_alive", "1K", -1},
        {"keep_alive", "1s2", -1},
        {"keep_alive", "0x10", -1},
        {"keep_alive", "999999999999999d", -1},
        {"keep_alive", "9999999999999999", -1},
        {"keep_alive", "18446744073709551617", -1},
        {"retry", "5000", 5000},
        {"retry", "5s", 5000},
        {"retry", "0", 0},
        {"retry", "3600000", 3600000},
        {"retry", "3600001", -1},
        {"retry", "60min", 3600000},
        {"max_stream_age", "0", 0},
        {"max_stream_age", "240", 240000},
        {"max_stream_age", "1d", 86400000},
        {"max_stream_age", "86401", -1},
        {"client_queue_bytes", "4096", 4096},
        {"client_queue_bytes", "4095", -1},
        {"client_queue_bytes", "4K", 4096},
        {"client_queue_bytes", "4KiB", 4096},
        {"client_queue_bytes", "1M", 1048576},
        {"client_queue_bytes", "1MiB", 1048576},
        {"client_queue_bytes", "1G", 1073741824},
        {"client_queue_bytes", "1 GiB", 1073741824},
        {"client_queue_bytes", "1073741825", -1},
        {"client_queue_bytes", "2G", -1},
        {"client_queue_bytes", "1k", -1},
        {"client_queue_bytes", "1MB", -1},
        {"client_queue_bytes", "1s", -1},
        {"max_notify_bytes", "7999", 7999},
        {"max_notify_bytes", "8000", -1},
        {"max_durable_body", "1", 1},
        {"max_durable_body", "0", -1},
        {"max_durable_body", "256K", 262144},
        {"max_durable_body", "1MiB", 1048576},
        {"max_durable_body", "1048576", 1048576},
        {"max_durable_body", "1048577", -1},
        {"max_durable_body", "2M", -1},
        {"max_durable_body", "1s", -1},
        {"max_durable_body", "", -1},
        {"table_poll", "10", 10000},
        {"table_poll", "100ms", 100},
        {"table_poll", "99ms", -1},
        {"table_poll", "0", -1},
        {"table_poll", "1h", 3600000},
        {"table_poll", "3601", -1},
        {"table_poll", "3600001ms", -1},
        {"table_poll", "10K", -1},
        {"table_poll", "", -1},
        {"socket_mode", "0660", 0660},
        {"socket_mode", "777", 0777},
        {"socket_mode", "0600", 0600},
        {"socket_mode", "0577", -1},
        {"socket_mode", "01000", -1},
        {"socket_mode", "0668", -1},
        {"socket_mode", "rw", -1},
        {"reconnect_rate", "1", 1},
        {"reconnect_rate", "0", -1},
        {"reconnect_rate", "1s", -1},
        {"reconnect_rate", "007", 7},
        {"queue_warn", "0", 0},
        {"queue_warn", "1", 1000000},
        {"queue_warn", "0.5", 500000},
        {"queue_warn", "00.50", 500000},
        {"queue_warn", "0.000001", 1},
        {"queue_warn", "0.999999", 999999},
        {"queue_warn", "1.000000", 1000000},
        {"queue_warn", "1.000001", -1},
        {"queue_warn", "0.0000001", -1},
        {"queue_warn", "2", -1},
        {"queue_warn", "999999999999999", -1},
        {"queue_warn", "0.", -1},
        {"queue_warn", ".5", -1},
        {"queue_warn", "0.5.5", -1},
        {"queue_warn", "0,5", -1},
        {"queue_warn", "0.5 ", -1},
        {"queue_warn", "50%", -1},
        {"queue_warn", "-0.5", -1},
        {"queue_warn", "1e-3", -1},
        {"queue_warn", "", -1},
        {"queue_warn", "0.99999999999999999999999999999", -1},
        {"log_level", "error", LOG_LEVEL_ERROR},
        {"log_level", "debug", LOG_LEVEL_DEBUG},
        {"log_level", "Debug", -1},
        {"log_level", "2", -1},
        {"log_level", "", -1},
        {"history_bytes", "0", 0},
        {"history_bytes", "1", 1},
        {"history_bytes", "32M", 33554432},
        {"history_bytes", "64GiB", 68719476736},
        {"history_bytes", "68719476737", -1},
        {"history_bytes", "-1", -1},
        {"ring_capacity", "1", 1},
        {"ring_capacity", "0", -1},
        {"ring_capacity", "1000000000", 1000000000},
        {"ring_capacity", "1000000001", -1},
        {"ring_capacity", "1K", -1},
        {"slow_client", "refresh", CONFIG_SLOW_REFRESH},
        {"slow_client", "disconnect", CONFIG_SLOW_DISCONNECT},
        {"slow_client", "Refresh", -1},
        {"slow_client", "refresh ", -1},
        {"slow_client", "close", -1},
        {"slow_client", "0", -1},
        {"slow_client", "", -1},
        {"slow_client", "error", -1},
        {"gzip", "on", CONFIG_ON},
        {"gzip", "off", CONFIG_OFF},
        {"gzip", "On", -1},
        {"gzip", "1", -1},
        {"gzip", "", -1},
        {"log_level", "refresh", -1},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct config config = standard();
        struct config before = config;
        const char *reason = NULL;
        bool is_set = config_set(&config, cases[i].key, cases[i].value, &reason);
        if (is_set != (cases[i].wanted >= 0)) {
            fail_msg("%s = '%s'", cases[i].key, cases[i].value);
        }
        if (!is_set) {
            assert_memory_equal(&config, &before, sizeof config);
            assert_non_null(strstr(reason, cases[i].key));
        } else if (cases[i].wanted != value_of(&config, cases[i].key)) {
            fail_msg("%s = '%s' became %lld", cases[i].key, cases[i].value,
                     (long long)value_of(&config, cases[i].key));
        }
        config_release(&config);
    }
}

static void test_paths(void **state) {
    static const struct {
        const char *value;
        bool is_good;
    } cases[] = {{"/topics", true}, {"/a/b", true},   {"", false},      {"/", false},
                 {"topics", false}, {"/a/", false},   {"/a//b", false}, {"/a?b", false},
                 {"/a#b", false},   {"/a%20", false}, {"/a b", false},  {"//a", false}};
    static const struct {
        const char *key;
        size_t offset;
    } keys[] = {{"base_path", offsetof(struct config, base_path)},
                {"healthz_path", offsetof(struct config, healthz_path)},
                {"durable_path", offsetof(struct config, durable_path)},
                {"health_path", offsetof(struct config, health_path)}};
    for (size_t i = 0; i < length_of(cases) * length_of(keys); i++) {
        const char *value = cases[i % length_of(cases)].value;
        bool is_good = cases[i % length_of(cases)].is_good;
        const char *key = keys[i / length_of(cases)].key;
        size_t offset = keys[i / length_of(cases)].offset;
        struct config config = standard();
        struct config before = config;
        const char *reason = NULL;
        if (config_set(&config, key, value, &reason) != is_good) {
            fail_msg("%s = '%s'", key, value);
        }
        if (is_good) {
            assert_string_equal(*(char **)((char *)&config + offset), value);
        } else {
            assert_memory_equal(&config, &before, sizeof config);
            assert_non_null(strstr(reason, key));
        }
        config_release(&config);
    }
}

static void test_unknown_keys(void **state) {
    static const char *const names[] = {"", "keepalive", "keep-alive", "KEEP_ALIVE", "keep_alive "};
    for (size_t i = 0; i < length_of(names); i++) {
        struct config config = standard();
        const char *reason = NULL;
        assert_false(config_set(&config, names[i], "1", &reason));
        assert_non_null(strstr(reason, names[i]));
        config_release(&config);
    }
}

static void test_long_garbage_makes_a_short_reason(void **state) {
    struct config config = standard();
    char *garbage = repeated('9', 100000);
    const char *reason = NULL;
    assert_false(config_set(&config, "keep_alive", garbage, &reason));
    assert_true(strlen(reason) < 256);
    assert_false(config_set(&config, garbage, "1", &reason));
    assert_true(strlen(reason) < 256);
    free(garbage);
    config_release(&config);
}

/* --- files ------------------------------------------------------------------------------------ */

static void test_file(void **state) {
    struct config config = standard();
    int line = -1;
    const char *reason = NULL;
    assert_true(config_apply_file(&config,
                                  LITERAL("# a comment\n"
                                          "\n"
                                          "  keep_alive=20s  \r\n"
                                          "\tretry = 7 s\n"
                                          " # another = one\n"
                                          "database_url = postgres://u:p@h/d?a=b#c\n"
                                          "handler_users =\n"
                                          "log_level = debug"),
                                  &line, &reason));
    assert_int_equal(config.keep_alive, 20000);
    assert_int_equal(config.log_level, LOG_LEVEL_DEBUG);
    assert_int_equal(config.retry, 7000);
    assert_string_equal(config.database_url, "postgres://u:p@h/d?a=b#c");
    assert_string_equal(config.handler_users, "");
    config_release(&config);
}

static void test_file_empty(void **state) {
    static const struct slice texts[] = {LITERAL(""), LITERAL("\n"), LITERAL("\n\n# x"),
                                         LITERAL("  ")};
    for (size_t i = 0; i < length_of(texts); i++) {
        struct config config = standard();
        int line;
        const char *reason;
        assert_true(config_apply_file(&config, texts[i], &line, &reason));
        config_release(&config);
    }
}

static void test_file_names_the_line_at_fault(void **state) {
    static const struct {
        struct slice text;
        int line;
    } cases[] = {
        {LITERAL("nonsense"), 1},
        {LITERAL("= 1"), 1},
        {LITERAL("\n\nretry = x\n"), 3},
        {LITERAL("retry = 1\r\n\r\n# a = b\r\nno_key = 1\r\nretry = x"), 4},
        {LITERAL("retry = 1\nretry = 2 # no comment here\n"), 2},
        {LITERAL("retry = 1\n\0\n"), 2},
        {LITERAL("retry = 1\0\n"), 1},
        {LITERAL("[section]\n"), 1},
        {LITERAL("retry: 5\n"), 1},
        {LITERAL("\xef\xbb\xbfretry = 5\n"), 1},
        {LITERAL("retry = 5\nkeep_alive = 1s\n# x\nretry = 5\n"), 4},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct config config = standard();
        char *memory;
        int line = -1;
        const char *reason = NULL;
        assert_false(config_apply_file(&config, exact(cases[i].text, &memory), &line, &reason));
        assert_int_equal(line, cases[i].line);
        assert_non_null(reason);
        free(memory);
        config_release(&config);
    }
}

static void test_file_says_what_is_wrong(void **state) {
    static const char *const cases[][2] = {
        {"\xef\xbb\xbfretry = 5\n", "byte order mark"},
        {"keep_alive = 1s\nretry = 5\nretry = 6\n", "retry is already in line 2"},
        /* a possible password is not shown */
        {"postgres://u:hunter2@h/d?sslmode=require\n", "there is no key 'postgres'"},
        {"my password: hunter2 = x\n", "there is no key 'my password'"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct config config = standard();
        int line;
        const char *reason = "";
        assert_false(config_apply_file(&config, slice_of(cases[i][0]), &line, &reason));
        if (strstr(reason, cases[i][1]) == NULL || strstr(reason, "hunter2") != NULL) {
            fail_msg("%s: %s", cases[i][0], reason);
        }
        config_release(&config);
    }
}

/* --- printing --------------------------------------------------------------------------------- */

static void print_to(const struct config *config, struct buf *text) {
    char *bytes = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&bytes, &length);
    assert_non_null(out);
    config_print(config, out);
    fclose(out);
    buf_append(text, bytes, length);
    free(bytes);
}

/* The printed configuration can be read again and has the same values. */
static void test_print_and_parse(void **state) {
    static const char *const settings[][2] = {
        {"keep_alive", "100ms"},
        {"stall_timeout", "61s"},
        {"retry", "0"},
        {"client_queue_bytes", "5000"},
        {"handler_queue_bytes", "64M"},
        {"max_body", "1"},
        {"socket_mode", "0777"},
        {"log_level", "error"},
        {"history_bytes", "3MiB"},
        {"ring_capacity", "7"},
        {"slow_client", "disconnect"},
        {"gzip", "off"},
        {"topic_idle", "365d"},
        {"graceful_drain", "0"},
        {"reconnect_min", "10ms"},
        {"socket_dir", "/a b/c=d #e"},
        {"marker_memory", "90min"},
        {"base_path", "/x/y"},
        {"durable_path", "/durable"},
        {"health_path", "/y/ok"},
        {"max_durable_body", "12345"},
        {"table_poll", "250ms"},
        {"handler_users", "a,b"},
        {"queue_warn", "0.25"},
    };
    struct config config = standard();
    struct config again = standard();
    struct buf first = {0};
    struct buf second = {0};
    int line = -1;
    const char *reason = "";
    for (size_t i = 0; i < length_of(settings); i++) {
        assert_true(config_set(&config, settings[i][0], settings[i][1], &reason));
    }
    print_to(&config, &first);
    if (!config_apply_file(&again, buf_slice(&first), &line, &reason)) {
        fail_msg("line %d: %s", line, reason);
    }
    print_to(&again, &second);
    expect_slice(buf_slice(&second), buf_slice(&first), "printed again");
    assert_int_equal(again.keep_alive, 100);
    assert_int_equal(again.marker_memory, 90 * 60 * 1000);
    assert_int_equal(again.client_queue_bytes, 5000);
    assert_int_equal(again.history_bytes, 3 * 1024 * 1024);
    assert_int_equal(again.ring_capacity, 7);
    assert_int_equal(again.slow_client, CONFIG_SLOW_DISCONNECT);
    assert_int_equal(again.gzip, CONFIG_OFF);
    assert_int_equal(again.max_durable_body, 12345);
    assert_int_equal(again.table_poll, 250);
    assert_string_equal(again.durable_path, "/durable");
    assert_string_equal(again.health_path, "/y/ok");
    assert_string_equal(again.socket_dir, "/a b/c=d #e");
    buf_release(&first);
    buf_release(&second);
    config_release(&config);
    config_release(&again);
}

static void test_secrets_are_not_printed(void **state) {
    struct config config = standard();
    struct buf text = {0};
    const char *reason;
    assert_true(config_set(&config, "database_url", "postgres://u:hunter2@h/d", &reason));
    assert_true(config_set(&config, "listen_database_url", "password=hunter2", &reason));
    print_to(&config, &text);
    buf_append(&text, "", 1);
    assert_null(strstr(text.bytes, "hunter2"));
    assert_non_null(strstr(text.bytes, "database_url = (set)\n"));
    assert_non_null(strstr(text.bytes, "listen_database_url = (set)\n"));
    buf_release(&text);
    config_release(&config);
}

static void test_fractions_are_printed_as_they_are_written(void **state) {
    static const char *const cases[][2] = {
        {"0", "0"},  {"1", "1"}, {"0.50", "0.5"}, {"0.000001", "0.000001"}, {"0.10203", "0.10203"},
        {"1.0", "1"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct config config = standard();
        struct buf text = {0};
        const char *reason;
        char wanted[64];
        assert_true(config_set(&config, "queue_warn", cases[i][0], &reason));
        snprintf(wanted, sizeof wanted, "queue_warn = %s\n", cases[i][1]);
        print_to(&config, &text);
        buf_append(&text, "", 1);
        assert_non_null(strstr(text.bytes, wanted));
        buf_release(&text);
        config_release(&config);
    }
}

static void test_which_variables_are_secret(void **state) {
    static const struct {
        const char *name;
        bool is_secret;
    } cases[] = {{"DATABASE_URL", true},
                 {"PGPASSWORD", true},
                 {"PGSSE_DATABASE_URL", true},
                 {"PGSSE_database_url", true}, /* works as well */
                 {"PGSSE_LISTEN_DATABASE_URL", true},
                 {"PGSSE_DATABASE_URL_FILE", false},
                 {"PGSSE_HOOK", false},
                 {"PGSSE_", false},
                 {"PGHOST", false},
                 {"PATH", false},
                 {"", false}};
    for (size_t i = 0; i < length_of(cases); i++) {
        char *memory;
        struct slice name = exact(slice_of(cases[i].name), &memory);
        if (config_is_secret_variable(name) != cases[i].is_secret) {
            fail_msg("%s", cases[i].name);
        }
        free(memory);
    }
}

static void test_program_names(void **state) {
    assert_string_equal(config_program_name(CONFIG_BROKER), "pgsse-broker");
    assert_string_equal(config_program_name(CONFIG_STREAM), "pgsse-stream");
    assert_string_equal(config_program_name(CONFIG_PUBLISH), "pgsse-publish");
}

/* --- all sources, in a process of its own ------------------------------------------------------
 */

struct load {
    enum config_program program;
    const char *environment[6]; /* "A=b" */
    const char *arguments[6];
    const char *file; /* its text; NULL: none. The name is in PGSSE_CONFIG. */
};

/* Runs config_load in a child. Returns its exit status and appends its output. If config_load
 * returns, the child prints the configuration. */
static int load_in_child(const struct load *load, struct buf *output) {
    struct directory directory;
    char path[128];
    int pipe_fds[2];
    directory_make(&directory);
    snprintf(path, sizeof path, "%s/conf", directory.path);
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char program[] = "program";
        char *argv[8] = {program};
        int argc = 1;
        struct config config = {0};
        dup2(pipe_fds[1], STDOUT_FILENO);
        dup2(pipe_fds[1], STDERR_FILENO);
        clearenv();
        setenv("LC_ALL", "C", 1); /* an environment is never quite empty */
        for (size_t i = 0; i < length_of(load->environment) && load->environment[i] != NULL; i++) {
            putenv(must_strdup(load->environment[i], strlen(load->environment[i])));
        }
        for (size_t i = 0; i < length_of(load->arguments) && load->arguments[i] != NULL; i++) {
            argv[argc++] = must_strdup(load->arguments[i], strlen(load->arguments[i]));
        }
        if (load->file != NULL) {
            FILE *file = fopen(path, "we");
            fputs(load->file, file);
            fclose(file);
            setenv("PGSSE_CONFIG", path, 1);
        }
        config_load(&config, load->program, argc, argv);
        config_print(&config, stdout);
        printf("url=%s\n", config.database_url);
        fflush(stdout);
        _exit(0);
    }
    int status;
    close(pipe_fds[1]);
    ssize_t got;
    while ((got = read(pipe_fds[0], buf_reserve(output, 4096), 4096)) > 0) {
        output->length += (size_t)got;
    }
    close(pipe_fds[0]);
    buf_append(output, "", 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    directory_remove(&directory);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void expect_load(const struct load *load, int status, const char *part) {
    struct buf output = {0};
    int got = load_in_child(load, &output);
    if (got != status || strstr(output.bytes, part) == NULL) {
        fail_msg("status %d, wanted %d with '%s': %s", got, status, part, output.bytes);
    }
    buf_release(&output);
}

static void test_later_sources_win(void **state) {
    expect_load(&(struct load){.program = CONFIG_STREAM}, 0, "keep_alive = 15s\n");
    expect_load(&(struct load){.program = CONFIG_STREAM, .file = "keep_alive = 16s\n"}, 0,
                "keep_alive = 16s\n");
    expect_load(&(struct load){.program = CONFIG_STREAM,
                               .file = "keep_alive = 16s\n",
                               .environment = {"PGSSE_KEEP_ALIVE=17s"}},
                0, "keep_alive = 17s\n");
    expect_load(&(struct load){.program = CONFIG_STREAM,
                               .file = "keep_alive = 16s\n",
                               .environment = {"PGSSE_KEEP_ALIVE=17s"},
                               .arguments = {"--keep-alive=18s"}},
                0, "keep_alive = 18s\n");
    expect_load(&(struct load){.program = CONFIG_STREAM, .arguments = {"--keep-alive", "19s"}}, 0,
                "keep_alive = 19s\n");
}

static void test_database_url_from_the_environment(void **state) {
    expect_load(
        &(struct load){.program = CONFIG_BROKER, .environment = {"DATABASE_URL=postgres:///x"}}, 0,
        "url=postgres:///x\n");
    expect_load(&(struct load){.program = CONFIG_BROKER,
                               .environment = {"PGSSE_DATABASE_URL=postgres:///y",
                                               "DATABASE_URL=postgres:///x"}},
                0, "url=postgres:///y\n");
}

static void test_bad_sources_end_the_program(void **state) {
    expect_load(&(struct load){.program = CONFIG_BROKER, .file = "\n\nno_key = 1\n"},
                CONFIG_EXIT_STATUS, "conf:3: there is no key 'no_key'");
    expect_load(&(struct load){.program = CONFIG_BROKER, .environment = {"PGSSE_RETRY=x"}},
                CONFIG_EXIT_STATUS, "retry takes");
    expect_load(&(struct load){.program = CONFIG_BROKER, .arguments = {"--retry=x"}},
                CONFIG_EXIT_STATUS, "retry takes");
    expect_load(&(struct load){.program = CONFIG_BROKER, .arguments = {"--no-key=x"}},
                CONFIG_EXIT_STATUS, "no-key");
    expect_load(&(struct load){.program = CONFIG_BROKER, .arguments = {"stray"}},
                CONFIG_EXIT_STATUS, "stray");
    expect_load(&(struct load){.program = CONFIG_BROKER, .arguments = {"--config=/nowhere/x"}},
                CONFIG_EXIT_STATUS, "/nowhere/x");
    expect_load(
        &(struct load){.program = CONFIG_BROKER, .arguments = {"--database-url-file=/nowhere/x"}},
        CONFIG_EXIT_STATUS, "/nowhere/x");
}

/* Both keys are named, by each program, whichever uses them. */
static void test_contradictions_end_the_program(void **state) {
    static const enum config_program programs[] = {CONFIG_BROKER, CONFIG_STREAM, CONFIG_PUBLISH};
    for (size_t i = 0; i < length_of(programs); i++) {
        expect_load(&(struct load){.program = programs[i], .file = "reconnect_max = 500ms\n"},
                    CONFIG_EXIT_STATUS, "reconnect_min = 1s and reconnect_max = 500ms: ");
        expect_load(&(struct load){.program = programs[i],
                                   .file = "healthz_path = /ok\n",
                                   .environment = {"PGSSE_HEALTH_PATH=/ok"}},
                    CONFIG_EXIT_STATUS, "healthz_path = /ok and health_path = /ok: ");
    }
}

/* An odd pair is a warning of the program that uses the first key. */
static void test_odd_pairs_are_said(void **state) {
    static const char file[] = "max_stream_age = 1s\n";
    struct buf output = {0};
    struct load load = {.program = CONFIG_BROKER, .file = file};
    expect_load(&(struct load){.program = CONFIG_STREAM, .file = file}, 0,
                "max_stream_age = 1s and keep_alive = 15s: ");
    assert_int_equal(load_in_child(&load, &output), 0);
    assert_null(strstr(output.bytes, " and keep_alive"));
    buf_release(&output);
}

static void expect_silence_about(const struct load *load, int status, const char *secret) {
    struct buf output = {0};
    int got = load_in_child(load, &output);
    if (got != status || strstr(output.bytes, secret) != NULL) {
        fail_msg("status %d: %s", got, output.bytes);
    }
    buf_release(&output);
}

static void test_misplaced_secrets_are_not_said(void **state) {
    static const char *const arguments[] = {"--databse-url=postgres://u:hunter2@h/d",
                                            "--database_url=postgres://u:hunter2@h/d",
                                            "--help=hunter2",
                                            "postgres://u:hunter2@h/d",
                                            "password=hunter2",
                                            "--database-url-file=postgres://u:hunter2@h/d",
                                            "--database-url-file=password=hunter2"};
    for (size_t i = 0; i < length_of(arguments); i++) {
        expect_silence_about(&(struct load){.program = CONFIG_BROKER, .arguments = {arguments[i]}},
                             CONFIG_EXIT_STATUS, "hunter2");
    }
}

/* ps shows it to every user of the machine. */
static void test_secrets_are_wiped_from_the_command_line(void **state) {
    char program[] = "program";
    char joined[] = "--database-url=password=hunter2";
    char key[] = "--listen-database-url";
    char value[] = "password=hunter2";
    char plain[] = "--retry=7ms";
    char *argv[] = {program, joined, key, value, plain, NULL};
    struct config config = {0};
    config_load(&config, CONFIG_BROKER, (int)length_of(argv) - 1, argv);
    optind = 0; /* getopt has to start again in the children of other tests */
    assert_string_equal(config.database_url, "password=hunter2");
    assert_string_equal(config.listen_database_url, "password=hunter2");
    assert_string_equal(joined, "--database-url=xxxxxxxxxxxxxxxx");
    assert_string_equal(value, "xxxxxxxxxxxxxxxx");
    assert_string_equal(plain, "--retry=7ms");
    config_unload(&config);
}

/* All programs read the same file: a key of another program is accepted, and checked. */
static void test_keys_of_other_programs(void **state) {
    expect_load(&(struct load){.program = CONFIG_BROKER, .file = "max_body = 1K\n"}, 0,
                "max_body = 1K");
    expect_load(&(struct load){.program = CONFIG_BROKER, .file = "max_body = x\n"},
                CONFIG_EXIT_STATUS, ":1: max_body");
    expect_load(&(struct load){.program = CONFIG_STREAM,
                               .file = "table_poll = 1s\nmax_durable_body = 1K\n"},
                0, "table_poll = 1s\n");
    expect_load(&(struct load){.program = CONFIG_BROKER, .file = "durable_path = durable\n"},
                CONFIG_EXIT_STATUS, ":1: durable_path");
}

/* Each program's help lists what it uses, and no more. */
static void test_help_is_about_the_program(void **state) {
    static const struct {
        const char *key;
        unsigned programs;
    } cases[] = {{"\n  table_poll ", CONFIG_BROKER},
                 {"\n  max_durable_body ", CONFIG_PUBLISH},
                 {"\n  durable_path ", CONFIG_STREAM | CONFIG_PUBLISH},
                 {"\n  health_path ", CONFIG_STREAM | CONFIG_PUBLISH}};
    static const enum config_program programs[] = {CONFIG_BROKER, CONFIG_STREAM, CONFIG_PUBLISH};
    for (size_t p = 0; p < length_of(programs); p++) {
        struct buf output = {0};
        struct load load = {.program = programs[p], .arguments = {"--help"}};
        assert_int_equal(load_in_child(&load, &output), 0);
        for (size_t i = 0; i < length_of(cases); i++) {
            if ((strstr(output.bytes, cases[i].key) != NULL) !=
                ((cases[i].programs & programs[p]) != 0)) {
                fail_msg("%s --help: %s", config_program_name(programs[p]), cases[i].key);
            }
        }
        buf_release(&output);
    }
}

static void test_options_that_end_the_program(void **state) {
    expect_load(&(struct load){.program = CONFIG_PUBLISH, .arguments = {"--help"}}, 0, "max_body");
    expect_load(&(struct load){.program = CONFIG_PUBLISH, .arguments = {"--version"}}, 0,
                "pgsse-publish " PGSSE_VERSION "\n");
    expect_load(&(struct load){.program = CONFIG_PUBLISH,
                               .arguments = {"--print-config", "--database-url=secret"}},
                0, "database_url = (set)\n");
}

RUN_TESTS(TEST(test_defaults), TEST(test_numbers_and_units), TEST(test_paths),
          TEST(test_unknown_keys), TEST(test_long_garbage_makes_a_short_reason), TEST(test_file),
          TEST(test_file_empty), TEST(test_file_names_the_line_at_fault),
          TEST(test_file_says_what_is_wrong), TEST(test_print_and_parse),
          TEST(test_secrets_are_not_printed), TEST(test_fractions_are_printed_as_they_are_written),
          TEST(test_which_variables_are_secret), TEST(test_program_names),
          TEST(test_later_sources_win), TEST(test_database_url_from_the_environment),
          TEST(test_bad_sources_end_the_program), TEST(test_contradictions_end_the_program),
          TEST(test_odd_pairs_are_said), TEST(test_misplaced_secrets_are_not_said),
          TEST(test_secrets_are_wiped_from_the_command_line), TEST(test_keys_of_other_programs),
          TEST(test_help_is_about_the_program), TEST(test_options_that_end_the_program))
