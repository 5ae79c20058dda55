#include "broker.h"

#include "topic.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { BROKER_TICK_MS = 1000 };

/* --- the way of one event ----------------------------------------------------------------- */

static void note_unnameable(struct broker *broker, struct topic_key topic) {
    char lowered[TOPIC_PATH_BYTES_MAX + 1];
    struct slice name = topic_key_name(topic);
    if (!topic_parse_path(name, lowered) || !slice_is(name, lowered)) {
        broker->intake.unnameable_topics++;
    }
}

static struct payload *frame_of(const struct event *event, bool is_durable,
                                const struct position *position) {
    struct wire_event message = {
        .is_durable = is_durable,
        .is_text = event->is_text,
        .position = *position,
        .topic = event->topic,
        .publisher_id = event->publisher_id,
        .id_at = event->id_at,
        .body = event->body,
    };
    return wire_encode_event(&message);
}

/* A handler gets the event once, also if it is interested in the topic and in patterns. */
static void fan_out_to(struct broker *broker, const struct topic *wanted, struct topic *topic,
                       struct payload *frame) {
    const struct interest *interest;
    LIST_FOREACH(interest, &wanted->interests, of_topic) {
        struct delivery *delivery = interest->delivery;
        if (delivery_is_served(delivery) && delivery->fanned_out != broker->fan_outs) {
            delivery->fanned_out = broker->fan_outs;
            topics_count_broadcast(&broker->journal.topics, topic);
            outbox_share(&delivery->outbox, frame);
        }
    }
}

/* The topic may have gone: if only patterns want it, and the log has no room for its event. */
static void fan_out(struct broker *broker, struct topic_key key, struct payload *frame) {
    struct topic_cover cover;
    const struct topic *wanted;
    broker->fan_outs++;
    topics_cover(&broker->journal.topics, key, &cover);
    struct topic *topic = cover.next;
    while ((wanted = topics_next_cover(&cover)) != NULL) {
        fan_out_to(broker, wanted, topic, frame);
    }
}

static void broker_publish(struct broker *broker, const struct event *event, enum entry_kind kind) {
    struct journal *journal = &broker->journal;
    struct topic *topic = topics_touch(&journal->topics, event->topic);
    struct position position;
    topic->traffic.published++;
    journal->topics.total.published++;
    note_unnameable(broker, event->topic);
    journal_position(journal, &position);
    struct cursor at = journal_cursor(journal);
    bool is_wanted = topic->subscribers > 0 || journal->topics.patterns.count > 0;
    struct payload *frame = frame_of(event, kind == ENTRY_DURABLE, &position);
    if (event->is_live_only) {
        topics_settle(&journal->topics, topic);
    } else {
        history_add(&journal->history, kind, topic, &at, frame);
    }
    if (is_wanted) {
        fan_out(broker, event->topic, frame);
    }
    payload_unref(&frame);
}

static void note_bad(struct broker *broker, const char *channel, const char *reason) {
    broker->intake.bad_notifications++;
    log_limited(&broker->bad_limit, LOG_LEVEL_WARNING, "a notification on %s is not used: %s",
                channel, reason);
}

/* --- other channels ------------------------------------------------------------------------ */

/* While LISTEN is in force, no marker of ours may be on its way: it would be of another set than
 * the one that is counted when it comes. */
static void change_channels_if_due(struct broker *broker) {
    struct journal *journal = &broker->journal;
    if (broker->next_channels.count == 0 ||
        (journal->is_listening && !canary_is_resting(&journal->canary))) {
        return;
    }
    struct buf set = {0};
    log_info("other channels: %zu of %zu are mapped to topics",
             broker->next_channels.count - CHANNELS_OWN, broker->next_channels.count);
    channels_release(&broker->channels);
    broker->channels = broker->next_channels;
    broker->next_channels = (struct channels){0};
    channels_print_set(&broker->channels, &set);
    markers_change_set(&journal->markers, buf_slice(&set), loop_now_ms(broker->loop));
    buf_release(&set);
    broker->source->kind->change(broker->source);
}

void broker_set_channels(struct broker *broker, struct channels *channels) {
    channels_release(&broker->next_channels);
    if (channels_are_equal(&broker->channels, channels)) {
        channels_release(channels);
        bool is_held = broker->journal.canary.is_held;
        if (is_held) { /* for other channels, which are not wanted any more */
            broker->source->kind->change(broker->source);
        }
        return;
    }
    broker->next_channels = *channels;
    *channels = (struct channels){0};
    canary_hold(&broker->journal.canary);
    change_channels_if_due(broker);
}

/* --- notifications -------------------------------------------------------------------------- */

