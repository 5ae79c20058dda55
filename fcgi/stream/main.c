/* pgsse-stream.fcgi: streams events to browsers. Started by a web server, which passes its
 * listening socket as descriptor 0. */
#include "config_load.h"
#include "descriptors.h"
#include "log.h"
#include "stream.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static void on_signal(void *owner, int signal) {
    if (signal == SIGHUP) {
        log_info("SIGHUP: a handler reads its configuration at its start only");
        return;
    }
    struct stream **stream = owner;
    stream_drain(*stream);
}

static void prepare_descriptors(const struct config *config) {
    char what[64];
    snprintf(what, sizeof what, "max_connections = %lld", (long long)config->max_connections);
    descriptors_prepare(config->max_connections, what);
}

int main(int argc, char **argv) {
    struct config config = {0};
    handover_die_with_parent();
    config_load(&config, CONFIG_STREAM, argc, argv);
    prepare_descriptors(&config);
    struct loop *loop = loop_create();
    struct stream *stream = NULL;
    loop_on_signal(loop, &stream, on_signal); /* before libfcgi can */
    if (!handover_init()) {
        die(CONFIG_EXIT_STATUS, "descriptor 0 is no listening socket: a web server starts this");
    }
    stream = stream_create(loop, &config, HANDOVER_LISTEN_FD);
    loop_run(loop);
    int status = stream->exit_status;
    stream_destroy(&stream);
    loop_destroy(&loop);
    config_unload(&config);
    return status;
}
