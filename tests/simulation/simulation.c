/* The simulation: real brokers and real stream handlers in one process. Postgres, the connections
 * between the two, browsers and time are played, from a seed alone; a judge reads every stream.
 *
 *   simulation FIRST COUNT        seeds FIRST to FIRST + COUNT - 1, each in a process of its own
 *   simulation --trace SEED       one seed, and what happens in it
 *
 * The last line counts seeds, events and violations; it ends with status 1 if there are any. */
#include "database.h"
#include "hash.h"
#include "played.h"
#include "reader.h"
#include "real.h"
#include "sock.h"
#include "uplink_cut.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    BROKERS_MAX = DATABASE_BROKERS,
    HANDLERS_MAX = 4,
    READERS = 8,
    STEPS = 600,
    CALM_MS = 20000,
    SETTLE_MS = 8000, /* until each broker knows the markers of the other */
    DRAIN_MS = 1000,
    VIOLATIONS_MAX = 3, /* what follows a violation is mostly its echo */
    PROCESSES = 2,
};

/* What kind of world it is. */
struct plan {
    int brokers;
    int handlers;
    bool is_calm;     /* nothing is ever lost: a refresh is a fault */
    bool is_pruned;   /* gaps, tables that are slow, and little else */
    bool is_replaced; /* tables that are slow and replaced, and clients that begin at 0 */
    bool collides;    /* all topics share a slot of floors */
    bool is_bare;     /* no schema at first */
};

struct machine {
    struct config config;
    struct broker *broker; /* NULL while it is down */
};

struct handler {
    struct config config;
    struct stream *stream;
    struct uplink_cut uplink;
    int machine;
    int web_fd;
    char web_path[128];
};

static struct plan plan;
static struct loop *loop;
static char directory[64];
static struct machine machines[BROKERS_MAX];
static struct handler handlers[HANDLERS_MAX];
static struct reader readers[READERS];

/* --- time goes on ----------------------------------------------------------------------------- */

static void on_stop(struct loop_timer *timer) {
    (void)timer;
    loop_stop(loop);
}

static void pump(void) {
    for (int i = 0; i < plan.handlers; i++) {
        uplink_cut_pump(&handlers[i].uplink, machines[handlers[i].machine].broker);
    }
    for (int i = 0; i < READERS; i++) {
        struct reader *reader = &readers[i];
        if (reader->fd < 0 && played_us() >= reader->again_us) {
            const struct handler *handler = &handlers[draw((uint32_t)plan.handlers)];
            reader_open(reader, handler->web_path, handler->machine);
        }
        reader_pump(reader);
    }
}

static void pass(int64_t ms) {
    int64_t until_us = played_us() + ms * 1000;
    do {
        struct loop_timer stop = {0};
        pump();
        loop_timer_start(loop, &stop, draw(3), on_stop);
        loop_run(loop);
        loop_timer_stop(loop, &stop); /* a handler that has ended stops the loop, too */
    } while (played_us() < until_us && judge_violations < VIOLATIONS_MAX);
}

/* --- the world -------------------------------------------------------------------------------- */

static int64_t one_of(const int64_t *values, size_t count) {
    return values[draw((uint32_t)count)];
}

static int listen_at(const char *path) {
    const char *reason;
    int fd = sock_listen(path, 0600, &reason);
    if (fd < 0) {
        die(3, "%s: %s", path, reason);
    }
    return fd;
}

static void set_directory(struct config *config, const char *kind, int number) {
    char path[96];
    snprintf(path, sizeof path, "%s/%s%d", directory, kind, number);
    if (mkdir(path, 0700) != 0) {
        die(3, "%s: %s", path, strerror(errno));
    }
    config_set_defaults(config);
    free(config->socket_dir);
    config->socket_dir = must_strdup(path, strlen(path));
}

static void machine_start(int number) {
    database_create_for(number);
    machines[number].broker = real_broker_create(loop, &machines[number].config);
}

static void machines_begin(void) {
    static const int64_t rings[] = {1, 2, 8, 64, 1024};
    static const int64_t histories[] = {0, 3000, 20000, 200000, 32 << 20};
    static const int64_t queues[] = {65536, 200000, 16 << 20};
    int64_t ring = one_of(rings, length_of(rings));
    int64_t history = one_of(histories, length_of(histories));
    int64_t queue = one_of(queues, length_of(queues));
    for (int i = 0; i < plan.brokers; i++) {
        struct config *config = &machines[i].config;
        set_directory(config, "broker", i);
        config->ring_capacity = plan.is_calm ? 1000000 : ring;
        config->history_bytes = plan.is_calm ? 256 << 20 : history;
        config->handler_queue_bytes = plan.is_calm ? 64 << 20 : queue;
        config->canary_interval = one_in(2) ? 300 : 3000;
        config->canary_timeout = 1000;
        config->table_poll = one_in(2) ? 500 : 3000;
        config->reconnect_min = 20;
        config->reconnect_max = 500;
        machine_start(i);
    }
}

