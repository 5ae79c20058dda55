/* Which clients get which events: audiences, their feeds, and what is counted on the way. Clients
 * are real ones, made live by hand. */
#include "fanout_report.h"
#include "fanout_rig.h"

/* --- audiences ----------------------------------------------------------------------------------
 */

static void test_same_topics_in_another_order(void **state) {
    rig_begin();
    struct fanout *fanout = &rig.subscribers.fanout;
    struct names one = topics_of("a", "b", "c");
    struct names two = topics_of("c", "a", "b");
    struct names fewer = topics_of("a", "b", NULL);
    struct audience *first = fanout_attach(fanout, STREAM_FORM_TOPIC, false, &one);
    struct audience *second = fanout_attach(fanout, STREAM_FORM_TOPIC, false, &two);
    struct audience *other = fanout_attach(fanout, STREAM_FORM_TOPIC, false, &fewer);
    assert_ptr_equal(first, second);
    assert_ptr_not_equal(first, other);
    assert_int_equal(HASH_COUNT(fanout->audiences), 2);
    assert_int_equal(HASH_COUNT(fanout->topics), 3);
    fanout_detach(&rig.subscribers.fanout, &second);
    assert_null(second);
    assert_int_equal(HASH_COUNT(fanout->audiences), 2);
    fanout_detach(&rig.subscribers.fanout, &first);
    assert_int_equal(HASH_COUNT(fanout->audiences), 1);
    fanout_detach(&rig.subscribers.fanout, &other);
    assert_int_equal(HASH_COUNT(fanout->audiences), 0);
}

/* Names that look alike when they are put together are different sets. */
static void test_similar_sets(void **state) {
    static const char *const sets[][3] = {{"a", "bc", NULL}, {"ab", "c", NULL}, {"abc", NULL, NULL},
                                          {"a", "b", "c"},   {"a", NULL, NULL}, {"A", NULL, NULL}};
    struct audience *audiences[length_of(sets)];
    rig_begin();
    for (size_t i = 0; i < length_of(sets); i++) {
        struct names topics = topics_of(sets[i][0], sets[i][1], sets[i][2]);
        audiences[i] = fanout_attach(&rig.subscribers.fanout, STREAM_FORM_TOPIC, false, &topics);
        for (size_t j = 0; j < i; j++) {
            assert_ptr_not_equal(audiences[i], audiences[j]);
        }
    }
    for (size_t i = 0; i < length_of(sets); i++) {
        fanout_detach(&rig.subscribers.fanout, &audiences[i]);
    }
}

/* The same topics in another form are another audience. */
static void test_forms_are_apart(void **state) {
    struct names topics = topics_of("a", "b", NULL);
    rig_begin();
    struct audience *one =
        fanout_attach(&rig.subscribers.fanout, STREAM_FORM_TOPIC, false, &topics);
    struct audience *other =
        fanout_attach(&rig.subscribers.fanout, STREAM_FORM_USER, false, &topics);
    struct audience *again =
        fanout_attach(&rig.subscribers.fanout, STREAM_FORM_USER, false, &topics);
    assert_ptr_not_equal(one, other);
    assert_ptr_equal(other, again);
    assert_int_equal(HASH_COUNT(rig.subscribers.fanout.topics), 2);
    fanout_detach(&rig.subscribers.fanout, &one);
    assert_int_equal(HASH_COUNT(rig.subscribers.fanout.topics), 2);
    fanout_detach(&rig.subscribers.fanout, &other);
    fanout_detach(&rig.subscribers.fanout, &again);
    assert_int_equal(HASH_COUNT(rig.subscribers.fanout.topics), 0);
}

static void test_audience_knows_its_topics(void **state) {
    struct names asked = topics_of("b", "a", NULL);
    struct names got;
    rig_begin();
    struct audience *audience =
        fanout_attach(&rig.subscribers.fanout, STREAM_FORM_TOPIC, false, &asked);
    audience_topics(audience, &got);
    assert_int_equal(got.count, 2);
    bool has_a = names_contain(&got, key_of("a"));
    bool has_b = names_contain(&got, key_of("b"));
    assert_true(has_a && has_b);
    fanout_detach(&rig.subscribers.fanout, &audience);
}

static void test_most_topics(void **state) {
    struct names topics = {.count = NAMES_MAX};
    char names[NAMES_MAX][256];
    for (size_t i = 0; i < NAMES_MAX; i++) {
        memset(names[i], 'x', 255);
        snprintf(names[i] + 240, 16, "%015zu", NAMES_MAX - i);
        topics.keys[i] = (struct topic_key){{names[i], 255}};
    }
    rig_begin();
    struct audience *audience =
        fanout_attach(&rig.subscribers.fanout, STREAM_FORM_TOPIC, false, &topics);
    assert_int_equal(audience->topic_count, NAMES_MAX);
    fanout_detach(&rig.subscribers.fanout, &audience);
}

/* --- publishing ---------------------------------------------------------------------------------
 */

