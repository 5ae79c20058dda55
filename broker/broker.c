#include "broker.h"

#include "topic.h"

#include <stdio.h>
#include <stdlib.h>

enum { BROKER_TICK_MS = 1000 };

/* --- the way of one event ----------------------------------------------------------------- */

static void note_oddity(struct broker *broker, struct slice topic) {
    char lowered[TOPIC_PATH_BYTES_MAX + 1];
    if (!topic_parse_path(topic, lowered) || !slice_is(topic, lowered)) {
        broker->totals.odd_topics++;
    }
}

void broker_position(const struct broker *broker, struct position *position) {
    markers_position(&broker->markers, position);
    position->durable = broker->table.head;
}

struct cursor broker_cursor(const struct broker *broker) {
    return (struct cursor){broker->markers.count, broker->table.head};
}

static struct payload *frame_of(const struct event *event, bool is_durable,
                                const struct position *position) {
    struct wire_event message = {
        .is_durable = is_durable,
        .position = *position,
        .topic = event->topic,
        .publisher_id = event->publisher_id,
        .id_at = event->id_at,
        .body = event->body,
    };
    return wire_encode_event(&message);
}

void broker_count_sent(struct broker *broker, struct topic *topic) {
    topic->broadcast++;
    broker->totals.broadcast++;
}

/* A handler that is closed here takes its own subscription with it, and no other. */
static void fan_out(struct broker *broker, struct topic *topic, struct payload *frame) {
    struct subscription *subscription = LIST_FIRST(&topic->subscriptions);
    while (subscription != NULL) {
        struct subscription *next = LIST_NEXT(subscription, of_topic);
        if (subscription->handler->state == HANDLER_SERVED) {
            broker_count_sent(broker, topic);
            handler_send(subscription->handler, frame);
        }
        subscription = next;
    }
}

static void broker_publish(struct broker *broker, const struct event *event,
                           enum history_kind kind) {
    struct topic *topic = topics_touch(&broker->topics, event->topic);
    struct position position;
    topic->published++;
    broker->totals.published++;
    note_oddity(broker, event->topic);
    broker_position(broker, &position);
    struct cursor at = broker_cursor(broker);
    bool is_wanted = topic->subscribers > 0;
    struct payload *frame = frame_of(event, kind == HISTORY_DURABLE, &position);
    history_add(&broker->history, kind, topic, &at, frame);
    if (is_wanted) {
        fan_out(broker, topic, frame);
    }
    payload_unref(&frame);
}

static void note_bad(struct broker *broker, const char *channel, const char *reason) {
    broker->totals.bad_notifications++;
    log_limited(&broker->bad_limit, LOG_LEVEL_WARNING, "a notification on %s is not used: %s",
                channel, reason);
}

void broker_visit_handlers(struct broker *broker, void *argument,
                           void (*visit)(struct handler *handler, void *argument)) {
    struct handler *handler = TAILQ_FIRST(&broker->handlers);
    while (handler != NULL) {
        struct handler *next = TAILQ_NEXT(handler, link);
        if (handler->state == HANDLER_SERVED) {
            visit(handler, argument);
        }
        handler = next;
    }
}

static void send_frame(struct handler *handler, void *frame) {
    handler_send(handler, frame);
}

/* Connections of the user, or of all, have to be looked up again. */
static void tell_recheck(struct broker *broker, struct slice user) {
    struct payload *frame = wire_encode_recheck(user);
    broker_visit_handlers(broker, frame, send_frame);
    payload_unref(&frame);
}

static void serve_held(struct broker *broker) {
    struct handler *handler = TAILQ_FIRST(&broker->handlers);
    while (handler != NULL) {
        struct handler *next = TAILQ_NEXT(handler, link);
        handler_serve_held(handler);
        handler = next;
    }
}

static void hear_marker(struct broker *broker, struct slice payload, int sender_pid) {
    switch (markers_hear(&broker->markers, payload, sender_pid, loop_now_ms(broker->loop))) {
    case MARKER_OWN:
        listener_settle(&broker->listener);
        broker->listen_fault[0] = '\0';
        broker_judge(broker);
        canary_on_heard(&broker->canary);
        serve_held(broker);
        return;
    case MARKER_FOREIGN:
        return;
    case MARKER_BAD:
        note_bad(broker, MARKER_CHANNEL, "it is no marker that can be trusted");
        return;
    }
}

/* A durable event may be new in the table, or somebody's rights to a connection are less. */
static void hear_hint(struct broker *broker, struct slice payload) {
    struct buf user = {0};
    (void)table_ask_reading(&broker->table);
    if (event_parse_recheck(payload, &user)) {
        tell_recheck(broker, buf_slice(&user));
    }
    buf_release(&user);
}

