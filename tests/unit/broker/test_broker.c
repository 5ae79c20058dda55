/* The way of one event through the broker, driven by hand: what is received, and who gets it. */
#include "broker_rig.h"

static void test_one_event_for_a_handler_however_many_subscriptions(void **state) {
    rig_begin_served();
    for (uint64_t token = 1; token <= 3; token++) {
        peer_subscribe(&peer, token, "alpha", token == 2 ? "beta" : NULL, POSITION_NONE);
        peer_expect_subscribed(&peer, token);
    }
    rig_notify("{\"topic\":\"alpha\",\"data\":{\"n\":1}}");
    peer_expect_event(&peer, "alpha", "{\"n\":1}");
    peer_expect_nothing(&peer);
    assert_int_equal(rig.broker->journal.topics.total.published, 1);
    assert_int_equal(rig.broker->journal.topics.total.broadcast, 1);
}

static void test_nothing_to_others(void **state) {
    struct peer alpha;
    struct peer both;
    struct peer beta;
    struct peer none;
    rig_begin();
    rig_listen();
    peer_connect(&alpha);
    peer_connect(&both);
    peer_connect(&beta);
    peer_connect(&none);
    peer_subscribe(&alpha, 1, "alpha", NULL, POSITION_NONE);
    peer_subscribe(&both, 1, "alpha", "beta", POSITION_NONE);
    peer_subscribe(&beta, 1, "beta", NULL, POSITION_NONE);
    peer_expect_subscribed(&alpha, 1);
    peer_expect_subscribed(&both, 1);
    peer_expect_subscribed(&beta, 1);
    rig_notify("{\"topic\":\"alpha\",\"data\":1}");
    rig_notify("{\"topic\":\"beta\",\"data\":2}");
    rig_notify("{\"topic\":\"Alpha\",\"data\":3}");
    rig_notify("{\"topic\":\"gamma\",\"data\":4}");
    peer_expect_event(&alpha, "alpha", "1");
    peer_expect_nothing(&alpha);
    peer_expect_event(&both, "alpha", "1");
    peer_expect_event(&both, "beta", "2");
    peer_expect_nothing(&both);
    peer_expect_event(&beta, "beta", "2");
    peer_expect_nothing(&beta);
    peer_expect_nothing(&none);
    assert_int_equal(rig.broker->journal.topics.total.published, 4);
    assert_int_equal(rig.broker->journal.topics.total.broadcast, 4);
    peer_close(&alpha);
    peer_close(&both);
    peer_close(&beta);
    peer_close(&none);
}

static void test_event_frame_is_whole(void **state) {
    struct wire_event event;
    struct position position;
    rig_begin();
    rig_listen();
    rig_marker();
    peer_connect(&peer);
    peer_subscribe(&peer, 1, "alpha", NULL, POSITION_NONE);
    peer_expect_subscribed(&peer, 1);
    rig_notify("{\"topic\":\"alpha\",\"data\":1,\"event\":\"order\",\"id\":\"x-1\","
               "\"retry\":10,\"comment\":\"c\"}");
    markers_position(&rig.broker->journal.markers, &position);
    assert_int_equal(position.since, 1);
    assert_true(wire_decode_event(peer_expect(&peer, WIRE_EVENT), &event));
    assert_true(position_equals(&event.position, &position)); /* the event's own */
    expect_text(event.publisher_id, "x-1");
    assert_int_equal(event.id_at, strlen(": c\n"));
    expect_text(event.body, ": c\nevent: order\nretry: 10\ndata: 1\n\n");
}

