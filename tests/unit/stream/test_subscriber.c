/* One stream: what its browser gets when it is too slow, and which ids are ever sent to it. The
 * socket takes little; the test plays the broker. */
#include "fanout_rig.h"
#include "pulse.h"

/* --- what the browser has got
 * --------------------------------------------------------------------- */

/* Blocks of an event stream, taken one by one. */
struct blocks {
    struct slice left;
    uint64_t since; /* of the id */
    bool has_id;
    bool is_event; /* its data is the number */
    bool is_refresh;
    bool is_close;
    uint64_t number;
    uint64_t dropped; /* of a refresh; or SSE_DROPPED_UNKNOWN */
    bool is_overflow; /* the refresh's reason */
};

static const char *find_in(struct slice text, const char *part) {
    return text.length == 0 ? NULL : memmem(text.at, text.length, part, strlen(part));
}

static bool next_block(struct blocks *blocks) {
    const char *end = find_in(blocks->left, "\n\n");
    struct slice left = blocks->left;
    if (end == NULL) {
        assert_int_equal(left.length, 0); /* nothing is cut off */
        return false;
    }
    struct slice block = {left.at, (size_t)(end - left.at) + 2};
    const char *id = find_in(block, "id: 0.abcdefghijklm.");
    const char *data = find_in(block, "data: ");
    const char *dropped = find_in(block, "\"dropped\":");
    *blocks = (struct blocks){.left = {end + 2, left.length - block.length}};
    blocks->has_id = id != NULL;
    blocks->since = id == NULL ? 0 : strtoull(id + strlen("id: 0.abcdefghijklm."), NULL, 10);
    blocks->is_refresh = find_in(block, "event: refresh\n") != NULL;
    blocks->is_close = find_in(block, "event: close\n") != NULL;
    blocks->is_event = find_in(block, "event: message\n") != NULL;
    blocks->number = blocks->is_event ? strtoull(data + 6, NULL, 10) : 0;
    blocks->is_overflow = find_in(block, "\"reason\":\"overflow\"") != NULL;
    if (dropped != NULL) {
        blocks->dropped = find_in(block, "\"dropped\":null") != NULL
                              ? SSE_DROPPED_UNKNOWN
                              : strtoull(dropped + strlen("\"dropped\":"), NULL, 10);
    }
    return true;
}

/* Counts of a whole stream, which must be without hole: between two events as many are missing as
 * the refreshes between them say, and a refresh has the id of the last one that was dropped. */
struct verdict {
    uint64_t events;
    uint64_t dropped;
    uint64_t refreshes;
    uint64_t unknown; /* refreshes that cannot say how many */
    uint64_t last;
};

static struct verdict judge(struct slice content) {
    struct verdict tally = {0};
    struct blocks blocks = {.left = content};
    while (next_block(&blocks)) {
        if (blocks.is_event) {
            assert_int_equal(blocks.since, blocks.number); /* the test's events are so */
            assert_int_equal(blocks.number, tally.last + 1);
            tally.events++;
            tally.last = blocks.number;
        } else if (blocks.is_refresh && blocks.dropped == SSE_DROPPED_UNKNOWN) {
            assert_true(blocks.since >= tally.last);
            tally.unknown++;
            tally.last = blocks.since;
        } else {
            assert_true(blocks.is_refresh && blocks.is_overflow && blocks.dropped > 0);
            tally.last += blocks.dropped;
            tally.dropped += blocks.dropped;
            tally.refreshes++;
            assert_int_equal(blocks.since, tally.last);
        }
    }
    return tally;
}

/* --- a slow one
 * ------------------------------------------------------------------------------------- */

enum { LIMIT = 20000 };

static struct scene {
    struct member *member;
    struct buf content; /* that has come */
    uint64_t number;    /* of the last event */
} scene;

static void scene_end(void) {
    buf_release(&scene.content);
    rig_end();
}

static void scene_begin(enum config_slow_client mode) {
    rig_begin();
    fixture_end = scene_end;
    scene = (struct scene){0};
    rig.config.client_queue_bytes = LIMIT;
    rig.config.slow_client = mode;
    scene.member = member_join("a", "b");
}

/* The next event, on one topic and the other in turn. */
static void scene_publish(size_t bytes) {
    char *filler = repeated('x', bytes);
    struct buf data = {0};
    buf_printf(&data, "%u %s", (unsigned)++scene.number, filler);
    buf_append(&data, "", 1);
    publish_at(scene.number % 2 == 1 ? "a" : "b", data.bytes, scene.number);
    buf_release(&data);
    free(filler);
}

static void scene_turn(void) {
    rig.subscribers.position.since += 1000; /* events of others' topics have been applied */
    run_turns(rig.loop, 1);
}

/* Reads until nothing comes any more. */
static void scene_read(void) {
    size_t before;
    do {
        before = scene.content.length + scene.member->got.length;
        member_read(scene.member, &scene.content);
    } while (scene.content.length + scene.member->got.length != before);
}

