#include "config.h"

#include "buf.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef PGSSE_VERSION
#error "the build sets PGSSE_VERSION"
#endif

extern char **environ;

enum config_type {
    CONFIG_TEXT,
    CONFIG_SECRET, /* a text that is never printed */
    CONFIG_PATH,   /* a path of HTTP: starts with '/', does not end with it */
    CONFIG_NUMBER,
    CONFIG_OCTAL,
    CONFIG_FRACTION,     /* a decimal fraction, to six places */
    CONFIG_BYTES,        /* a number, K, M or G (or KiB, MiB, GiB) behind it */
    CONFIG_SECONDS,      /* a number of seconds, or with ms, s, min, h, d behind it */
    CONFIG_MILLISECONDS, /* the same, but a bare number means milliseconds */
    CONFIG_LOG_LEVEL,
    CONFIG_SLOW_CLIENT,
};

struct config_key {
    const char *name;
    enum config_type type;
    unsigned programs; /* of enum config_program: who uses it */
    size_t offset;     /* of a char * or an int64_t in struct config */
    const char *standard;
    int64_t least; /* of the value as it is stored */
    int64_t most;
    const char *help;
};

enum { BROKER = CONFIG_BROKER, STREAM = CONFIG_STREAM, PUBLISH = CONFIG_PUBLISH };

#define SECOND INT64_C(1000)
#define DAY    (86400 * SECOND)
#define KIB    INT64_C(1024)
#define MIB    (1024 * KIB)
#define GIB    (1024 * MIB)