void broker_receive(struct broker *broker, const char *channel, struct slice payload,
                    int sender_pid) {
    struct event event;
    const char *reason;
    markers_count(&broker->markers);
    broker->totals.notifications++;
    broker->last_notification_ms = loop_now_ms(broker->loop);
    broker->last_notification_wall_ms = wall_ms();
    if (strcmp(channel, MARKER_CHANNEL) == 0) {
        hear_marker(broker, payload, sender_pid);
    } else if (strcmp(channel, SCHEMA_CHANNEL) == 0) {
        hear_hint(broker, payload);
    } else if (event_parse(&broker->parser, payload, &event, &reason)) {
        broker_publish(broker, &event, HISTORY_EPHEMERAL);
    } else {
        note_bad(broker, channel, reason);
    }
}

/* --- durable events ------------------------------------------------------------------------- */

void broker_receive_row(struct broker *broker, const struct event_row *row) {
    struct event event;
    const char *reason;
    if (event_from_row(&broker->parser, row, &event, &reason)) {
        broker_publish(broker, &event, HISTORY_DURABLE);
    } else {
        note_bad(broker, "the table", reason);
    }
}

struct payload *broker_row_frame(struct broker *broker, const struct event_row *row, uint64_t id) {
    struct event event;
    struct position position = {.durable = id};
    const char *reason;
    return event_from_row(&broker->parser, row, &event, &reason) ? frame_of(&event, true, &position)
                                                                 : NULL;
}

/* Live clients are told now, in order with the rest; others when they come to it. */
void broker_receive_gap(struct broker *broker, const struct page_gap *gap) {
    struct slice topic = {gap->topic, gap->topic_length};
    struct wire_refresh message = {.is_durable = true,
                                   .topic = topic,
                                   .reason = SSE_REFRESH_GAP,
                                   .dropped = SSE_DROPPED_UNKNOWN};
    struct handler *handler = TAILQ_FIRST(&broker->handlers);
    history_note_pruned(&broker->history, topic, gap->id);
    broker_position(broker, &message.position);
    struct payload *frame = wire_encode_refresh(&message);
    while (handler != NULL) {
        struct handler *next = TAILQ_NEXT(handler, link);
        handler_on_gap(handler, gap, frame);
        handler = next;
    }
    payload_unref(&frame);
}

void broker_on_table_looked(struct broker *broker) {
    broker->table_fault[0] = '\0';
    broker_judge(broker);
}

void broker_on_table_read(struct broker *broker) {
    serve_held(broker);
}

static void wake_resuming(struct broker *broker) {
    struct handler *handler;
    TAILQ_FOREACH(handler, &broker->handlers, link) {
        if (handler->state == HANDLER_RESUMING) {
            handler_refill_soon(handler);
        }
    }
}

void broker_on_page(struct broker *broker, struct page *page) {
    struct replay *replay;
    while ((replay = TAILQ_FIRST(&page->waiting)) != NULL) {
        replay_on_page(replay);
    }
    wake_resuming(broker);
}

/* What somebody has up to an id of another table is nothing that this one can go on from: so it
 * goes on from its head, and everybody is told. */
static void tell_table_changed(struct broker *broker) {
    struct wire_refresh message = {
        .is_durable = true, .reason = SSE_REFRESH_GAP, .dropped = SSE_DROPPED_UNKNOWN};
    struct handler *handler = TAILQ_FIRST(&broker->handlers);
    broker_position(broker, &message.position);
    struct payload *frame = wire_encode_refresh(&message);
    while (handler != NULL) {
        struct handler *next = TAILQ_NEXT(handler, link);
        handler_on_table_changed(handler, frame);
        handler = next;
    }
    payload_unref(&frame);
}

void broker_on_table_changed(struct broker *broker, bool was_known) {
    if (was_known) {
        history_forget(&broker->history);
    }
    history_start_durable(&broker->history, broker->table.head);
    if (was_known) {
        tell_table_changed(broker);
    }
    broker_judge(broker);
    serve_held(broker);
}

/* --- condition ----------------------------------------------------------------------------
 *
 * A connection that is up again has proved nothing yet: its fault stands until a statement has
 * completed on the query connection, or a marker has come back on LISTEN. */

bool broker_is_listening(const struct broker *broker) {
    return broker->listener.is_listening;
}