static void test_exactly_the_right_audiences(void **state) {
    rig_begin();
    struct member *alpha = member_join("alpha", NULL);
    struct member *twin = member_join("alpha", NULL);
    struct member *both = member_join("beta", "alpha");
    struct member *beta = member_join("beta", NULL);
    publish("alpha", "1");
    publish("beta", "2");
    publish("gamma", "3");
    publish("alph", "4");
    publish("alpha", "5");
    expect_content(alpha, FRAME("1") FRAME("5"));
    expect_content(twin, FRAME("1") FRAME("5"));
    expect_content(both, FRAME("1") FRAME("2") FRAME("5"));
    expect_content(beta, FRAME("2"));
    member_leave(alpha);
    member_leave(twin);
    member_leave(both);
    member_leave(beta);
    assert_null(rig.subscribers.fanout.audiences);
}

static void test_id_line_behind_the_comment(void **state) {
    rig_begin();
    struct member *member = member_join("a", NULL);
    struct wire_event event = {.position = {3, "abcdefghijklm", 5},
                               .topic = key_of("a"),
                               .publisher_id = LITERAL("own"),
                               .id_at = 4,
                               .body = LITERAL(": c\nevent: e\ndata: 1\n\n")};
    fanout_publish(&rig.subscribers.fanout, &event, DURABLE(0));
    expect_content(member, ": c\nid: 3.abcdefghijklm.5~own\nevent: e\ndata: 1\n\n");
}

/* Durable ones alone, with the durable place alone; nobody makes a frame for a form without
 * audience. */
static void test_connections_get_durable_events(void **state) {
    rig_begin();
    struct member *topic = member_join("a", NULL);
    struct member *connection = member_join_as(STREAM_FORM_USER, "b", "a");
    struct wire_event event = {.position = {3, "abcdefghijklm", 5},
                               .topic = key_of("a"),
                               .publisher_id = LITERAL("own"),
                               .body = LITERAL("event: e\ndata: 1\n\n")};
    fanout_publish(&rig.subscribers.fanout, &event, DURABLE(3));
    event.is_durable = true;
    event.position.durable = 4;
    fanout_publish(&rig.subscribers.fanout, &event, DURABLE(3));
    event.topic = key_of("b");
    event.position.durable = 6;
    fanout_publish(&rig.subscribers.fanout, &event, DURABLE(5));
    const struct feed *feed = &connection->subscriber->audience->feed;
    assert_int_equal(feed->next, 2);
    assert_int_equal(feed_mark(feed, 0)->before.durable, 3);
    assert_int_equal(feed_mark(feed, 1)->before.durable, 5);
    expect_content(topic, "id: 3.abcdefghijklm.5~own\nevent: e\ndata: 1\n\n"
                          "id: 4.abcdefghijklm.5~own\nevent: e\ndata: 1\n\n");
    expect_content(connection, "id: 4~own\nevent: e\ndata: 1\n\nid: 6~own\nevent: e\ndata: 1\n\n");
    struct slice frame = fanout_frame(&rig.subscribers.fanout, STREAM_FORM_USER, &event);
    expect_slice(frame, LITERAL("id: 6~own\nevent: e\ndata: 1\n\n"), "frame");
}

static void test_refresh_of_durable_events(void **state) {
    struct wire_refresh refresh = {.position = {8, "abcdefghijklm", 5},
                                   .reason = SSE_REFRESH_GAP,
                                   .dropped = SSE_DROPPED_UNKNOWN};
    rig_begin();
    struct member *connection = member_join_as(STREAM_FORM_USER, "a", NULL);
    struct member *other = member_join_as(STREAM_FORM_USER, "b", NULL);
    fanout_refresh(&rig.subscribers.fanout, &refresh, DURABLE(6));
    expect_content(connection, "");
    refresh.is_durable = true;
    refresh.topic = key_of("a");
    fanout_refresh(&rig.subscribers.fanout, &refresh, DURABLE(7));
    assert_int_equal(feed_mark(&connection->subscriber->audience->feed, 0)->before.durable, 7);
    assert_int_equal(feed_mark(&connection->subscriber->audience->feed, 0)->reason,
                     SSE_REFRESH_GAP);
    expect_content(connection, "id: 8\nevent: refresh\ndata: {\"reason\":\"gap\",\"dropped\":null,"
                               "\"topics\":[\"a\"]}\n\n");
    expect_content(other, "");
}

static void test_who_joins_later_gets_what_comes_later(void **state) {
    rig_begin();
    struct member *early = member_join("a", NULL);
    publish("a", "1"); /* not flushed yet */
    struct member *late = member_join("a", NULL);
    publish("a", "2");
    expect_content(early, FRAME("1") FRAME("2"));
    expect_content(late, FRAME("2"));
}

/* But for the rest of what has begun. */
static void test_who_left_gets_nothing(void **state) {
    rig_begin();
    struct member *stays = member_join("a", NULL);
    struct member *leaves = member_join("a", NULL);
    publish("a", "1");
    subscriber_leave(leaves->subscriber);
    publish("a", "2");
    expect_content(stays, FRAME("1") FRAME("2"));
    client_flush(&leaves->subscriber->client);
    expect_content(leaves, "");
    assert_int_equal(stays->subscriber->audience->live_count, 1);
}

