/* What can be configured, and how values are written. One table of keys serves the readers of
 * values (config_load.h), --help, --print-config and the check of the documentation.
 *
 * Programs get a const struct config and pass parts of it on; nothing here is global. */
#pragma once

#include "base.h"
#include "log.h"

#include <stdio.h>

enum config_program {
    CONFIG_BROKER = 1,
    CONFIG_STREAM = 2,
    CONFIG_PUBLISH = 4,
};

/* Exit status for a configuration that a restart cannot repair: bad keys, a database encoding that
 * is not supported. It is EX_CONFIG of sysexits.h, which supervisors know. */
enum { CONFIG_EXIT_STATUS = 78 };

enum { CONFIG_FRACTION_ONE = 1000000 };

/* What happens to a client that reads too slowly. */
enum config_slow_client { CONFIG_SLOW_REFRESH, CONFIG_SLOW_DISCONNECT };

enum config_switch { CONFIG_OFF, CONFIG_ON };

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
    char *durable_path;
    char *events_path;
    char *sse_path;
    char *health_path;
    int64_t history_bytes;
    int64_t ring_capacity;
    int64_t client_queue_bytes;
    int64_t handler_queue_bytes;
    int64_t slow_client;
    int64_t gzip;
    int64_t stall_timeout;
    int64_t keep_alive;
    int64_t position_interval;
    int64_t retry;
    int64_t max_stream_age;
    int64_t max_connections;
    int64_t topic_idle;
    int64_t graceful_drain;
    int64_t max_body;
    int64_t max_durable_body;
    int64_t request_bytes;
    char *cors_origins;
    char *trusted_proxies;
    int64_t max_notify_bytes;
    int64_t publish_timeout;
    char *channels;
    int64_t forge_events;
    int64_t forge_control;
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
    bool wants_database_check;          /* --check-database; no key */
    struct config_arguments *arguments; /* owned; the command line, see config_load.h; no key */
};

/* Sets everything to its default; config must be zero-initialised. */
void config_set_defaults(struct config *config);
void config_release(struct config *config);

/* Sets one key from text. Keys are written with '_'. On failure *reason says why (good until the
 * next call) and nothing has changed. */
bool config_set(struct config *config, const char *key, const char *value,
                const char **reason) must_check;

/* Prints every key with the value in force, in the file's format; secrets as "(set)" or "". */
void config_print(const struct config *config, FILE *out);

/* The name that a program goes by in its log, help and version. */
const char *config_program_name(enum config_program program);

/* How many bytes at the text's beginning can be a key's name. The rest must not be logged: it may
 * be a URL with a password in the wrong place. */
static inline int config_name_length(const char *text) {
    return (int)strcspn(text, ":/@=");
}

/* --- keys by number, from 0 --------------------------------------------------------------- */

struct config_key_facts {
    const char *name;
    const char *help;
    unsigned programs; /* of enum config_program: the programs that use it */
    bool is_secret;    /* its value is never shown */
};

size_t config_key_count(void) must_check;
struct config_key_facts config_key_at(size_t number) must_check;

/* True if the two configurations have another value there. */
bool config_key_differs(const struct config *one, const struct config *other,
                        size_t number) must_check;

/* The number of the key, or config_key_count() if there is no such key. */
size_t config_key_number(const char *name) must_check;

/* The same for an environment variable PGSSE_KEY. Variables of other programs may begin like that,
 * too. */
size_t config_key_of_variable(struct slice name) must_check;

/* True if a variable of that name holds a secret of pgsse or of libpq. */
bool config_is_secret_variable(struct slice name) must_check;

/* Writes the value in force in the file's format. */
void config_print_value(const struct config *config, size_t number, char *text, size_t size);
