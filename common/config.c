#include "config.h"

#include <ctype.h>
#include <stdlib.h>

enum config_type {
    CONFIG_TEXT,
    CONFIG_SECRET, /* a text that is never printed */
    CONFIG_PATH,   /* an HTTP path: starts with '/', does not end with '/' */
    CONFIG_NUMBER,
    CONFIG_OCTAL,
    CONFIG_FRACTION,     /* a decimal fraction, to six places */
    CONFIG_BYTES,        /* a number, optionally with K, M or G (or KiB, MiB, GiB) */
    CONFIG_SECONDS,      /* a number of seconds, or a number with ms, s, min, h, d */
    CONFIG_MILLISECONDS, /* the same, but a bare number means milliseconds */
    CONFIG_LOG_LEVEL,
    CONFIG_SLOW_CLIENT,
    CONFIG_SWITCH,
};

struct config_key {
    const char *name;
    enum config_type type;
    unsigned programs; /* of enum config_program: the programs that use it */
    size_t offset;     /* of a char * or an int64_t in struct config */
    const char *default_text;
    int64_t min; /* of the value as it is stored */
    int64_t max;
    const char *help;
};

enum { BROKER = CONFIG_BROKER, STREAM = CONFIG_STREAM, PUBLISH = CONFIG_PUBLISH };

#define SECOND INT64_C(1000)
#define DAY    (86400 * SECOND)
#define KIB    INT64_C(1024)
#define MIB    (1024 * KIB)
#define GIB    (1024 * MIB)