/* Nobody is live: nothing is kept. */
static void test_no_live_client_no_bytes(void **state) {
    struct names topics = topics_of("a", NULL, NULL);
    rig_begin();
    struct audience *audience =
        fanout_attach(&rig.subscribers.fanout, STREAM_FORM_TOPIC, false, &topics);
    publish("a", "1");
    assert_true(audience->feed.head == 0);
    run_turns(rig.loop, 1);
    fanout_detach(&rig.subscribers.fanout, &audience);
}

static void test_feed_is_empty_when_all_have_everything(void **state) {
    rig_begin();
    struct member *one = member_join("a", NULL);
    member_join("a", NULL);
    publish("a", "1");
    const struct feed *feed = &one->subscriber->audience->feed;
    assert_non_null(feed->bytes);
    run_turns(rig.loop, 1);
    assert_null(feed->bytes);
}

/* "0" would ask for all that is kept, on whichever broker. */
static void test_refresh_without_a_position(void **state) {
    static const enum stream_form forms[] = {STREAM_FORM_TOPIC, STREAM_FORM_USER};
    for (size_t i = 0; i < length_of(forms); i++) {
        rig_begin();
        struct member *member = member_join_as(forms[i], "a", NULL);
        struct wire_refresh refresh = {
            .is_durable = true, .reason = SSE_REFRESH_GAP, .dropped = SSE_DROPPED_UNKNOWN};
        fanout_refresh(&rig.subscribers.fanout, &refresh, DURABLE(0));
        expect_content(member, "event: refresh\ndata: {\"reason\":\"gap\",\"dropped\":null,"
                               "\"topics\":[\"a\"]}\n\n");
    }
}

static void test_refresh_goes_to_every_audience_in_order(void **state) {
    struct wire_refresh refresh = {.position = {0, "abcdefghijklm", 5},
                                   .reason = SSE_REFRESH_GAP,
                                   .dropped = SSE_DROPPED_UNKNOWN};
    rig_begin();
    struct member *alpha = member_join("alpha", NULL);
    struct member *both = member_join("alpha", "beta");
    publish("alpha", "1");
    fanout_refresh(&rig.subscribers.fanout, &refresh, DURABLE(0));
    publish("alpha", "2");
    expect_content(alpha,
                   FRAME("1") "id: 0.abcdefghijklm.5\nevent: refresh\ndata: {\"reason\":\"gap\","
                              "\"dropped\":null,\"topics\":[\"alpha\"]}\n\n" FRAME("2"));
    expect_content(both,
                   FRAME("1") "id: 0.abcdefghijklm.5\nevent: refresh\ndata: {\"reason\":\"gap\","
                              "\"dropped\":null,\"topics\":[\"alpha\",\"beta\"]}\n\n" FRAME("2"));
}

#define REFRESH_OF_BOTH(since, reason, dropped)                         \
    "id: 0.abcdefghijklm." since "\nevent: refresh\ndata: {\"reason\":" \
    "\"" reason "\",\"dropped\":" dropped ",\"topics\":[\"alpha\",\"beta\"]}\n\n"

static struct wire_refresh refresh_at(const char *topic, uint64_t since) {
    return (struct wire_refresh){.topic = key_of(topic),
                                 .position = {0, "abcdefghijklm", since},
                                 .reason = SSE_REFRESH_GAP,
                                 .dropped = SSE_DROPPED_UNKNOWN};
}

/* Refreshes that follow each other in one turn are told as one, at the place of the last. */
static void test_refreshes_of_one_turn(void **state) {
    struct wire_refresh alpha = refresh_at("alpha", 5);
    struct wire_refresh beta = refresh_at("beta", 6);
    beta.reason = SSE_REFRESH_RESTART;
    rig_begin();
    struct member *both = member_join("alpha", "beta");
    fanout_refresh(&rig.subscribers.fanout, &alpha, DURABLE(3));
    fanout_refresh(&rig.subscribers.fanout, &beta, DURABLE(4));
    const struct feed *feed = &both->subscriber->audience->feed;
    assert_int_equal(feed->next, 1);
    assert_int_equal(feed_mark(feed, 0)->before.durable, 3);
    assert_int_equal(feed_mark(feed, 0)->reason, SSE_REFRESH_RESTART);
    expect_content(both, REFRESH_OF_BOTH("6", "restart", "null"));
    alpha.dropped = 2;
    beta.dropped = 3;
    fanout_refresh(&rig.subscribers.fanout, &beta, DURABLE(5));
    fanout_refresh(&rig.subscribers.fanout, &alpha, DURABLE(5));
    expect_content(both, REFRESH_OF_BOTH("5", "restart", "5"));
}

/* What was written tells nothing of what is lost afterwards, though the place is the same. */
static void test_refresh_after_one_that_was_written(void **state) {
    struct wire_refresh refresh = refresh_at("alpha", 5);
    static const char told[] = "id: 0.abcdefghijklm.5\nevent: refresh\ndata: {\"reason\":\"gap\","
                               "\"dropped\":null,\"topics\":[\"alpha\"]}\n\n";
    rig_begin();
    struct member *alpha = member_join("alpha", NULL);
    for (int i = 0; i < 3; i++) {
        fanout_refresh(&rig.subscribers.fanout, &refresh, DURABLE(0));
        expect_content(alpha, told);
    }
}