static void handlers_begin(void) {
    static const int64_t queues[] = {4096, 20000, 1 << 20};
    int64_t queue = one_of(queues, length_of(queues));
    for (int i = 0; i < plan.handlers; i++) {
        struct handler *handler = &handlers[i];
        char path[160];
        set_directory(&handler->config, "handler", i);
        handler->config.client_queue_bytes = plan.is_calm ? 64 << 20 : queue;
        handler->config.slow_client =
            !plan.is_calm && one_in(4) ? CONFIG_SLOW_DISCONNECT : CONFIG_SLOW_REFRESH;
        handler->config.keep_alive = one_in(2) ? 200 : 3000;
        handler->config.stall_timeout = 5000;
        handler->machine = i % plan.brokers;
        snprintf(path, sizeof path, "%s/broker.sock", handler->config.socket_dir);
        uplink_cut_init(&handler->uplink, listen_at(path));
        snprintf(handler->web_path, sizeof handler->web_path, "%s/web.sock",
                 handler->config.socket_dir);
        handler->web_fd = listen_at(handler->web_path);
        if (i == 0) {
            real_stream_prepare(handler->web_fd);
        }
        handler->stream = real_stream_create(loop, &handler->config, handler->web_fd);
    }
}

/* A topic stream of a pattern, and perhaps of one topic or another pattern. */
static void name_patterns(struct reader *reader) {
    static const char *const starts[] = {"", "t", "ta", "tb", "u", "n"};
    const char *first = starts[draw(length_of(starts))];
    const char *second = starts[draw(length_of(starts))];
    const char *own = topic_name(reader->topic);
    bool has_second = one_in(3) && strcmp(first, second) != 0;
    bool has_own = !has_second && one_in(2);
    snprintf(reader->patterns, sizeof reader->patterns, "any-%s-%s%s%s", first,
             has_second || has_own ? "_" : "", has_second ? second : (has_own ? own : ""),
             has_second ? "-" : "");
    for (int topic = 0; topic < TOPICS; topic++) {
        const char *name = topic_name(topic);
        reader->claim.is_wanted[topic] = strncmp(name, first, strlen(first)) == 0 ||
                                         (has_own && topic == reader->topic) ||
                                         (has_second && strncmp(name, second, strlen(second)) == 0);
    }
}

static void readers_begin(void) {
    for (int i = 0; i < READERS; i++) {
        struct reader *reader = &readers[i];
        *reader = (struct reader){.fd = -1, .topic = (int)draw(TOPICS), .user = (int)draw(USERS)};
        reader->claim.reader = i;
        reader->is_calm = plan.is_calm;
        reader->again_us = plan.is_calm ? (int64_t)SETTLE_MS * 1000 : 0;
        reader->begins_at_0 = one_in(plan.is_replaced ? 2 : 6);
        reader->asks_first = !reader->begins_at_0 && one_in(4);
        reader->claim.is_of_user = one_in(3);
        claim_forget(&reader->claim);
        reader->claim.is_wanted[reader->topic] = true;
        if (reader->claim.is_of_user) {
            reader->claim.is_wanted[draw(TOPICS)] = true;
            for (int topic = 0; topic < TOPICS; topic++) {
                reader->claim.is_excused[topic] = !database_right(reader->user, topic);
            }
        } else if (one_in(2)) {
            name_patterns(reader);
        }
        reader->takes_gzip = one_in(2);
    }
}

/* Found by trial. */
static void rename_topics(void) {
    unsigned number = 0;
    for (int topic = 1; topic < TOPICS; topic++) {
        char name[TOPIC_NAME_BYTES];
        do {
            snprintf(name, sizeof name, "n%u", number++);
        } while (real_topic_slot(name) != real_topic_slot(topic_name(0)));
        topic_rename(topic, name);
    }
}

static void rights_begin(void) {
    for (int user = 0; user < USERS; user++) {
        for (int topic = 0; topic < TOPICS; topic++) {
            database_set_right(user, topic, !one_in(4));
        }
    }
}

