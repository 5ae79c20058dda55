/* Streams of clients that take gzip: each of them decodes what it has got as far as it has come, gets
 * each event once and in order, or is told, and finds its end right. Clients are real ones, made live
 * by hand, behind sockets that take little. */
#include "fanout_rig.h"
#include "inflating.h"
#include "pulse.h"

/* --- browsers --------------------------------------------------------------------------------- */

struct browser {
    struct member *member;
    struct inflating inflating;
    struct buf content; /* before its headers are whole */
    bool has_headers;
    bool is_over; /* END_REQUEST has come */
    size_t read;  /* of the text */
    uint64_t number;
    uint64_t refreshes;
    bool is_unsure;     /* a refresh did not say how many events are missing */
    uint64_t joined_at; /* the next event when it joined */
};

static struct browser browsers[MEMBERS_MAX];
static uint64_t next_number; /* of the next event */

static void browsers_end(void) {
    for (size_t i = 0; i < length_of(browsers); i++) {
        inflating_release(&browsers[i].inflating);
        buf_release(&browsers[i].content);
    }
    rig_end();
}

static void browsers_begin(void) {
    rig_begin();
    fixture_end = browsers_end;
    memset(browsers, 0, sizeof browsers);
    next_number = 1;
}

static struct browser *browser_join(const char *topic) {
    struct browser *browser = &browsers[rig.member_count];
    browser->member = member_join_gzip(topic, NULL);
    browser->joined_at = next_number;
    return browser;
}

static struct output *output_of(const struct browser *browser) {
    return &browser->member->subscriber->client.seat.output;
}

static bool is_reader(const struct browser *browser) {
    return output_is_attached(output_of(browser));
}

static void browser_take(struct browser *browser, struct slice content) {
    if (browser->has_headers) {
        inflating_take(&browser->inflating, content);
        return;
    }
    buf_append_slice(&browser->content, content);
    const char *end = memmem(browser->content.bytes, browser->content.length, "\r\n\r\n", 4);
    if (end != NULL) {
        size_t length = (size_t)(end + 4 - browser->content.bytes);
        browser->has_headers = true;
        inflating_take(&browser->inflating,
                       (struct slice){end + 4, browser->content.length - length});
        buf_release(&browser->content);
    }
}

/* Reads at most so many bytes; records that are not whole wait. False: nothing has come. */
static bool browser_read(struct browser *browser, size_t most) {
    struct member *member = browser->member;
    size_t before = member->got.length;
    size_t at = 0;
    (void)(drain(member->peer, &member->got, most) == true);
    bool has_come = member->got.length > before;
    while (member->got.length - at >= RECORD_HEADER_BYTES) {
        const char *header = member->got.bytes + at;
        size_t length = (size_t)(unsigned char)header[4] << 8 | (unsigned char)header[5];
        if (member->got.length - at < RECORD_HEADER_BYTES + length) {
            break;
        }
        browser->is_over |= header[1] == 3;
        if (header[1] == 6) {
            browser_take(browser, (struct slice){header + RECORD_HEADER_BYTES, length});
        }
        at += RECORD_HEADER_BYTES + length;
    }
    buf_consume(&member->got, at);
    return has_come;
}

static void browser_read_all(struct browser *browser) {
    do {
        run_turns(rig.loop, 2);
    } while (browser_read(browser, SIZE_MAX));
}

static void browser_expect(struct browser *browser, const char *wanted) {
    browser_read_all(browser);
    struct buf *text = &browser->inflating.text;
    expect_slice((struct slice){text->bytes + browser->read, text->length - browser->read},
                 slice_of(wanted), "what the browser got");
    browser->read = text->length;
}

static void browser_end(struct browser *browser) {
    client_end(&browser->member->subscriber->client, 5);
    browser_read_all(browser);
    assert_true(browser->inflating.is_ended && browser->is_over);
}

#define GOODBYE "retry: 5\n: server shutting down\nevent: close\ndata: {}\n\n"

static void own_bytes(struct browser *browser, const char *text) {
    buf_append_text(client_own(&browser->member->subscriber->client), text);
    client_flush_soon(&browser->member->subscriber->client);
}

/* --- one after the other ---------------------------------------------------------------------- */

static void test_readers_share_the_blocks(void **state) {
    browsers_begin();
    struct browser *one = browser_join("a");
    struct browser *two = browser_join("a");
    assert_ptr_equal(one->member->subscriber->audience, two->member->subscriber->audience);
    publish("a", "1");
    publish("a", "2");
    const struct feed *feed = &one->member->subscriber->audience->feed;
    assert_int_equal(feed->next, 2);
    assert_true(feed->head < 2 * strlen(FRAME("1"))); /* the second refers to the first */
    browser_expect(one, FRAME("1") FRAME("2"));
    browser_expect(two, FRAME("1") FRAME("2"));
    publish("a", "3");
    browser_expect(one, FRAME("3"));
    browser_end(one);
    browser_expect(two, FRAME("3"));
    browser_end(two);
    browser_expect(two, GOODBYE);
}