/* Nor is a refresh merged with one that an event follows, or after which a client has joined. */
static void test_refreshes_that_stay_apart(void **state) {
    struct wire_refresh refresh = refresh_at("alpha", 5);
    rig_begin();
    struct member *both = member_join("alpha", "beta");
    fanout_refresh(&rig.subscribers.fanout, &refresh, DURABLE(0));
    struct member *late = member_join("alpha", "beta");
    fanout_refresh(&rig.subscribers.fanout, &refresh, DURABLE(0));
    publish("beta", "1");
    fanout_refresh(&rig.subscribers.fanout, &refresh, DURABLE(0));
    expect_content(both, REFRESH_OF_BOTH("5", "gap", "null") REFRESH_OF_BOTH("5", "gap", "null")
                             FRAME("1") REFRESH_OF_BOTH("5", "gap", "null"));
    expect_content(late, REFRESH_OF_BOTH("5", "gap", "null") FRAME("1")
                             REFRESH_OF_BOTH("5", "gap", "null"));
}

/* One topic has lost something: clients that have other topics only are not told. */
static void test_refresh_of_one_topic(void **state) {
    struct wire_refresh refresh = {.topic = key_of("alpha"),
                                   .position = {0, "abcdefghijklm", 5},
                                   .reason = SSE_REFRESH_GAP,
                                   .dropped = SSE_DROPPED_UNKNOWN};
    rig_begin();
    struct member *alpha = member_join("alpha", NULL);
    struct member *both = member_join("beta", "alpha");
    struct member *beta = member_join("beta", NULL);
    fanout_refresh(&rig.subscribers.fanout, &refresh, DURABLE(0));
    publish("beta", "1");
    expect_content(alpha, "id: 0.abcdefghijklm.5\nevent: refresh\ndata: {\"reason\":\"gap\","
                          "\"dropped\":null,\"topics\":[\"alpha\"]}\n\n");
    expect_content(both, "id: 0.abcdefghijklm.5\nevent: refresh\ndata: {\"reason\":\"gap\","
                         "\"dropped\":null,\"topics\":[\"alpha\",\"beta\"]}\n\n" FRAME("1"));
    expect_content(beta, FRAME("1"));
}

/* --- clients that end in the flush --------------------------------------------------------------
 */

/* The only client of its topics is closed while its audience is being flushed. */
static void test_last_client_breaks_while_flushing(void **state) {
    rig_begin();
    struct member *member = member_join("a", NULL);
    close(member->peer);
    publish("a", "1");
    run_turns(rig.loop, 2);
    assert_null(rig.subscribers.fanout.audiences);
    assert_int_equal(rig.clients.count, 0);
    buf_release(&member->got);
}

static void test_all_clients_break_while_flushing(void **state) {
    struct member *members[3];
    rig_begin();
    for (size_t i = 0; i < length_of(members); i++) {
        members[i] = member_join("a", NULL);
        close(members[i]->peer);
    }
    publish("a", "1");
    run_turns(rig.loop, 2);
    assert_null(rig.subscribers.fanout.audiences);
    assert_int_equal(rig.clients.count, 0);
}

static void fill(const char *topic, int events) {
    char *data = repeated('x', 7000);
    for (int i = 0; i < events; i++) {
        publish(topic, data);
        run_turns(rig.loop, 1);
    }
    free(data);
}

static void test_last_client_overflows_while_flushing(void **state) {
    struct buf content = {0};
    rig_begin();
    rig.config.client_queue_bytes = 20000;
    rig.config.slow_client = CONFIG_SLOW_DISCONNECT;
    struct member *member = member_join("a", NULL);
    fill("a", 100);
    assert_int_equal(member->subscriber->client.state, CLIENT_ENDING);
    assert_int_equal(member->subscriber->audience->live_count, 0);
    for (int i = 0; i < 10 && rig.clients.count > 0; i++) {
        member_read(member, &content);
    }
    assert_null(rig.subscribers.fanout.audiences);
    assert_int_equal(rig.clients.count, 0);
    close(member->peer);
    buf_release(&content);
    buf_release(&member->got);
}

static void test_slow_client_does_not_hold_others(void **state) {
    struct buf content = {0};
    rig_begin();
    rig.config.client_queue_bytes = 20000;
    struct member *slow = member_join("a", NULL);
    struct member *fast = member_join("a", NULL);
    char *data = repeated('x', 7000);
    for (int i = 0; i < 50; i++) {
        publish("a", data);
        for (int turn = 0; turn < 10; turn++) {
            member_read(fast, &content);
        }
        assert_true(fast->subscriber->audience->feed.size <= 65536);
    }
    assert_true(slow->subscriber->overflow != NULL);
    assert_int_equal(content.length, 50 * (strlen(FRAME("")) + 7000));
    buf_release(&content);
    free(data);
}

/* --- reports ------------------------------------------------------------------------------------
 */