static void broadcast_refresh(enum sse_refresh_reason reason) {
    struct wire_refresh message = {.position = {0, "abcdefghijklm", scene.number},
                                   .reason = reason,
                                   .dropped = SSE_DROPPED_UNKNOWN};
    fanout_refresh(&rig.subscribers.fanout, &message, DURABLE(0));
}

/* Until it overflows. */
static void overflow(void) {
    const struct overflow *before = scene.member->subscriber->overflow;
    for (int i = 0; i < 200 && scene.member->subscriber->state == SUBSCRIBER_LIVE; i++) {
        scene_publish(3000);
        scene_turn();
        if (scene.member->subscriber->overflow != before) {
            return;
        }
    }
    assert_int_equal(scene.member->subscriber->client.state, CLIENT_ENDING);
}

static uint64_t dropped_on(size_t topic) {
    return scene.member->subscriber->audience->memberships[topic].topic->tally.dropped_events;
}

static uint64_t delivered_on(size_t topic) {
    return scene.member->subscriber->audience->memberships[topic].topic->tally.delivered;
}

/* What waits is dropped and told, exactly, behind the record begun; then it is live. */
static void test_overflow_is_told(void **state) {
    scene_begin(CONFIG_SLOW_REFRESH);
    overflow();
    assert_true(scene.member->subscriber->overflow != NULL);
    assert_int_equal(scene.member->subscriber->state, SUBSCRIBER_LIVE);
    uint64_t published = scene.number;
    uint64_t dropped = dropped_on(0) + dropped_on(1);
    scene_read();
    struct verdict tally = judge(buf_slice(&scene.content));
    assert_int_equal(tally.refreshes, 1);
    assert_int_equal(tally.dropped, dropped);
    assert_int_equal(tally.events + tally.dropped, published);
    assert_true(tally.events > 0 && dropped > 1);
    assert_true(dropped_on(0) - dropped_on(1) + 1 <= 2); /* each on its topic */
    assert_int_equal(delivered_on(0) + delivered_on(1), tally.events);
    assert_null(scene.member->subscriber->overflow); /* it is out */
    scene_publish(10);
    scene_read();
    assert_int_equal(judge(buf_slice(&scene.content)).last, published + 1);
    assert_int_equal(
        scene.member->subscriber->audience->memberships[0].topic->tally.dropped_clients, 0);
}

/* As long as nothing of the refresh is out it takes up what is dropped later. */
static void test_second_overflow_adds_to_the_first(void **state) {
    scene_begin(CONFIG_SLOW_REFRESH);
    for (int i = 0; i < 100; i++) {
        scene_publish(3000);
        scene_turn();
    }
    uint64_t dropped = dropped_on(0) + dropped_on(1);
    scene_read();
    struct verdict tally = judge(buf_slice(&scene.content));
    assert_int_equal(tally.refreshes, 1);
    assert_int_equal(tally.dropped, dropped);
    assert_true(dropped > 50);
    assert_int_equal(tally.events + tally.dropped, 100);
}

/* Once it has begun, the next overflow has a refresh of its own. */
static void test_second_overflow_behind_the_first(void **state) {
    scene_begin(CONFIG_SLOW_REFRESH);
    overflow();
    while (output_own_unbegun(&scene.member->subscriber->client.seat.output) >
           0) { /* until the refresh has begun */
        assert_true(drain(scene.member->peer, &scene.member->got, 500));
        scene_turn();
    }
    for (int i = 0; i < 100; i++) {
        scene_publish(3000);
        scene_turn();
    }
    scene_read();
    struct verdict tally = judge(buf_slice(&scene.content));
    assert_int_equal(tally.refreshes, 2);
    assert_int_equal(tally.events + tally.dropped, scene.number);
}

/* A refresh for everybody is among the dropped: it merges, named first, and nothing can be counted.
 */
static void test_overflow_takes_a_refresh_along(void **state) {
    scene_begin(CONFIG_SLOW_REFRESH);
    scene_publish(10000);
    scene_turn();
    assert_true(scene.member->subscriber->client.is_blocked);
    scene_publish(3000);
    broadcast_refresh(SSE_REFRESH_GAP);
    overflow();
    uint64_t published = scene.number;
    scene_read();
    struct blocks blocks = {.left = buf_slice(&scene.content)};
    assert_true(next_block(&blocks) && blocks.is_event && blocks.number == 1);
    struct slice left = blocks.left;
    assert_non_null(find_in(left, "\"reason\":\"gap\",\"dropped\":null"));
    assert_true(next_block(&blocks) && blocks.is_refresh && !blocks.is_overflow);
    assert_int_equal(blocks.since, published);
    assert_false(next_block(&blocks)); /* one, for both */
    scene_publish(10);
    scene_read();
    assert_int_equal(judge(buf_slice(&scene.content)).last, published + 1);
}