/* clang-format off */
#define KEY(name, type, programs, standard, least, most, help) \
    {#name, type, programs, offsetof(struct config, name), standard, least, most, help}

static const struct config_key keys[] = {
    KEY(database_url, CONFIG_SECRET, BROKER | PUBLISH, "", 0, 0,
        "Postgres, as a URI or key=value pairs; empty: libpq's PG* variables"),
    KEY(database_url_file, CONFIG_TEXT, BROKER | PUBLISH, "", 0, 0,
        "a file whose first line is database_url, so that others need not read it"),
    KEY(listen_database_url, CONFIG_SECRET, BROKER, "", 0, 0,
        "a direct connection for LISTEN where database_url goes through a pooler"),
    KEY(socket_dir, CONFIG_TEXT, BROKER | STREAM, "/run/pgsse", 0, 0,
        "directory of broker.sock and status.sock"),
    KEY(socket_mode, CONFIG_OCTAL, BROKER, "0660", 0600, 0777,
        "mode of these two sockets"),
    KEY(handler_users, CONFIG_TEXT, BROKER, "", 0, 0,
        "users besides root and the broker's own whose processes may connect, with commas between"),
    KEY(base_path, CONFIG_PATH, STREAM | PUBLISH, "/topics", 0, 0,
        "where topics live: BASE/{topic}/events"),
    KEY(healthz_path, CONFIG_PATH, STREAM | PUBLISH, "/healthz", 0, 0,
        "where health is asked for"),
    KEY(events_path, CONFIG_PATH, STREAM | PUBLISH, "/api/events", 0, 0,
        "where durable events live: EVENTS/publish, EVENTS/stream and so on"),
    KEY(health_path, CONFIG_PATH, STREAM | PUBLISH, "/health", 0, 0,
        "where the short form of health is asked for"),
    KEY(history_bytes, CONFIG_BYTES, BROKER, "32MiB", 0, 64 * GIB,
        "how much the broker keeps of what it heard, for clients that come back"),
    KEY(ring_capacity, CONFIG_NUMBER, BROKER, "1024", 1, 1000000000,
        "how many events of one topic it keeps at most"),
    KEY(client_queue_bytes, CONFIG_BYTES, STREAM, "1MiB", 4 * KIB, GIB,
        "what may wait for one client before it is too slow"),
    KEY(handler_queue_bytes, CONFIG_BYTES, BROKER, "16MiB", 64 * KIB, GIB,
        "what may wait for one handler process before it is closed as too slow"),
    KEY(slow_client, CONFIG_SLOW_CLIENT, STREAM, "refresh", 0, 0,
        "what a client that is too slow gets: what waits is dropped and it is told (refresh), or it is "
        "closed and resumes later (disconnect)"),
    KEY(stall_timeout, CONFIG_SECONDS, STREAM | PUBLISH, "60s", 1 * SECOND, DAY,
        "a client that takes nothing for so long while something waits is closed"),
    KEY(keep_alive, CONFIG_SECONDS, STREAM, "15s", SECOND / 10, DAY,
        "a heartbeat is sent after so long a silence"),
    KEY(retry, CONFIG_MILLISECONDS, STREAM, "5000ms", 0, 3600 * SECOND,
        "how long browsers wait before they reconnect, jittered by a fifth"),
    KEY(max_stream_age, CONFIG_SECONDS, STREAM, "0", 0, DAY,
        "a stream that old is ended, for its client to resume; up to a tenth earlier; 0: never"),
    KEY(topic_idle, CONFIG_SECONDS, BROKER, "10min", 1 * SECOND, 365 * DAY,
        "health calls a topic idle that has no subscriber and had no event for so long"),
    KEY(graceful_drain, CONFIG_SECONDS, STREAM | PUBLISH, "10s", 0, 3600 * SECOND,
        "how long an orderly stop may take"),
    KEY(max_body, CONFIG_BYTES, PUBLISH, "256KiB", 1, MIB,
        "the largest body that is read"),
    KEY(max_durable_body, CONFIG_BYTES, PUBLISH, "1MiB", 1, MIB,
        "the same for what is posted under events_path"),
    KEY(max_notify_bytes, CONFIG_BYTES, PUBLISH, "7900", 128, 7999,
        "the largest NOTIFY payload, envelope included; Postgres ends at 7999"),
    KEY(publish_timeout, CONFIG_SECONDS, PUBLISH, "3s", SECOND / 10, 600 * SECOND,
        "how long a publish waits for Postgres before it is answered 503"),
    KEY(canary_interval, CONFIG_SECONDS, BROKER, "10s", SECOND / 10, 3600 * SECOND,
        "how often the broker sends a marker through Postgres to itself"),
    KEY(canary_timeout, CONFIG_SECONDS, BROKER, "5s", SECOND / 10, 3600 * SECOND,
        "LISTEN counts as broken when a marker was not heard for so long"),
    KEY(table_poll, CONFIG_SECONDS, BROKER, "10s", SECOND / 10, 3600 * SECOND,
        "how often the table of durable events is read although nothing has hinted at new ones"),
    KEY(retain_age, CONFIG_SECONDS, BROKER, "0", 0, 36500 * DAY,
        "durable events older than this are pruned by the broker; 0: none"),
    KEY(retain_count, CONFIG_NUMBER, BROKER, "0", 0, 1000000000,
        "all but so many of each topic are pruned by the broker; 0: none"),
    KEY(queue_poll, CONFIG_SECONDS, BROKER, "30s", SECOND / 10, 3600 * SECOND,
        "how often, at least, Postgres is asked how full its NOTIFY queue is"),
    KEY(queue_warn, CONFIG_FRACTION, BROKER, "0.5", 0, CONFIG_FRACTION_ONE,
        "a warning is given when the queue is fuller than this; 1: never"),
    KEY(marker_memory, CONFIG_SECONDS, BROKER, "1d", 60 * SECOND, 30 * DAY,
        "how long a marker is remembered"),
    KEY(reconnect_min, CONFIG_SECONDS, BROKER | PUBLISH, "1s", SECOND / 100, 3600 * SECOND,
        "the second attempt to reach Postgres comes after this time, the next after twice that"),
    KEY(reconnect_max, CONFIG_SECONDS, BROKER | PUBLISH, "30s", SECOND / 10, 3600 * SECOND,
        "and no attempt later than this"),
    KEY(reconnect_attempts, CONFIG_NUMBER, BROKER, "0", 0, 1000000,
        "so many failed attempts in a row, and the broker exits with status 1; 0: never"),
    KEY(hook, CONFIG_TEXT, BROKER, "", 0, 0,
        "a program that is run when the connection comes, goes or fails; empty: none"),
    KEY(hook_timeout, CONFIG_SECONDS, BROKER, "30s", SECOND / 10, 3600 * SECOND,
        "how long that may take before it is killed"),
    KEY(reconnect_rate, CONFIG_NUMBER, STREAM, "500", 1, 1000000,
        "how many clients a second are asked to come back after an orderly stop"),
    KEY(log_level, CONFIG_LOG_LEVEL, BROKER | STREAM | PUBLISH, "info", 0, 0,
        "error, warning, info or debug"),
};
#undef KEY
/* clang-format on */

/* Of types that are one of a few words: their values in order, ended by NULL. */
static const char *const log_levels[] = {"error", "warning", "info", "debug", NULL};
static const char *const slow_clients[] = {
    [CONFIG_SLOW_REFRESH] = "refresh", [CONFIG_SLOW_DISCONNECT] = "disconnect", NULL};

/* NULL for other types. */
static const char *const *words_of(enum config_type type) {
    return type == CONFIG_LOG_LEVEL ? log_levels : type == CONFIG_SLOW_CLIENT ? slow_clients : NULL;
}

/* --- one value --------------------------------------------------------------------------- */

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit time_units[] = {
    {"ms", 1}, {"s", SECOND}, {"m", 60 * SECOND}, {"min", 60 * SECOND}, {"h", 3600 * SECOND},
    {"d", DAY}};
static const struct unit byte_units[] = {{"K", KIB},   {"KiB", KIB}, {"M", MIB},
                                         {"MiB", MIB}, {"G", GIB},   {"GiB", GIB}};

static const struct config_key *key_find(const char *name) {
    for (size_t i = 0; i < length_of(keys); i++) {
        if (strcmp(keys[i].name, name) == 0) {
            return &keys[i];
        }
    }
    return NULL;
}

static bool unit_factor(const char *text, const struct unit *units, size_t count, int64_t bare,
                        int64_t *factor) {
    text += strspn(text, " ");
    *factor = bare;
    if (*text == '\0') {
        return true;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(text, units[i].name) == 0) {
            *factor = units[i].factor;
            return true;
        }
    }
    return false;
}