struct reports {
    int frames;
    bool is_last;
    uint32_t serial;
    struct wire_report_entry entries[8]; /* of the topics "a" to "h" */
    bool is_there[8];
    uint32_t count;
};

static void on_report(void *owner, struct payload *frame) {
    struct reports *reports = owner;
    struct slice input = {frame->bytes, frame->length};
    struct wire_frame taken;
    struct wire_report report;
    struct wire_report_entry entry;
    assert_int_equal(wire_next(&input, WIRE_REQUEST_BYTES_MAX, &taken), WIRE_NEXT_FRAME);
    assert_true(wire_decode_report(taken.body, &report));
    assert_false(reports->is_last);
    reports->frames++;
    reports->is_last = report.is_last;
    reports->serial = report.serial;
    while (wire_next_report_entry(&report, &entry)) {
        reports->count++;
        struct slice name = topic_key_name(entry.topic);
        if (name.length == 1 && name.at[0] >= 'a' && name.at[0] <= 'h') {
            reports->entries[name.at[0] - 'a'] = entry;
            reports->is_there[name.at[0] - 'a'] = true;
        }
    }
    payload_unref(&frame);
}

static struct reports report(uint32_t serial) {
    struct reports reports = {0};
    fanout_report(&rig.subscribers.fanout, serial, 5, &reports, on_report);
    assert_true(reports.is_last);
    assert_int_equal(reports.serial, serial);
    return reports;
}

static void test_report_of_nothing(void **state) {
    rig_begin();
    struct reports reports = report(7);
    assert_int_equal(reports.frames, 1);
    assert_int_equal(reports.count, 0);
}

static void test_report_counts_deliveries_since_the_last(void **state) {
    rig_begin();
    member_join("a", NULL);
    member_join("a", "b");
    publish("a", "1");
    publish("a", "2");
    publish("b", "3");
    run_turns(rig.loop, 1);
    struct reports reports = report(1);
    assert_int_equal(reports.count, 2);
    assert_int_equal(reports.entries[0].delivered, 4);
    assert_int_equal(reports.entries[1].delivered, 1);
    assert_int_equal(reports.entries[0].pending_events, 0);
    assert_int_equal(report(2).count, 0); /* nothing has changed */
    publish("b", "4");
    run_turns(rig.loop, 1);
    reports = report(3);
    assert_int_equal(reports.count, 1);
    assert_int_equal(reports.entries[1].delivered, 1);
}

/* What waits is a gauge: told while it is so, and once more when it is over. */
static void test_report_of_what_waits(void **state) {
    rig_begin();
    member_join("a", NULL);
    member_join("a", NULL);
    publish("a", "1");
    publish("a", "2");
    struct reports reports = report(1); /* before the flush */
    assert_int_equal(reports.entries[0].pending_events, 4);
    assert_int_equal(reports.entries[0].queued_bytes, 2 * strlen(FRAME("1"))); /* shared */
    assert_int_equal(reports.entries[0].delivered, 0);
    assert_int_equal(report(2).entries[0].pending_events, 4);
    run_turns(rig.loop, 1);
    reports = report(3);
    assert_true(reports.is_there[0]);
    assert_int_equal(reports.entries[0].pending_events, 0);
    assert_int_equal(reports.entries[0].delivered, 4);
    assert_int_equal(report(4).count, 0);
}

/* Clients that stand at different places of one feed, and one of another feed. */
static void test_report_of_what_waits_for_many(void **state) {
    struct member *members[4];
    rig_begin();
    members[0] = member_join("a", NULL);
    members[3] = member_join("a", "b");
    publish("a", "1");
    members[1] = member_join("a", NULL);
    publish("b", "2");
    publish("a", "3");
    publish("a", "4");
    members[2] = member_join("a", NULL); /* it has all that came before it */
    struct reports reports = report(1);
    assert_int_equal(reports.entries[0].pending_events, 3 + 2 + 0 + 3);
    assert_int_equal(reports.entries[0].queued_bytes, (3 + 3) * strlen(FRAME("1")));
    assert_int_equal(reports.entries[1].pending_events, 1);
    assert_int_equal(reports.entries[1].queued_bytes, strlen(FRAME("2")));
    subscriber_leave(members[0]->subscriber); /* the slowest */
    reports = report(2);
    assert_int_equal(reports.entries[0].pending_events, 2 + 0 + 3);
    assert_int_equal(reports.entries[0].queued_bytes, (2 + 3) * strlen(FRAME("1")));
    for (size_t i = 0; i < length_of(members); i++) {
    }
}

/* What waited went nowhere, and nothing else was done: that it is over is told all the same. */
static void test_report_that_nothing_waits_any_more(void **state) {
    rig_begin();
    struct member *member = member_join("a", NULL);
    publish("a", "1");
    assert_int_equal(report(1).entries[0].pending_events, 1);
    subscriber_leave(member->subscriber);
    struct reports reports = report(2);
    assert_true(reports.is_there[0]);
    assert_int_equal(reports.entries[0].pending_events, 0);
    assert_int_equal(reports.entries[0].delivered, 0);
    assert_int_equal(report(3).count, 0);
}

