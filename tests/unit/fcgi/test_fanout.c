/* Which clients get which events: audiences, their feeds, and what is counted on the way. Clients
 * are real ones, made live by hand. */
#include "stream_rig.h"

/* --- audiences ----------------------------------------------------------------------------------
 */

static void test_same_topics_in_another_order(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig);
    struct fanout *fanout = &rig.stream.fanout;
    struct wire_topics one = topics_of("a", "b", "c");
    struct wire_topics two = topics_of("c", "a", "b");
    struct wire_topics fewer = topics_of("a", "b", NULL);
    struct audience *first = fanout_attach(fanout, WIRE_FORM_TOPICS, &one);
    struct audience *second = fanout_attach(fanout, WIRE_FORM_TOPICS, &two);
    struct audience *other = fanout_attach(fanout, WIRE_FORM_TOPICS, &fewer);
    assert_ptr_equal(first, second);
    assert_ptr_not_equal(first, other);
    assert_int_equal(HASH_COUNT(fanout->audiences), 2);
    assert_int_equal(HASH_COUNT(fanout->topics), 3);
    fanout_detach(&second);
    assert_null(second);
    assert_int_equal(HASH_COUNT(fanout->audiences), 2);
    fanout_detach(&first);
    assert_int_equal(HASH_COUNT(fanout->audiences), 1);
    fanout_detach(&other);
    assert_int_equal(HASH_COUNT(fanout->audiences), 0);
    rig_end(&rig);
}

/* Names that look alike when they are put together are different sets. */
static void test_similar_sets(void **state) {
    (void)state;
    static const char *const sets[][3] = {{"a", "bc", NULL}, {"ab", "c", NULL}, {"abc", NULL, NULL},
                                          {"a", "b", "c"},   {"a", NULL, NULL}, {"A", NULL, NULL}};
    struct rig rig;
    struct audience *audiences[length_of(sets)];
    rig_begin(&rig);
    for (size_t i = 0; i < length_of(sets); i++) {
        struct wire_topics topics = topics_of(sets[i][0], sets[i][1], sets[i][2]);
        audiences[i] = fanout_attach(&rig.stream.fanout, WIRE_FORM_TOPICS, &topics);
        for (size_t j = 0; j < i; j++) {
            assert_ptr_not_equal(audiences[i], audiences[j]);
        }
    }
    for (size_t i = 0; i < length_of(sets); i++) {
        fanout_detach(&audiences[i]);
    }
    rig_end(&rig);
}

/* The same topics in another form are another audience. */
static void test_forms_are_apart(void **state) {
    (void)state;
    struct rig rig;
    struct wire_topics topics = topics_of("a", "b", NULL);
    rig_begin(&rig);
    struct audience *one = fanout_attach(&rig.stream.fanout, WIRE_FORM_TOPICS, &topics);
    struct audience *other = fanout_attach(&rig.stream.fanout, WIRE_FORM_CONNECTIONS, &topics);
    struct audience *again = fanout_attach(&rig.stream.fanout, WIRE_FORM_CONNECTIONS, &topics);
    assert_ptr_not_equal(one, other);
    assert_ptr_equal(other, again);
    assert_int_equal(HASH_COUNT(rig.stream.fanout.topics), 2);
    fanout_detach(&one);
    assert_int_equal(HASH_COUNT(rig.stream.fanout.topics), 2);
    fanout_detach(&other);
    fanout_detach(&again);
    assert_int_equal(HASH_COUNT(rig.stream.fanout.topics), 0);
    rig_end(&rig);
}

static void test_audience_knows_its_topics(void **state) {
    (void)state;
    struct rig rig;
    struct wire_topics asked = topics_of("b", "a", NULL);
    struct wire_topics got;
    rig_begin(&rig);
    struct audience *audience = fanout_attach(&rig.stream.fanout, WIRE_FORM_TOPICS, &asked);
    audience_topics(audience, &got);
    assert_int_equal(got.count, 2);
    bool has_a = slice_is(got.names[0], "a") || slice_is(got.names[1], "a");
    bool has_b = slice_is(got.names[0], "b") || slice_is(got.names[1], "b");
    assert_true(has_a && has_b);
    fanout_detach(&audience);
    rig_end(&rig);
}