/* It resumes from what it has: no id that it did not get the event of, and the end of the request.
 */
static void test_disconnect(void **state) {
    scene_begin(CONFIG_SLOW_DISCONNECT);
    struct member *other = member_join("a", "b"); /* so that the topics stay */
    struct fan_topic *topic = other->subscriber->audience->memberships[0].topic;
    for (int i = 0; i < 200 && scene.member->subscriber->state == SUBSCRIBER_LIVE; i++) {
        struct buf drained = {0};
        scene_publish(3000);
        scene_turn();
        member_read(other, &drained);
        buf_release(&drained);
    }
    assert_int_equal(scene.member->subscriber->client.state, CLIENT_ENDING);
    assert_int_equal(topic->tally.dropped_clients, 1);
    assert_true(topic->tally.dropped_events > 0);
    struct subscriber *subscriber = scene.member->subscriber;
    scene_publish(10); /* not for it */
    assert_null(subscriber->client.seat.output.feed);
    for (int i = 0; i < 30 && rig.clients.count == 2; i++) {
        run_turns(rig.loop, 1);
        (void)(drain_all(scene.member->peer, &scene.member->got) == true);
    }
    assert_int_equal(rig.clients.count, 1);
    struct slice got = buf_slice(&scene.member->got);
    const char trailer[] = "\x01\x03\0\x01\0\x08\0\0";
    assert_non_null(memmem(got.at, got.length, trailer, sizeof trailer - 1)); /* END_REQUEST */
    member_read(scene.member, &scene.content);
    scene.content.length =
        (size_t)((const char *)memrchr(scene.content.bytes, '\n', scene.content.length) -
                 scene.content.bytes) +
        1;
    struct verdict tally = judge(buf_slice(&scene.content));
    assert_int_equal(tally.refreshes + tally.unknown, 0);
    assert_true(tally.events > 0 && tally.events == tally.last);
}

/* An empty queue takes one event of any size; the next one is too much. */
static void test_empty_queue_takes_one_of_any_size(void **state) {
    scene_begin(CONFIG_SLOW_REFRESH);
    scene_publish(20 * LIMIT);
    scene_turn();
    assert_true(scene.member->subscriber->client.is_blocked);
    assert_null(scene.member->subscriber->overflow);
    scene_turn();
    scene_read();
    assert_int_equal(judge(buf_slice(&scene.content)).events, 1);
    scene_publish(20 * LIMIT);
    scene_publish(20 * LIMIT);
    scene_turn();
    assert_true(scene.member->subscriber->overflow != NULL);
    scene_read();
    struct verdict tally = judge(buf_slice(&scene.content));
    assert_int_equal(tally.events, 2);
    assert_int_equal(tally.dropped, 1);
}

