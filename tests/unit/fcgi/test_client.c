/* One stream: what its browser gets when it is too slow, and which ids are ever sent to it. The
 * socket takes little; the test plays the broker. */
#include "stream_rig.h"

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
struct tally {
    uint64_t events;
    uint64_t dropped;
    uint64_t refreshes;
    uint64_t unknown; /* refreshes that cannot say how many */
    uint64_t last;
};

static struct tally judge(struct slice content) {
    struct tally tally = {0};
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

struct scene {
    struct rig rig;
    struct member member;
    struct buf content; /* that has come */
    uint64_t number;    /* of the last event */
};

static void scene_begin(struct scene *scene, enum config_slow_client mode) {
    *scene = (struct scene){0};
    rig_begin(&scene->rig);
    scene->rig.config.client_queue_bytes = LIMIT;
    scene->rig.config.slow_client = mode;
    member_join(&scene->rig, &scene->member, "a", "b");
}

static void scene_end(struct scene *scene) {
    member_leave(&scene->rig, &scene->member);
    buf_release(&scene->content);
    rig_end(&scene->rig);
}

/* The next event, on one topic and the other in turn. */
static void scene_publish(struct scene *scene, size_t bytes) {
    char *filler = repeated('x', bytes);
    struct buf data = {0};
    buf_printf(&data, "%u %s", (unsigned)++scene->number, filler);
    buf_append(&data, "", 1);
    publish_at(&scene->rig, scene->number % 2 == 1 ? "a" : "b", data.bytes, scene->number);
    buf_release(&data);
    free(filler);
}

static void scene_turn(struct scene *scene) {
    scene->rig.stream.position.since += 1000; /* events of others' topics have been applied */
    run_turns(scene->rig.loop, 1);
}

/* Reads until nothing comes any more. */
static void scene_read(struct scene *scene) {
    size_t before;
    do {
        before = scene->content.length + scene->member.got.length;
        member_read(&scene->rig, &scene->member, &scene->content);
    } while (scene->content.length + scene->member.got.length != before);
}

static void broadcast_refresh(struct scene *scene, enum sse_refresh_reason reason) {
    struct wire_refresh message = {.position = {0, "abcdefghijklm", scene->number},
                                   .reason = reason,
                                   .dropped = SSE_DROPPED_UNKNOWN};
    fanout_refresh(&scene->rig.stream.fanout, &message, 0);
}

/* Until it overflows. */
static void overflow(struct scene *scene) {
    const struct overflow *before = scene->member.client->overflow;
    for (int i = 0; i < 200 && scene->member.client->state == CLIENT_LIVE; i++) {
        scene_publish(scene, 3000);
        scene_turn(scene);
        if (scene->member.client->overflow != before) {
            return;
        }
    }
    assert_int_equal(scene->member.client->state, CLIENT_ENDING);
}

static uint64_t dropped_on(struct scene *scene, size_t topic) {
    return scene->member.client->audience->memberships[topic].topic->dropped_events;
}

static uint64_t delivered_on(struct scene *scene, size_t topic) {
    return scene->member.client->audience->memberships[topic].topic->delivered;
}

/* What waits is dropped and told, exactly, behind the record begun; then it is live. */
static void test_overflow_is_told(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene, CONFIG_SLOW_REFRESH);
    overflow(&scene);
    assert_true(scene.member.client->overflow != NULL);
    assert_int_equal(scene.member.client->state, CLIENT_LIVE);
    uint64_t published = scene.number;
    uint64_t dropped = dropped_on(&scene, 0) + dropped_on(&scene, 1);
    scene_read(&scene);
    struct tally tally = judge(buf_slice(&scene.content));
    assert_int_equal(tally.refreshes, 1);
    assert_int_equal(tally.dropped, dropped);
    assert_int_equal(tally.events + tally.dropped, published);
    assert_true(tally.events > 0 && dropped > 1);
    assert_true(dropped_on(&scene, 0) - dropped_on(&scene, 1) + 1 <= 2); /* each on its topic */
    assert_int_equal(delivered_on(&scene, 0) + delivered_on(&scene, 1), tally.events);
    assert_null(scene.member.client->overflow); /* it is out */
    scene_publish(&scene, 10);
    scene_read(&scene);
    assert_int_equal(judge(buf_slice(&scene.content)).last, published + 1);
    assert_int_equal(scene.member.client->audience->memberships[0].topic->dropped_clients, 0);
    scene_end(&scene);
}