static void test_others_of_the_topics_stay_plain(void **state) {
    browsers_begin();
    struct browser *one = browser_join("a");
    struct member *plain = member_join("a", NULL);
    assert_ptr_not_equal(one->member->subscriber->audience, plain->subscriber->audience);
    assert_null(plain->subscriber->client.seat.output.gzip);
    publish("a", "1");
    expect_content(plain, FRAME("1"));
    browser_expect(one, FRAME("1"));
    browser_end(one);
}

/* Three readers, so a few frames are copied before the reset. */
static void test_a_newcomer_gets_copies_until_a_reset(void **state) {
    static const char *const numbers[] = {"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"};
    browsers_begin();
    struct browser *old[] = {browser_join("a"), browser_join("a"), browser_join("a")};
    publish("a", "0");
    struct browser *new = browser_join("a");
    assert_false(is_reader(new));
    int copied = 0;
    for (size_t i = 0; i < length_of(numbers); i++) {
        publish("a", numbers[i]);
        copied += is_reader(new) ? 0 : 1;
        char wanted[128];
        snprintf(wanted, sizeof wanted, FRAME("%s"), numbers[i]);
        browser_expect(new, wanted);
        assert_true(output_of(new)->has_sent_feed);
    }
    assert_true(copied >= 3 && is_reader(new));
    browser_expect(old[1], FRAME("0") FRAME("1") FRAME("2") FRAME("3") FRAME("4") FRAME("5")
                               FRAME("6") FRAME("7") FRAME("8") FRAME("9") FRAME("10") FRAME("11"));
    browser_read_all(old[0]);
    browser_read_all(old[2]);
    const struct fan_topic *topic = new->member->subscriber->audience->memberships[0].topic;
    assert_int_equal(topic->tally.delivered, 3 * 12 + 11); /* copies, too */
    for (size_t i = 0; i < length_of(old); i++) {
        browser_end(old[i]);
    }
    browser_end(new);
}

/* Its own bytes are between what the next frame refers to and that frame. */
static void test_own_bytes_make_a_newcomer(void **state) {
    browsers_begin();
    struct browser *one = browser_join("a");
    struct browser *others[] = {browser_join("a"), browser_join("a"), browser_join("a")};
    publish("a", "1");
    browser_expect(one, FRAME("1"));
    own_bytes(one, ": heartbeat\n");
    assert_false(is_reader(one));
    publish("a", "2");
    assert_false(is_reader(one));
    browser_expect(one, ": heartbeat\n" FRAME("2"));
    own_bytes(one, ": more\n");
    for (int i = 0; i < 20 && !is_reader(one); i++) {
        publish("a", "3");
        browser_expect(one, i == 0 ? ": more\n" FRAME("3") : FRAME("3"));
    }
    assert_true(is_reader(one));
    browser_end(one);
    for (size_t i = 0; i < length_of(others); i++) {
        browser_end(others[i]);
    }
}

/* It is nobody's loss, so the group is reset at once. */
static void test_a_heartbeat_for_everybody(void **state) {
    browsers_begin();
    struct browser *one = browser_join("a");
    struct browser *two = browser_join("a");
    publish("a", "1");
    browser_expect(one, FRAME("1"));
    browser_expect(two, FRAME("1"));
    own_bytes(one, ": heartbeat\n");
    own_bytes(two, ": heartbeat\n");
    publish("a", "2");
    assert_true(is_reader(one) && is_reader(two));
    browser_expect(one, ": heartbeat\n" FRAME("2"));
    browser_expect(two, ": heartbeat\n" FRAME("2"));
    browser_end(one);
    browser_end(two);
}

/* Copies for a client that does not read would grow without end. */
static void test_a_blocked_newcomer_becomes_a_reader(void **state) {
    browsers_begin();
    struct browser *others[] = {browser_join("a"), browser_join("a"), browser_join("a")};
    publish("a", "0");
    struct browser *slow = browser_join("a");
    char *filler = repeated('x', 60000);
    own_bytes(slow, ": ");
    own_bytes(slow, filler);
    own_bytes(slow, "\n");
    /* Noise, since it must not shrink. */
    uint32_t chance = 1;
    struct buf noise = {0};
    for (int i = 0; i < 60000; i++) {
        buf_printf(&noise, "%c", 'a' + (int)(next_random(&chance) % 26));
    }
    own_bytes(slow, ": ");
    buf_append_slice(client_own(&slow->member->subscriber->client), buf_slice(&noise));
    own_bytes(slow, "\n");
    run_turns(rig.loop, 2);
    assert_true(output_of(slow)->is_blocked);
    assert_false(is_reader(slow));
    publish("a", "1");
    assert_true(is_reader(slow));
    browser_read_all(slow);
    struct slice text = buf_slice(&slow->inflating.text);
    assert_int_equal(text.length, 6 + 120000 + strlen(FRAME("1")));
    browser_end(slow);
    for (size_t i = 0; i < length_of(others); i++) {
        browser_expect(others[i], FRAME("0") FRAME("1"));
        browser_end(others[i]);
    }
    buf_release(&noise);
    free(filler);
}