/* A number of at most 15 digits and what stands behind it. */
static bool parse_number(const char *text, int base, int64_t *value, const char **rest) {
    size_t digits = strspn(text, base == 8 ? "01234567" : "0123456789");
    if (digits == 0 || digits > 15) {
        return false;
    }
    *value = strtoll(text, NULL, base);
    *rest = text + digits;
    return true;
}

/* What may stand behind a whole number of a fraction: nothing, or a point and one to six digits. */
static bool parse_decimals(const char *rest, int64_t *value) {
    if (*value > 1) {
        return false;
    }
    *value *= CONFIG_FRACTION_ONE;
    if (*rest == '\0') {
        return true;
    }
    size_t digits = strspn(rest + 1, "0123456789");
    int64_t place = CONFIG_FRACTION_ONE;
    for (size_t i = 1; i <= digits; i++) {
        place /= 10; /* 0 behind the sixth */
        *value += (rest[i] - '0') * place;
    }
    return *rest == '.' && digits > 0 && digits <= 6 && rest[digits + 1] == '\0';
}

static bool parse_scaled(const char *text, const struct config_key *key, int64_t *value) {
    const char *rest;
    int64_t factor = 1;
    if (!parse_number(text, key->type == CONFIG_OCTAL ? 8 : 10, value, &rest)) {
        return false;
    }
    bool has_unit = false;
    switch (key->type) {
    case CONFIG_SECONDS:
        has_unit = unit_factor(rest, time_units, length_of(time_units), SECOND, &factor);
        break;
    case CONFIG_MILLISECONDS:
        has_unit = unit_factor(rest, time_units, length_of(time_units), 1, &factor);
        break;
    case CONFIG_BYTES:
        has_unit = unit_factor(rest, byte_units, length_of(byte_units), 1, &factor);
        break;
    case CONFIG_NUMBER:
    case CONFIG_OCTAL:
        has_unit = *rest == '\0';
        break;
    case CONFIG_FRACTION:
        has_unit = parse_decimals(rest, value);
        break;
    case CONFIG_TEXT:
    case CONFIG_SECRET:
    case CONFIG_PATH:
    case CONFIG_LOG_LEVEL:
    case CONFIG_SLOW_CLIENT:
        break;
    }
    return has_unit && !__builtin_mul_overflow(*value, factor, value);
}

static bool parse_word(const char *text, const char *const *words, int64_t *value) {
    for (size_t i = 0; words[i] != NULL; i++) {
        if (strcmp(text, words[i]) == 0) {
            *value = (int64_t)i;
            return true;
        }
    }
    return false;
}

