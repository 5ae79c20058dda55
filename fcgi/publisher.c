#include "publisher.h"

#include "line.h"
#include "log.h"
#include "worker.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum { DRAIN_LOOK_MS = 20 };

struct publisher {
    const struct config *config; /* borrowed */
    struct loop *loop;           /* borrowed */
    struct arrivals arrivals;
    struct line line;
    struct loop_wakeup has_room; /* the line was full and no longer is */
    struct batch *batch;
    struct loop_timer drain_look;
    int64_t drain_until_ms;
    atomic_bool is_draining;
    pthread_t *threads; /* owned */
    size_t thread_count;
};

/* --- the loop's thread --------------------------------------------------------------------------- */

static void on_request(void *owner, int fd) {
    struct publisher *publisher = owner;
    bool is_full;
    if (!line_put(&publisher->line, fd, &is_full)) {
        close(fd); /* it came in between pausing and the last place: the web server answers 503 */
    }
    if (is_full) {
        arrivals_pause(&publisher->arrivals);
    }
}

static void on_has_room(struct loop_wakeup *wakeup) {
    arrivals_resume(&container_of(wakeup, struct publisher, has_room)->arrivals);
}

bool publisher_is_idle(struct publisher *publisher) {
    return arrivals_are_empty(&publisher->arrivals) && line_is_idle(&publisher->line);
}

static void on_drain_look(struct loop_timer *timer) {
    struct publisher *publisher = container_of(timer, struct publisher, drain_look);
    bool is_over = loop_now_ms(publisher->loop) >= publisher->drain_until_ms;
    if (publisher_is_idle(publisher) || is_over) {
        loop_stop(publisher->loop);
    } else {
        loop_timer_start(publisher->loop, timer, DRAIN_LOOK_MS, on_drain_look);
    }
}

void publisher_drain(struct publisher *publisher) {
    if (atomic_exchange(&publisher->is_draining, true)) {
        return;
    }
    log_info("told to stop");
    publisher->drain_until_ms =
        loop_now_ms(publisher->loop) + publisher->config->graceful_drain;
    loop_timer_start(publisher->loop, &publisher->drain_look, DRAIN_LOOK_MS, on_drain_look);
}

/* --- the workers' threads ------------------------------------------------------------------------ */

static void *work(void *argument) {
    struct publisher *publisher = argument;
    struct worker worker = {publisher->config, publisher->batch, handover_create()};
    bool was_full;
    int fd;
    while ((fd = line_take(&publisher->line, &was_full)) >= 0) {
        if (was_full) {
            loop_wakeup_send(&publisher->has_room);
        }
        worker_serve(&worker, fd, atomic_load(&publisher->is_draining));
        line_done(&publisher->line);
    }
    handover_destroy(&worker.handover);
    return NULL;
}

/* --- life ---------------------------------------------------------------------------------------- */

struct publisher *publisher_create(struct loop *loop, const struct config *config, int listen_fd) {
    struct publisher *publisher = must_zalloc(sizeof *publisher);
    publisher->loop = loop;
    publisher->config = config;
    line_init(&publisher->line);
    publisher->batch = batch_create(loop, config);
    loop_wakeup_start(loop, &publisher->has_room, on_has_room);
    arrivals_start(&publisher->arrivals, loop, listen_fd, publisher, on_request);
    publisher->thread_count = (size_t)config->publish_threads;
    publisher->threads = must_alloc(publisher->thread_count * sizeof *publisher->threads);
    for (size_t i = 0; i < publisher->thread_count; i++) {
        check(pthread_create(&publisher->threads[i], NULL, work, publisher) == 0);
    }
    return publisher;
}

void publisher_destroy(struct publisher **place) {
    struct publisher *publisher = *place;
    *place = NULL;
    line_close(&publisher->line);
    for (size_t i = 0; i < publisher->thread_count; i++) {
        check(pthread_join(publisher->threads[i], NULL) == 0);
    }
    arrivals_stop(&publisher->arrivals);
    loop_timer_stop(publisher->loop, &publisher->drain_look);
    loop_wakeup_stop(publisher->loop, &publisher->has_room);
    batch_destroy(&publisher->batch);
    line_release(&publisher->line);
    free(publisher->threads);
    free(publisher);
}
