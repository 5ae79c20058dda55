/*
 * Measures a running pgsse from outside: streams and publishes through its web server, publishes
 * through Postgres, memory and CPU of its processes. Prints a table of what was measured and what
 * was wanted. It is no test: a missed goal is a row of the table, and only what is wrong (events
 * lost or out of order, requests refused, nothing to measure) ends with a status other than 0.
 *
 * Everything runs in one epoll loop on the thread of main(); a publisher and the raw client that
 * pgsse is compared with have threads of their own, because they stand for other programs.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "fault.h"
#include "report.h"
#include "scenario.h"

#define REPEATS_MOST       25
#define DESCRIPTORS_NEEDED 5200

struct scenario {
    struct report_row row;
    bool needs_fresh_server; /* counts only the first time, before anything else */
    void (*run)(const struct scenario_setting *setting, struct report_outcome *outcome);
};

static const struct scenario scenarios[] = {
    {{"memory", "KB per stream", REPORT_AT_MOST, 4.0}, true, scenario_memory},
    {{"replay-mb", "MB more for a replay from the table", REPORT_AT_MOST, 8.0},
     true,
     scenario_replay_memory},
    {{"open", "streams opened a second", REPORT_AT_LEAST, 5000}, false, scenario_open},
    {{"burst", "times the raw client's rate", REPORT_AT_LEAST, 150}, false, scenario_burst},
    {{"latency", "times the raw client's p50", REPORT_AT_MOST, 2.0}, false, scenario_latency},
    {{"cpu", "us per delivery, handlers and broker", REPORT_AT_MOST, 2.2}, false, scenario_cpu},
    {{"gzip", "times the bytes of a zlib stream each", REPORT_AT_MOST, 1.3}, false, scenario_gzip},
    {{"pairs", "times the cost on one topic", REPORT_AT_MOST, 1.3}, false, scenario_pairs},
    {{"pattern", "times the cost on one topic", REPORT_AT_MOST, 1.3}, false, scenario_pattern},
    {{"topics", "times the cost among 10 topics", REPORT_AT_MOST, 1.2}, false, scenario_topics},
    {{"publish", "times the rate of 404s", REPORT_AT_LEAST, 0.23}, false, scenario_publish},
    {{"resume", "s until all streams have caught up", REPORT_AT_MOST, 3.0}, false, scenario_resume},
    {{"replay", "s for 100,000 durable events", REPORT_AT_MOST, 2.0}, false, scenario_replay},
    {{"durable", "durable publishes/s, commits of 5 ms", REPORT_AT_LEAST, 3000},
     false,
     scenario_durable},
    {{"durable-ms", "ms from commit to stream, p50", REPORT_AT_MOST, 1.0},
     false,
     scenario_durable_latency},
};

struct options {
    const char *url;
    const char *only; /* NULL: all */
    struct scenario_setting setting;
    int repeats;
};

static const char help[] =
    "usage: pgsse-bench --url URL --database-url URL [--supervisor PID] [option ...]\n"
    "\n"
    "Measures a running pgsse, and prints a table.\n"
    "\n"
    "  --url URL           where it answers: http://127.0.0.1:8080/\n"
    "  --database-url URL  its Postgres\n"
    "  --supervisor PID    the process that started it (for memory and CPU)\n"
    "  --only NAME         one scenario: memory, replay-mb, open, burst, latency, cpu, gzip,\n"
    "                      pairs, pattern, topics, publish, resume, replay, durable or\n"
    "                      durable-ms\n"
    "  --repeat N          each N times (memory once: it needs a fresh server), and the median\n"
    "  --quick             shorter, less exact\n"
    "  --help              this text\n";

static long parse_number(const char *text, const char *name, long least, long most) {
    char *end;
    long number = strtol(text, &end, 10);

    if (end == text || *end != '\0' || number < least || number > most) {
        fault_die("%s wants a number from %ld to %ld", name, least, most);
    }
    return number;
}

enum choice {
    CHOICE_URL = 256,
    CHOICE_DATABASE,
    CHOICE_SUPERVISOR,
    CHOICE_ONLY,
    CHOICE_REPEAT,
    CHOICE_QUICK,
    CHOICE_HELP
};

static void take_option(struct options *options, int choice) {
    switch (choice) {
    case CHOICE_URL:
        options->url = optarg;
        break;
    case CHOICE_DATABASE:
        options->setting.database_url = optarg;
        break;
    case CHOICE_SUPERVISOR:
        options->setting.supervisor = (pid_t)parse_number(optarg, "--supervisor", 1, 1L << 30);
        break;
    case CHOICE_ONLY:
        options->only = optarg;
        break;
    case CHOICE_REPEAT:
        options->repeats = (int)parse_number(optarg, "--repeat", 1, REPEATS_MOST);
        break;
    case CHOICE_QUICK:
        options->setting.is_quick = true;
        break;
    case CHOICE_HELP:
        fputs(help, stdout);
        exit(0);
    default:
        fputs(help, stderr);
        exit(2);
    }
}

static void parse_options(struct options *options, int argc, char **argv) {
    static const struct option longs[] = {
        {"url", required_argument, NULL, CHOICE_URL},
        {"database-url", required_argument, NULL, CHOICE_DATABASE},
        {"supervisor", required_argument, NULL, CHOICE_SUPERVISOR},
        {"only", required_argument, NULL, CHOICE_ONLY},
        {"repeat", required_argument, NULL, CHOICE_REPEAT},
        {"quick", no_argument, NULL, CHOICE_QUICK},
        {"help", no_argument, NULL, CHOICE_HELP},
        {0},
    };
    int choice;

    while ((choice = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        take_option(options, choice);
    }
    if (optind < argc || options->url == NULL || options->setting.database_url == NULL) {
        take_option(options, '?');
    }
}

static void raise_descriptor_limit(void) {
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < DESCRIPTORS_NEEDED) {
        fault_die("the limit of open files is %lu, %d are needed", (unsigned long)limit.rlim_max,
                  DESCRIPTORS_NEEDED);
    }
}

static bool run_scenario(const struct scenario *scenario, const struct options *options) {
    static struct report_outcome outcomes[REPEATS_MOST];
    struct scenario_setting setting = options->setting;
    int repeats = scenario->needs_fresh_server ? 1 : options->repeats;

    memset(outcomes, 0, sizeof(outcomes));
    for (setting.turn = 0; setting.turn < repeats; setting.turn++) {
        report_progress("%s, %d of %d", scenario->row.name, setting.turn + 1, repeats);
        scenario->run(&setting, &outcomes[setting.turn]);
    }
    return report_print(&scenario->row, outcomes, repeats);
}

static bool run_scenarios(const struct options *options) {
    bool is_sound = true;
    size_t ran = 0;

    for (size_t i = 0; i < length_of(scenarios); i++) {
        if (options->only != NULL && strcmp(options->only, scenarios[i].row.name) != 0) {
            continue;
        }
        if (ran++ == 0) {
            report_head();
        }
        is_sound = run_scenario(&scenarios[i], options) && is_sound;
    }
    if (ran == 0) {
        fault_die("there is no scenario %s", options->only);
    }
    return is_sound;
}

int main(int argc, char **argv) {
    struct options options = {.repeats = 1};
    struct address address;

    parse_options(&options, argc, argv);
    if (!address_parse(&address, options.url)) {
        fault_die("not a URL that can be measured: %s", options.url);
    }
    options.setting.address = &address;
    raise_descriptor_limit();
    signal(SIGPIPE, SIG_IGN);
    return run_scenarios(&options) ? 0 : 1;
}