static void test_most_topics(void **state) {
    (void)state;
    struct rig rig;
    struct wire_topics topics = {.count = WIRE_TOPICS_MAX};
    char names[WIRE_TOPICS_MAX][256];
    for (size_t i = 0; i < WIRE_TOPICS_MAX; i++) {
        memset(names[i], 'x', 255);
        snprintf(names[i] + 240, 16, "%015zu", WIRE_TOPICS_MAX - i);
        topics.names[i] = (struct slice){names[i], 255};
    }
    rig_begin(&rig);
    struct audience *audience = fanout_attach(&rig.stream.fanout, WIRE_FORM_TOPICS, &topics);
    assert_int_equal(audience->topic_count, WIRE_TOPICS_MAX);
    fanout_detach(&audience);
    rig_end(&rig);
}

/* --- publishing ---------------------------------------------------------------------------------
 */

static void test_exactly_the_right_audiences(void **state) {
    (void)state;
    struct rig rig;
    struct member alpha;
    struct member twin;
    struct member both;
    struct member beta;
    rig_begin(&rig);
    member_join(&rig, &alpha, "alpha", NULL);
    member_join(&rig, &twin, "alpha", NULL);
    member_join(&rig, &both, "beta", "alpha");
    member_join(&rig, &beta, "beta", NULL);
    publish(&rig, "alpha", "1");
    publish(&rig, "beta", "2");
    publish(&rig, "gamma", "3");
    publish(&rig, "alph", "4");
    publish(&rig, "alpha", "5");
    expect_content(&rig, &alpha, FRAME("1") FRAME("5"));
    expect_content(&rig, &twin, FRAME("1") FRAME("5"));
    expect_content(&rig, &both, FRAME("1") FRAME("2") FRAME("5"));
    expect_content(&rig, &beta, FRAME("2"));
    member_leave(&rig, &alpha);
    member_leave(&rig, &twin);
    member_leave(&rig, &both);
    member_leave(&rig, &beta);
    assert_null(rig.stream.fanout.audiences);
    rig_end(&rig);
}

static void test_id_line_behind_the_comment(void **state) {
    (void)state;
    struct rig rig;
    struct member member;
    rig_begin(&rig);
    member_join(&rig, &member, "a", NULL);
    struct wire_event event = {.position = {3, "abcdefghijklm", 5},
                               .topic = LITERAL("a"),
                               .publisher_id = LITERAL("own"),
                               .id_at = 4,
                               .body = LITERAL(": c\nevent: e\ndata: 1\n\n")};
    fanout_publish(&rig.stream.fanout, &event, 0);
    expect_content(&rig, &member, ": c\nid: 3.abcdefghijklm.5~own\nevent: e\ndata: 1\n\n");
    member_leave(&rig, &member);
    rig_end(&rig);
}

/* Durable ones alone, with the durable place alone; nobody makes a frame for a form without
 * audience. */
static void test_connections_get_durable_events(void **state) {
    (void)state;
    struct rig rig;
    struct member topic;
    struct member connection;
    rig_begin(&rig);
    member_join(&rig, &topic, "a", NULL);
    member_join_as(&rig, &connection, WIRE_FORM_CONNECTIONS, "b", "a");
    struct wire_event event = {.position = {3, "abcdefghijklm", 5},
                               .topic = LITERAL("a"),
                               .publisher_id = LITERAL("own"),
                               .body = LITERAL("event: e\ndata: 1\n\n")};
    fanout_publish(&rig.stream.fanout, &event, 3);
    event.is_durable = true;
    event.position.durable = 4;
    fanout_publish(&rig.stream.fanout, &event, 3);
    event.topic = slice_of("b");
    event.position.durable = 6;
    fanout_publish(&rig.stream.fanout, &event, 5);
    const struct feed *feed = &connection.client->audience->feed;
    assert_int_equal(feed->next, 2);
    assert_int_equal(feed_mark(feed, 0)->durable_before, 3);
    assert_int_equal(feed_mark(feed, 1)->durable_before, 5);
    expect_content(&rig, &topic,
                   "id: 3.abcdefghijklm.5~own\nevent: e\ndata: 1\n\n"
                   "id: 4.abcdefghijklm.5~own\nevent: e\ndata: 1\n\n");
    expect_content(&rig, &connection,
                   "id: 4~own\nevent: e\ndata: 1\n\nid: 6~own\nevent: e\ndata: 1\n\n");
    struct slice frame = fanout_frame(&rig.stream.fanout, WIRE_FORM_CONNECTIONS, &event);
    expect_slice(frame, LITERAL("id: 6~own\nevent: e\ndata: 1\n\n"), "frame");
    member_leave(&rig, &topic);
    member_leave(&rig, &connection);
    rig_end(&rig);
}