/* Two refreshes of a turn become one. The first has gone through the compressor, and reaches
 * nobody. */
static void test_a_refresh_that_is_taken_back(void **state) {
    struct wire_refresh refresh = {.topic = key_of("a"),
                                   .position = {0, "abcdefghijklm", 5},
                                   .reason = SSE_REFRESH_GAP,
                                   .dropped = 2};
    browsers_begin();
    struct browser *one = browser_join("a");
    publish("a", "1");
    struct browser *new = browser_join("a");
    fanout_refresh(&rig.subscribers.fanout, &refresh, DURABLE(0));
    fanout_refresh(&rig.subscribers.fanout, &refresh, DURABLE(0));
    publish("a", "2");
    assert_true(is_reader(new));
    const char *told = "id: 0.abcdefghijklm.5\nevent: refresh\n"
                       "data: {\"reason\":\"gap\",\"dropped\":4,\"topics\":[\"a\"]}\n\n" FRAME("2");
    browser_expect(new, told);
    char wanted[512];
    snprintf(wanted, sizeof wanted, "%s%s", FRAME("1"), told);
    browser_expect(one, wanted);
    browser_end(one);
    browser_end(new);
}

/* --- what is counted -------------------------------------------------------------------------- */

static void test_saved_bytes(void **state) {
    browsers_begin();
    struct browser *one = browser_join("a");
    struct browser *two = browser_join("a");
    struct compressors *compressors = &rig.subscribers.fanout.compressors;
    for (int i = 0; i < 10; i++) {
        publish("a", "1");
    }
    browser_read_all(one);
    browser_read_all(two);
    const struct feed *feed = &one->member->subscriber->audience->feed;
    assert_int_equal(compressors->plain_bytes, 20 * strlen(FRAME("1")));
    assert_int_equal(compressors->sent_bytes, 2 * feed->head);
    own_bytes(one, ": heartbeat\n");
    run_turns(rig.loop, 2);
    assert_int_equal(compressors->plain_bytes, 20 * strlen(FRAME("1")) + 12);
    assert_int_equal(compressors->sent_bytes, 2 * feed->head + 17); /* 5 more than plain */
    browser_end(one);
    browser_end(two);
}

static void test_a_stream_is_small(void **state) {
    assert_true(sizeof(struct gzip_stream) < 200);
    browsers_begin();
    struct browser *one = browser_join("a");
    publish("a", "1");
    browser_expect(one, FRAME("1"));
    assert_null(output_of(one)->own.bytes);
    assert_null(output_of(one)->gzip->draft.bytes);
    browser_end(one);
}

/* --- at random --------------------------------------------------------------------------------
 *
 * Events have numbers, and lengths from nothing to more than a record. A browser reads when it
 * likes. */

enum { QUEUE_BYTES = 30000, STEPS = 1500 };

static uint32_t chance;

static uint32_t draw(uint32_t below) {
    return next_random(&chance) % below;
}

static void publish_numbered(void) {
    struct buf data = {0};
    size_t length = draw(40) == 0 ? draw(60000) : draw(200);
    bool is_noise = draw(3) == 0;
    buf_printf(&data, "{\"n\":%llu,\"x\":\"", (unsigned long long)next_number++);
    while (length-- > 0) {
        buf_printf(&data, "%c", is_noise ? 'a' + (int)draw(26) : 'x');
    }
    buf_append_text(&data, "\"}");
    buf_append(&data, "", 1);
    publish_at("a", data.bytes, next_number);
    buf_release(&data);
}

static void refresh_all(void) {
    struct wire_refresh refresh = {.topic = key_of("a"),
                                   .position = {0, "abcdefghijklm", next_number},
                                   .reason = SSE_REFRESH_GAP,
                                   .dropped = 0};
    fanout_refresh(&rig.subscribers.fanout, &refresh, DURABLE(0));
}