/* As long as nothing of the refresh is out it takes up what is dropped later. */
static void test_second_overflow_adds_to_the_first(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene, CONFIG_SLOW_REFRESH);
    for (int i = 0; i < 100; i++) {
        scene_publish(&scene, 3000);
        scene_turn(&scene);
    }
    uint64_t dropped = dropped_on(&scene, 0) + dropped_on(&scene, 1);
    scene_read(&scene);
    struct tally tally = judge(buf_slice(&scene.content));
    assert_int_equal(tally.refreshes, 1);
    assert_int_equal(tally.dropped, dropped);
    assert_true(dropped > 50);
    assert_int_equal(tally.events + tally.dropped, 100);
    scene_end(&scene);
}

/* Once it has begun, the next overflow has a refresh of its own. */
static void test_second_overflow_behind_the_first(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene, CONFIG_SLOW_REFRESH);
    overflow(&scene);
    while (outlet_own_unbegun(&scene.member.client->outlet) > 0) { /* until the refresh has begun */
        assert_true(drain(scene.member.peer, &scene.member.got, 500));
        scene_turn(&scene);
    }
    for (int i = 0; i < 100; i++) {
        scene_publish(&scene, 3000);
        scene_turn(&scene);
    }
    scene_read(&scene);
    struct tally tally = judge(buf_slice(&scene.content));
    assert_int_equal(tally.refreshes, 2);
    assert_int_equal(tally.events + tally.dropped, scene.number);
    scene_end(&scene);
}

/* A refresh for everybody is among the dropped: it merges, named first, and nothing can be counted.
 */
static void test_overflow_takes_a_refresh_along(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene, CONFIG_SLOW_REFRESH);
    scene_publish(&scene, 10000);
    scene_turn(&scene);
    assert_true(scene.member.client->is_blocked);
    scene_publish(&scene, 3000);
    broadcast_refresh(&scene, SSE_REFRESH_GAP);
    overflow(&scene);
    uint64_t published = scene.number;
    scene_read(&scene);
    struct blocks blocks = {.left = buf_slice(&scene.content)};
    assert_true(next_block(&blocks) && blocks.is_event && blocks.number == 1);
    struct slice left = blocks.left;
    assert_non_null(find_in(left, "\"reason\":\"gap\",\"dropped\":null"));
    assert_true(next_block(&blocks) && blocks.is_refresh && !blocks.is_overflow);
    assert_int_equal(blocks.since, published);
    assert_false(next_block(&blocks)); /* one, for both */
    scene_publish(&scene, 10);
    scene_read(&scene);
    assert_int_equal(judge(buf_slice(&scene.content)).last, published + 1);
    scene_end(&scene);
}

/* It resumes from what it has: no id that it did not get the event of, and the end of the request.
 */
static void test_disconnect(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene, CONFIG_SLOW_DISCONNECT);
    struct member other; /* so that the topics stay */
    member_join(&scene.rig, &other, "a", "b");
    struct fan_topic *topic = other.client->audience->memberships[0].topic;
    for (int i = 0; i < 200 && scene.member.client->state == CLIENT_LIVE; i++) {
        struct buf drained = {0};
        scene_publish(&scene, 3000);
        scene_turn(&scene);
        member_read(&scene.rig, &other, &drained);
        buf_release(&drained);
    }
    assert_int_equal(scene.member.client->state, CLIENT_ENDING);
    assert_int_equal(topic->dropped_clients, 1);
    assert_true(topic->dropped_events > 0);
    struct client *client = scene.member.client;
    scene_publish(&scene, 10); /* not for it */
    assert_null(client->outlet.feed);
    for (int i = 0; i < 30 && scene.rig.stream.client_count == 2; i++) {
        run_turns(scene.rig.loop, 1);
        (void)(drain_all(scene.member.peer, &scene.member.got) == true);
    }
    assert_int_equal(scene.rig.stream.client_count, 1);
    struct slice got = buf_slice(&scene.member.got);
    const char trailer[] = "\x01\x03\0\x01\0\x08\0\0";
    assert_non_null(memmem(got.at, got.length, trailer, sizeof trailer - 1)); /* END_REQUEST */
    member_read(&scene.rig, &scene.member, &scene.content);
    scene.content.length =
        (size_t)((const char *)memrchr(scene.content.bytes, '\n', scene.content.length) -
                 scene.content.bytes) +
        1;
    struct tally tally = judge(buf_slice(&scene.content));
    assert_int_equal(tally.refreshes + tally.unknown, 0);
    assert_true(tally.events > 0 && tally.events == tally.last);
    close(scene.member.peer);
    buf_release(&scene.member.got);
    buf_release(&scene.content);
    member_leave(&scene.rig, &other);
    rig_end(&scene.rig);
}