static void test_refresh_of_durable_events(void **state) {
    (void)state;
    struct rig rig;
    struct member connection;
    struct member other;
    struct wire_refresh refresh = {.position = {8, "abcdefghijklm", 5},
                                   .reason = SSE_REFRESH_GAP,
                                   .dropped = SSE_DROPPED_UNKNOWN};
    rig_begin(&rig);
    member_join_as(&rig, &connection, WIRE_FORM_CONNECTIONS, "a", NULL);
    member_join_as(&rig, &other, WIRE_FORM_CONNECTIONS, "b", NULL);
    fanout_refresh(&rig.stream.fanout, &refresh, 6);
    expect_content(&rig, &connection, "");
    refresh.is_durable = true;
    refresh.topic = slice_of("a");
    fanout_refresh(&rig.stream.fanout, &refresh, 7);
    assert_int_equal(feed_mark(&connection.client->audience->feed, 0)->durable_before, 7);
    assert_int_equal(feed_mark(&connection.client->audience->feed, 0)->reason, SSE_REFRESH_GAP);
    expect_content(&rig, &connection,
                   "id: 8\nevent: refresh\ndata: {\"reason\":\"gap\",\"dropped\":null,"
                   "\"topics\":[\"a\"]}\n\n");
    expect_content(&rig, &other, "");
    member_leave(&rig, &connection);
    member_leave(&rig, &other);
    rig_end(&rig);
}

static void test_who_joins_later_gets_what_comes_later(void **state) {
    (void)state;
    struct rig rig;
    struct member early;
    struct member late;
    rig_begin(&rig);
    member_join(&rig, &early, "a", NULL);
    publish(&rig, "a", "1"); /* not flushed yet */
    member_join(&rig, &late, "a", NULL);
    publish(&rig, "a", "2");
    expect_content(&rig, &early, FRAME("1") FRAME("2"));
    expect_content(&rig, &late, FRAME("2"));
    member_leave(&rig, &early);
    member_leave(&rig, &late);
    rig_end(&rig);
}

/* But for the rest of what has begun. */
static void test_who_left_gets_nothing(void **state) {
    (void)state;
    struct rig rig;
    struct member stays;
    struct member leaves;
    rig_begin(&rig);
    member_join(&rig, &stays, "a", NULL);
    member_join(&rig, &leaves, "a", NULL);
    publish(&rig, "a", "1");
    audience_leave(leaves.client->audience, leaves.client);
    leaves.client->state = CLIENT_ENDING;
    publish(&rig, "a", "2");
    expect_content(&rig, &stays, FRAME("1") FRAME("2"));
    client_flush(leaves.client);
    expect_content(&rig, &leaves, "");
    assert_int_equal(stays.client->audience->live_count, 1);
    member_leave(&rig, &stays);
    member_leave(&rig, &leaves);
    rig_end(&rig);
}

/* Nobody is live: nothing is kept. */
static void test_no_live_client_no_bytes(void **state) {
    (void)state;
    struct rig rig;
    struct wire_topics topics = topics_of("a", NULL, NULL);
    rig_begin(&rig);
    struct audience *audience = fanout_attach(&rig.stream.fanout, WIRE_FORM_TOPICS, &topics);
    publish(&rig, "a", "1");
    assert_true(audience->feed.head == 0);
    run_turns(rig.loop, 1);
    fanout_detach(&audience);
    rig_end(&rig);
}

static void test_feed_is_empty_when_all_have_everything(void **state) {
    (void)state;
    struct rig rig;
    struct member one;
    struct member two;
    rig_begin(&rig);
    member_join(&rig, &one, "a", NULL);
    member_join(&rig, &two, "a", NULL);
    publish(&rig, "a", "1");
    const struct feed *feed = &one.client->audience->feed;
    assert_non_null(feed->bytes);
    run_turns(rig.loop, 1);
    assert_null(feed->bytes);
    member_leave(&rig, &one);
    member_leave(&rig, &two);
    rig_end(&rig);
}