/* Nothing waits for it, but its socket is full: that is an empty queue, too. */
static void test_one_of_any_size_before_a_full_socket(void **state) {
    size_t filled = 0;
    scene_begin(CONFIG_SLOW_REFRESH);
    while (send(scene.member->subscriber->client.fd, "z", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1) {
        filled++;
    }
    scene_publish(2 * LIMIT);
    scene_turn();
    assert_true(scene.member->subscriber->client.is_blocked);
    assert_false(scene.member->subscriber->client.seat.output.has_sent_feed);
    assert_null(scene.member->subscriber->overflow);
    struct buf filler = {0};
    assert_true(drain(scene.member->peer, &filler, filled));
    assert_int_equal(filler.length, filled);
    buf_release(&filler);
    scene_read();
    assert_int_equal(judge(buf_slice(&scene.content)).events, 1);
}

/* Durable events among what waits: the client leaves the feed and subscribes again, from what it
 * has begun to get. */
static void test_durable_events_are_not_dropped(void **state) {
    struct subscriber *subscriber;
    struct wire_event durable = {.is_durable = true,
                                 .position = {4, "abcdefghijklm", 3},
                                 .topic = key_of("a"),
                                 .body = LITERAL("event: message\ndata: 3\n\n")};
    scene_begin(CONFIG_SLOW_REFRESH);
    subscriber = scene.member->subscriber;
    scene_publish(10000);
    scene_turn();
    assert_true(subscriber->client.is_blocked);
    scene_publish(3000);
    scene.number++;
    fanout_publish(&rig.subscribers.fanout, &durable, &rig.subscribers.position);
    for (int i = 0; i < 20 && subscriber->state == SUBSCRIBER_LIVE; i++) {
        scene_publish(3000);
        scene_turn();
    }
    assert_int_equal(subscriber->state, SUBSCRIBER_ASKING_AGAIN);
    assert_int_equal(subscriber->question->position_kind, POSITION_KNOWN);
    assert_string_equal(subscriber->question->position.marker, "abcdefghijklm");
    struct position position = subscriber->question->position;
    assert_int_equal(dropped_on(0) + dropped_on(1), 0);
    scene_read();
    struct verdict tally = judge(buf_slice(&scene.content));
    assert_int_equal(tally.refreshes + tally.unknown, 0);
    assert_int_equal(tally.last, 1);
    assert_int_equal(position.since, 1001); /* where 2 was published, see scene_turn */
}

/* With nothing more to write there is nothing to wait for: the loop would not sleep any more. */
static void test_writable_matters_only_while_blocked(void **state) {
    rig_begin();
    struct member *member = member_join("a", NULL);
    member->subscriber->client.is_blocked = true;
    client_flush(&member->subscriber->client);
    assert_int_equal(member->subscriber->client.io.interest, LOOP_READ | LOOP_WRITE);
    run_turns(rig.loop, 2);
    assert_false(member->subscriber->client.is_blocked);
    assert_int_equal(member->subscriber->client.io.interest, LOOP_READ);
}

/* Sizes, reads, turns and refreshes by chance: no hole that was not told, to the last event. */
static void test_overflow_by_chance(void **state) {
    uint64_t refreshes = 0;
    uint64_t unknown = 0;
    for (uint32_t seed = 1; seed <= 60; seed++) {
        uint32_t random = seed;
        scene_begin(CONFIG_SLOW_REFRESH);
        for (int step = 0; step < 400; step++) {
            uint32_t what = next_random(&random) % 100;
            if (what < 50) {
                scene_publish(next_random(&random) % (what < 5 ? 30000 : 3000));
            } else if (what < 75) {
                scene_turn();
            } else if (what < 98) {
                assert_true(drain(scene.member->peer, &scene.member->got,
                                  1 + next_random(&random) % (what < 80 ? 20000 : 1500)));
            } else if (seed % 2 == 0) {
                broadcast_refresh(SSE_REFRESH_GAP);
            }
            const struct output *output = &scene.member->subscriber->client.seat.output;
            if (what >= 50 && what < 75) { /* the turn is over: more does not wait */
                const struct feed *feed = output->feed;
                uint64_t frame = output->cursor.frame; /* the one that has any size */
                assert_true(frame == feed->next || output_first_unbegun(output) == feed->next ||
                            feed->head - feed_mark(feed, frame)->end <= LIMIT);
                assert_true(output_own_unbegun(output) <
                            LIMIT + 30000); /* a record, its end, a refresh */
            }
        }
        scene_read();
        struct verdict tally = judge(buf_slice(&scene.content));
        assert_int_equal(tally.last, scene.number);
        assert_true(seed % 2 == 0 || tally.unknown == 0);
        assert_int_equal(delivered_on(0) + delivered_on(1), tally.events);
        assert_int_equal(delivered_on(0) + delivered_on(1) + dropped_on(0) + dropped_on(1),
                         scene.number); /* each is one or the other */
        refreshes += tally.refreshes;
        unknown += tally.unknown;
    }
    assert_true(refreshes > 100 && unknown > 50); /* the test tests something */
}

/* --- ids
 * ---------------------------------------------------------------------------------------------- */

static const struct position own_place = {0, "abcdefghijklm", 3};
static const struct position head = {0, "abcdefghijklm", 9};

/* A real request, from its beginning; the browser brings that position. */
static struct member *open_stream(enum position_kind kind) {
    int fds[2];
    struct request request = {.method = METHOD_GET,
                              .route = {.kind = ROUTE_TOPIC_EVENTS, .topic = "a"},
                              .position_kind = kind,
                              .accepts_events = true};
    if (kind == POSITION_KNOWN) {
        request.position = own_place;
    }
    plain_pair(fds);
    struct stream_query wanted = {.form = STREAM_FORM_TOPIC, .topics = topics_of("a", NULL, NULL)};
    rig.config.retry = 5;
    return member_begin(fds, &request, &wanted);
}

static void accept_at_head(struct subscriber *subscriber, uint64_t token, bool follows) {
    struct wire_accepted message = {.token = token, .has_backlog = follows, .position = head};
    assert_true(subscribe_on_accepted(subscriber, &message));
}

/* What has come since, behind headers and without retry's jitter. */
static void expect_stream(struct member *member, const char *wanted) {
    struct buf content = {0};
    member_read(member, &content);
    struct slice text = buf_slice(&content);
    const char *body = find_in(text, "\r\n\r\n");
    if (body != NULL) {
        body += 4;
        text = (struct slice){body, (size_t)(content.bytes + content.length - body)};
        const char *line = find_in(text, "retry: ");
        if (line != NULL) {
            body = (const char *)memchr(line, '\n', (size_t)(text.at + text.length - line)) + 1;
            text = (struct slice){body, (size_t)(content.bytes + content.length - body)};
        }
    }
    expect_slice(text, slice_of(wanted), "the stream");
    buf_release(&content);
}

/* Nothing was said for long: in the timers phase of the next turn. */
static void silence(struct subscriber *subscriber) {
    subscriber->client.written_ms = loop_now_ms(subscriber->client.clients->loop) -
                                    subscriber->client.clients->config->keep_alive;
    loop_timer_start(subscriber->client.clients->loop, &subscriber->client.timer, 0,
                     subscriber->client.timer.on_due);
}

#define ID(since) "id: 0.abcdefghijklm." since "\n"
#define POSITION(since) \
    "event: position\n" ID(since) "data: {\"position\":\"0.abcdefghijklm." since "\"}\n\n"
#define HEARTBEAT ": heartbeat\n"

/* No id was sent for long, either. */
static void long_silence(struct subscriber *subscriber) {
    subscriber->id_ms = loop_now_ms(subscriber->client.clients->loop) -
                        subscriber->client.clients->config->position_interval;
    if (subscriber->audience->last_ms > subscriber->id_ms) {
        subscriber->audience->last_ms = subscriber->id_ms;
    }
    silence(subscriber);
}

/* From accepted to live: the id of each block, and the heartbeats between them. */
static void test_ids_of_a_replay(void **state) {
    rig_begin();
    struct member *member = open_stream(POSITION_KNOWN);
    accept_at_head(member->subscriber, 1, true);
    expect_stream(member, ": listening a\n"); /* it has its own position */
    rig.subscribers.position = head;          /* what others have got */
    silence(member->subscriber);
    expect_stream(member, HEARTBEAT);
    long_silence(member->subscriber); /* nothing is told of what it is not at yet */
    expect_stream(member, HEARTBEAT);
    struct wire_event event = {.position = {0, "abcdefghijklm", 6},
                               .topic = key_of("a"),
                               .body = LITERAL("event: message\ndata: 6\n\n")};
    subscribe_on_replay(member->subscriber, &event, 100);
    expect_stream(member, ID("6") "event: message\ndata: 6\n\n");
    silence(member->subscriber);
    expect_stream(member, HEARTBEAT);
    struct wire_refresh refresh = {.position = {0, "abcdefghijklm", 7},
                                   .reason = SSE_REFRESH_GAP,
                                   .dropped = SSE_DROPPED_UNKNOWN};
    subscribe_on_refresh(member->subscriber, &refresh);
    expect_stream(member, ID("7") "event: refresh\ndata: {\"reason\":\"gap\",\"dropped\":null,"
                                  "\"topics\":[\"a\"]}\n\n");
    rig.subscribers.position = head;
    subscribe_on_subscribed(member->subscriber);
    expect_stream(member, "");
    rig.subscribers.position.since = 12;
    rig.subscribers.moved_ms = loop_now_ms(rig.loop);
    silence(member->subscriber);
    expect_stream(member, HEARTBEAT);
    long_silence(member->subscriber);
    expect_stream(member, POSITION("12")); /* live: what was applied last */
    long_silence(member->subscriber);
    rig.subscribers.moved_ms = member->subscriber->id_ms;
    expect_stream(member, HEARTBEAT); /* it has not moved since */
    assert_int_equal(member->subscriber->audience->memberships[0].topic->tally.delivered, 1);
}

#define POSITION_AT(durable)                                                           \
    "event: position\nid: " durable ".abcdefghijklm.9\ndata: {\"position\":\"" durable \
    ".abcdefghijklm.9\"}\n\n"

/* An id of the table alone: its ephemeral events begin at the head, which it is told before any
 * event. One that had to wait may have missed some. */
static void test_id_without_a_place(void **state) {
    static const struct {
        uint64_t own;
        bool has_backlog;
        bool has_waited;
        const char *opening;
    } cases[] = {
        {5, true, false, ": listening a\n" POSITION_AT("5")},
        {5, false, false, ": listening a\n" POSITION_AT("7")},
        {8, true, false, ": listening a\n"}, /* a refresh follows */
        {5, true, true,
         ": listening a\nid: 5.abcdefghijklm.9\nevent: refresh\n"
         "data: {\"reason\":\"gap\",\"dropped\":null,\"topics\":[\"a\"]}\n\n"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        rig_begin();
        struct member *member = open_stream(POSITION_KNOWN);
        member->subscriber->question->position = (struct position){.durable = cases[i].own};
        if (cases[i].has_waited) {
            member->subscriber->state = SUBSCRIBER_WAITING;
        }
        struct wire_accepted message = {
            .token = 1, .has_backlog = cases[i].has_backlog, .position = {7, "abcdefghijklm", 9}};
        assert_true(subscribe_on_accepted(member->subscriber, &message));
        expect_stream(member, cases[i].opening);
    }
}

/* A client that came without a position that can be used is given one at once. */
static void test_first_position(void **state) {
    rig_begin();
    struct member *member = open_stream(POSITION_NONE);
    accept_at_head(member->subscriber, 1, false);
    rig.subscribers.position = head;
    subscribe_on_subscribed(member->subscriber);
    expect_stream(member, ": listening a\n" POSITION("9"));
    member_leave(member);
    member = open_stream(POSITION_MALFORMED); /* a refresh follows, which carries one */
    accept_at_head(member->subscriber, 1, true);
    struct wire_refresh refresh = {
        .position = head, .reason = SSE_REFRESH_UNKNOWN_POSITION, .dropped = SSE_DROPPED_UNKNOWN};
    silence(member->subscriber);
    run_turns(rig.loop, 1);
    subscribe_on_refresh(member->subscriber, &refresh);
    subscribe_on_subscribed(member->subscriber);
    expect_stream(member, ": listening a\n" HEARTBEAT ID(
                              "9") "event: refresh\ndata: {\"reason\":"
                                   "\"unknown_position\",\"dropped\":null,\"topics\":[\"a\"]}\n\n");
    member_leave(member);
    member = open_stream(POSITION_MALFORMED); /* a replay without anything to tell */
    accept_at_head(member->subscriber, 1, true);
    subscribe_on_subscribed(member->subscriber);
    expect_stream(member, ": listening a\n" POSITION("9"));
}

/* A script can see that the stream is alive. */
static void test_heartbeat_events(void **state) {
    rig_begin();
    struct member *member = open_stream(POSITION_KNOWN);
    member->subscriber->has_heartbeat_events = true;
    accept_at_head(member->subscriber, 1, true);
    silence(member->subscriber);
    expect_stream(member, ": listening a\n" POSITION("3")); /* where it stands itself */
    rig.subscribers.position = head;
    subscribe_on_subscribed(member->subscriber);
    for (int i = 0; i < 2; i++) { /* also when it has not moved */
        silence(member->subscriber);
        expect_stream(member, POSITION("9"));
    }
}

/* A live one's heartbeat falls into the turn in which an event has come: its position stands behind
 * the event, which is not out yet. */
static void test_no_heartbeat_before_what_it_stands_behind(void **state) {
    rig_begin();
    struct member *member = open_stream(POSITION_NONE);
    accept_at_head(member->subscriber, 1, false);
    rig.subscribers.position = head;
    subscribe_on_subscribed(member->subscriber);
    expect_stream(member, ": listening a\n" POSITION("9"));
    member->subscriber->has_heartbeat_events = true;
    publish_at("a", "10", 10);
    silence(member->subscriber);
    expect_stream(member, ID("10") "event: message\ndata: 10\n\n");
    silence(member->subscriber);
    expect_stream(member, POSITION("10"));
}

/* --- the pulse ---------------------------------------------------------------------------------
 */

enum { KEEP_ALIVE_MS = 100, WATCHED_MS = 500, LACKS_ID_MS = 2000 };

static void (*real_pulse)(struct loop_timer *timer);
static unsigned pulses;

static void on_counted_pulse(struct loop_timer *timer) {
    pulses++;
    real_pulse(timer);
    if (loop_timer_is_started(timer)) {
        timer->on_due = on_counted_pulse;
    }
}

static unsigned times(struct slice text, const char *part) {
    unsigned count = 0;
    for (const char *at; (at = find_in(text, part)) != NULL; count++) {
        text = (struct slice){at + 1, text.length - (size_t)(at + 1 - text.at)};
    }
    return count;
}

struct pulse_case {
    enum stream_form form;
    bool lacks_id;
    bool has_position; /* there is one to tell */
    int64_t age_ms;    /* since it was opened, or was sent an id */
    unsigned positions;
};

/* Live and quiet, it is watched for WATCHED_MS. */
static void expect_pulse(const struct pulse_case *at) {
    struct buf content = {0};
    rig_begin();
    rig.config.keep_alive = KEEP_ALIVE_MS;
    if (at->has_position) {
        rig.subscribers.position = (struct position){7, "abcdefghijklm", 9};
    }
    struct member *member = member_join_as(at->form, "a", "b");
    struct subscriber *subscriber = member->subscriber;
    struct loop_timer *timer = &subscriber->client.timer;
    subscriber->ends_ms = INT64_MAX;
    subscriber->lacks_id = at->lacks_id;
    pulse_start(subscriber);
    subscriber->id_ms -= at->age_ms;
    real_pulse = timer->on_due;
    timer->on_due = on_counted_pulse;
    pulses = 0;
    run_for(rig.loop, WATCHED_MS);
    unsigned pulsed = pulses;
    member_read(member, &content);
    unsigned positions = times(buf_slice(&content), "event: position\n");
    unsigned heartbeats = times(buf_slice(&content), ": heartbeat\n");
    buf_release(&content);
    assert_int_equal(positions, at->positions);
    assert_in_range(heartbeats + positions, 2, WATCHED_MS / (KEEP_ALIVE_MS * 4 / 5) + 1);
    assert_in_range(pulsed, heartbeats, heartbeats + positions + 1);
}

/* A stream has a pulse for each heartbeat, and one more for a position, whether or not there is one
 * that can be told: it never turns in place. */
static void test_pulses(void **state) {
    static const struct pulse_case cases[] = {
        {STREAM_FORM_USER, true, false, LACKS_ID_MS + 1000, 0},
        {STREAM_FORM_USER, true, false, LACKS_ID_MS - WATCHED_MS / 2, 0},
        {STREAM_FORM_USER, true, false, 0, 0},
        {STREAM_FORM_USER, true, true, LACKS_ID_MS + 1000, 1},
        {STREAM_FORM_USER, true, true, LACKS_ID_MS - WATCHED_MS / 2, 1},
        {STREAM_FORM_USER, true, true, 0, 0},
        {STREAM_FORM_USER, false, true, LACKS_ID_MS + 1000, 0},
        {STREAM_FORM_USER, false, false, LACKS_ID_MS + 1000, 0},
        {STREAM_FORM_TOPIC, true, false, LACKS_ID_MS + 1000, 0},
        {STREAM_FORM_TOPIC, true, true, LACKS_ID_MS + 1000, 1},
        {STREAM_FORM_TOPIC, false, true, LACKS_ID_MS + 1000, 0},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        expect_pulse(&cases[i]);
    }
}

/* The broker goes in the middle of a replay: it asks anew from its last id, and is not greeted
 * again; a live one stays live. */
static void test_broker_lost(void **state) {
    rig_begin();
    struct member *replaying = open_stream(POSITION_KNOWN);
    accept_at_head(replaying->subscriber, 1, true);
    struct wire_event event = {.position = {0, "abcdefghijklm", 6},
                               .topic = key_of("a"),
                               .body = LITERAL("event: message\ndata: 6\n\n")};
    subscribe_on_replay(replaying->subscriber, &event, 100);
    struct member *live = open_stream(POSITION_NONE);
    accept_at_head(live->subscriber, 2, false);
    rig.subscribers.position = head;
    subscribe_on_subscribed(live->subscriber);
    expect_stream(replaying, ": listening a\n" ID("6") "event: message\ndata: 6\n\n");
    expect_stream(live, ": listening a\n" POSITION("9"));
    subscriber_on_broker_lost(replaying->subscriber);
    subscriber_on_broker_lost(live->subscriber);
    assert_int_equal(live->subscriber->state, SUBSCRIBER_LIVE);
    assert_int_equal(replaying->subscriber->state, SUBSCRIBER_ASKING_AGAIN);
    assert_int_equal(replaying->subscriber->question->position_kind, POSITION_KNOWN);
    assert_true(position_equals(&replaying->subscriber->question->position, &event.position));
    assert_int_equal(replaying->subscriber->question->owed_credit_bytes, 0);
    accept_at_head(replaying->subscriber, 3, false);
    rig.subscribers.position = head;
    subscribe_on_subscribed(replaying->subscriber);
    expect_stream(replaying, "");
    publish_at("a", "10", 10);
    expect_stream(replaying, ID("10") "event: message\ndata: 10\n\n");
    expect_stream(live, ID("10") "event: message\ndata: 10\n\n");
}

/* A client that asked for all that is kept, and was greeted but not sent anything, says at the next
 * broker where it was greeted: there is more to tell if that is not known. It is told no position
 * meanwhile. */
static void test_broker_lost_before_all_kept(void **state) {
    rig_begin();
    struct member *member = open_stream(POSITION_ALL);
    accept_at_head(member->subscriber, 1, true);
    subscriber_on_broker_lost(member->subscriber);
    assert_int_equal(member->subscriber->state, SUBSCRIBER_ASKING_AGAIN);
    const struct broker_question *question = member->subscriber->question;
    assert_int_equal(question->position_kind, POSITION_ALL);
    assert_true(position_equals(&question->position, &head));
    member->subscriber->has_heartbeat_events = true;
    silence(member->subscriber);
    expect_stream(member, ": listening a\n" HEARTBEAT);
    struct wire_accepted later = {
        .token = 2, .has_backlog = true, .position = {0, "abcdefghijklm", head.since + 1}};
    assert_true(subscribe_on_accepted(member->subscriber, &later));
    expect_stream(member, "");
    subscriber_on_broker_lost(member->subscriber);
    assert_true(position_equals(&question->position, &head)); /* the first one */
}

/* --- a stall
 * ------------------------------------------------------------------------------------------ */

/* In the middle of a replay, and its socket is full. */
static struct member *block_replay(void) {
    int min = 1;
    char *filler = repeated('x', 3000);
    struct member *member = open_stream(POSITION_KNOWN);
    struct subscriber *subscriber = member->subscriber;
    assert_int_equal(setsockopt(subscriber->client.fd, SOL_SOCKET, SO_SNDBUF, &min, sizeof min), 0);
    accept_at_head(subscriber, 1, true);
    for (uint64_t since = 4; since < 100 && !subscriber->client.is_blocked; since++) {
        struct wire_event event = {.position = {0, "abcdefghijklm", since},
                                   .topic = key_of("a"),
                                   .body = slice_of(filler)};
        subscribe_on_replay(subscriber, &event, 3000);
        run_turns(rig.loop, 1);
    }
    assert_true(subscriber->client.is_blocked);
    assert_int_equal(subscriber->state, SUBSCRIBER_GREETED);
    free(filler);
    return member;
}

/* Nothing was taken for stall_timeout. */
static void stall(struct subscriber *subscriber) {
    subscriber->client.written_ms = loop_now_ms(subscriber->client.clients->loop) -
                                    subscriber->client.clients->config->stall_timeout;
    loop_timer_start(subscriber->client.clients->loop, &subscriber->client.timer, 0,
                     subscriber->client.timer.on_due);
}

/* Who is closed for it is counted, also one that has not come to its live events. */
static void test_a_stalled_replay_is_counted(void **state) {
    for (int is_lost = 0; is_lost < 2; is_lost++) {
        rig_begin();
        struct member *other = member_join("a", NULL); /* so that the topic stays */
        struct fan_topic *topic = other->subscriber->audience->memberships[0].topic;
        struct member *member = block_replay();
        if (is_lost) {
            subscriber_on_broker_lost(member->subscriber);
        }
        stall(member->subscriber);
        run_turns(rig.loop, 2);
        assert_int_equal(rig.clients.count, 1);
        assert_int_equal(topic->tally.dropped_clients, 1);
        assert_int_equal(topic->tally.dropped_events, 0); /* its log still has them */
    }
}

/* It has overflowed, and the rest does not get away: its age is no reason to wait for ever. */
static void test_an_ending_one_stalls_whatever_its_age(void **state) {
    rig_begin();
    rig.config.max_stream_age = 1000;
    struct member *member = block_replay();
    client_finish(&member->subscriber->client); /* as slow_client = disconnect does */
    assert_int_equal(member->subscriber->client.state, CLIENT_ENDING);
    if (member->subscriber->ends_ms < INT64_MAX) {
        member->subscriber->ends_ms = loop_now_ms(rig.loop); /* it is as old as it may become */
    }
    stall(member->subscriber);
    run_turns(rig.loop, 2);
    assert_int_equal(rig.clients.count, 0);
}

/* One client is one, also if it was told to go first and then took nothing of it. */
static void test_a_stalled_overflow_is_counted_once(void **state) {
    rig_begin();
    rig.config.slow_client = CONFIG_SLOW_DISCONNECT;
    rig.config.client_queue_bytes = LIMIT;
    struct member *other = member_join("a", NULL); /* so that the topic stays */
    struct fan_topic *topic = other->subscriber->audience->memberships[0].topic;
    struct member *member = block_replay();
    rig.subscribers.position = head;
    subscribe_on_subscribed(member->subscriber);
    char *data = repeated('x', LIMIT);
    for (int i = 0; i < 3; i++) {
        struct buf drained = {0};
        publish_at("a", data, 10);
        do {
            member_read(other, &drained);
        } while (other->subscriber->client.is_blocked);
        buf_release(&drained);
    }
    free(data);
    assert_int_equal(member->subscriber->client.state, CLIENT_ENDING);
    assert_int_equal(other->subscriber->state, SUBSCRIBER_LIVE);
    assert_int_equal(topic->tally.dropped_clients, 1);
    stall(member->subscriber);
    run_turns(rig.loop, 2);
    assert_int_equal(rig.clients.count, 1);
    assert_int_equal(topic->tally.dropped_clients, 1);
}

RUN_TESTS(TEST(test_durable_events_are_not_dropped), TEST(test_writable_matters_only_while_blocked),
          TEST(test_overflow_is_told), TEST(test_second_overflow_adds_to_the_first),
          TEST(test_second_overflow_behind_the_first), TEST(test_overflow_takes_a_refresh_along),
          TEST(test_disconnect), TEST(test_empty_queue_takes_one_of_any_size),
          TEST(test_one_of_any_size_before_a_full_socket), TEST(test_overflow_by_chance),
          TEST(test_ids_of_a_replay), TEST(test_id_without_a_place), TEST(test_first_position),
          TEST(test_heartbeat_events), TEST(test_no_heartbeat_before_what_it_stands_behind),
          TEST(test_pulses), TEST(test_broker_lost), TEST(test_broker_lost_before_all_kept),
          TEST(test_a_stalled_replay_is_counted), TEST(test_an_ending_one_stalls_whatever_its_age),
          TEST(test_a_stalled_overflow_is_counted_once))