/* Every notification that is heard counts, whatever its text. */
static void test_everything_heard_is_counted(void **state) {
    static const char *const payloads[] = {"{\"topic\":\"a\",\"data\":1}",
                                           "nonsense",
                                           "",
                                           "{\"topic\":\"\",\"data\":1}",
                                           "{\"data\":1}",
                                           "{\"topic\":\"a\",\"data\":1,\"tenant\":\"t/\"}",
                                           "{\"topic\":\"a\",\"event\":\"\\n\",\"data\":1}"};
    struct position position;
    rig_begin();
    rig_listen();
    rig_marker();
    for (size_t i = 0; i < length_of(payloads); i++) {
        rig_notify(payloads[i]);
    }
    rig_hear(CHANNEL_OF_MARKERS, LITERAL("{\"marker\":\"abc\"}"), 5);
    markers_position(&rig.broker->journal.markers, &position);
    assert_int_equal(position.since, length_of(payloads) + 1);
    assert_int_equal(rig.broker->intake.notifications, length_of(payloads) + 2);
    assert_int_equal(rig.broker->journal.topics.total.published, 1);
    assert_int_equal(rig.broker->intake.bad_notifications, length_of(payloads));
}

static void test_odd_topics_are_counted(void **state) {
    static const struct {
        const char *payload;
        uint64_t odd;
    } cases[] = {{"{\"topic\":\"alpha\",\"data\":1}", 0},
                 {"{\"topic\":\"Alpha\",\"data\":1}", 1},
                 {"{\"topic\":\"a b\",\"data\":1}", 1},
                 {"{\"topic\":\"caf\xc3\xa9\",\"data\":1}", 1}};
    for (size_t i = 0; i < length_of(cases); i++) {
        rig_begin();
        rig_notify(cases[i].payload);
        assert_int_equal(rig.broker->intake.unnameable_topics, cases[i].odd);
        assert_int_equal(rig.broker->journal.topics.total.published, 1);
    }
}

/* One body, one frame: every handler holds a reference to the same one. */
static void test_handlers_share_one_frame(void **state) {
    struct peer peers[3];
    rig_begin();
    rig_listen();
    for (size_t i = 0; i < 3; i++) {
        peer_connect(&peers[i]);
        peer_subscribe(&peers[i], 1, "alpha", NULL, POSITION_NONE);
        peer_expect_subscribed(&peers[i], 1);
    }
    rig_notify("{\"topic\":\"alpha\",\"data\":1}");
    const struct payload *frame = outq_at(&peers[0].handler->delivery.outbox.queue, 0);
    assert_int_equal(frame->references, 4); /* and the log holds one */
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(peers[i].handler->delivery.outbox.queue.count, 1);
        assert_ptr_equal(outq_at(&peers[i].handler->delivery.outbox.queue, 0), frame);
    }
    for (size_t i = 0; i < 3; i++) {
        peer_expect_event(&peers[i], "alpha", "1");
        peer_close(&peers[i]);
    }
}

static void test_order_over_all_topics(void **state) {
    rig_begin_served();
    peer_subscribe(&peer, 1, "a", "b", POSITION_NONE);
    peer_expect_subscribed(&peer, 1);
    for (int i = 0; i < 50; i++) {
        char payload[64];
        snprintf(payload, sizeof payload, "{\"topic\":\"%s\",\"data\":%d}", i % 3 == 0 ? "a" : "b",
                 i);
        rig_notify(payload);
    }
    for (int i = 0; i < 50; i++) {
        char data[16];
        snprintf(data, sizeof data, "%d", i);
        peer_expect_event(&peer, i % 3 == 0 ? "a" : "b", data);
    }
}

static void test_unsubscribed_topics_get_nothing(void **state) {
    rig_begin_served();
    peer_subscribe(&peer, 1, "a", "b", POSITION_NONE);
    peer_subscribe(&peer, 2, "a", NULL, POSITION_NONE);
    peer_expect_subscribed(&peer, 1);
    peer_expect_subscribed(&peer, 2);
    peer_unsubscribe(&peer, 1, "a", "b");
    rig_notify("{\"topic\":\"b\",\"data\":1}");
    rig_notify("{\"topic\":\"a\",\"data\":2}");
    peer_expect_event(&peer, "a", "2");
    peer_expect_nothing(&peer);
    peer_unsubscribe(&peer, 2, "a", NULL);
    rig_notify("{\"topic\":\"a\",\"data\":3}");
    peer_expect_nothing(&peer);
}