static void test_refresh_goes_to_every_audience_in_order(void **state) {
    (void)state;
    struct rig rig;
    struct member alpha;
    struct member both;
    struct wire_refresh refresh = {.position = {0, "abcdefghijklm", 5},
                                   .reason = SSE_REFRESH_GAP,
                                   .dropped = SSE_DROPPED_UNKNOWN};
    rig_begin(&rig);
    member_join(&rig, &alpha, "alpha", NULL);
    member_join(&rig, &both, "alpha", "beta");
    publish(&rig, "alpha", "1");
    fanout_refresh(&rig.stream.fanout, &refresh, 0);
    publish(&rig, "alpha", "2");
    expect_content(&rig, &alpha,
                   FRAME("1") "id: 0.abcdefghijklm.5\nevent: refresh\ndata: {\"reason\":\"gap\","
                              "\"dropped\":null,\"topics\":[\"alpha\"]}\n\n" FRAME("2"));
    expect_content(&rig, &both,
                   FRAME("1") "id: 0.abcdefghijklm.5\nevent: refresh\ndata: {\"reason\":\"gap\","
                              "\"dropped\":null,\"topics\":[\"alpha\",\"beta\"]}\n\n" FRAME("2"));
    member_leave(&rig, &alpha);
    member_leave(&rig, &both);
    rig_end(&rig);
}

/* One topic has lost something: who has others only is not told. */
/* Of both of its topics at one place: told once. Not so behind an event, or to who came since. */
static void test_refresh_of_two_topics(void **state) {
    (void)state;
    struct rig rig;
    struct member both;
    struct member late;
    static const char told[] = "id: 0.abcdefghijklm.5\nevent: refresh\ndata: {\"reason\":\"gap\","
                               "\"dropped\":null,\"topics\":[\"alpha\",\"beta\"]}\n\n";
    struct wire_refresh alpha = {.topic = LITERAL("alpha"),
                                 .position = {0, "abcdefghijklm", 5},
                                 .reason = SSE_REFRESH_GAP,
                                 .dropped = SSE_DROPPED_UNKNOWN};
    struct wire_refresh beta = alpha;
    beta.topic = slice_of("beta");
    rig_begin(&rig);
    member_join(&rig, &both, "alpha", "beta");
    fanout_refresh(&rig.stream.fanout, &alpha, 0);
    fanout_refresh(&rig.stream.fanout, &beta, 0);
    expect_content(&rig, &both, told);
    member_join(&rig, &late, "alpha", "beta");
    fanout_refresh(&rig.stream.fanout, &beta, 0);
    expect_content(&rig, &both, told);
    expect_content(&rig, &late, told);
    beta.position.since = 6;
    fanout_refresh(&rig.stream.fanout, &beta, 0);
    expect_content(&rig, &late,
                   "id: 0.abcdefghijklm.6\nevent: refresh\ndata: {\"reason\":\"gap\","
                   "\"dropped\":null,\"topics\":[\"alpha\",\"beta\"]}\n\n");
    publish(&rig, "beta", "1");
    fanout_refresh(&rig.stream.fanout, &beta, 0);
    member_leave(&rig, &both);
    member_leave(&rig, &late);
    rig_end(&rig);
}

static void test_refresh_of_one_topic(void **state) {
    (void)state;
    struct rig rig;
    struct member alpha;
    struct member both;
    struct member beta;
    struct wire_refresh refresh = {.topic = LITERAL("alpha"),
                                   .position = {0, "abcdefghijklm", 5},
                                   .reason = SSE_REFRESH_GAP,
                                   .dropped = SSE_DROPPED_UNKNOWN};
    rig_begin(&rig);
    member_join(&rig, &alpha, "alpha", NULL);
    member_join(&rig, &both, "beta", "alpha");
    member_join(&rig, &beta, "beta", NULL);
    fanout_refresh(&rig.stream.fanout, &refresh, 0);
    publish(&rig, "beta", "1");
    expect_content(&rig, &alpha,
                   "id: 0.abcdefghijklm.5\nevent: refresh\ndata: {\"reason\":\"gap\","
                   "\"dropped\":null,\"topics\":[\"alpha\"]}\n\n");
    expect_content(&rig, &both,
                   "id: 0.abcdefghijklm.5\nevent: refresh\ndata: {\"reason\":\"gap\","
                   "\"dropped\":null,\"topics\":[\"alpha\",\"beta\"]}\n\n" FRAME("1"));
    expect_content(&rig, &beta, FRAME("1"));
    member_leave(&rig, &alpha);
    member_leave(&rig, &both);
    member_leave(&rig, &beta);
    rig_end(&rig);
}