static bool path_is_valid(const char *text) {
    size_t length = strlen(text);
    return text[0] == '/' && length > 1 && text[length - 1] != '/' && strstr(text, "//") == NULL &&
           strpbrk(text, "?#% ") == NULL;
}

static void print_value(const struct config_key *key, const struct config *config, char *text,
                        size_t size);

/* What a value of that type looks like, for the message about one that does not. */
static void describe_limits(const struct config_key *key, char *text, size_t size) {
    static const char *const shapes[] = {
        [CONFIG_TEXT] = "a text",
        [CONFIG_SECRET] = "a connection string of libpq",
        [CONFIG_PATH] = "a path like /topics: '/' at its start and not at its end, no '?#% '",
        [CONFIG_NUMBER] = "a whole number",
        [CONFIG_OCTAL] = "an octal number",
        [CONFIG_FRACTION] = "a fraction with up to six decimals",
        [CONFIG_BYTES] = "a number of bytes, or with K, M, G",
        [CONFIG_SECONDS] = "a number of seconds, or with ms, s, min, h, d",
        [CONFIG_MILLISECONDS] = "a number of milliseconds, or with ms, s, min, h, d",
        [CONFIG_LOG_LEVEL] = "error, warning, info or debug",
        [CONFIG_SLOW_CLIENT] = "refresh or disconnect",
    };
    if (key->most == 0) {
        snprintf(text, size, "%s", shapes[key->type]);
        return;
    }
    char least[32];
    char most[32];
    struct config limits = {0};
    int64_t *place = (int64_t *)(void *)((char *)&limits + key->offset);
    *place = key->least;
    print_value(key, &limits, least, sizeof least);
    *place = key->most;
    print_value(key, &limits, most, sizeof most);
    snprintf(text, size, "%s, from %s to %s", shapes[key->type], least, most);
}

static char **text_place(struct config *config, const struct config_key *key) {
    return (char **)(void *)((char *)config + key->offset);
}

static int64_t *number_place(struct config *config, const struct config_key *key) {
    return (int64_t *)(void *)((char *)config + key->offset);
}

static bool is_text(const struct config_key *key) {
    return key->type == CONFIG_TEXT || key->type == CONFIG_SECRET || key->type == CONFIG_PATH;
}

static bool set_text(struct config *config, const struct config_key *key, const char *value) {
    if (key->type == CONFIG_PATH && !path_is_valid(value)) {
        return false;
    }
    char **place = text_place(config, key);
    free(*place);
    *place = must_strdup(value, strlen(value));
    return true;
}

static bool set_number(struct config *config, const struct config_key *key, const char *text) {
    int64_t value;
    const char *const *words = words_of(key->type);
    if (words != NULL) {
        if (!parse_word(text, words, &value)) {
            return false;
        }
    } else if (!parse_scaled(text, key, &value) || value < key->least || value > key->most) {
        return false;
    }
    *number_place(config, key) = value;
    return true;
}

bool config_set(struct config *config, const char *name, const char *value, const char **reason) {
    static char message[256];
    *reason = message;
    const struct config_key *key = key_find(name);
    if (key == NULL) {
        snprintf(message, sizeof message, "there is no key '%.64s'", name);
        return false;
    }
    if (is_text(key) ? set_text(config, key, value) : set_number(config, key, value)) {
        return true;
    }
    char limits[160];
    describe_limits(key, limits, sizeof limits);
    snprintf(message, sizeof message, "%s takes %s; not '%.40s'", key->name, limits, value);
    return false;
}

void config_set_defaults(struct config *config) {
    for (size_t i = 0; i < length_of(keys); i++) {
        const char *reason;
        check(config_set(config, keys[i].name, keys[i].standard, &reason));
    }
}

void config_release(struct config *config) {
    for (size_t i = 0; i < length_of(keys); i++) {
        if (is_text(&keys[i])) {
            free(*text_place(config, &keys[i]));
        }
    }
    *config = (struct config){0};
}

/* --- printing ---------------------------------------------------------------------------- */

/* With the largest unit that leaves a whole number. */
static void print_scaled(int64_t value, const struct unit *units, size_t count, const char *bare,
                         char *text, size_t size) {
    int64_t factor = 1;
    for (size_t i = 0; i < count; i++) {
        if (value != 0 && value % units[i].factor == 0 && units[i].factor >= factor) {
            factor = units[i].factor;
            bare = units[i].name;
        }
    }
    snprintf(text, size, "%lld%s", (long long)(value / factor), bare);
}