static void test_report_of_what_was_dropped(void **state) {
    rig_begin();
    struct member *member = member_join("a", "b");
    member_join("a", NULL);
    publish("a", "1");
    publish("b", "2");
    publish("b", "3");
    struct fan_loss loss = {.reason = SSE_REFRESH_OVERFLOW};
    audience_count_dropped(member->subscriber->audience, &member->subscriber->client.seat.output,
                           &loss);
    audience_count_dropped_client(member->subscriber->audience);
    assert_int_equal(loss.dropped, 3);
    assert_int_equal(loss.reason, SSE_REFRESH_OVERFLOW);
    struct reports reports = report(1);
    assert_int_equal(reports.entries[0].dropped_events, 1);
    assert_int_equal(reports.entries[1].dropped_events, 2);
    assert_int_equal(reports.entries[0].dropped_clients, 1);
    assert_int_equal(reports.entries[1].dropped_clients, 0); /* one client, though of both */
    reports = report(2);
    assert_int_equal(reports.entries[0].dropped_events, 0);
}

/* What was done on a topic is told once more after its last client has gone; then it is forgotten.
 */
static void test_report_of_a_topic_that_is_gone(void **state) {
    rig_begin();
    struct member *member = member_join("a", NULL);
    publish("a", "1");
    run_turns(rig.loop, 1);
    member_leave(member);
    assert_int_equal(HASH_COUNT(rig.subscribers.fanout.topics), 1);
    struct reports reports = report(1);
    assert_int_equal(reports.entries[0].delivered, 1);
    assert_int_equal(HASH_COUNT(rig.subscribers.fanout.topics), 0);
}

/* More topics than one frame holds. */
static void test_report_in_several_frames(void **state) {
    enum { COUNT = 2000 };
    rig_begin();
    struct audience **audiences = must_zalloc(COUNT * sizeof *audiences);
    for (int i = 0; i < COUNT; i++) {
        char name[128];
        snprintf(name, sizeof name, "a-rather-long-name-of-a-topic-with-the-number-%d", i);
        struct names topics = topics_of(name, NULL, NULL);
        audiences[i] = fanout_attach(&rig.subscribers.fanout, STREAM_FORM_TOPIC, false, &topics);
        audiences[i]->memberships[0].topic->tally.delivered = (uint64_t)i + 1;
    }
    struct reports reports = report(9);
    assert_int_equal(reports.count, COUNT);
    assert_true(reports.frames >= 3);
    assert_int_equal(report(10).count, 0);
    for (int i = 0; i < COUNT; i++) {
        fanout_detach(&rig.subscribers.fanout, &audiences[i]);
    }
    free(audiences);
}

/* What was dropped with a refresh among it cannot be counted; the refresh's reason goes first. */
static void test_loss_with_a_refresh_among_it(void **state) {
    static const enum sse_refresh_reason reasons[] = {SSE_REFRESH_RESTART, SSE_REFRESH_GAP};
    for (size_t i = 0; i < length_of(reasons); i++) {
        struct wire_refresh refresh = {.position = {0, "abcdefghijklm", 5},
                                       .reason = reasons[i],
                                       .dropped = SSE_DROPPED_UNKNOWN};
        struct fan_loss loss = {.reason = SSE_REFRESH_OVERFLOW};
        rig_begin();
        struct member *member = member_join("a", NULL);
        publish("a", "1");
        fanout_refresh(&rig.subscribers.fanout, &refresh, DURABLE(0));
        publish("a", "2");
        audience_count_dropped(member->subscriber->audience,
                               &member->subscriber->client.seat.output, &loss);
        assert_true(loss.dropped == SSE_DROPPED_UNKNOWN);
        assert_int_equal(loss.reason, reasons[i]);
        assert_int_equal(report(1).entries[0].dropped_events, 2); /* on topics they count */
    }
}

/* --- resuming
 * ------------------------------------------------------------------------------------- */

struct resumes {
    int frames;
    bool is_last;
    struct position position;
    enum position_kind kind;
    uint32_t clients[8]; /* of the topics "a" to "h" */
    uint32_t count;
};

static void on_resume(void *owner, struct payload *frame) {
    struct resumes *resumes = owner;
    struct slice input = {frame->bytes, frame->length};
    struct wire_frame taken;
    struct wire_resume resume;
    struct wire_resume_entry entry;
    assert_int_equal(wire_next(&input, WIRE_REQUEST_BYTES_MAX, &taken), WIRE_NEXT_FRAME);
    assert_int_equal(taken.type, WIRE_RESUME);
    assert_true(wire_decode_resume(taken.body, &resume));
    assert_false(resumes->is_last);
    assert_true(resumes->frames == 0 || position_equals(&resumes->position, &resume.position));
    resumes->frames++;
    resumes->is_last = resume.is_last;
    resumes->position = resume.position;
    resumes->kind = resume.position_kind;
    while (wire_next_resume_entry(&resume, &entry)) {
        resumes->count++;
        struct slice name = topic_key_name(entry.topic);
        if (name.length == 1 && name.at[0] >= 'a' && name.at[0] <= 'h') {
            assert_int_equal(resumes->clients[name.at[0] - 'a'], 0); /* each once */
            resumes->clients[name.at[0] - 'a'] = entry.clients;
        }
    }
    assert_int_equal(resume.count, 0);
    payload_unref(&frame);
}