/* --- clients that end in the flush --------------------------------------------------------------
 */

/* The only client of its topics is closed while its audience is being flushed. */
static void test_last_client_breaks_while_flushing(void **state) {
    (void)state;
    struct rig rig;
    struct member member;
    rig_begin(&rig);
    member_join(&rig, &member, "a", NULL);
    close(member.peer);
    publish(&rig, "a", "1");
    run_turns(rig.loop, 2);
    assert_null(rig.stream.fanout.audiences);
    assert_int_equal(rig.stream.client_count, 0);
    buf_release(&member.got);
    rig_end(&rig);
}

static void test_all_clients_break_while_flushing(void **state) {
    (void)state;
    struct rig rig;
    struct member members[3];
    rig_begin(&rig);
    for (size_t i = 0; i < length_of(members); i++) {
        member_join(&rig, &members[i], "a", NULL);
        close(members[i].peer);
    }
    publish(&rig, "a", "1");
    run_turns(rig.loop, 2);
    assert_null(rig.stream.fanout.audiences);
    assert_int_equal(rig.stream.client_count, 0);
    rig_end(&rig);
}

static void fill(struct rig *rig, const char *topic, int events) {
    char *data = repeated('x', 7000);
    for (int i = 0; i < events; i++) {
        publish(rig, topic, data);
        run_turns(rig->loop, 1);
    }
    free(data);
}

static void test_last_client_overflows_while_flushing(void **state) {
    (void)state;
    struct rig rig;
    struct member member;
    struct buf content = {0};
    rig_begin(&rig);
    rig.config.client_queue_bytes = 20000;
    rig.config.slow_client = CONFIG_SLOW_DISCONNECT;
    member_join(&rig, &member, "a", NULL);
    fill(&rig, "a", 100);
    assert_int_equal(member.client->state, CLIENT_ENDING);
    assert_int_equal(member.client->audience->live_count, 0);
    for (int i = 0; i < 10 && rig.stream.client_count > 0; i++) {
        member_read(&rig, &member, &content);
    }
    assert_null(rig.stream.fanout.audiences);
    assert_int_equal(rig.stream.client_count, 0);
    close(member.peer);
    buf_release(&content);
    buf_release(&member.got);
    rig_end(&rig);
}

static void test_slow_client_does_not_hold_others(void **state) {
    (void)state;
    struct rig rig;
    struct member slow;
    struct member fast;
    struct buf content = {0};
    rig_begin(&rig);
    rig.config.client_queue_bytes = 20000;
    member_join(&rig, &slow, "a", NULL);
    member_join(&rig, &fast, "a", NULL);
    char *data = repeated('x', 7000);
    for (int i = 0; i < 50; i++) {
        publish(&rig, "a", data);
        for (int turn = 0; turn < 10; turn++) {
            member_read(&rig, &fast, &content);
        }
        assert_true(fast.client->audience->feed.size <= 65536);
    }
    assert_true(slow.client->overflow != NULL);
    assert_int_equal(content.length, 50 * (strlen(FRAME("")) + 7000));
    buf_release(&content);
    free(data);
    member_leave(&rig, &slow);
    member_leave(&rig, &fast);
    rig_end(&rig);
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
        if (entry.topic.length == 1 && entry.topic.at[0] >= 'a' && entry.topic.at[0] <= 'h') {
            reports->entries[entry.topic.at[0] - 'a'] = entry;
            reports->is_there[entry.topic.at[0] - 'a'] = true;
        }
    }
    payload_unref(&frame);
}

static struct reports report(struct rig *rig, uint32_t serial) {
    struct reports reports = {0};
    fanout_report(&rig->stream.fanout, serial, &reports, on_report);
    assert_true(reports.is_last);
    assert_int_equal(reports.serial, serial);
    return reports;
}

static void test_report_of_nothing(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig);
    struct reports reports = report(&rig, 7);
    assert_int_equal(reports.frames, 1);
    assert_int_equal(reports.count, 0);
    rig_end(&rig);
}