/* clang-format off */
#define KEY(name, type, programs, default_text, min, max, help) \
    {#name, type, programs, offsetof(struct config, name), default_text, min, max, help}

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
        "the path of the health document"),
    KEY(durable_path, CONFIG_PATH, STREAM | PUBLISH, "/api/events", 0, 0,
        "where durable events live: DURABLE/publish, DURABLE/stream and so on"),
    KEY(events_path, CONFIG_PATH, STREAM | PUBLISH, "/events", 0, 0,
        "where streams of many topics live, and EVENTS/publish"),
    KEY(sse_path, CONFIG_PATH, STREAM | PUBLISH, "/api/sse", 0, 0,
        "where SSE/publish and SSE/stats live"),
    KEY(health_path, CONFIG_PATH, STREAM | PUBLISH, "/health", 0, 0,
        "the path of the short health document"),
    KEY(history_bytes, CONFIG_BYTES, BROKER, "32MiB", 0, 64 * GIB,
        "how many bytes of events the broker keeps for clients that come back"),
    KEY(ring_capacity, CONFIG_NUMBER, BROKER, "1024", 1, 1000000000,
        "how many events of one topic the broker keeps at most"),
    KEY(client_queue_bytes, CONFIG_BYTES, STREAM, "1MiB", 4 * KIB, GIB,
        "what may wait for one client before it is too slow"),
    KEY(handler_queue_bytes, CONFIG_BYTES, BROKER, "16MiB", 64 * KIB, GIB,
        "what may wait for one handler process, besides one event of any size, before it is closed as too slow"),
    KEY(slow_client, CONFIG_SLOW_CLIENT, STREAM, "refresh", 0, 0,
        "what a client that is too slow gets: what waits is dropped and it is told (refresh), or it is "
        "closed and resumes later (disconnect)"),
    KEY(gzip, CONFIG_SWITCH, STREAM, "on", 0, 0,
        "on: streams are compressed for clients that accept it; off: never"),
    KEY(stall_timeout, CONFIG_SECONDS, STREAM | PUBLISH, "60s", 1 * SECOND, DAY,
        "a client that takes nothing for so long while something waits is closed"),
    KEY(keep_alive, CONFIG_SECONDS, STREAM, "15s", SECOND / 10, DAY,
        "a heartbeat is sent after so long a silence"),
    KEY(position_interval, CONFIG_SECONDS, STREAM, "5min", SECOND / 10, DAY,
        "how long a stream may go without an id before a heartbeat is an event with its position"),
    KEY(retry, CONFIG_MILLISECONDS, STREAM, "5000ms", 0, 3600 * SECOND,
        "how long browsers wait before they reconnect, jittered by a fifth"),
    KEY(max_stream_age, CONFIG_SECONDS, STREAM, "0", 0, DAY,
        "streams end at this age, or up to a tenth earlier, and clients resume; 0: never"),
    KEY(max_connections, CONFIG_NUMBER, STREAM, "5000", 1, 1000000,
        "a handler process with this many open requests, mostly streams, refuses further streams"),
    KEY(topic_idle, CONFIG_SECONDS, BROKER, "10min", 1 * SECOND, 365 * DAY,
        "health calls a topic idle that has no subscriber and had no event for so long"),
    KEY(graceful_drain, CONFIG_SECONDS, STREAM | PUBLISH, "10s", 0, 3600 * SECOND,
        "how long an orderly stop may take"),
    KEY(max_body, CONFIG_BYTES, PUBLISH, "256KiB", 1, MIB,
        "the largest body that is read"),
    KEY(max_durable_body, CONFIG_BYTES, PUBLISH, "1MiB", 1, MIB,
        "the largest body that is read under durable_path, and at EVENTS/publish"),
    KEY(request_bytes, CONFIG_BYTES, STREAM | PUBLISH, "64MiB", MIB, 64 * GIB,
        "how many bytes of incoming and waiting requests a handler keeps; further ones wait outside"),
    KEY(cors_origins, CONFIG_TEXT, PUBLISH, "", 0, 0,
        "other sites whose pages may POST: origins like https://example.org, with commas between"),
    KEY(trusted_proxies, CONFIG_TEXT, PUBLISH, "", 0, 0,
        "addresses, or blocks like 10.0.0.0/8, whose X-Forwarded-Proto, -Host and -Port are believed"),
    KEY(max_notify_bytes, CONFIG_BYTES, PUBLISH, "7900", 128, 7999,
        "the largest NOTIFY payload, envelope included; Postgres ends at 7999"),
    KEY(publish_timeout, CONFIG_SECONDS, PUBLISH, "3s", SECOND / 10, 600 * SECOND,
        "how long a publish waits for Postgres before it is answered 503"),
    KEY(channels, CONFIG_TEXT, BROKER, "", 0, 0,
        "raw channels whose notifications are events: orders, cache_invalidate -> cache, \"Weird.Name\" -> weird"),
    KEY(forge_events, CONFIG_SWITCH, BROKER, "off", 0, 0,
        "notifications on the channel forge_events are events, each of the tenant that it names"),
    KEY(forge_control, CONFIG_SWITCH, BROKER, "off", 0, 0,
        "such a notification of the type close or refresh is passed to its streams"),
    KEY(canary_interval, CONFIG_SECONDS, BROKER, "10s", SECOND / 10, 3600 * SECOND,
        "how often the broker sends a marker through Postgres to itself"),
    KEY(canary_timeout, CONFIG_SECONDS, BROKER, "5s", SECOND / 10, 3600 * SECOND,
        "LISTEN counts as broken when a marker was not heard for so long"),
    KEY(table_poll, CONFIG_SECONDS, BROKER, "10s", SECOND / 10, 3600 * SECOND,
        "how often the table of durable events is read although nothing has hinted at new ones"),
    KEY(retain_age, CONFIG_SECONDS, BROKER, "0", 0, 36500 * DAY,
        "durable events older than this are pruned by the broker; 0: none"),
    KEY(retain_count, CONFIG_NUMBER, BROKER, "0", 0, 1000000000,
        "the broker prunes all but this many durable events of each topic; 0: none"),
    KEY(queue_poll, CONFIG_SECONDS, BROKER, "30s", SECOND / 10, 3600 * SECOND,
        "how often, at least, Postgres is asked how full its NOTIFY queue is"),
    KEY(queue_warn, CONFIG_FRACTION, BROKER, "0.5", 0, CONFIG_FRACTION_ONE,
        "a warning is given when the queue is fuller than this; 1: never"),
    KEY(marker_memory, CONFIG_SECONDS, BROKER, "1d", 60 * SECOND, 30 * DAY,
        "how long a marker is remembered"),
    KEY(reconnect_min, CONFIG_SECONDS, BROKER | PUBLISH, "1s", SECOND / 100, 3600 * SECOND,
        "the time before the second attempt to reach Postgres; it doubles with each further attempt"),
    KEY(reconnect_max, CONFIG_SECONDS, BROKER | PUBLISH, "30s", SECOND / 10, 3600 * SECOND,
        "the longest time between two attempts, jitter included"),
    KEY(reconnect_attempts, CONFIG_NUMBER, BROKER, "0", 0, 1000000,
        "after so many failed attempts in a row the broker exits with status 1; 0: never"),
    KEY(hook, CONFIG_TEXT, BROKER, "", 0, 0,
        "a program that is run when the connection comes, goes or fails; empty: none"),
    KEY(hook_timeout, CONFIG_SECONDS, BROKER, "30s", SECOND / 10, 3600 * SECOND,
        "how long a run of the hook may take before it is killed"),
    KEY(reconnect_rate, CONFIG_NUMBER, STREAM, "500", 1, 1000000,
        "how many clients a second are asked to come back after an orderly stop"),
    KEY(log_level, CONFIG_LOG_LEVEL, BROKER | STREAM | PUBLISH, "info", 0, 0,
        "error, warning, info or debug"),
};
#undef KEY
/* clang-format on */