static struct resumes resume(const struct position *position) {
    struct resumes resumes = {0};
    fanout_resume(&rig.subscribers.fanout, position, &resumes, on_resume);
    assert_true(resumes.is_last);
    assert_true(position_equals(&resumes.position, position));
    return resumes;
}

static const struct position place = {0, "abcdefghijklm", 7};

/* Live ones only, on each of their topics. */
static void test_resume_counts_live_clients(void **state) {
    struct member *members[5];
    static const char *const topics[][2] = {
        {"a", NULL}, {"a", NULL}, {"a", "b"}, {"c", NULL}, {"d", "c"}};
    rig_begin();
    for (size_t i = 0; i < length_of(members); i++) {
        members[i] = member_join(topics[i][0], topics[i][1]);
    }
    subscriber_renew(members[4]->subscriber); /* it asks anew by itself */
    struct resumes resumes = resume(&place);
    assert_int_equal(resumes.kind, POSITION_KNOWN);
    assert_int_equal(resumes.frames, 1);
    assert_int_equal(resumes.count, 3);
    assert_int_equal(resumes.clients[0], 3);
    assert_int_equal(resumes.clients[1], 1);
    assert_int_equal(resumes.clients[2], 1);
    assert_int_equal(resumes.clients[3], 0);
    for (size_t i = 0; i < length_of(members); i++) {
        member_leave(members[i]);
        resumes = resume(&place);
        assert_int_equal(resumes.clients[0], i == 0 ? 2 : i == 1 ? 1 : 0);
    }
}

/* They subscribe anew by themselves. */
static void test_resume_leaves_connections_out(void **state) {
    rig_begin();
    member_join("a", NULL);
    member_join_as(STREAM_FORM_USER, "a", "b");
    struct resumes resumes = resume(&place);
    assert_int_equal(resumes.clients[0], 1);
    assert_int_equal(resumes.count, 1);
}

static void test_resume_of_nobody(void **state) {
    rig_begin();
    struct resumes resumes = resume(&(struct position){0});
    assert_int_equal(resumes.kind, POSITION_NONE);
    assert_int_equal(resumes.frames, 1);
    assert_int_equal(resumes.count, 0);
    assert_int_equal(resume(&place).kind, POSITION_KNOWN);
}

static void test_resume_in_several_frames(void **state) {
    enum { COUNT = 2000 };
    rig_begin();
    struct audience **audiences = must_zalloc(COUNT * sizeof *audiences);
    for (int i = 0; i < COUNT; i++) {
        char name[128];
        snprintf(name, sizeof name, "a-rather-long-name-of-a-topic-with-the-number-%d", i);
        struct names topics = topics_of(name, NULL, NULL);
        audiences[i] = fanout_attach(&rig.subscribers.fanout, STREAM_FORM_TOPIC, false, &topics);
        audiences[i]->live_count = 1; /* nothing else is asked of it */
    }
    struct resumes resumes = resume(&place);
    assert_int_equal(resumes.count, COUNT);
    assert_int_equal(resumes.frames, 2);
    for (int i = 0; i < COUNT; i++) {
        fanout_detach(&rig.subscribers.fanout, &audiences[i]);
    }
    free(audiences);
}

/* --- patterns --------------------------------------------------------------------------------- */

static void test_audiences_of_patterns(void **state) {
    rig_begin();
    struct member *topic = member_join("ab", NULL);
    struct member *pattern = member_join("a*", NULL);
    struct member *all = member_join("*", NULL);
    struct member *both = member_join("ab", "a*");
    struct member *two = member_join("a*", "ab*");
    struct member *user = member_join_as(STREAM_FORM_USER, "ab", NULL);
    publish("ab", "1");
    publish("a", "2");
    publish("user:ab", "3");
    publish("x", "4");
    publish("ab", "5");
    expect_content(topic, FRAME("1") FRAME("5"));
    expect_content(pattern, FRAME("1") FRAME("2") FRAME("5"));
    expect_content(all, FRAME("1") FRAME("2") FRAME("4") FRAME("5"));
    expect_content(both, FRAME("1") FRAME("2") FRAME("5"));
    expect_content(two, FRAME("1") FRAME("2") FRAME("5"));
    expect_content(user, "");
    member_leave(pattern);
    member_leave(two);
    publish("ab", "6");
    expect_content(both, FRAME("6"));
    expect_content(all, FRAME("6"));
    assert_int_equal(rig.subscribers.fanout.patterns.count, 2);
    member_leave(both);
    member_leave(all);
    (void)report(1);
    assert_int_equal(rig.subscribers.fanout.patterns.count, 0);
}