/* Without zeros at the end. */
static void print_fraction(int64_t value, char *text, size_t size) {
    snprintf(text, size, "%lld.%06lld", (long long)(value / CONFIG_FRACTION_ONE),
             (long long)(value % CONFIG_FRACTION_ONE));
    size_t length = strlen(text);
    while (text[length - 1] == '0') {
        length--;
    }
    text[text[length - 1] == '.' ? length - 1 : length] = '\0';
}

static void print_value(const struct config_key *key, const struct config *config, char *text,
                        size_t size) {
    const void *place = (const char *)config + key->offset;
    const char *words = is_text(key) ? *(char *const *)place : "";
    int64_t value = is_text(key) ? 0 : *(const int64_t *)place;
    switch (key->type) {
    case CONFIG_TEXT:
    case CONFIG_PATH:
        snprintf(text, size, "%s", words);
        return;
    case CONFIG_SECRET:
        snprintf(text, size, "%s", words[0] == '\0' ? "" : "(set)");
        return;
    case CONFIG_NUMBER:
        snprintf(text, size, "%lld", (long long)value);
        return;
    case CONFIG_OCTAL:
        snprintf(text, size, "%04llo", (unsigned long long)value);
        return;
    case CONFIG_FRACTION:
        print_fraction(value, text, size);
        return;
    case CONFIG_BYTES:
        print_scaled(value, byte_units, length_of(byte_units), "", text, size);
        return;
    case CONFIG_SECONDS:
    case CONFIG_MILLISECONDS:
        print_scaled(value, time_units, length_of(time_units), "ms", text, size);
        return;
    case CONFIG_LOG_LEVEL:
    case CONFIG_SLOW_CLIENT:
        snprintf(text, size, "%s", words_of(key->type)[value]);
        return;
    }
}

void config_print(const struct config *config, FILE *out) {
    for (size_t i = 0; i < length_of(keys); i++) {
        char value[4096];
        print_value(&keys[i], config, value, sizeof value);
        fprintf(out, "%s =%s%s\n", keys[i].name, value[0] == '\0' ? "" : " ", value);
    }
}

const char *config_program_name(enum config_program program) {
    switch (program) {
    case CONFIG_BROKER:
        return "pgsse-broker";
    case CONFIG_STREAM:
        return "pgsse-stream";
    case CONFIG_PUBLISH:
        return "pgsse-publish";
    }
    return "pgsse";
}

static void print_help(enum config_program program) {
    static const char *const purposes[] = {
        [CONFIG_BROKER] = "hears NOTIFY from Postgres and hands events to the stream handlers",
        [CONFIG_STREAM] = "streams events to browsers; started by a web server, over FastCGI",
        [CONFIG_PUBLISH] =
            "takes events over HTTP to Postgres; started by a web server, over FastCGI",
    };
    printf("%s: %s.\n\n"
           "Usage: %s [--config FILE] [--KEY VALUE ...]\n"
           "       --help, --version, --print-config\n\n"
           "Keys, with their defaults. In a file: KEY = VALUE. In the environment: PGSSE_KEY.\n\n",
           config_program_name(program), purposes[program], config_program_name(program));
    struct config defaults = {0};
    config_set_defaults(&defaults);
    for (size_t i = 0; i < length_of(keys); i++) {
        if ((keys[i].programs & program) != 0) {
            char value[256];
            print_value(&keys[i], &defaults, value, sizeof value);
            printf("  %-20s %-10s %s\n", keys[i].name, value, keys[i].help);
        }
    }
    config_release(&defaults);
}

/* --- files ------------------------------------------------------------------------------- */

enum { CONFIG_FILE_BYTES_MAX = 256 * 1024 };

static bool file_read(const char *path, struct buf *text) {
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    size_t got;
    do {
        got = fread(buf_reserve(text, 4096), 1, 4096, file);
        text->length += got;
    } while (got > 0 && text->length < CONFIG_FILE_BYTES_MAX);
    bool is_read = ferror(file) == 0;
    fclose(file);
    return is_read;
}