static void hear_marker(struct broker *broker, struct slice text, int sender_pid) {
    struct source *source = broker->source;
    switch (markers_hear(&broker->journal.markers, text, sender_pid, loop_now_ms(broker->loop))) {
    case MARKER_OWN:
        source->kind->settle(source);
        condition_on_proved(&broker->condition, CONDITION_LISTEN);
        canary_on_heard(&broker->journal.canary);
        source->kind->verify(source);
        change_channels_if_due(broker);
        handlers_serve_held(&broker->handlers);
        return;
    case MARKER_FOREIGN:
    case MARKER_EARLY:
        return;
    case MARKER_BAD:
        note_bad(broker, CHANNEL_OF_MARKERS, "the marker is malformed or cannot be trusted");
        return;
    }
}

/* The table may have a new durable event, or a user may have fewer rights. Any role can send such
 * hints, as fast as Postgres takes them, so they must be cheap. */
static void hear_hint(struct broker *broker, struct slice text) {
    struct buf tenant = {0};
    struct buf user = {0};
    (void)table_ask_reading(&broker->journal.table);
    if (event_parse_recheck(text, &tenant, &user)) {
        recheck_user(&broker->recheck, buf_slice(&tenant), buf_slice(&user));
    }
    buf_release(&tenant);
    buf_release(&user);
}

static void hear_event(struct broker *broker, const char *channel, struct slice text) {
    struct event event;
    const char *reason;
    if (event_parse(&broker->parser, text, &event, &reason)) {
        broker_publish(broker, &event, ENTRY_EPHEMERAL);
    } else {
        note_bad(broker, channel, reason);
    }
}

/* The schema's version 2 sent hints there: see schema.h. */
static void hear_forge(struct broker *broker, const char *channel, struct slice text) {
    struct event event;
    const char *reason;
    if (event_parse_forge(&broker->parser, text, broker->config->forge_control != 0, &event,
                          &reason)) {
        broker_publish(broker, &event, ENTRY_EPHEMERAL);
    } else {
        note_bad(broker, channel, reason);
        hear_hint(broker, text);
    }
}

static void hear_raw(struct broker *broker, const struct channel *channel, struct slice text) {
    struct event event;
    if (event_of_text(&broker->parser, channel_topic(channel), text, &event)) {
        broker->intake.repaired_notifications++;
    }
    broker_publish(broker, &event, ENTRY_EPHEMERAL);
}

/* NULL: the channel was taken out of the configuration, and LISTEN is about to change. */
static void hear(struct broker *broker, const struct channel *channel, struct slice text,
                 int sender_pid) {
    if (channel == NULL) {
        return;
    }
    switch (channel->kind) {
    case CHANNEL_TOPICS:
        hear_event(broker, channel->name, text);
        return;
    case CHANNEL_MARKERS:
        hear_marker(broker, text, sender_pid);
        return;
    case CHANNEL_HINTS:
        hear_hint(broker, text);
        return;
    case CHANNEL_FORGE:
        hear_forge(broker, channel->name, text);
        return;
    case CHANNEL_RAW:
        hear_raw(broker, channel, text);
        return;
    }
}

static void broker_receive(void *self, const char *channel, struct slice text, int sender_pid) {
    struct broker *broker = self;
    markers_count(&broker->journal.markers);
    canary_note_notification(&broker->journal.canary);
    broker->intake.notifications++;
    broker->intake.last_ms = wall_ms();
    hear(broker, channels_find(&broker->channels, channel), text, sender_pid);
}

/* --- reports from the table --------------------------------------------------------------- */

/* A row that was inserted without the schema's functions cannot be sent. False if no client can
 * miss it, because the name of its topic or tenant is not valid. */
static bool note_bad_row(struct broker *broker, const struct event_row *row, uint64_t id,
                         const char *reason) {
    char room[TOPIC_KEY_BYTES_MAX];
    broker->intake.bad_notifications++;
    log_limited(&broker->bad_limit, LOG_LEVEL_WARNING,
                "the event with id %" PRIu64 " in the table cannot be sent: %s", id, reason);
    return !topic_key_is_none(event_row_topic(row, room));
}

static void on_gaps(void *self, const struct gap *gaps, size_t count, uint64_t id) {
    struct broker *broker = self;
    for (size_t i = 0; i < count; i++) {
        history_note_pruned(&broker->journal.history, gap_topic(&gaps[i]), gaps[i].id);
    }
    handlers_tell_gaps(&broker->handlers, gaps, count, id);
}

/* An event that cannot be sent is a gap for clients with its topic. */
static void on_row(void *self, const struct event_row *row, uint64_t id) {
    struct broker *broker = self;
    struct event event;
    const char *reason;
    if (event_from_row(&broker->parser, row, &event, &reason)) {
        broker_publish(broker, &event, ENTRY_DURABLE);
    } else if (note_bad_row(broker, row, id, reason)) {
        char room[TOPIC_KEY_BYTES_MAX];
        struct gap gap = gap_of(id, event_row_topic(row, room));
        on_gaps(broker, &gap, 1, id);
    }
}