static void begin(void) {
    struct database_settings settings = {.page_rows = one_in(2) ? 1 + draw(4) : 0,
                                         .slow_ms = !plan.is_calm && one_in(3) ? 200 : 5,
                                         .fails_at_times = !plan.is_calm};
    settings.slow_ms = plan.is_pruned || plan.is_replaced ? 200 : settings.slow_ms;
    snprintf(directory, sizeof directory, "/tmp/pgsse-simulation-XXXXXX");
    if (mkdtemp(directory) == NULL) {
        die(3, "%s: %s", directory, strerror(errno));
    }
    log_init("simulation", LOG_LEVEL_ERROR);
    loop = loop_create();
    database_begin(&settings);
    if (plan.collides) {
        rename_topics();
    }
    if (!plan.is_bare) {
        database_install();
    }
    machines_begin();
    real_order_begin(machines[0].broker);
    rights_begin();
    handlers_begin();
    readers_begin();
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw) {
    (void)status;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void end(void) {
    for (int i = 0; i < READERS; i++) {
        reader_leave(&readers[i]);
    }
    for (int i = 0; i < plan.handlers; i++) {
        real_stream_destroy(&handlers[i].stream);
        uplink_cut_release(&handlers[i].uplink);
        close(handlers[i].web_fd);
        config_release(&handlers[i].config);
    }
    for (int i = 0; i < plan.brokers; i++) {
        real_broker_destroy(&machines[i].broker);
        config_release(&machines[i].config);
    }
    loop_reap(loop);
    loop_destroy(&loop);
    database_release();
    real_order_release();
    (void)nftw(directory, remove_entry, 4, FTW_DEPTH | FTW_PHYS);
}

/* --- what happens ----------------------------------------------------------------------------- */

static void publish(void) {
    int topic = (int)draw(TOPICS);
    uint32_t count = one_in(20) ? draw(40) : 1;
    for (uint32_t i = 0; i < count; i++) {
        if (one_in(2)) {
            database_publish(topic);
        } else {
            database_publish_durable(topic, one_in(8) ? draw(20000) : draw(200));
        }
        topic = one_in(3) ? (int)draw(TOPICS) : topic;
    }
}

static void restart_broker(int number) {
    bool is_in_order = one_in(2);
    trace("broker %d ends%s", number, is_in_order ? " in order" : "");
    real_broker_destroy(&machines[number].broker);
    loop_reap(loop);
    for (int i = 0; i < plan.handlers; i++) {
        if (handlers[i].machine != number) {
            continue;
        }
        if (is_in_order) {
            uplink_cut_finish(&handlers[i].uplink);
        } else {
            uplink_cut_end(&handlers[i].uplink);
        }
    }
    pass(draw(one_in(3) ? 1500 : 100));
    machine_start(number);
    if (one_in(2)) {
        pass(draw(30)); /* it has not heard what is repeated now */
        database_repeat_marker();
    }
}

static void restart_handler(struct handler *handler, bool is_in_order) {
    trace("a handler ends%s", is_in_order ? " in order" : "");
    if (is_in_order) {
        int64_t until_us = played_us() + (int64_t)DRAIN_MS * 1000;
        real_stream_drain(handler->stream);
        while (!real_stream_is_empty(handler->stream) && played_us() < until_us) {
            pass(1);
        }
    }
    real_stream_destroy(&handler->stream);
    uplink_cut_end(&handler->uplink);
    pass(draw(50));
    handler->stream = real_stream_create(loop, &handler->config, handler->web_fd);
}

static void cut_uplink(struct handler *handler) {
    if (one_in(2)) {
        bool was_held = handler->uplink.is_held;
        handler->uplink.is_held = true;
        pass(draw(60));
        handler->uplink.is_held = was_held;
    }
    uplink_cut_end(&handler->uplink);
}

static void prune(void) {
    int topic = (int)draw(TOPICS);
    uint64_t but_last = one_in(4) ? 0 : draw(80);
    bool is_all = one_in(2);
    for (int i = 0; i < TOPICS; i++) {
        if (i == topic || is_all) {
            database_prune(i, but_last);
        }
    }
}

static void change_right(void) {
    int user = (int)draw(USERS);
    int topic = (int)draw(TOPICS);
    bool has_it = !one_in(3);
    if (database_right(user, topic) == has_it) {
        return;
    }
    database_set_right(user, topic, has_it);
    for (int i = 0; i < READERS; i++) {
        if (readers[i].claim.is_of_user && readers[i].user == user) {
            claim_excuse(&readers[i].claim, topic);
        }
    }
}

static void outage(void) {
    database_set_up(false);
    for (uint32_t i = draw(20); i > 0; i--) {
        pass(draw(30));
    }
    database_set_up(true);
}

static void drop_table(void) {
    database_drop();
    for (int i = 0; i < READERS; i++) {
        claim_on_drop(&readers[i].claim);
    }
}

/* The schema comes or goes, or one comes in the place of another. */
static void change_schema(void) {
    if (one_in(2)) {
        drop_table();
        pass(draw(one_in(3) ? 3000 : 10));
    }
    if (!one_in(4)) {
        database_install();
    }
}

/* Streams begin, are cut, and find another table when they can ask again. */
static void replace_under_cut(struct handler *handler) {
    for (int i = 0; i < READERS; i++) {
        if (one_in(2)) {
            reader_forget(&readers[i]);
            readers[i].again_us = 0;
        }
    }
    handler->uplink.is_held = true;
    pass(20 + draw(150));
    uplink_cut_end(&handler->uplink); /* some are greeted, and get nothing yet */
    pass(draw(20));
    for (int i = 0; i < 5; i++) {
        publish();
    }
    drop_table();
    database_install();
    database_end_session("table", handler->machine);
    pass(draw(300));
    handler->uplink.is_held = false;
}

static void lock_table(void) {
    database_set_locked(true);
    pass(draw(one_in(3) ? 2000 : 100));
    database_set_locked(false);
}

/* In every world nothing is lost by these. */
static void harmless_fault(void) {
    struct handler *handler = &handlers[draw((uint32_t)plan.handlers)];
    struct reader *reader = &readers[draw(READERS)];
    int broker = (int)draw((uint32_t)plan.brokers);
    switch (draw(8)) {
    case 0:
        cut_uplink(handler);
        return;
    case 1:
        handler->uplink.is_held = !handler->uplink.is_held && one_in(2);
        return;
    case 2:
        handler->uplink.is_slow = !handler->uplink.is_slow;
        return;
    case 3:
        reader_leave(reader);
        return;
    case 4:
        reader_forget(reader);
        return;
    case 5:
        database_end_session(one_in(2) ? "table" : "query", broker);
        return;
    case 6:
        if (one_in(6)) {
            restart_handler(handler, true);
        }
        return;
    case 7:
        if (one_in(6)) {
            lock_table();
        }
        return;
    }
}

static void harmful_fault(void) {
    struct handler *handler = &handlers[draw((uint32_t)plan.handlers)];
    struct reader *reader = &readers[draw(READERS)];
    int broker = (int)draw((uint32_t)plan.brokers);
    switch (draw(12)) {
    case 0:
        prune();
        return;
    case 1:
        reader->is_slow = !reader->is_slow;
        return;
    case 2:
        change_right();
        return;
    case 3:
        database_end_session("listen", broker);
        return;
    case 4:
        if (one_in(4)) {
            outage();
        }
        return;
    case 5:
        if (one_in(6)) {
            restart_broker(broker);
        }
        return;
    case 6:
        if (one_in(6)) {
            restart_handler(handler, false);
        }
        return;
    case 7:
        if (one_in(3)) {
            change_schema();
        }
        return;
    case 8:
        if (one_in(3)) {
            database_forget_listen(broker);
        }
        return;
    case 9:
        reader_forge(reader);
        return;
    case 10:
        database_repeat_marker();
        return;
    case 11:
        database_notify(one_in(2) ? "topic_broadcast_1" : "pgsse_marker", "{\"marker\":\"x\"");
        return;
    }
}

static void fault(void) {
    if (plan.is_pruned && one_in(2)) {
        prune();
    } else if (plan.is_replaced && one_in(8)) {
        replace_under_cut(&handlers[draw((uint32_t)plan.handlers)]);
    } else if (plan.is_calm || plan.is_pruned || one_in(2)) {
        harmless_fault();
    } else {
        harmful_fault();
    }
}

/* All is well from here on: whoever is owed something gets it, or is told. */
static void calm_down(void) {
    database_calm();
    for (int i = 0; i < plan.handlers; i++) {
        handlers[i].uplink.is_held = handlers[i].uplink.is_slow = false;
    }
    for (int i = 0; i < READERS; i++) {
        readers[i].is_slow = false;
    }
    pass(CALM_MS);
    for (int topic = 0; topic < TOPICS; topic++) {
        database_publish(topic);
        database_publish_durable(topic, 10);
    }
    pass(CALM_MS / 2);
}

static void judge_all(void) {
    for (int i = 0; i < READERS; i++) {
        const struct reader *reader = &readers[i];
        if (reader->fd >= 0 && reader->status == 200) {
            claim_at_end(&reader->claim);
        } else if (!reader->claim.is_of_user) {
            complain(&reader->claim, "ABSENT", "its status is %u", reader->status);
        }
    }
}

static void play(uint64_t seed) {
    played_begin(seed);
    judge_tenant = seed % 2 == 0 ? "" : "t";
    plan.is_calm = one_in(5);
    plan.is_pruned = !plan.is_calm && one_in(4);
    plan.is_replaced = !plan.is_calm && !plan.is_pruned && one_in(5);
    plan.collides = one_in(3);
    plan.is_bare = !plan.is_calm && one_in(6);
    plan.brokers = one_in(3) ? BROKERS_MAX : 1;
    plan.handlers = plan.brokers + (int)draw(HANDLERS_MAX - BROKERS_MAX + 1);
    begin();
    pass(plan.is_calm ? SETTLE_MS : draw(200));
    uint32_t pace = 1 + draw(4);
    for (int step = 0; step < STEPS && judge_violations < VIOLATIONS_MAX; step++) {
        for (uint32_t i = 0; i < pace; i++) {
            publish();
        }
        if (one_in(4)) {
            fault();
        }
        pass(draw(one_in(40) ? 800 : 8));
    }
    if (judge_violations == 0) {
        calm_down();
    }
    if (judge_violations == 0) {
        judge_all();
    }
    end();
}

/* --- seeds ------------------------------------------------------------------------------------ */

/* What processes tell the first one. */
struct sums {
    _Atomic uint64_t published;
    _Atomic uint64_t delivered;
    _Atomic uint64_t refreshes;
    _Atomic uint64_t violations;
};

static int play_one(uint64_t seed, struct sums *sums) {
    play(seed);
    sums->published += judge_event_count();
    sums->violations += judge_violations;
    for (int i = 0; i < READERS; i++) {
        sums->delivered += readers[i].claim.events;
        sums->refreshes += readers[i].claim.refreshes;
    }
    return judge_violations > 0;
}

static pid_t start(uint64_t seed, struct sums *sums) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) {
        die(3, "fork: %s", strerror(errno));
    }
    if (pid == 0) {
        exit(play_one(seed, sums));
    }
    return pid;
}