/* Types whose values are words: the words in the order of their enums, ended by NULL. */
static const char *const log_levels[] = {"error", "warning", "info", "debug", NULL};
static const char *const slow_clients[] = {
    [CONFIG_SLOW_REFRESH] = "refresh", [CONFIG_SLOW_DISCONNECT] = "disconnect", NULL};
static const char *const switches[] = {[CONFIG_OFF] = "off", [CONFIG_ON] = "on", NULL};

/* The words of a type; NULL if its values are not words. */
static const char *const *words_of(enum config_type type) {
    static const char *const *const words[] = {[CONFIG_LOG_LEVEL] = log_levels,
                                               [CONFIG_SLOW_CLIENT] = slow_clients,
                                               [CONFIG_SWITCH] = switches};
    return words[type];
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

/* Parses a number of at most 15 digits; *rest is the text after it. */
static bool parse_number(const char *text, int base, int64_t *value, const char **rest) {
    size_t digits = strspn(text, base == 8 ? "01234567" : "0123456789");
    if (digits == 0 || digits > 15) {
        return false;
    }
    *value = strtoll(text, NULL, base);
    *rest = text + digits;
    return true;
}

/* Parses what follows the whole number of a fraction: nothing, or a point and one to six digits. */
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
        place /= 10; /* 0 after the sixth digit */
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
    case CONFIG_SWITCH:
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

/* Describes the values of a key, for the message about a bad one. */
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
        [CONFIG_SWITCH] = "on or off",
    };
    if (key->max == 0) {
        snprintf(text, size, "%s", shapes[key->type]);
        return;
    }
    char min[32];
    char max[32];
    struct config limits = {0};
    int64_t *place = (int64_t *)(void *)((char *)&limits + key->offset);
    *place = key->min;
    print_value(key, &limits, min, sizeof min);
    *place = key->max;
    print_value(key, &limits, max, sizeof max);
    snprintf(text, size, "%s, from %s to %s", shapes[key->type], min, max);
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
    } else if (!parse_scaled(text, key, &value) || value < key->min || value > key->max) {
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
        int length = config_name_length(name);
        snprintf(message, sizeof message, "there is no key '%.*s'", length < 64 ? length : 64,
                 name);
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
        check(config_set(config, keys[i].name, keys[i].default_text, &reason));
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

/* Prints the value in the largest unit in which it is a whole number. */
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

/* Prints a fraction without zeros at its end. */
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
    case CONFIG_SWITCH:
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

/* --- keys by number ---------------------------------------------------------------------- */

size_t config_key_count(void) {
    return length_of(keys);
}

struct config_key_facts config_key_at(size_t number) {
    const struct config_key *key = &keys[number];
    return (struct config_key_facts){key->name, key->help, key->programs,
                                     key->type == CONFIG_SECRET};
}

bool config_key_differs(const struct config *one, const struct config *other, size_t number) {
    const struct config_key *key = &keys[number];
    const void *here = (const char *)one + key->offset;
    const void *there = (const char *)other + key->offset;
    return is_text(key) ? strcmp(*(char *const *)here, *(char *const *)there) != 0
                        : *(const int64_t *)here != *(const int64_t *)there;
}

size_t config_key_number(const char *name) {
    const struct config_key *key = key_find(name);
    return key == NULL ? length_of(keys) : (size_t)(key - keys);
}

void config_print_value(const struct config *config, size_t number, char *text, size_t size) {
    print_value(&keys[number], config, text, size);
}

size_t config_key_of_variable(struct slice name) {
    static const char prefix[] = "PGSSE_";
    size_t skipped = sizeof prefix - 1;
    if (name.length < skipped || memcmp(name.at, prefix, skipped) != 0) {
        return length_of(keys);
    }
    char key[64] = "";
    for (size_t i = 0; i < name.length - skipped && i < sizeof key - 1; i++) {
        key[i] = (char)tolower((unsigned char)name.at[skipped + i]);
    }
    return config_key_number(key);
}

bool config_is_secret_variable(struct slice name) {
    size_t number = config_key_of_variable(name);
    return slice_is(name, "DATABASE_URL") || slice_is(name, "PGPASSWORD") ||
           (number < length_of(keys) && keys[number].type == CONFIG_SECRET);
}
