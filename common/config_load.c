#include "config_load.h"

#include "buf.h"
#include "config_pairs.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef PGSSE_VERSION
#error "the build sets PGSSE_VERSION"
#endif

extern char **environ;

enum { KEYS_MAX = 128 };

/* Why the configuration cannot be used. Always false, for the caller to return. */
static bool complain(char reason[CONFIG_REASON_BYTES], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool complain(char reason[CONFIG_REASON_BYTES], const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, CONFIG_REASON_BYTES, format, arguments);
    va_end(arguments);
    return false;
}

/* --- help -------------------------------------------------------------------------------- */

static void print_help(enum config_program program) {
    static const char *const purposes[] = {
        [CONFIG_BROKER] = "hears NOTIFY from Postgres and hands events to the stream handlers",
        [CONFIG_STREAM] = "streams events to browsers; started by a web server, over FastCGI",
        [CONFIG_PUBLISH] =
            "takes events over HTTP to Postgres; started by a web server, over FastCGI",
    };
    printf("%s: %s.\n\n"
           "Usage: %s [--config FILE] [--KEY VALUE ...]\n"
           "       --help, --version, --print-config%s\n\n"
           "Keys, with their defaults. In a file: KEY = VALUE. In the environment: PGSSE_KEY.\n\n",
           config_program_name(program), purposes[program], config_program_name(program),
           program == CONFIG_BROKER ? ", --check-database (connects, and says why not)" : "");
    struct config defaults = {0};
    config_set_defaults(&defaults);
    for (size_t i = 0; i < config_key_count(); i++) {
        struct config_key_facts key = config_key_at(i);
        char value[256];
        if ((key.programs & program) != 0) {
            config_print_value(&defaults, i, value, sizeof value);
            printf("  %-20s %-10s %s\n", key.name, value, key.help);
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
    return slice_trim(text, " \t\r\n\v\f");
}

/* For each key the line of the file in which it was found; 0: not yet. */
struct places {
    int lines[KEYS_MAX];
};

/* False if the file has the key twice: it is not clear which of the lines is meant. */
static bool note_place(struct places *places, const char *name, int line, const char **reason) {
    static char message[96];
    int *place = &places->lines[config_key_number(name)];
    if (*place != 0) {
        snprintf(message, sizeof message, "%s is already in line %d", name, *place);
        *reason = message;
        return false;
    }
    *place = line;
    return true;
}

static bool apply_line(struct config *config, struct slice line, int number, struct places *places,
                       const char **reason) {
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
    bool is_set = config_set(config, key_text, value_text, reason) &&
                  note_place(places, key_text, number, reason);
    free(key_text);
    free(value_text);
    return is_set;
}

static bool has_byte_order_mark(struct slice text) {
    static const char mark[] = "\xef\xbb\xbf";
    return text.length >= sizeof mark - 1 && memcmp(text.at, mark, sizeof mark - 1) == 0;
}

bool config_apply_file(struct config *config, struct slice text, int *line, const char **reason) {
    struct places places = {0};
    *line = 1;
    if (has_byte_order_mark(text)) {
        *reason = "the file begins with a byte order mark (BOM): save it without one";
        return false;
    }
    *line = 0;
    while (text.length > 0) {
        const char *end = memchr(text.at, '\n', text.length);
        size_t length = end == NULL ? text.length : (size_t)(end - text.at);
        (*line)++;
        if (memchr(text.at, '\0', length) != NULL) {
            *reason = "a NUL byte";
            return false;
        }
        if (!apply_line(config, (struct slice){text.at, length}, *line, &places, reason)) {
            return false;
        }
        size_t used = length + (end == NULL ? 0 : 1);
        text = (struct slice){text.at + used, text.length - used};
    }
    return true;
}

static bool load_file(struct config *config, const char *path, char *reason) {
    struct buf text = {0};
    int line;
    const char *wrong;
    bool is_good = true;
    if (!file_read(path, &text)) {
        is_good = complain(reason, "%s: %s", path, strerror(errno));
    } else if (!config_apply_file(config, buf_slice(&text), &line, &wrong)) {
        is_good = complain(reason, "%s:%d: %s", path, line, wrong);
    }
    buf_release(&text);
    return is_good;
}

/* pgsse.conf beside the binary. False if there can be no such path. */
static bool path_beside_binary(char *path, size_t size) {
    ssize_t length = readlink("/proc/self/exe", path, size - sizeof "/pgsse.conf");
    if (length <= 0) {
        return false;
    }
    path[length] = '\0';
    char *slash = strrchr(path, '/');
    snprintf(slash, size - (size_t)(slash - path), "/pgsse.conf");
    return true;
}

/* --- the sources in order ----------------------------------------------------------------- */

static bool load_environment(struct config *config, char *reason) {
    const char *url = getenv("DATABASE_URL");
    const char *wrong;
    if (url != NULL && url[0] != '\0') {
        check(config_set(config, "database_url", url, &wrong));
    }
    for (char **entry = environ; *entry != NULL; entry++) {
        struct slice name = {*entry, strcspn(*entry, "=")};
        size_t number = config_key_of_variable(name);
        if (number < config_key_count() && (*entry)[name.length] == '=' &&
            !config_set(config, config_key_at(number).name, *entry + name.length + 1, &wrong)) {
            return complain(reason, "in the environment: %s", wrong);
        }
    }
    return true;
}

enum {
    OPTION_HELP = 256,
    OPTION_VERSION,
    OPTION_PRINT,
    OPTION_CHECK,
    OPTION_CONFIG,
    OPTION_FIRST_KEY
};

struct config_arguments {
    const char *config_path; /* borrowed from the command line */
    bool wants_print;
    bool wants_database_check;
    char *values[KEYS_MAX]; /* owned; NULL: not given */
};

static const struct option fixed_options[] = {
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {"print-config", no_argument, NULL, OPTION_PRINT},
    {"config", required_argument, NULL, OPTION_CONFIG},
    {"check-database", no_argument, NULL, OPTION_CHECK},
};

/* Every user of the machine can read a process's command line, so secret values are wiped from
 * it. */
static void take_value(struct config_arguments *arguments, size_t number, char *value) {
    size_t length = strlen(value);
    free(arguments->values[number]);
    arguments->values[number] = must_strdup(value, length);
    if (config_key_at(number).is_secret) {
        memset(value, 'x', length);
    }
}

/* For getopt_long: the fixed options, and one for each key, named with '-' instead of '_'. */
struct option_table {
    struct option options[length_of(fixed_options) + KEYS_MAX + 1]; /* the last one is zero */
    char names[KEYS_MAX][32];
};

/* *table is zero-initialised. */
static void list_options(struct option_table *table) {
    check(config_key_count() <= KEYS_MAX);
    memcpy(table->options, fixed_options, sizeof fixed_options);
    for (size_t i = 0; i < config_key_count(); i++) {
        char *name = table->names[i];
        snprintf(name, sizeof table->names[i], "%s", config_key_at(i).name);
        for (char *c = name; *c != '\0'; c++) {
            *c = *c == '_' ? '-' : *c;
        }
        table->options[length_of(fixed_options) + i] =
            (struct option){name, required_argument, NULL, OPTION_FIRST_KEY + (int)i};
    }
}

/* given: the argument that getopt_long has read; its value is optarg. */
static void take_option(struct config_arguments *arguments, enum config_program program, int option,
                        const char *given) {
    if (option == OPTION_HELP) {
        print_help(program);
        exit(0);
    } else if (option == OPTION_VERSION) {
        printf("%s %s\n", config_program_name(program), PGSSE_VERSION);
        exit(0);
    } else if (option == OPTION_PRINT) {
        arguments->wants_print = true;
    } else if (option == OPTION_CHECK && program == CONFIG_BROKER) {
        arguments->wants_database_check = true;
    } else if (option == OPTION_CONFIG) {
        arguments->config_path = optarg;
    } else if (option >= OPTION_FIRST_KEY) {
        take_value(arguments, (size_t)(option - OPTION_FIRST_KEY), optarg);
    } else {
        die(CONFIG_EXIT_STATUS, "on the command line: %.*s %s (see --help)",
            config_name_length(given), given,
            option == ':' ? "needs a value" : "is not an option, or takes no value");
    }
}

static void parse_arguments(struct config_arguments *arguments, enum config_program program,
                            int argc, char **argv) {
    struct option_table table = {0};
    int option;
    list_options(&table);
    while ((option = getopt_long(argc, argv, ":", table.options, NULL)) != -1) {
        take_option(arguments, program, option, argv[optind - 1]);
    }
    if (optind < argc) {
        die(CONFIG_EXIT_STATUS, "unexpected argument '%.*s' (see --help)",
            config_name_length(argv[optind]), argv[optind]);
    }
}

/* Called after each source: if that source has named another file, the file's content becomes
 * database_url. The stream handler does not use database_url, so it need not be able to read the
 * file. */
static bool load_database_url_file(struct config *config, enum config_program program, char **known,
                                   char *reason) {
    if (program == CONFIG_STREAM || strcmp(*known, config->database_url_file) == 0) {
        return true;
    }
    free(*known);
    *known = must_strdup(config->database_url_file, strlen(config->database_url_file));
    struct buf text = {0};
    int shown_length = (int)strcspn(*known, ":@="); /* it may be a URL with a password */
    if (!file_read(config->database_url_file, &text)) {
        buf_release(&text);
        return complain(reason, "database_url_file: %.*s: %s", shown_length, *known,
                        strerror(errno));
    }
    buf_append(&text, "\n", 2); /* ends the line and, with NUL, the text */
    text.bytes[strcspn(text.bytes, "\r\n")] = '\0';
    const char *wrong;
    check(config_set(config, "database_url", text.bytes, &wrong));
    buf_release(&text);
    return true;
}

/* Only a file that the user has named must be there. */
static bool load_default_file(struct config *config, const char *named, char *reason) {
    char path[4096];
    if (named != NULL) {
        return load_file(config, named, reason);
    }
    if (path_beside_binary(path, sizeof path) && access(path, F_OK) == 0) {
        return load_file(config, path, reason);
    }
    return access("/etc/pgsse/pgsse.conf", F_OK) != 0 ||
           load_file(config, "/etc/pgsse/pgsse.conf", reason);
}

static bool load_arguments(struct config *config, const struct config_arguments *arguments,
                           char *reason) {
    for (size_t i = 0; i < config_key_count(); i++) {
        const char *wrong;
        if (arguments->values[i] != NULL &&
            !config_set(config, config_key_at(i).name, arguments->values[i], &wrong)) {
            return complain(reason, "on the command line: %s", wrong);
        }
    }
    return true;
}

static bool say_pair(const struct config *config, const struct config_pair *pair, char *reason) {
    char one[256];
    char other[256];
    config_print_value(config, config_key_number(pair->one), one, sizeof one);
    config_print_value(config, config_key_number(pair->other), other, sizeof other);
    if (pair->kind == CONFIG_PAIR_CONTRADICTS) {
        return complain(reason, "%s = %s and %s = %s: %s", pair->one, one, pair->other, other,
                        pair->why);
    }
    log_warning("%s = %s and %s = %s: %s", pair->one, one, pair->other, other, pair->why);
    return true;
}

/* All programs read the same file, so only the programs that use a pair's first key warn about
 * it. */
static bool check_pairs(const struct config *config, enum config_program program, char *reason) {
    size_t next = 0;
    const struct config_pair *pair;
    while ((pair = config_next_wrong_pair(config, &next)) != NULL) {
        bool concerns_program =
            (config_key_at(config_key_number(pair->one)).programs & program) != 0;
        if ((pair->kind == CONFIG_PAIR_CONTRADICTS || concerns_program) &&
            !say_pair(config, pair, reason)) {
            return false;
        }
    }
    return true;
}

static bool load_sources(struct config *config, const struct config_arguments *arguments,
                         enum config_program program, char *reason) {
    char *url_file = must_strdup("", 0);
    const char *named =
        arguments->config_path != NULL ? arguments->config_path : getenv("PGSSE_CONFIG");
    config_set_defaults(config);
    bool is_good = load_default_file(config, named, reason) &&
                   load_database_url_file(config, program, &url_file, reason) &&
                   load_environment(config, reason) &&
                   load_database_url_file(config, program, &url_file, reason) &&
                   load_arguments(config, arguments, reason) &&
                   load_database_url_file(config, program, &url_file, reason);
    free(url_file);
    return is_good;
}

void config_load(struct config *config, enum config_program program, int argc, char **argv) {
    char reason[CONFIG_REASON_BYTES];
    struct config_arguments *arguments = must_zalloc(sizeof *arguments);
    log_init(config_program_name(program), LOG_LEVEL_INFO);
    parse_arguments(arguments, program, argc, argv);
    if (!load_sources(config, arguments, program, reason)) {
        die(CONFIG_EXIT_STATUS, "%s", reason);
    }
    config->arguments = arguments;
    config->wants_database_check = arguments->wants_database_check;
    log_init(config_program_name(program), (enum log_level)config->log_level);
    if (!check_pairs(config, program, reason)) {
        die(CONFIG_EXIT_STATUS, "%s", reason);
    }
    if (arguments->wants_print) {
        config_print(config, stdout);
        exit(0);
    }
}

bool config_load_again(struct config *fresh, const struct config *old, enum config_program program,
                       char reason[CONFIG_REASON_BYTES]) {
    return load_sources(fresh, old->arguments, program, reason) &&
           check_pairs(fresh, program, reason);
}

void config_unload(struct config *config) {
    struct config_arguments *arguments = config->arguments;
    config_release(config);
    if (arguments != NULL) {
        for (size_t i = 0; i < KEYS_MAX; i++) {
            free(arguments->values[i]);
        }
        free(arguments);
    }
}