void broker_judge(struct broker *broker) {
    const char *fault = "";
    if (!broker_is_listening(broker)) {
        fault =
            broker->listen_fault[0] != '\0' ? broker->listen_fault : "LISTEN is not in force yet";
    } else if (broker->query_fault[0] != '\0') {
        fault = broker->query_fault;
    } else if (!canary_is_connected(&broker->canary)) {
        fault = "the query connection is not up yet";
    } else {
        fault = broker->listen_fault[0] != '\0' ? broker->listen_fault : broker->table_fault;
    }
    if (fault[0] == '\0') {
        broker->degraded_since_ms = 0;
    } else if (broker->degraded_since_ms == 0) {
        broker->degraded_since_ms = wall_ms();
    }
    snprintf(broker->degraded_reason, sizeof broker->degraded_reason, "%s", fault);
}

static void note_error(struct broker *broker, char *place, const char *kind, const char *reason) {
    snprintf(place, BROKER_REASON_BYTES, "%s: %s", kind, reason);
    log_warning("%s", place);
    broker->totals.errors++;
    broker->last_error_ms = wall_ms();
    broker_judge(broker);
}

/* Whatever was sent while nobody listened is missing, and everybody is told so, before anything
 * that was received afterwards: live clients now, the others when they come to this place. */
static void tell_break(struct broker *broker) {
    struct wire_refresh message = {.reason = SSE_REFRESH_GAP, .dropped = SSE_DROPPED_UNKNOWN};
    markers_break(&broker->markers, loop_now_ms(broker->loop));
    broker_position(broker, &message.position);
    struct cursor at = broker_cursor(broker);
    struct payload *frame = wire_encode_refresh(&message);
    history_add(&broker->history, HISTORY_BREAK, NULL, &at, frame);
    broker_visit_handlers(broker, frame, send_frame);
    payload_unref(&frame);
    tell_recheck(broker, (struct slice){"", 0}); /* nobody heard whose rights have changed */
}

static void tell_hook(struct broker *broker, enum hook_event event, const char *reason) {
    struct hook_facts facts = {.reason = reason, .attempt = broker->attempts};
    hook_tell(&broker->hook, event, &facts);
}

void broker_on_attempt(struct broker *broker) {
    broker->attempts++;
    if (broker->has_listened || broker->attempts > 1) {
        broker->totals.reconnect_attempts++;
        tell_hook(broker, HOOK_RECONNECT_ATTEMPT, broker->listen_fault);
    }
}

void broker_on_listening(struct broker *broker) {
    log_info("listening");
    tell_hook(broker, broker->has_listened ? HOOK_RECONNECT_SUCCESS : HOOK_CONNECT, NULL);
    broker->attempts = 0;
    broker->listening_since_ms = wall_ms();
    bool is_again = broker->has_listened;
    broker->has_listened = true;
    if (is_again) {
        broker->totals.reconnects++;
        tell_break(broker);
    }
    broker_judge(broker);
    serve_held(broker);
    canary_on_listening(&broker->canary);
    table_on_listening(&broker->table, is_again);
}

static void on_hook_done(void *owner) {
    struct broker *broker = owner;
    broker->exit_status = EXIT_FAILURE;
    loop_stop(broker->loop);
}

/* The hook has the last word. */
static void give_up(struct broker *broker) {
    listener_stop(&broker->listener);
    snprintf(broker->exit_reason, sizeof broker->exit_reason, "gave up after %llu attempts: %.200s",
             (unsigned long long)broker->attempts, broker->listen_fault);
    tell_hook(broker, HOOK_RECONNECT_FAILED, broker->listen_fault);
    hook_finish(&broker->hook, broker, on_hook_done);
}

void broker_on_deaf(struct broker *broker, const char *reason) {
    uint64_t most = (uint64_t)broker->config->reconnect_attempts;
    canary_on_deaf(&broker->canary);
    note_error(broker, broker->listen_fault, "the LISTEN connection is down", reason);
    if (broker->attempts == 0) {
        tell_hook(broker, HOOK_DISCONNECT, broker->listen_fault);
    } else if (most > 0 && broker->attempts >= most) {
        give_up(broker);
    } else {
        tell_hook(broker, HOOK_ERROR, broker->listen_fault);
    }
}

void broker_on_query_completed(struct broker *broker) {
    broker->query_fault[0] = '\0';
    broker_judge(broker);
}

void broker_on_query_lost(struct broker *broker, const char *reason) {
    struct hook_facts facts = {.reason = broker->query_fault};
    note_error(broker, broker->query_fault, "the query connection is down", reason);
    hook_tell(&broker->hook, HOOK_ERROR, &facts);
}

void broker_on_table_lost(struct broker *broker, const char *reason) {
    struct hook_facts facts = {.reason = broker->table_fault};
    note_error(broker, broker->table_fault, "the table of durable events cannot be read", reason);
    hook_tell(&broker->hook, HOOK_ERROR, &facts);
}