static void test_report_counts_deliveries_since_the_last(void **state) {
    (void)state;
    struct rig rig;
    struct member one;
    struct member two;
    rig_begin(&rig);
    member_join(&rig, &one, "a", NULL);
    member_join(&rig, &two, "a", "b");
    publish(&rig, "a", "1");
    publish(&rig, "a", "2");
    publish(&rig, "b", "3");
    run_turns(rig.loop, 1);
    struct reports reports = report(&rig, 1);
    assert_int_equal(reports.count, 2);
    assert_int_equal(reports.entries[0].delivered, 4);
    assert_int_equal(reports.entries[1].delivered, 1);
    assert_int_equal(reports.entries[0].pending_events, 0);
    assert_int_equal(report(&rig, 2).count, 0); /* nothing has changed */
    publish(&rig, "b", "4");
    run_turns(rig.loop, 1);
    reports = report(&rig, 3);
    assert_int_equal(reports.count, 1);
    assert_int_equal(reports.entries[1].delivered, 1);
    member_leave(&rig, &one);
    member_leave(&rig, &two);
    rig_end(&rig);
}

/* What waits is a gauge: told while it is so, and once more when it is over. */
static void test_report_of_what_waits(void **state) {
    (void)state;
    struct rig rig;
    struct member one;
    struct member two;
    rig_begin(&rig);
    member_join(&rig, &one, "a", NULL);
    member_join(&rig, &two, "a", NULL);
    publish(&rig, "a", "1");
    publish(&rig, "a", "2");
    struct reports reports = report(&rig, 1); /* before the flush */
    assert_int_equal(reports.entries[0].pending_events, 4);
    assert_int_equal(reports.entries[0].queued_bytes, 4 * strlen(FRAME("1")));
    assert_int_equal(reports.entries[0].delivered, 0);
    assert_int_equal(report(&rig, 2).entries[0].pending_events, 4);
    run_turns(rig.loop, 1);
    reports = report(&rig, 3);
    assert_true(reports.is_there[0]);
    assert_int_equal(reports.entries[0].pending_events, 0);
    assert_int_equal(reports.entries[0].delivered, 4);
    assert_int_equal(report(&rig, 4).count, 0);
    member_leave(&rig, &one);
    member_leave(&rig, &two);
    rig_end(&rig);
}

/* What waited went nowhere, and nothing else was done: that it is over is told all the same. */
static void test_report_that_nothing_waits_any_more(void **state) {
    (void)state;
    struct rig rig;
    struct member member;
    rig_begin(&rig);
    member_join(&rig, &member, "a", NULL);
    publish(&rig, "a", "1");
    assert_int_equal(report(&rig, 1).entries[0].pending_events, 1);
    audience_leave(member.client->audience, member.client);
    member.client->state = CLIENT_ENDING;
    struct reports reports = report(&rig, 2);
    assert_true(reports.is_there[0]);
    assert_int_equal(reports.entries[0].pending_events, 0);
    assert_int_equal(reports.entries[0].delivered, 0);
    assert_int_equal(report(&rig, 3).count, 0);
    member_leave(&rig, &member);
    rig_end(&rig);
}

static void test_report_of_what_was_dropped(void **state) {
    (void)state;
    struct rig rig;
    struct member member;
    struct member other;
    rig_begin(&rig);
    member_join(&rig, &member, "a", "b");
    member_join(&rig, &other, "a", NULL);
    publish(&rig, "a", "1");
    publish(&rig, "b", "2");
    publish(&rig, "b", "3");
    struct fan_loss loss = {.reason = SSE_REFRESH_OVERFLOW};
    audience_count_dropped(member.client->audience, &member.client->outlet, &loss);
    audience_count_dropped_client(member.client->audience);
    assert_int_equal(loss.dropped, 3);
    assert_int_equal(loss.reason, SSE_REFRESH_OVERFLOW);
    struct reports reports = report(&rig, 1);
    assert_int_equal(reports.entries[0].dropped_events, 1);
    assert_int_equal(reports.entries[1].dropped_events, 2);
    assert_int_equal(reports.entries[0].dropped_clients, 1);
    assert_int_equal(reports.entries[1].dropped_clients, 1);
    reports = report(&rig, 2);
    assert_int_equal(reports.entries[0].dropped_events, 0);
    member_leave(&rig, &member);
    member_leave(&rig, &other);
    rig_end(&rig);
}

/* What was done on a topic is told once more after its last client has gone; then it is forgotten.
 */
