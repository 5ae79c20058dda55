/* What can be configured: one table feeds the file parser, the environment, the command line,
 * --help, --print-config and the documentation's check.
 *
 * Sources, the later one wins:
 *   1. the table's default
 *   2. a file: --config, else PGSSE_CONFIG, else pgsse.conf beside the binary, else
 *      /etc/pgsse/pgsse.conf; lines of "key = value", '#' starts a comment
 *   3. the environment: PGSSE_KEY, and DATABASE_URL for database_url
 *   4. the command line: --key=value or --key value, '-' for '_'
 *
 * All programs read the same file: a key that another program uses is accepted and checked by
 * each. An unknown key or a bad value ends the program with one line that says where it stands.
 * Programs get a const struct config and pass on what a part needs; nothing here is global. */
#pragma once

#include "base.h"
#include "log.h"

#include <stdio.h>

enum config_program {
    CONFIG_BROKER = 1,
    CONFIG_STREAM = 2,
    CONFIG_PUBLISH = 4,
};

/* A configuration that no restart can help: bad keys, a database encoding that is not served.
 * The number is EX_CONFIG of sysexits.h, which supervisors know. */
enum { CONFIG_EXIT_STATUS = 78 };

enum { CONFIG_FRACTION_ONE = 1000000 };

/* What happens to a client for which too much waits. */
enum config_slow_client { CONFIG_SLOW_REFRESH, CONFIG_SLOW_DISCONNECT };

/* Times are milliseconds, sizes are bytes, fractions are millionths. Texts are owned and never
 * NULL. */
struct config {
    char *database_url;
    char *database_url_file;
    char *listen_database_url;
    char *socket_dir;
    int64_t socket_mode;
    char *handler_users;
    char *base_path;
    char *healthz_path;
    char *events_path;
    char *health_path;
    int64_t history_bytes;
    int64_t ring_capacity;
    int64_t client_queue_bytes;
    int64_t handler_queue_bytes;
    int64_t slow_client;
    int64_t stall_timeout;
    int64_t keep_alive;
    int64_t retry;
    int64_t max_stream_age;
    int64_t topic_idle;
    int64_t graceful_drain;
    int64_t max_body;
    int64_t max_durable_body;
    int64_t max_notify_bytes;
    int64_t publish_timeout;
    int64_t canary_interval;
    int64_t canary_timeout;
    int64_t table_poll;
    int64_t retain_age;
    int64_t retain_count;
    int64_t queue_poll;
    int64_t queue_warn;
    int64_t marker_memory;
    int64_t reconnect_min;
    int64_t reconnect_max;
    int64_t reconnect_attempts;
    char *hook;
    int64_t hook_timeout;
    int64_t reconnect_rate;
    int64_t log_level;
};

/* Loads the configuration for one program and answers --help, --version and --print-config, which
 * end the program with status 0. Whatever is wrong ends it with CONFIG_EXIT_STATUS. Afterwards the
 * log is set up, and database_url holds what database_url_file held. */
void config_load(struct config *config, enum config_program program, int argc, char **argv);
void config_release(struct config *config);

/* The name that a program goes by in its log, help and version. */
const char *config_program_name(enum config_program program);

/* Whether a variable of the environment of that name holds a secret of ours, or of libpq. */
bool config_is_secret_variable(struct slice name) must_check;

/* --- for config_load and its tests -------------------------------------------------------- */

/* Sets everything to its default; config must be zero-initialised. */
void config_set_defaults(struct config *config);

/* Sets one key from text. Keys are written with '_'. On failure *reason tells (good until the next
 * call) and nothing has changed. */
bool config_set(struct config *config, const char *key, const char *value,
                const char **reason) must_check;

/* Applies a whole file's text. On failure *line is the number of the line at fault, from 1. */
bool config_apply_file(struct config *config, struct slice text, int *line,
                       const char **reason) must_check;

/* Prints every key with the value in force, in the file's format; secrets as "(set)" or "". */
void config_print(const struct config *config, FILE *out);
