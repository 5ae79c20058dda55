/* pgsse-publish.fcgi: takes events over HTTP to Postgres. Started by a web server, which passes its
 * listening socket as descriptor 0. */
#include "config_load.h"
#include "descriptors.h"
#include "log.h"
#include "pg.h"
#include "publisher.h"

#include <signal.h>
#include <stdlib.h>

static void on_signal(void *owner, int signal) {
    if (signal == SIGHUP) {
        log_info("SIGHUP: a handler reads its configuration at its start only");
        return;
    }
    struct publisher **publisher = owner;
    publisher_drain(*publisher);
}

int main(int argc, char **argv) {
    struct config config = {0};
    struct origin_rules origins;
    const char *reason;
    handover_die_with_parent();
    config_load(&config, CONFIG_PUBLISH, argc, argv);
    if (!pg_dsn_is_valid(config.database_url, &reason)) {
        die(CONFIG_EXIT_STATUS, "database_url: %s", reason);
    }
    if (!origin_rules_parse(&origins, config.cors_origins, config.trusted_proxies, &reason)) {
        die(CONFIG_EXIT_STATUS, "cors_origins, trusted_proxies: %s", reason);
    }
    descriptors_prepare(PENDING_REQUESTS_MAX,
                        text_of(PENDING_REQUESTS_MAX) " requests that wait for Postgres");
    struct loop *loop = loop_create();
    struct publisher *publisher = NULL;
    loop_on_signal(loop, &publisher, on_signal); /* before libfcgi can */
    if (!handover_init()) {
        die(CONFIG_EXIT_STATUS, "descriptor 0 is no listening socket: a web server starts this");
    }
    publisher = publisher_create(loop, &config, &origins, HANDOVER_LISTEN_FD);
    loop_run(loop);
    publisher_destroy(&publisher);
    loop_destroy(&loop);
    origin_rules_release(&origins);
    config_unload(&config);
    return EXIT_SUCCESS;
}