static void test_report_of_a_topic_that_is_gone(void **state) {
    (void)state;
    struct rig rig;
    struct member member;
    rig_begin(&rig);
    member_join(&rig, &member, "a", NULL);
    publish(&rig, "a", "1");
    run_turns(rig.loop, 1);
    member_leave(&rig, &member);
    assert_int_equal(HASH_COUNT(rig.stream.fanout.topics), 1);
    struct reports reports = report(&rig, 1);
    assert_int_equal(reports.entries[0].delivered, 1);
    assert_int_equal(HASH_COUNT(rig.stream.fanout.topics), 0);
    rig_end(&rig);
}

/* More topics than one frame holds. */
static void test_report_in_several_frames(void **state) {
    (void)state;
    enum { COUNT = 2000 };
    struct rig rig;
    rig_begin(&rig);
    struct audience **audiences = must_zalloc(COUNT * sizeof *audiences);
    for (int i = 0; i < COUNT; i++) {
        char name[128];
        snprintf(name, sizeof name, "a-rather-long-name-of-a-topic-with-the-number-%d", i);
        struct wire_topics topics = topics_of(name, NULL, NULL);
        audiences[i] = fanout_attach(&rig.stream.fanout, WIRE_FORM_TOPICS, &topics);
        audiences[i]->memberships[0].topic->delivered = (uint64_t)i + 1;
    }
    struct reports reports = report(&rig, 9);
    assert_int_equal(reports.count, COUNT);
    assert_true(reports.frames >= 3);
    assert_int_equal(report(&rig, 10).count, 0);
    for (int i = 0; i < COUNT; i++) {
        fanout_detach(&audiences[i]);
    }
    free(audiences);
    rig_end(&rig);
}

/* What was dropped with a refresh among it cannot be counted; the refresh's reason goes first. */
static void test_loss_with_a_refresh_among_it(void **state) {
    (void)state;
    static const enum sse_refresh_reason reasons[] = {SSE_REFRESH_RESTART, SSE_REFRESH_GAP};
    for (size_t i = 0; i < length_of(reasons); i++) {
        struct rig rig;
        struct member member;
        struct wire_refresh refresh = {.position = {0, "abcdefghijklm", 5},
                                       .reason = reasons[i],
                                       .dropped = SSE_DROPPED_UNKNOWN};
        struct fan_loss loss = {.reason = SSE_REFRESH_OVERFLOW};
        rig_begin(&rig);
        member_join(&rig, &member, "a", NULL);
        publish(&rig, "a", "1");
        fanout_refresh(&rig.stream.fanout, &refresh, 0);
        publish(&rig, "a", "2");
        audience_count_dropped(member.client->audience, &member.client->outlet, &loss);
        assert_true(loss.dropped == SSE_DROPPED_UNKNOWN);
        assert_int_equal(loss.reason, reasons[i]);
        assert_int_equal(report(&rig, 1).entries[0].dropped_events, 2); /* on topics they count */
        member_leave(&rig, &member);
        rig_end(&rig);
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
        if (entry.topic.length == 1 && entry.topic.at[0] >= 'a' && entry.topic.at[0] <= 'h') {
            assert_int_equal(resumes->clients[entry.topic.at[0] - 'a'], 0); /* each once */
            resumes->clients[entry.topic.at[0] - 'a'] = entry.clients;
        }
    }
    assert_int_equal(resume.count, 0);
    payload_unref(&frame);
}

static struct resumes resume(struct rig *rig, const struct position *position) {
    struct resumes resumes = {0};
    fanout_resume(&rig->stream.fanout, position, &resumes, on_resume);
    assert_true(resumes.is_last);
    assert_true(position_equals(&resumes.position, position));
    return resumes;
}

static const struct position place = {0, "abcdefghijklm", 7};