static struct payload *frame_of_row(void *self, const struct event_row *row, uint64_t id,
                                    bool *is_missed) {
    struct broker *broker = self;
    struct event event;
    struct position position = {.durable = id};
    const char *reason;
    if (event_from_row(&broker->parser, row, &event, &reason)) {
        *is_missed = false;
        return frame_of(&event, true, &position);
    }
    *is_missed = note_bad_row(broker, row, id, reason);
    return NULL;
}

static void on_table_read(void *self) {
    struct broker *broker = self;
    handlers_serve_held(&broker->handlers);
}

static void on_table_changed(void *self, bool was_known) {
    struct broker *broker = self;
    struct journal *journal = &broker->journal;
    if (was_known) {
        history_forget(&journal->history);
    }
    history_start_durable(&journal->history, journal->table.head);
    if (was_known) {
        handlers_on_table_changed(&broker->handlers);
    }
    handlers_serve_held(&broker->handlers);
}

static void on_table_proved(void *self) {
    struct broker *broker = self;
    condition_on_proved(&broker->condition, CONDITION_TABLE);
}

static void on_table_lost(void *self, const char *reason) {
    struct broker *broker = self;
    condition_on_lost(&broker->condition, CONDITION_TABLE, reason);
}

/* The query connection connects again, too: its server shows whether the table's connection or
 * LISTEN is at the wrong one. */
static void on_table_astray(void *self) {
    struct broker *broker = self;
    canary_renew(&broker->journal.canary);
    condition_set_query_up(&broker->condition, false);
}

/* --- reports from the query connection ---------------------------------------------------- */

static void on_canary_connected(void *self) {
    struct broker *broker = self;
    condition_set_query_up(&broker->condition, true);
}

static void on_canary_lost(void *self, const char *reason) {
    struct broker *broker = self;
    condition_on_lost(&broker->condition, CONDITION_QUERY, reason);
}

static void on_canary_completed(void *self, double queue_usage) {
    struct broker *broker = self;
    condition_on_queue_usage(&broker->condition, queue_usage);
    condition_on_proved(&broker->condition, CONDITION_QUERY);
}

static void on_not_heard(void *self, const char *reason) {
    struct broker *broker = self;
    broker->source->kind->give_up(broker->source, reason);
}

/* --- reports from the source -------------------------------------------------------------- */

/* Events that were sent while LISTEN was lost are missing. All clients are told before they get a
 * later event: live clients now, replays when they come to this place. */
static void tell_break(struct broker *broker) {
    struct journal *journal = &broker->journal;
    struct wire_refresh message = {.reason = SSE_REFRESH_GAP, .dropped = SSE_DROPPED_UNKNOWN};
    markers_break(&journal->markers, loop_now_ms(broker->loop));
    journal_position(journal, &message.position);
    struct cursor at = journal_cursor(journal);
    struct payload *frame = wire_encode_refresh(&message);
    history_add(&journal->history, ENTRY_BREAK, NULL, &at, frame);
    handlers_send(&broker->handlers, frame);
    payload_unref(&frame);
    recheck_everybody(&broker->recheck); /* hints about rights may have been missed */
}

static void on_attempt(void *self) {
    struct broker *broker = self;
    condition_on_attempt(&broker->condition);
}

/* If LISTEN was lost before, the other connections connect again: the address may lead to another
 * server now. */
static void on_listening(void *self) {
    struct broker *broker = self;
    bool is_back = broker->condition.has_listened;
    broker->journal.is_listening = true;
    condition_on_listening(&broker->condition);
    if (is_back) {
        tell_break(broker);
        canary_renew(&broker->journal.canary);
        condition_set_query_up(&broker->condition, false);
        table_renew(&broker->journal.table);
    }
    handlers_serve_held(&broker->handlers);
}

static void on_verified(void *self, const char *server, uint64_t server_us) {
    struct broker *broker = self;
    snprintf(broker->server.answer, sizeof broker->server.answer, "%s", server);
    markers_trust(&broker->journal.markers, server_us);
    canary_on_verified(&broker->journal.canary);
    table_on_verified(&broker->journal.table);
}

static void on_hook_done(void *owner) {
    struct broker *broker = owner;
    broker->exit_status = EXIT_FAILURE;
    loop_stop(broker->loop);
}

static void on_lost(void *self, const char *reason) {
    struct broker *broker = self;
    broker->journal.is_listening = false;
    broker->server = (struct server){0};
    canary_on_deaf(&broker->journal.canary);
    change_channels_if_due(broker);
    if (condition_on_deaf(&broker->condition, reason)) {
        broker->source->kind->stop(broker->source);
        condition_give_up(&broker->condition, broker->exit_reason, broker, on_hook_done);
    }
}