/* Once for each time that it rises above queue_warn. */
void broker_on_queue_usage(struct broker *broker, double usage) {
    char reason[BROKER_REASON_BYTES];
    double most = (double)broker->config->queue_warn / CONFIG_FRACTION_ONE;
    bool was_high = broker->queue_is_high;
    broker->queue_is_high = usage > most;
    if (was_high || !broker->queue_is_high) {
        return;
    }
    snprintf(reason, sizeof reason,
             "Postgres' NOTIFY queue is %.4g %% full: does a session that listens stay in a "
             "transaction?",
             100 * usage);
    log_limited(&broker->queue_limit, LOG_LEVEL_WARNING, "%s", reason);
    broker->totals.queue_warnings++;
    broker->last_queue_warning_ms = wall_ms();
    struct hook_facts facts = {.reason = reason, .queue_usage = usage};
    hook_tell(&broker->hook, HOOK_QUEUE_WARNING, &facts);
}

void broker_refuse_database(struct broker *broker, const char *encoding) {
    snprintf(broker->exit_reason, sizeof broker->exit_reason,
             "the database's encoding is %s: pgsse serves UTF8 and SQL_ASCII", encoding);
    broker->exit_status = CONFIG_EXIT_STATUS;
    loop_stop(broker->loop);
}

/* --- health ------------------------------------------------------------------------------- */

static void on_health(void *owner, uint64_t token, uint16_t status, struct slice document) {
    static const char busy[] =
        "{\"status\":\"degraded\",\"reason\":\"the handler does not keep up\"}";
    struct wire_document message = {token, status, document};
    handler_take_document(owner, &message, slice_of(busy));
}

void broker_ask_health(struct broker *broker, struct handler *handler, uint64_t token,
                       uint32_t limit) {
    health_ask(&broker->health, limit, handler, token, on_health);
}

void broker_on_report(struct broker *broker, uint32_t before, uint32_t serial) {
    health_on_report(&broker->health, before, serial);
}

void broker_on_handler_closed(struct broker *broker, struct handler *handler) {
    health_cancel(&broker->health, handler);
    health_on_report(&broker->health, handler->report_given, handler->report_asked);
}

/* --- life --------------------------------------------------------------------------------- */

static void tell_position(struct handler *handler, void *argument) {
    (void)argument;
    handler_tell_position(handler);
}

/* Clients without events get fresh positions with their heartbeats. */
static void on_tick(struct loop_timer *timer) {
    struct broker *broker = container_of(timer, struct broker, tick);
    broker_visit_handlers(broker, NULL, tell_position);
    loop_timer_start(broker->loop, timer, BROKER_TICK_MS, on_tick);
}

struct broker *broker_create(struct loop *loop, const struct config *config) {
    struct broker *broker = must_zalloc(sizeof *broker);
    broker->loop = loop;
    broker->config = config;
    TAILQ_INIT(&broker->handlers);
    topics_init(&broker->topics);
    listener_init(&broker->listener, broker);
    canary_init(&broker->canary, broker);
    table_init(&broker->table, broker);
    health_init(&broker->health, broker);
    hook_init(&broker->hook, loop, config->hook, config->hook_timeout);
    markers_init(&broker->markers, config->marker_memory, broker->listener.channels,
                 LISTENER_CHANNELS, loop_now_ms(loop));
    history_init(&broker->history, &broker->topics, (size_t)config->history_bytes,
                 (size_t)config->ring_capacity);
    broker_judge(broker);
    return broker;
}

bool broker_start(struct broker *broker, char *reason) {
    if (!door_open(&broker->door, broker, reason, BROKER_REASON_BYTES) ||
        !status_open(&broker->status, broker, reason, BROKER_REASON_BYTES)) {
        return false;
    }
    listener_start(&broker->listener);
    canary_start(&broker->canary);
    table_start(&broker->table);
    loop_timer_start(broker->loop, &broker->tick, BROKER_TICK_MS, on_tick);
    return true;
}

void broker_destroy(struct broker **place) {
    struct broker *broker = *place;
    *place = NULL;
    door_close(&broker->door);
    status_close(&broker->status);
    struct handler *handler;
    while ((handler = TAILQ_FIRST(&broker->handlers)) != NULL) {
        handler_close(handler, "the broker stops");
    }
    loop_reap(broker->loop); /* their replays may wait for pages */
    loop_timer_stop(broker->loop, &broker->tick);
    listener_release(&broker->listener);
    canary_release(&broker->canary);
    table_release(&broker->table);
    health_release(&broker->health);
    history_release(&broker->history);
    hook_release(&broker->hook);
    topics_release(&broker->topics);
    markers_release(&broker->markers);
    event_parser_release(&broker->parser);
    loop_reap(broker->loop);
    free(broker);
}