static void test_handler_that_is_gone_gets_nothing(void **state) {
    struct peer gone;
    struct peer stays;
    rig_begin();
    rig_listen();
    peer_connect(&gone);
    peer_connect(&stays);
    peer_subscribe(&gone, 1, "a", NULL, POSITION_NONE);
    peer_subscribe(&stays, 1, "a", NULL, POSITION_NONE);
    peer_expect_subscribed(&stays, 1);
    peer_close(&gone);
    assert_int_equal(rig_handler_count(), 1);
    assert_int_equal(topics_find(&rig.broker->journal.topics, key_of("a"))->subscribers, 1);
    rig_notify("{\"topic\":\"a\",\"data\":1}");
    peer_expect_event(&stays, "a", "1");
    peer_close(&stays);
}

/* --- the listener comes and goes ----------------------------------------------------------------
 */

static void test_break_is_told_once_before_what_follows(void **state) {
    struct wire_refresh refresh;
    rig_begin_served();
    peer_subscribe(&peer, 1, "a", NULL, POSITION_NONE);
    peer_expect_subscribed(&peer, 1);
    rig_deaf();
    peer_expect_nothing(&peer);
    rig_listen();
    rig_notify("{\"topic\":\"a\",\"data\":1}");
    assert_true(wire_decode_refresh(peer_expect(&peer, WIRE_REFRESH), &refresh));
    assert_int_equal(refresh.token, 0);
    assert_int_equal(refresh.reason, SSE_REFRESH_GAP);
    assert_true(refresh.dropped == SSE_DROPPED_UNKNOWN);
    assert_false(refresh.is_durable);
    struct wire_recheck recheck;
    assert_true(wire_decode_recheck(peer_expect(&peer, WIRE_RECHECK), &recheck));
    assert_int_equal(recheck.user.length, 0); /* hints about rights may have been missed */
    peer_expect_event(&peer, "a", "1");
    peer_expect_nothing(&peer);
    assert_int_equal(rig.broker->condition.reconnects, 1);
}

static void test_first_listen_is_no_break(void **state) {
    rig_begin();
    peer_connect(&peer);
    peer_subscribe(&peer, 1, "a", NULL, POSITION_NONE);
    peer_expect_nothing(&peer);
    rig_listen();
    peer_expect_subscribed(&peer, 1);
    peer_expect_nothing(&peer);
    assert_int_equal(rig.broker->condition.reconnects, 0);
}

static void test_condition(void **state) {
    rig_begin();
    assert_false(rig.broker->condition.is_listening);
    assert_true(rig.broker->condition.degraded_since_ms > 0);
    assert_string_not_equal(rig.broker->condition.degraded_reason, "");
    rig_listen();
    assert_true(rig.broker->condition.is_listening);
    rig_deaf();
    assert_false(rig.broker->condition.is_listening);
    assert_non_null(strstr(rig.broker->condition.degraded_reason, "the test pulled the plug"));
    assert_int_equal(rig.broker->condition.reconnect_attempts, 0);
    rig_attempt();
    assert_int_equal(rig.broker->condition.reconnect_attempts, 1);
}

/* --- the hook is told ---------------------------------------------------------------------------
 */

/* The hook never runs, so its events stay in its queue. */
static void rig_begin_hooked(void) {
    rig_begin();
    rig.broker->condition.hook.program = "/nowhere/hook";
}

static void expect_told(enum hook_event event, uint64_t attempt, const char *reason) {
    struct hook *hook = &rig.broker->condition.hook;
    assert_true(hook->waiting_count > 0);
    const struct hook_run *run = &hook->waiting[hook->waiting_first];
    assert_int_equal(run->event, event);
    assert_int_equal(run->attempt, attempt);
    if (reason == NULL ? run->reason[0] != '\0' : strstr(run->reason, reason) == NULL) {
        fail_msg("reason: %s", run->reason);
    }
    hook->waiting_first = (hook->waiting_first + 1) % HOOK_WAITING_MAX;
    hook->waiting_count--;
}