static struct slice trim(struct slice text) {
    while (text.length > 0 && isspace((unsigned char)text.at[0])) {
        text = (struct slice){text.at + 1, text.length - 1};
    }
    while (text.length > 0 && isspace((unsigned char)text.at[text.length - 1])) {
        text.length--;
    }
    return text;
}

static bool apply_line(struct config *config, struct slice line, const char **reason) {
    line = trim(line);
    if (line.length == 0 || line.at[0] == '#') {
        return true;
    }
    const char *equals = memchr(line.at, '=', line.length);
    if (equals == NULL) {
        *reason = "'=' is missing";
        return false;
    }
    size_t key_length = (size_t)(equals - line.at);
    struct slice key = trim((struct slice){line.at, key_length});
    struct slice value = trim((struct slice){equals + 1, line.length - key_length - 1});
    char *key_text = must_strdup(key.at, key.length);
    char *value_text = must_strdup(value.at, value.length);
    bool is_set = config_set(config, key_text, value_text, reason);
    free(key_text);
    free(value_text);
    return is_set;
}

bool config_apply_file(struct config *config, struct slice text, int *line, const char **reason) {
    *line = 0;
    while (text.length > 0) {
        const char *end = memchr(text.at, '\n', text.length);
        size_t length = end == NULL ? text.length : (size_t)(end - text.at);
        (*line)++;
        if (memchr(text.at, '\0', length) != NULL) {
            *reason = "a NUL byte";
            return false;
        }
        if (!apply_line(config, (struct slice){text.at, length}, reason)) {
            return false;
        }
        size_t used = length + (end == NULL ? 0 : 1);
        text = (struct slice){text.at + used, text.length - used};
    }
    return true;
}

static void load_file(struct config *config, const char *path) {
    struct buf text = {0};
    int line;
    const char *reason;
    if (!file_read(path, &text)) {
        die(CONFIG_EXIT_STATUS, "%s: %s", path, strerror(errno));
    }
    if (!config_apply_file(config, buf_slice(&text), &line, &reason)) {
        die(CONFIG_EXIT_STATUS, "%s:%d: %s", path, line, reason);
    }
    buf_release(&text);
}

/* What nobody asked for by name need not be there. */
static bool load_file_if_there(struct config *config, const char *path) {
    if (access(path, F_OK) != 0) {
        return false;
    }
    load_file(config, path);
    return true;
}

static bool load_file_beside_binary(struct config *config) {
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - sizeof "/pgsse.conf");
    if (length <= 0) {
        return false;
    }
    path[length] = '\0';
    char *slash = strrchr(path, '/');
    size_t room = sizeof path - (size_t)(slash - path);
    snprintf(slash, room, "/pgsse.conf");
    return load_file_if_there(config, path);
}

/* --- the sources in order ----------------------------------------------------------------- */

/* PGSSE_KEY; NULL: other programs have PGSSE_ variables, too, as scripts get the sockets so. */
static const struct config_key *key_of_variable(struct slice name) {
    static const char prefix[] = "PGSSE_";
    size_t skipped = sizeof prefix - 1;
    if (name.length < skipped || memcmp(name.at, prefix, skipped) != 0) {
        return NULL;
    }
    char key[64] = "";
    for (size_t i = 0; i < name.length - skipped && i < sizeof key - 1; i++) {
        key[i] = (char)tolower((unsigned char)name.at[skipped + i]);
    }
    return key_find(key);
}

bool config_is_secret_variable(struct slice name) {
    const struct config_key *key = key_of_variable(name);
    return slice_is(name, "DATABASE_URL") || slice_is(name, "PGPASSWORD") ||
           (key != NULL && key->type == CONFIG_SECRET);
}

static void load_environment(struct config *config) {
    const char *url = getenv("DATABASE_URL");
    const char *reason;
    if (url != NULL && url[0] != '\0') {
        check(config_set(config, "database_url", url, &reason));
    }
    for (char **entry = environ; *entry != NULL; entry++) {
        struct slice name = {*entry, strcspn(*entry, "=")};
        const struct config_key *key = key_of_variable(name);
        if (key != NULL && (*entry)[name.length] == '=' &&
            !config_set(config, key->name, *entry + name.length + 1, &reason)) {
            die(CONFIG_EXIT_STATUS, "in the environment: %s", reason);
        }
    }
}