/* An empty queue takes one event of any size; the next one is too much. */
static void test_empty_queue_takes_one_of_any_size(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene, CONFIG_SLOW_REFRESH);
    scene_publish(&scene, 20 * LIMIT);
    scene_turn(&scene);
    assert_true(scene.member.client->is_blocked);
    assert_null(scene.member.client->overflow);
    scene_turn(&scene);
    scene_read(&scene);
    assert_int_equal(judge(buf_slice(&scene.content)).events, 1);
    scene_publish(&scene, 20 * LIMIT);
    scene_publish(&scene, 20 * LIMIT);
    scene_turn(&scene);
    assert_true(scene.member.client->overflow != NULL);
    scene_read(&scene);
    struct tally tally = judge(buf_slice(&scene.content));
    assert_int_equal(tally.events, 2);
    assert_int_equal(tally.dropped, 1);
    scene_end(&scene);
}

/* Nothing waits for it, but its socket is full: that is an empty queue, too. */
static void test_one_of_any_size_before_a_full_socket(void **state) {
    (void)state;
    struct scene scene;
    size_t filled = 0;
    scene_begin(&scene, CONFIG_SLOW_REFRESH);
    while (send(scene.member.client->fd, "z", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1) {
        filled++;
    }
    scene_publish(&scene, 2 * LIMIT);
    scene_turn(&scene);
    assert_true(scene.member.client->is_blocked);
    assert_int_equal(scene.member.client->outlet.written_bytes, 0);
    assert_null(scene.member.client->overflow);
    struct buf filler = {0};
    assert_true(drain(scene.member.peer, &filler, filled));
    assert_int_equal(filler.length, filled);
    buf_release(&filler);
    scene_read(&scene);
    assert_int_equal(judge(buf_slice(&scene.content)).events, 1);
    scene_end(&scene);
}

/* Sizes, reads, turns and refreshes by chance: no hole that was not told, to the last event. */
static void test_overflow_by_chance(void **state) {
    (void)state;
    uint64_t refreshes = 0;
    uint64_t unknown = 0;
    for (uint32_t seed = 1; seed <= 60; seed++) {
        uint32_t random = seed;
        struct scene scene;
        scene_begin(&scene, CONFIG_SLOW_REFRESH);
        for (int step = 0; step < 400; step++) {
            uint32_t what = next_random(&random) % 100;
            if (what < 50) {
                scene_publish(&scene, next_random(&random) % (what < 5 ? 30000 : 3000));
            } else if (what < 75) {
                scene_turn(&scene);
            } else if (what < 98) {
                assert_true(drain(scene.member.peer, &scene.member.got,
                                  1 + next_random(&random) % (what < 80 ? 20000 : 1500)));
            } else if (seed % 2 == 0) {
                broadcast_refresh(&scene, SSE_REFRESH_GAP);
            }
            const struct outlet *outlet = &scene.member.client->outlet;
            if (what >= 50 && what < 75) { /* the turn is over: more does not wait */
                assert_true(outlet_queued_bytes(outlet) <= LIMIT ||
                            outlet->feed->next - outlet->cursor.frame <= 1 ||
                            outlet_first_unbegun(outlet) == outlet->feed->next);
            }
        }
        scene_read(&scene);
        struct tally tally = judge(buf_slice(&scene.content));
        assert_int_equal(tally.last, scene.number);
        assert_true(seed % 2 == 0 || tally.unknown == 0);
        assert_int_equal(delivered_on(&scene, 0) + delivered_on(&scene, 1), tally.events);
        assert_int_equal(delivered_on(&scene, 0) + delivered_on(&scene, 1) + dropped_on(&scene, 0) +
                             dropped_on(&scene, 1),
                         scene.number); /* each is one or the other */
        refreshes += tally.refreshes;
        unknown += tally.unknown;
        scene_end(&scene);
    }
    assert_true(refreshes > 100 && unknown > 50); /* the test tests something */
}

/* --- ids
 * ---------------------------------------------------------------------------------------------- */

static const struct position own_place = {0, "abcdefghijklm", 3};
static const struct position head = {0, "abcdefghijklm", 9};

/* A real request, from its beginning; the browser brings that position. */
static void open_stream(struct rig *rig, struct member *member, enum position_kind kind) {
    int fds[2];
    struct request request = {.method = METHOD_GET,
                              .route = {.kind = ROUTE_TOPIC_EVENTS, .topic = "a"},
                              .position_kind = kind,
                              .accepts_events = true};
    if (kind == POSITION_KNOWN) {
        request.position = own_place;
    }
    plain_pair(fds);
    client_create(&rig->stream, fds[0], 1, &request);
    *member = (struct member){.client = LIST_FIRST(&rig->stream.clients), .peer = fds[1]};
    rig->config.retry = 5;
}

static void accept_at_head(struct client *client, uint64_t token, bool follows) {
    struct wire_accepted message = {.token = token, .follows = follows, .position = head};
    assert_true(admission_on_accepted(client, &message));
}

/* What has come since, behind headers and without retry's jitter. */
static void expect_stream(struct rig *rig, struct member *member, const char *wanted) {
    struct buf content = {0};
    member_read(rig, member, &content);
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
static void silence(struct client *client) {
    client->written_ms = loop_now_ms(client->stream->loop) - client->stream->config->keep_alive;
    loop_timer_start(client->stream->loop, &client->timer, 0, client->timer.on_due);
}

#define ID(since)        "id: 0.abcdefghijklm." since "\n"
#define HEARTBEAT(since) ": heartbeat\n" ID(since) "\n"

/* From accepted to live: the id of each block, and of the heartbeats between them. */
static void test_ids_of_a_replay(void **state) {
    (void)state;
    struct rig rig;
    struct member member;
    rig_begin(&rig);
    open_stream(&rig, &member, POSITION_KNOWN);
    accept_at_head(member.client, 1, true);
    expect_stream(&rig, &member, ": listening a\n" ID("3") "\n"); /* its own */
    rig.stream.position = head;                                   /* what others have got */
    silence(member.client);
    expect_stream(&rig, &member, HEARTBEAT("3"));
    struct wire_event event = {.position = {0, "abcdefghijklm", 6},
                               .topic = LITERAL("a"),
                               .body = LITERAL("event: message\ndata: 6\n\n")};
    admission_on_replay(member.client, &event, 100);
    expect_stream(&rig, &member, ID("6") "event: message\ndata: 6\n\n");
    silence(member.client);
    expect_stream(&rig, &member, HEARTBEAT("6"));
    struct wire_refresh refresh = {.position = {0, "abcdefghijklm", 7},
                                   .reason = SSE_REFRESH_GAP,
                                   .dropped = SSE_DROPPED_UNKNOWN};
    admission_on_refresh(member.client, &refresh);
    expect_stream(&rig, &member,
                  ID("7") "event: refresh\ndata: {\"reason\":\"gap\",\"dropped\":null,"
                          "\"topics\":[\"a\"]}\n\n");
    silence(member.client);
    expect_stream(&rig, &member, HEARTBEAT("7"));
    admission_on_subscribed(member.client, &(struct wire_position){1, head});
    expect_stream(&rig, &member, ID("9") "\n");
    rig.stream.position.since = 12;
    silence(member.client);
    expect_stream(&rig, &member, HEARTBEAT("12")); /* live: what was applied last */
    assert_int_equal(member.client->audience->memberships[0].topic->delivered, 1);
    member_leave(&rig, &member);
    rig_end(&rig);
}

/* No id is sent twice in a row for nothing, and none behind what was not sent. */
static void test_ids_without_a_replay(void **state) {
    (void)state;
    struct rig rig;
    struct member member;
    rig_begin(&rig);
    open_stream(&rig, &member, POSITION_NONE);
    accept_at_head(member.client, 1, false);
    admission_on_subscribed(member.client, &(struct wire_position){1, head});
    expect_stream(&rig, &member, ": listening a\n" ID("9") "\n");
    member_leave(&rig, &member);
    open_stream(&rig, &member, POSITION_MALFORMED);
    accept_at_head(member.client, 1, true);
    struct wire_refresh refresh = {
        .position = head, .reason = SSE_REFRESH_UNKNOWN_POSITION, .dropped = SSE_DROPPED_UNKNOWN};
    silence(member.client); /* the block is open */
    run_turns(rig.loop, 1);
    admission_on_refresh(member.client, &refresh);
    admission_on_subscribed(member.client, &(struct wire_position){1, head});
    expect_stream(
        &rig, &member,
        ": listening a\n" ID("9") "event: refresh\ndata: {\"reason\":"
                                  "\"unknown_position\",\"dropped\":null,\"topics\":[\"a\"]}\n\n");
    member_leave(&rig, &member);
    rig_end(&rig);
}

/* A live one's heartbeat falls into the turn in which an event has come: its position stands behind
 * the event, which is not out yet. */
static void test_no_heartbeat_before_what_it_stands_behind(void **state) {
    (void)state;
    struct rig rig;
    struct member member;
    rig_begin(&rig);
    open_stream(&rig, &member, POSITION_NONE);
    accept_at_head(member.client, 1, false);
    admission_on_subscribed(member.client, &(struct wire_position){1, head});
    expect_stream(&rig, &member, ": listening a\n" ID("9") "\n");
    publish_at(&rig, "a", "10", 10);
    silence(member.client);
    expect_stream(&rig, &member, ID("10") "event: message\ndata: 10\n\n");
    silence(member.client);
    expect_stream(&rig, &member, HEARTBEAT("10"));
    member_leave(&rig, &member);
    rig_end(&rig);
}

/* The broker goes in the middle of a replay: it asks anew from its last id, and is not greeted
 * again; a live one stays live. */
static void test_broker_lost(void **state) {
    (void)state;
    struct rig rig;
    struct member replaying;
    struct member live;
    rig_begin(&rig);
    open_stream(&rig, &replaying, POSITION_KNOWN);
    accept_at_head(replaying.client, 1, true);
    struct wire_event event = {.position = {0, "abcdefghijklm", 6},
                               .topic = LITERAL("a"),
                               .body = LITERAL("event: message\ndata: 6\n\n")};
    admission_on_replay(replaying.client, &event, 100);
    open_stream(&rig, &live, POSITION_NONE);
    accept_at_head(live.client, 2, false);
    admission_on_subscribed(live.client, &(struct wire_position){2, head});
    expect_stream(&rig, &replaying,
                  ": listening a\n" ID("3") "\n" ID("6") "event: message\ndata: 6\n\n");
    expect_stream(&rig, &live, ": listening a\n" ID("9") "\n");
    admission_on_broker_lost(replaying.client);
    admission_on_broker_lost(live.client);
    assert_int_equal(live.client->state, CLIENT_LIVE);
    assert_int_equal(replaying.client->state, CLIENT_RESUBSCRIBING);
    assert_int_equal(replaying.client->inquiry->position_kind, POSITION_KNOWN);
    assert_true(position_equals(&replaying.client->inquiry->position, &event.position));
    assert_int_equal(replaying.client->inquiry->owed_credit_bytes, 0);
    accept_at_head(replaying.client, 3, false);
    admission_on_subscribed(replaying.client, &(struct wire_position){3, head});
    expect_stream(&rig, &replaying, ID("9") "\n");
    publish_at(&rig, "a", "10", 10);
    expect_stream(&rig, &replaying, ID("10") "event: message\ndata: 10\n\n");
    expect_stream(&rig, &live, ID("10") "event: message\ndata: 10\n\n");
    member_leave(&rig, &replaying);
    member_leave(&rig, &live);
    rig_end(&rig);
}

/* --- a stall
 * ------------------------------------------------------------------------------------------ */

/* In the middle of a replay, and its socket is full. */
static void block_replay(struct rig *rig, struct member *member) {
    int least = 1;
    char *filler = repeated('x', 3000);
    open_stream(rig, member, POSITION_KNOWN);
    struct client *client = member->client;
    assert_int_equal(setsockopt(client->fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0);
    accept_at_head(client, 1, true);
    for (uint64_t since = 4; since < 100 && !client->is_blocked; since++) {
        struct wire_event event = {.position = {0, "abcdefghijklm", since},
                                   .topic = LITERAL("a"),
                                   .body = slice_of(filler)};
        admission_on_replay(client, &event, 3000);
        run_turns(rig->loop, 1);
    }
    assert_true(client->is_blocked);
    assert_int_equal(client->state, CLIENT_GREETED);
    free(filler);
}

/* Nothing was taken for stall_timeout. */
static void stall(struct client *client) {
    client->written_ms = loop_now_ms(client->stream->loop) - client->stream->config->stall_timeout;
    loop_timer_start(client->stream->loop, &client->timer, 0, client->timer.on_due);
}

/* Who is closed for it is counted, also one that has not come to its live events. */
static void test_a_stalled_replay_is_counted(void **state) {
    (void)state;
    for (int is_lost = 0; is_lost < 2; is_lost++) {
        struct rig rig;
        struct member member;
        struct member other; /* so that the topic stays */
        rig_begin(&rig);
        member_join(&rig, &other, "a", NULL);
        struct fan_topic *topic = other.client->audience->memberships[0].topic;
        block_replay(&rig, &member);
        if (is_lost) {
            admission_on_broker_lost(member.client);
        }
        stall(member.client);
        run_turns(rig.loop, 2);
        assert_int_equal(rig.stream.client_count, 1);
        assert_int_equal(topic->dropped_clients, 1);
        assert_int_equal(topic->dropped_events, 0); /* its log still has them */
        close(member.peer);
        member_leave(&rig, &other);
        rig_end(&rig);
    }
}

/* It has overflowed, and the rest does not get away: its age is no reason to wait for ever. */
static void test_an_ending_one_stalls_whatever_its_age(void **state) {
    (void)state;
    struct rig rig;
    struct member member;
    rig_begin(&rig);
    rig.config.max_stream_age = 1000;
    block_replay(&rig, &member);
    client_finish(member.client); /* as slow_client = disconnect does */
    assert_int_equal(member.client->state, CLIENT_ENDING);
    if (member.client->ends_ms < INT64_MAX) {
        member.client->ends_ms = loop_now_ms(rig.loop); /* it is as old as it may become */
    }
    stall(member.client);
    run_turns(rig.loop, 2);
    assert_int_equal(rig.stream.client_count, 0);
    close(member.peer);
    rig_end(&rig);
}

/* One client is one, also if it was told to go first and then took nothing of it. */
static void test_a_stalled_overflow_is_counted_once(void **state) {
    (void)state;
    struct rig rig;
    struct member member;
    struct member other; /* so that the topic stays */
    rig_begin(&rig);
    rig.config.slow_client = CONFIG_SLOW_DISCONNECT;
    rig.config.client_queue_bytes = LIMIT;
    member_join(&rig, &other, "a", NULL);
    struct fan_topic *topic = other.client->audience->memberships[0].topic;
    block_replay(&rig, &member);
    admission_on_subscribed(member.client, &(struct wire_position){1, head});
    char *data = repeated('x', LIMIT);
    for (int i = 0; i < 3; i++) {
        struct buf drained = {0};
        publish_at(&rig, "a", data, 10);
        do {
            member_read(&rig, &other, &drained);
        } while (other.client->is_blocked);
        buf_release(&drained);
    }
    free(data);
    assert_int_equal(member.client->state, CLIENT_ENDING);
    assert_int_equal(other.client->state, CLIENT_LIVE);
    assert_int_equal(topic->dropped_clients, 1);
    stall(member.client);
    run_turns(rig.loop, 2);
    assert_int_equal(rig.stream.client_count, 1);
    assert_int_equal(topic->dropped_clients, 1);
    close(member.peer);
    member_leave(&rig, &other);
    rig_end(&rig);
}

RUN_TESTS(TEST(test_overflow_is_told), TEST(test_second_overflow_adds_to_the_first),
          TEST(test_second_overflow_behind_the_first), TEST(test_overflow_takes_a_refresh_along),
          TEST(test_disconnect), TEST(test_empty_queue_takes_one_of_any_size),
          TEST(test_one_of_any_size_before_a_full_socket), TEST(test_overflow_by_chance),
          TEST(test_ids_of_a_replay), TEST(test_ids_without_a_replay),
          TEST(test_no_heartbeat_before_what_it_stands_behind), TEST(test_broker_lost),
          TEST(test_a_stalled_replay_is_counted), TEST(test_an_ending_one_stalls_whatever_its_age),
          TEST(test_a_stalled_overflow_is_counted_once))