static void expect_nothing_told(void) {
    assert_int_equal(rig.broker->condition.hook.waiting_count, 0);
}

static void test_hook_hears_of_the_connection(void **state) {
    rig_begin_hooked();
    rig_attempt();
    expect_nothing_told(); /* the first one is not a reconnect */
    rig_deaf();
    expect_told(HOOK_ERROR, 1, "the test pulled the plug");
    rig_attempt();
    expect_told(HOOK_RECONNECT_ATTEMPT, 2, "the test pulled the plug");
    rig_listen();
    expect_told(HOOK_CONNECT, 2, NULL);
    for (int i = 0; i < 2; i++) {
        rig_deaf();
        expect_told(HOOK_DISCONNECT, 0, "the test pulled the plug");
        rig_attempt();
        expect_told(HOOK_RECONNECT_ATTEMPT, 1, "the test pulled the plug");
        rig_listen();
        expect_told(HOOK_RECONNECT_SUCCESS, 1, NULL);
    }
    condition_on_lost(&rig.broker->condition, CONDITION_QUERY, "gone");
    expect_told(HOOK_ERROR, 0, "gone");
    expect_nothing_told();
    assert_int_equal(rig.broker->condition.reconnect_attempts, 3);
    assert_int_equal(rig.broker->condition.reconnects, 2);
    assert_int_equal(rig.broker->condition.errors, 4);
}

static void test_attempts_may_be_limited(void **state) {
    rig_begin_hooked();
    rig.config.reconnect_attempts = 2;
    for (int i = 0; i < 3; i++) { /* a success resets the count */
        rig_listen();
        rig_deaf();
        rig_attempt();
        rig_deaf();
    }
    rig_attempt();
    while (rig.broker->condition.hook.waiting_count > 0) {
        assert_int_not_equal(
            rig.broker->condition.hook.waiting[rig.broker->condition.hook.waiting_first].event,
            HOOK_RECONNECT_FAILED);
        rig.broker->condition.hook.waiting_first =
            (rig.broker->condition.hook.waiting_first + 1) % HOOK_WAITING_MAX;
        rig.broker->condition.hook.waiting_count--;
    }
    rig_deaf();
    expect_told(HOOK_RECONNECT_FAILED, 2, "the test pulled the plug");
    expect_nothing_told();
    loop_run(rig.loop); /* stops by itself */
    assert_int_equal(rig.broker->exit_status, EXIT_FAILURE);
    assert_non_null(strstr(rig.broker->exit_reason, "the test pulled the plug"));
}

static void test_queue_warning(void **state) {
    static const struct {
        double usage;
        bool warns;
    } cases[] = {{0, false},   {0.5, false}, {0.51, true}, {0.9, false},
                 {0.5, false}, {0.6, true},  {1.0, false}, {0.0, false}};
    uint64_t warnings = 0;
    rig_begin_hooked();
    for (size_t i = 0; i < length_of(cases); i++) {
        condition_on_queue_usage(&rig.broker->condition, cases[i].usage);
        warnings += cases[i].warns ? 1 : 0;
        assert_int_equal(rig.broker->condition.queue_warnings, warnings);
        if (cases[i].warns) {
            assert_true(rig.broker->condition.hook.waiting[rig.broker->condition.hook.waiting_first]
                            .queue_usage == cases[i].usage);
            expect_told(HOOK_QUEUE_WARNING, 0, "queue");
        }
        expect_nothing_told();
    }
}

/* --- floods ----------------------------------------------------------------------------------- */