/* A seed that fails is named with the line that repeats it. */
static uint64_t play_all(const char *program, uint64_t first, uint64_t count, struct sums *sums) {
    struct {
        pid_t pid;
        uint64_t seed;
    } running[PROCESSES] = {{0}};
    uint64_t failed = 0;
    uint64_t next = 0;
    uint64_t done = 0;
    while (done < count) {
        for (int i = 0; i < PROCESSES && next < count; i++) {
            if (running[i].pid == 0) {
                running[i].seed = first + next++;
                running[i].pid = start(running[i].seed, sums);
            }
        }
        int status;
        pid_t pid = wait(&status);
        for (int i = 0; i < PROCESSES; i++) {
            if (running[i].pid == pid) {
                running[i].pid = 0;
                done++;
                if (status != 0) {
                    failed++;
                    printf("seed %llu failed: %s --trace %llu\n",
                           (unsigned long long)running[i].seed, program,
                           (unsigned long long)running[i].seed);
                }
            }
        }
    }
    return failed;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        die(2, "usage: simulation FIRST COUNT, or simulation --trace SEED");
    }
    struct sums *sums =
        mmap(NULL, sizeof *sums, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sums == MAP_FAILED) {
        die(3, "mmap: %s", strerror(errno));
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    hash_set_key(0, 0); /* a seed is the same world each time */
    trace_is_on = strcmp(argv[1], "--trace") == 0;
    uint64_t first = strtoull(argv[trace_is_on ? 2 : 1], NULL, 10);
    uint64_t count = trace_is_on ? 1 : strtoull(argv[2], NULL, 10);
    uint64_t failed =
        trace_is_on ? (uint64_t)play_one(first, sums) : play_all(argv[0], first, count, sums);
    printf("%llu seeds, %llu failed: %llu events published, %llu delivered, %llu refreshes, %llu "
           "violations\n",
           (unsigned long long)count, (unsigned long long)failed,
           (unsigned long long)sums->published, (unsigned long long)sums->delivered,
           (unsigned long long)sums->refreshes, (unsigned long long)sums->violations);
    return failed > 0;
}