enum { OPTION_HELP = 256, OPTION_VERSION, OPTION_PRINT, OPTION_CONFIG, OPTION_FIRST_KEY };

struct arguments {
    const char *config_path;
    bool wants_print;
    const char *values[length_of(keys)]; /* NULL: not given */
};

static const struct option fixed_options[] = {
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {"print-config", no_argument, NULL, OPTION_PRINT},
    {"config", required_argument, NULL, OPTION_CONFIG},
};

static void parse_arguments(struct arguments *arguments, enum config_program program, int argc,
                            char **argv) {
    struct option options[length_of(fixed_options) + length_of(keys) + 1] = {0};
    char names[length_of(keys)][32];
    memcpy(options, fixed_options, sizeof fixed_options);
    for (size_t i = 0; i < length_of(keys); i++) {
        snprintf(names[i], sizeof names[i], "%s", keys[i].name);
        for (char *c = names[i]; *c != '\0'; c++) {
            *c = *c == '_' ? '-' : *c;
        }
        options[length_of(fixed_options) + i] =
            (struct option){names[i], required_argument, NULL, OPTION_FIRST_KEY + (int)i};
    }
    int option;
    while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        if (option == OPTION_HELP) {
            print_help(program);
            exit(0);
        } else if (option == OPTION_VERSION) {
            printf("%s %s\n", config_program_name(program), PGSSE_VERSION);
            exit(0);
        } else if (option == OPTION_PRINT) {
            arguments->wants_print = true;
        } else if (option == OPTION_CONFIG) {
            arguments->config_path = optarg;
        } else if (option >= OPTION_FIRST_KEY) {
            arguments->values[option - OPTION_FIRST_KEY] = optarg;
        } else {
            die(CONFIG_EXIT_STATUS, "on the command line: %s %s (see --help)", argv[optind - 1],
                option == ':' ? "needs a value" : "is no option, or has a value too many");
        }
    }
    if (optind < argc) {
        die(CONFIG_EXIT_STATUS, "what is '%s' for? (see --help)", argv[optind]);
    }
}

/* A source that names another file than the ones before sets database_url with it. The stream
 * handler need not be able to read it. */
static void load_database_url_file(struct config *config, enum config_program program,
                                   char **known) {
    if (program == CONFIG_STREAM || strcmp(*known, config->database_url_file) == 0) {
        return;
    }
    free(*known);
    *known = must_strdup(config->database_url_file, strlen(config->database_url_file));
    struct buf text = {0};
    if (!file_read(config->database_url_file, &text)) {
        die(CONFIG_EXIT_STATUS, "%s: %s", config->database_url_file, strerror(errno));
    }
    buf_append(&text, "\n", 2); /* ends the line, and the text */
    text.bytes[strcspn(text.bytes, "\r\n")] = '\0';
    const char *reason;
    check(config_set(config, "database_url", text.bytes, &reason));
    buf_release(&text);
}

static void load_default_file(struct config *config, const char *named) {
    if (named != NULL) {
        load_file(config, named);
    } else if (!load_file_beside_binary(config)) {
        (void)load_file_if_there(config, "/etc/pgsse/pgsse.conf");
    }
}

static void load_arguments(struct config *config, const struct arguments *arguments) {
    for (size_t i = 0; i < length_of(keys); i++) {
        const char *reason;
        if (arguments->values[i] != NULL &&
            !config_set(config, keys[i].name, arguments->values[i], &reason)) {
            die(CONFIG_EXIT_STATUS, "on the command line: %s", reason);
        }
    }
}

void config_load(struct config *config, enum config_program program, int argc, char **argv) {
    struct arguments arguments = {0};
    char *url_file = must_strdup("", 0);
    log_init(config_program_name(program), LOG_LEVEL_INFO);
    config_set_defaults(config);
    parse_arguments(&arguments, program, argc, argv);
    load_default_file(config, arguments.config_path != NULL ? arguments.config_path
                                                            : getenv("PGSSE_CONFIG"));
    load_database_url_file(config, program, &url_file);
    load_environment(config);
    load_database_url_file(config, program, &url_file);
    load_arguments(config, &arguments);
    load_database_url_file(config, program, &url_file);
    free(url_file);
    if (arguments.wants_print) {
        config_print(config, stdout);
        exit(0);
    }
    log_init(config_program_name(program), (enum log_level)config->log_level);
}