/* Names that nobody reads: bounded state, exact totals. */
static void test_flood_of_unread_topics(void **state) {
    enum { COUNT = 70000, LIMIT = 1024 * 1024 };
    rig_begin_with(LIMIT, RIG_RING_CAPACITY);
    rig_listen();
    peer_connect(&peer);
    peer_subscribe(&peer, 1, "wanted", NULL, POSITION_NONE);
    peer_expect_subscribed(&peer, 1);
    for (int i = 0; i < COUNT; i++) {
        char payload[64];
        snprintf(payload, sizeof payload, "{\"topic\":\"t%d\",\"data\":1}", i);
        rig_notify(payload);
        assert_true(rig.broker->journal.history.bytes <= LIMIT);
    }
    const struct history *history = &rig.broker->journal.history;
    assert_int_equal(rig.broker->journal.topics.total.published, COUNT);
    assert_true(history->count > 0 && history->dropped > 0);
    assert_int_equal(history->count + history->dropped, COUNT);
    assert_int_equal(topics_count(&rig.broker->journal.topics), history->count + 1);
    peer_expect_nothing(&peer);
    rig_notify("{\"topic\":\"wanted\",\"data\":1}");
    peer_expect_event(&peer, "wanted", "1");
}

/* Fan-out and the log share one frame. */
static void test_the_log_shares_the_frame(void **state) {
    rig_begin_served();
    peer_subscribe(&peer, 1, "a", NULL, POSITION_NONE);
    peer_expect_subscribed(&peer, 1);
    rig_publish("a", 1);
    const struct entry *entry = TAILQ_FIRST(&rig.broker->journal.history.entries);
    assert_ptr_equal(outq_at(&peer.handler->delivery.outbox.queue, 0), entry->frame);
    assert_int_equal(entry->frame->references, 2);
    assert_int_equal(entry->at.place, rig.broker->journal.markers.count);
    rig_publish("unread", 2);
    assert_int_equal(rig.broker->journal.history.count, 2); /* with or without subscribers */
    rig_notify("nonsense");
    rig_marker();
    assert_int_equal(rig.broker->journal.history.count, 2); /* counted, not kept */
    peer_expect_event(&peer, "a", "1");
}

/* A break is one entry, before all that is received afterwards, with a position of its own. */
static void test_break_stands_in_the_log(void **state) {
    struct wire_refresh refresh;
    rig_begin();
    rig_listen();
    assert_true(TAILQ_EMPTY(&rig.broker->journal.history.entries)); /* the first LISTEN is none */
    rig_publish("a", 1);
    rig_deaf();
    assert_int_equal(rig.broker->journal.history.count, 1);
    rig_listen();
    rig_publish("a", 2);
    const struct entry *entry = TAILQ_FIRST(&rig.broker->journal.history.entries);
    entry = TAILQ_NEXT(entry, link);
    assert_null(entry->topic);
    assert_int_equal(entry->at.place, 2);
    assert_true(wire_decode_refresh(wire_body(entry->frame), &refresh));
    assert_int_equal(refresh.reason, SSE_REFRESH_GAP);
    struct position now = rig_position();
    assert_string_equal(refresh.position.marker, now.marker);
    assert_int_equal(refresh.position.since, 0);
    assert_int_equal(TAILQ_NEXT(entry, link)->at.place, 3);
}

RUN_TESTS(TEST(test_one_event_for_a_handler_however_many_subscriptions),
          TEST(test_nothing_to_others), TEST(test_event_frame_is_whole),
          TEST(test_everything_heard_is_counted), TEST(test_odd_topics_are_counted),
          TEST(test_handlers_share_one_frame), TEST(test_order_over_all_topics),
          TEST(test_unsubscribed_topics_get_nothing), TEST(test_handler_that_is_gone_gets_nothing),
          TEST(test_break_is_told_once_before_what_follows), TEST(test_first_listen_is_no_break),
          TEST(test_condition), TEST(test_flood_of_unread_topics),
          TEST(test_the_log_shares_the_frame), TEST(test_break_stands_in_the_log),
          TEST(test_hook_hears_of_the_connection), TEST(test_attempts_may_be_limited),
          TEST(test_queue_warning))