/* Checks the blocks that are whole. */
static void browser_check(struct browser *browser) {
    struct buf *text = &browser->inflating.text;
    const char *end;
    while ((end = text->length == browser->read
                      ? NULL
                      : memmem(text->bytes + browser->read, text->length - browser->read, "\n\n",
                               2)) != NULL) {
        const char *at = text->bytes + browser->read;
        struct slice block = {at, (size_t)(end - at)};
        const char *number = memmem(block.at, block.length, "{\"n\":", 5);
        const char *dropped = memmem(block.at, block.length, "\"dropped\":", 10);
        uint64_t before = browser->number == 0 ? browser->joined_at - 1 : browser->number;
        if (number != NULL) {
            browser->number = strtoull(number + 5, NULL, 10);
            assert_true(browser->is_unsure ? browser->number > before
                                           : browser->number == before + 1);
            browser->is_unsure = false;
        } else if (dropped != NULL) {
            browser->refreshes++;
            bool is_known = strncmp(dropped + 10, "null", 4) != 0;
            browser->is_unsure |= !is_known; /* a refresh was among what was dropped */
            browser->number = before + (is_known ? strtoull(dropped + 10, NULL, 10) : 0);
        }
        browser->read += block.length + 2;
    }
}

static void browser_own(struct browser *browser) {
    if (output_is_empty(output_of(browser))) {
        own_bytes(browser, draw(2) == 0 ? ": heartbeat\n"
                                        : "event: position\nid: 0.abcdefghijklm.7\ndata: 1\n\n");
    }
}

static void browser_leave(struct browser *browser, bool is_in_order) {
    if (is_in_order) {
        browser_end(browser);
        browser_check(browser);
        assert_int_equal(browser->read, browser->inflating.text.length);
    } else {
        member_leave(browser->member);
    }
    browser->member = NULL;
}

static struct browser *browser_again(struct browser *browser) {
    /* A new client in the old one's place: the rig has room for few. */
    close(rig.members[browser - browsers].peer);
    buf_release(&rig.members[browser - browsers].got);
    inflating_release(&browser->inflating);
    buf_release(&browser->content);
    *browser = (struct browser){0};
    size_t count = rig.member_count;
    rig.member_count = (size_t)(browser - browsers);
    browser = browser_join("a");
    rig.member_count = count;
    return browser;
}

static void random_step(void) {
    struct browser *browser = &browsers[draw(6)];
    switch (draw(12)) {
    case 0:
        browser_leave(browser, draw(2) == 0);
        (void)browser_again(browser);
        return;
    case 1:
    case 2:
        browser_own(browser);
        return;
    case 3:
        run_turns(rig.loop, 2);
        return;
    case 4:
    case 5:
        (void)browser_read(browser, draw(5000));
        run_turns(rig.loop, 1);
        return;
    case 6:
        browser_read_all(browser);
        return;
    case 7:
        if (draw(10) == 0) {
            refresh_all();
        }
        return;
    default:
        for (uint32_t i = draw(4); i < 4; i++) {
            publish_numbered();
        }
        return;
    }
}

/* All that was written for it is decoded, down to the last event. */
static void expect_all_there(struct browser *browser) {
    browser_read_all(browser);
    browser_check(browser);
    if (next_number > browser->joined_at && !browser->is_unsure) {
        assert_int_equal(browser->number == 0 ? browser->joined_at - 1 : browser->number,
                         next_number - 1);
    }
}

static void play(uint32_t seed, enum config_slow_client slow_client) {
    chance = seed;
    browsers_begin();
    rig.config.client_queue_bytes = QUEUE_BYTES;
    rig.config.slow_client = slow_client;
    for (size_t i = 0; i < 6; i++) {
        (void)browser_join("a");
    }
    for (int step = 0; step < STEPS; step++) {
        random_step();
        if (step % 100 == 99) {
            for (size_t i = 0; i < 6; i++) {
                expect_all_there(&browsers[i]);
            }
        }
    }
    for (size_t i = 0; i < 6; i++) {
        expect_all_there(&browsers[i]);
        browser_leave(&browsers[i], true);
    }
    assert_int_equal(rig.subscribers.fanout.compressors.count, 0);
}

static void test_at_random(void **state) {
    uint64_t refreshes = 0;
    for (uint32_t seed = 1; seed <= 12; seed++) {
        play(seed, CONFIG_SLOW_REFRESH);
        for (size_t i = 0; i < 6; i++) {
            refreshes += browsers[i].refreshes;
        }
    }
    assert_true(refreshes > 10); /* clients were too slow */
}

RUN_TESTS(TEST(test_readers_share_the_blocks), TEST(test_others_of_the_topics_stay_plain),
          TEST(test_a_newcomer_gets_copies_until_a_reset), TEST(test_own_bytes_make_a_newcomer),
          TEST(test_a_heartbeat_for_everybody), TEST(test_a_blocked_newcomer_becomes_a_reader),
          TEST(test_a_refresh_that_is_taken_back), TEST(test_saved_bytes),
          TEST(test_a_stream_is_small), TEST(test_at_random))