/* Live ones only, on each of their topics. */
static void test_resume_counts_live_clients(void **state) {
    (void)state;
    struct rig rig;
    struct member members[5];
    static const char *const topics[][2] = {
        {"a", NULL}, {"a", NULL}, {"a", "b"}, {"c", NULL}, {"d", "c"}};
    rig_begin(&rig);
    for (size_t i = 0; i < length_of(members); i++) {
        member_join(&rig, &members[i], topics[i][0], topics[i][1]);
    }
    audience_leave(members[4].client->audience, members[4].client);
    members[4].client->state = CLIENT_GREETED; /* it asks anew by itself */
    struct resumes resumes = resume(&rig, &place);
    assert_int_equal(resumes.kind, POSITION_KNOWN);
    assert_int_equal(resumes.frames, 1);
    assert_int_equal(resumes.count, 3);
    assert_int_equal(resumes.clients[0], 3);
    assert_int_equal(resumes.clients[1], 1);
    assert_int_equal(resumes.clients[2], 1);
    assert_int_equal(resumes.clients[3], 0);
    for (size_t i = 0; i < length_of(members); i++) {
        member_leave(&rig, &members[i]);
        resumes = resume(&rig, &place);
        assert_int_equal(resumes.clients[0], i == 0 ? 2 : i == 1 ? 1 : 0);
    }
    rig_end(&rig);
}

/* They subscribe anew by themselves. */
static void test_resume_leaves_connections_out(void **state) {
    (void)state;
    struct rig rig;
    struct member member;
    struct member connection;
    rig_begin(&rig);
    member_join_as(&rig, &member, WIRE_FORM_TOPICS, "a", NULL);
    member_join_as(&rig, &connection, WIRE_FORM_CONNECTIONS, "a", "b");
    struct resumes resumes = resume(&rig, &place);
    assert_int_equal(resumes.clients[0], 1);
    assert_int_equal(resumes.count, 1);
    member_leave(&rig, &member);
    member_leave(&rig, &connection);
    rig_end(&rig);
}

static void test_resume_of_nobody(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig);
    struct resumes resumes = resume(&rig, &(struct position){0});
    assert_int_equal(resumes.kind, POSITION_NONE);
    assert_int_equal(resumes.frames, 1);
    assert_int_equal(resumes.count, 0);
    assert_int_equal(resume(&rig, &place).kind, POSITION_KNOWN);
    rig_end(&rig);
}

static void test_resume_in_several_frames(void **state) {
    (void)state;
    enum { COUNT = 2000 };
    struct rig rig;
    rig_begin(&rig);
    struct audience **audiences = must_zalloc(COUNT * sizeof *audiences);
    for (int i = 0; i < COUNT; i++) {
        char name[128];
        snprintf(name, sizeof name, "a-rather-long-name-of-a-topic-with-the-number-%d", i);
        struct wire_topics topics = topics_of(name, NULL, NULL);
        audiences[i] = fanout_attach(&rig.stream.fanout, WIRE_FORM_TOPICS, &topics);
        audiences[i]->live_count = 1; /* nothing else is asked of it */
    }
    struct resumes resumes = resume(&rig, &place);
    assert_int_equal(resumes.count, COUNT);
    assert_int_equal(resumes.frames, 2);
    for (int i = 0; i < COUNT; i++) {
        fanout_detach(&audiences[i]);
    }
    free(audiences);
    rig_end(&rig);
}

RUN_TESTS(TEST(test_same_topics_in_another_order), TEST(test_similar_sets),
          TEST(test_audience_knows_its_topics), TEST(test_most_topics),
          TEST(test_exactly_the_right_audiences), TEST(test_id_line_behind_the_comment),
          TEST(test_who_joins_later_gets_what_comes_later), TEST(test_who_left_gets_nothing),
          TEST(test_no_live_client_no_bytes), TEST(test_feed_is_empty_when_all_have_everything),
          TEST(test_refresh_goes_to_every_audience_in_order),
          TEST(test_last_client_breaks_while_flushing), TEST(test_all_clients_break_while_flushing),
          TEST(test_last_client_overflows_while_flushing),
          TEST(test_slow_client_does_not_hold_others), TEST(test_report_of_nothing),
          TEST(test_report_counts_deliveries_since_the_last), TEST(test_report_of_what_waits),
          TEST(test_report_that_nothing_waits_any_more), TEST(test_report_of_what_was_dropped),
          TEST(test_report_of_a_topic_that_is_gone), TEST(test_report_in_several_frames),
          TEST(test_refresh_of_one_topic), TEST(test_refresh_of_two_topics),
          TEST(test_loss_with_a_refresh_among_it), TEST(test_resume_counts_live_clients),
          TEST(test_resume_leaves_connections_out), TEST(test_forms_are_apart),
          TEST(test_connections_get_durable_events), TEST(test_refresh_of_durable_events),
          TEST(test_resume_of_nobody), TEST(test_resume_in_several_frames))
