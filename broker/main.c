/* pgsse-broker: one per machine. Starts the broker and ends it in order. */
#include "broker.h"
#include "config_load.h"
#include "descriptors.h"
#include "listener.h"
#include "pg.h"
#include "reload.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

static void on_signal(void *owner, int signal) {
    struct broker **broker = owner;
    if (signal == SIGHUP) {
        reload(*broker);
        return;
    }
    log_info("told to stop");
    loop_stop((*broker)->loop);
}

/* Under mod_fcgid each stream is a handler process. This is more than mod_fcgid starts. */
enum { MAIN_HANDLERS = 1000 };

static void check_dsn(const char *key, const char *dsn) {
    const char *reason;
    if (!pg_dsn_is_valid(dsn, &reason)) {
        die(CONFIG_EXIT_STATUS, "%s: %s", key, reason);
    }
}

static void check_hook(const char *program) {
    const char *reason;
    if (program[0] != '\0' && !hook_program_is_valid(program, &reason)) {
        die(CONFIG_EXIT_STATUS, "hook: %s: %s", program, reason);
    }
}

static void check_channels(const char *text) {
    struct channels channels = {0};
    char reason[CHANNELS_REASON_BYTES];
    if (!channels_parse(&channels, text, false, reason)) {
        die(CONFIG_EXIT_STATUS, "channels: %s", reason);
    }
    channels_release(&channels);
}

/* --- can the database be reached? ------------------------------------------------------------- */

struct reach {
    struct loop *loop;
    int status;
};

static void on_reached(void *self) {
    struct reach *reach = self;
    reach->status = EXIT_SUCCESS;
    loop_stop(reach->loop);
}

static void on_not_reached(void *self, const char *reason) {
    struct reach *reach = self;
    log_error("%s", reason);
    reach->status = EXIT_FAILURE;
    loop_stop(reach->loop);
}

/* --check-database: one attempt to connect. So scripts need not pass database_url to another
 * program, where it could be seen. */
static int check_database(const struct config *config) {
    struct reach reach = {.loop = loop_create()};
    struct pg_settings settings = pg_settings_of(config, "check", 0, NULL);
    struct pg_owner owner = {&reach, on_reached, on_not_reached, NULL, NULL};
    struct pg *pg = pg_create(reach.loop, &settings, &owner);
    pg_start(pg);
    loop_run(reach.loop);
    pg_destroy(&pg);
    loop_destroy(&reach.loop);
    return reach.status;
}

/* --- the broker ------------------------------------------------------------------------------- */

/* Two brokers that start at the same time in one directory would remove each other's sockets. A
 * lock prevents that; it ends with its process. */
static int lock_directory(const char *directory) {
    char path[4096];
    snprintf(path, sizeof path, "%s/broker.lock", directory);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        die(CONFIG_EXIT_STATUS, "%s: %s", path, strerror(errno));
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        die(EXIT_FAILURE, "%s: another broker runs there", directory);
    }
    return fd;
}

int main(int argc, char **argv) {
    struct config config = {0};
    char reason[BROKER_REASON_BYTES];
    config_load(&config, CONFIG_BROKER, argc, argv);
    check_dsn("database_url", config.database_url);
    check_dsn("listen_database_url", config.listen_database_url);
    if (config.wants_database_check) {
        int status = check_database(&config);
        config_unload(&config);
        return status;
    }
    check_hook(config.hook);
    check_channels(config.channels);
    descriptors_prepare(MAIN_HANDLERS, "1000 handler processes");
    int lock = lock_directory(config.socket_dir);
    struct loop *loop = loop_create();
    struct broker *broker = NULL;
    loop_on_signal(loop, &broker, on_signal);
    broker = broker_create(loop, &config, listener_create);
    if (!broker_start(broker, reason)) {
        die(EXIT_FAILURE, "%s", reason);
    }
    loop_run(loop);
    int status = broker->exit_status;
    memcpy(reason, broker->exit_reason, sizeof reason);
    broker_destroy(&broker);
    loop_destroy(&loop);
    config_unload(&config);
    close(lock);
    if (status != EXIT_SUCCESS) {
        log_error("%s", reason); /* the last line, where supervisors look */
    }
    return status;
}