/* A refresh of a topic is for the patterns that match it, and one of a pattern for that alone. */
static void test_refresh_and_patterns(void **state) {
    static const struct {
        const char *topic;
        bool is_told[4];
    } cases[] = {{"ab", {true, true, true, false}},        {"a", {false, true, true, false}},
                 {"a*", {false, true, false, false}},      {"*", {false, false, true, false}},
                 {"user:a", {false, false, false, false}}, {NULL, {true, true, true, true}}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct member *members[4];
        struct wire_refresh message = {.topic = key_of(cases[i].topic),
                                       .position = {0, "abcdefghijklm", 5},
                                       .reason = SSE_REFRESH_GAP,
                                       .dropped = SSE_DROPPED_UNKNOWN};
        rig_begin();
        members[0] = member_join("ab", NULL);
        members[1] = member_join("a*", NULL);
        members[2] = member_join("x", "*");
        members[3] = member_join("b*", "x");
        fanout_refresh(&rig.subscribers.fanout, &message, &rig.subscribers.position);
        for (size_t m = 0; m < length_of(members); m++) {
            struct buf content = {0};
            member_read(members[m], &content);
            assert_int_equal(content.length > 0, cases[i].is_told[m]);
            buf_release(&content);
        }
    }
}

/* What was delivered counts on the topic, or on a pattern of those that have not named it. */
static void test_reports_of_patterns(void **state) {
    rig_begin();
    struct member *both = member_join("a", "a*");
    struct member *pattern = member_join("b*", NULL);
    publish("a", "1");
    publish("b", "2");
    publish("bb", "3");
    expect_content(both, FRAME("1"));
    expect_content(pattern, FRAME("2") FRAME("3"));
    struct tally *own = audience_tally(both->subscriber->audience, key_of("a"));
    struct tally *matched = audience_tally(both->subscriber->audience, key_of("ab"));
    struct tally *other = audience_tally(pattern->subscriber->audience, key_of("bc"));
    assert_ptr_equal(matched, audience_tally(both->subscriber->audience, key_of("a*")));
    assert_ptr_not_equal(own, matched);
    assert_int_equal(own->delivered, 1);
    assert_int_equal(matched->delivered, 0);
    assert_int_equal(other->delivered, 2);
    assert_null(audience_tally(pattern->subscriber->audience, key_of("a")));
    assert_null(audience_tally(pattern->subscriber->audience, key_of("user:b")));
    assert_int_equal(report(1).count, 2);
    assert_int_equal(other->delivered, 0);
}

static void count_entries(void *owner, struct payload *frame) {
    size_t *patterns = owner;
    struct slice input = {frame->bytes, frame->length};
    struct wire_frame taken;
    struct wire_resume resume;
    struct wire_resume_entry entry;
    assert_int_equal(wire_next(&input, WIRE_REQUEST_BYTES_MAX, &taken), WIRE_NEXT_FRAME);
    assert_true(wire_decode_resume(taken.body, &resume));
    while (wire_next_resume_entry(&resume, &entry)) {
        *patterns += topic_key_is_pattern(entry.topic) ? entry.clients : 0;
    }
    payload_unref(&frame);
}

static void test_resume_names_patterns(void **state) {
    size_t patterns = 0;
    rig_begin();
    (void)member_join("a", "a*");
    (void)member_join("a*", NULL);
    (void)member_join("a", NULL);
    fanout_resume(&rig.subscribers.fanout, DURABLE(5), &patterns, count_entries);
    assert_int_equal(patterns, 2);
}

RUN_TESTS(TEST(test_same_topics_in_another_order), TEST(test_similar_sets),
          TEST(test_audience_knows_its_topics), TEST(test_most_topics),
          TEST(test_exactly_the_right_audiences), TEST(test_id_line_behind_the_comment),
          TEST(test_who_joins_later_gets_what_comes_later), TEST(test_who_left_gets_nothing),
          TEST(test_no_live_client_no_bytes), TEST(test_feed_is_empty_when_all_have_everything),
          TEST(test_refresh_without_a_position), TEST(test_refresh_goes_to_every_audience_in_order),
          TEST(test_last_client_breaks_while_flushing), TEST(test_all_clients_break_while_flushing),
          TEST(test_last_client_overflows_while_flushing),
          TEST(test_slow_client_does_not_hold_others), TEST(test_report_of_nothing),
          TEST(test_report_counts_deliveries_since_the_last), TEST(test_report_of_what_waits),
          TEST(test_report_of_what_waits_for_many), TEST(test_report_that_nothing_waits_any_more),
          TEST(test_report_of_what_was_dropped), TEST(test_report_of_a_topic_that_is_gone),
          TEST(test_report_in_several_frames), TEST(test_refresh_of_one_topic),
          TEST(test_refreshes_of_one_turn), TEST(test_refresh_after_one_that_was_written),
          TEST(test_refreshes_that_stay_apart), TEST(test_loss_with_a_refresh_among_it),
          TEST(test_resume_counts_live_clients), TEST(test_resume_leaves_connections_out),
          TEST(test_forms_are_apart), TEST(test_connections_get_durable_events),
          TEST(test_refresh_of_durable_events), TEST(test_resume_of_nobody),
          TEST(test_resume_in_several_frames), TEST(test_audiences_of_patterns),
          TEST(test_refresh_and_patterns), TEST(test_reports_of_patterns),
          TEST(test_resume_names_patterns))