static void on_refused(void *self, const char *reason) {
    struct broker *broker = self;
    snprintf(broker->exit_reason, sizeof broker->exit_reason, "%s", reason);
    broker->exit_status = CONFIG_EXIT_STATUS;
    loop_stop(broker->loop);
}

/* --- rights ------------------------------------------------------------------------------- */

static void tell_recheck(void *owner, struct slice tenant, struct slice user) {
    struct broker *broker = owner;
    struct wire_recheck message = {tenant, user};
    struct payload *frame = wire_encode_recheck(&message);
    handlers_send(&broker->handlers, frame);
    payload_unref(&frame);
}

static uint64_t count_user_streams(void *owner) {
    const struct broker *broker = owner;
    return overview_user_streams(&broker->overview);
}

/* --- start and end ------------------------------------------------------------------------ */

/* Sends the head to handlers, so that clients without events get new positions with their
 * heartbeats. */
static void on_tick(struct loop_timer *timer) {
    struct broker *broker = container_of(timer, struct broker, tick);
    change_channels_if_due(broker);
    handlers_tell_position(&broker->handlers);
    loop_timer_start(broker->loop, timer, BROKER_TICK_MS, on_tick);
}

static void journal_begin(struct broker *broker) {
    struct journal *journal = &broker->journal;
    const struct config *config = broker->config;
    struct table_owner table_owner = {broker,          on_row,        on_gaps,
                                      frame_of_row,    on_table_read, on_table_changed,
                                      on_table_proved, on_table_lost, on_table_astray};
    struct canary_owner canary_owner = {broker, on_canary_connected, on_canary_lost,
                                        on_canary_completed, on_not_heard};
    journal->config = config;
    topics_init(&journal->topics);
    history_init(&journal->history, &journal->topics, (size_t)config->history_bytes,
                 (size_t)config->ring_capacity);
    struct buf set = {0};
    channels_print_set(&broker->channels, &set);
    markers_init(&journal->markers, config->marker_memory, buf_slice(&set),
                 loop_now_ms(broker->loop));
    buf_release(&set);
    table_init(&journal->table, broker->loop, config, &broker->server, &table_owner);
    canary_init(&journal->canary, broker->loop, config, &journal->markers, &broker->server,
                &canary_owner);
}

struct broker *broker_create(struct loop *loop, const struct config *config,
                             source_create *create_source) {
    struct broker *broker = must_zalloc(sizeof *broker);
    struct source_owner owner = {broker,  on_attempt,     on_listening, on_verified,
                                 on_lost, broker_receive, on_refused};
    broker->loop = loop;
    broker->config = config;
    char reason[CHANNELS_REASON_BYTES];
    check(channels_parse(&broker->channels, config->channels, config->forge_events != 0,
                         reason)); /* main has checked it */
    broker->source = create_source(loop, config, &broker->channels, &owner);
    journal_begin(broker);
    condition_init(&broker->condition, loop, config);
    broker->overview = (struct overview){&broker->journal, &broker->intake, &broker->condition,
                                         &broker->handlers.list};
    health_init(&broker->health, loop, &broker->overview);
    handlers_init(&broker->handlers, loop, &broker->journal, &broker->condition, &broker->health);
    recheck_init(&broker->recheck, loop,
                 &(struct recheck_owner){broker, tell_recheck, count_user_streams});
    return broker;
}

bool broker_start(struct broker *broker, char *reason) {
    if (!door_open(&broker->door, &broker->handlers, reason, BROKER_REASON_BYTES) ||
        !status_open(&broker->status, broker->loop, broker->config, &broker->health, reason,
                     BROKER_REASON_BYTES)) {
        return false;
    }
    broker->source->kind->start(broker->source);
    canary_start(&broker->journal.canary);
    table_start(&broker->journal.table);
    loop_timer_start(broker->loop, &broker->tick, BROKER_TICK_MS, on_tick);
    return true;
}

static void journal_end(struct journal *journal) {
    canary_release(&journal->canary);
    table_release(&journal->table);
    history_release(&journal->history);
    topics_release(&journal->topics);
    markers_release(&journal->markers);
}

void broker_destroy(struct broker **place) {
    struct broker *broker = *place;
    *place = NULL;
    door_close(&broker->door);
    status_close(&broker->status);
    handlers_release(&broker->handlers);
    loop_timer_stop(broker->loop, &broker->tick);
    broker->source->kind->destroy(broker->source);
    health_release(&broker->health);
    recheck_release(&broker->recheck);
    journal_end(&broker->journal);
    condition_release(&broker->condition);
    event_parser_release(&broker->parser);
    channels_release(&broker->channels);
    channels_release(&broker->next_channels);
    loop_reap(broker->loop);
    free(broker);
}
