/* One client's way out, at every possible partial write: what comes out are whole FastCGI records
 * whose content is own bytes and frames, in order, none inside another. */
#include "fake_send.h"
#include "fanout.h"
#include "outlet.h"

enum { REQUEST_ID = 0x1234 };

/* --- what came out ------------------------------------------------------------------------------
 */

struct answer {
    struct buf content;
    size_t records;
    bool has_trailer;
    bool is_whole; /* it does not end within a record */
};

/* Fails where the bytes break the rules of FastCGI or of record.h. */
static void read_records(struct slice bytes, struct answer *answer) {
    char trailer[RECORD_TRAILER_BYTES];
    record_trailer(trailer, REQUEST_ID);
    *answer = (struct answer){.is_whole = true};
    while (bytes.length > 0) {
        assert_false(answer->has_trailer); /* it is the last */
        if (bytes.length < RECORD_HEADER_BYTES) {
            answer->is_whole = false;
            return;
        }
        assert_memory_equal(bytes.at, "\x01\x06\x12\x34", 4);
        assert_memory_equal(bytes.at + 6, "\0\0", 2);
        size_t content = (size_t)(unsigned char)bytes.at[4] << 8 | (unsigned char)bytes.at[5];
        if (content == 0) {
            size_t length = bytes.length < sizeof trailer ? bytes.length : sizeof trailer;
            assert_memory_equal(bytes.at, trailer, length);
            answer->has_trailer = length == sizeof trailer;
            answer->is_whole = answer->has_trailer;
            bytes = (struct slice){bytes.at + length, bytes.length - length};
            continue;
        }
        assert_true(content <= RECORD_CONTENT_MAX);
        size_t there = bytes.length - RECORD_HEADER_BYTES;
        size_t taken = content < there ? content : there;
        buf_append(&answer->content, bytes.at + RECORD_HEADER_BYTES, taken);
        answer->records++;
        answer->is_whole = taken == content;
        bytes = (struct slice){bytes.at + RECORD_HEADER_BYTES + taken, there - taken};
    }
}

/* --- a client -----------------------------------------------------------------------------------
 */

struct rig {
    struct feed feed;
    struct outlet outlet;
    struct slice frames[16]; /* what was appended since it attached */
    size_t frame_count;
    struct fan_topic topic;
};

static void rig_begin(struct rig *rig, size_t allowance) {
    *rig = (struct rig){0};
    fake_begin(allowance);
    feed_init(&rig->feed);
    outlet_init(&rig->outlet, REQUEST_ID);
    outlet_attach(&rig->outlet, &rig->feed);
}

static void rig_end(struct rig *rig) {
    outlet_release(&rig->outlet);
    feed_release(&rig->feed);
    fake_begin(0);
}

static void rig_append(struct rig *rig, struct slice frame) {
    memcpy(feed_append(&rig->feed, frame.length, &rig->topic), frame.at, frame.length);
    rig->frames[rig->frame_count++] = frame;
}

static enum outlet_result rig_write_all(struct rig *rig) {
    fake.allowance = SIZE_MAX;
    return outlet_write(&rig->outlet, FAKE_FD);
}

static void rig_own(struct rig *rig, const char *text) {
    buf_append_text(&rig->outlet.own, text);
}

/* Frames that come before `count`, one behind the other. */
static void frames_up_to(const struct rig *rig, size_t count, struct buf *into) {
    for (size_t i = 0; i < count; i++) {
        buf_append_slice(into, rig->frames[i]);
    }
}

/* --- plain ---------------------------------------------------------------------------------------
 */

static void test_own_bytes_only(void **state) {
    (void)state;
    struct rig rig;
    struct answer answer;
    rig_begin(&rig, SIZE_MAX);
    assert_true(outlet_is_empty(&rig.outlet));
    assert_int_equal(outlet_write(&rig.outlet, FAKE_FD), OUTLET_DRAINED);
    rig_own(&rig, "hello");
    assert_int_equal(outlet_queued_bytes(&rig.outlet), 5);
    assert_false(outlet_is_empty(&rig.outlet));
    assert_int_equal(outlet_write(&rig.outlet, FAKE_FD), OUTLET_DRAINED);
    assert_true(outlet_is_empty(&rig.outlet));
    assert_int_equal(outlet_queued_bytes(&rig.outlet), 0);
    assert_int_equal(rig.outlet.written_bytes, 13);
    read_records(buf_slice(&fake.out), &answer);
    assert_int_equal(answer.records, 1);
    expect_buf(&answer.content, "hello");
    rig_end(&rig);
}

static void test_frames_are_counted_as_delivered(void **state) {
    (void)state;
    struct rig rig;
    struct answer answer;
    rig_begin(&rig, SIZE_MAX);
    rig_append(&rig, LITERAL("one"));
    rig_append(&rig, LITERAL("two"));
    assert_int_equal(outlet_queued_bytes(&rig.outlet), 6);
    assert_int_equal(rig.topic.delivered, 0);
    assert_int_equal(outlet_write(&rig.outlet, FAKE_FD), OUTLET_DRAINED);
    assert_int_equal(rig.topic.delivered, 2);
    rig_append(&rig, LITERAL("three"));
    assert_int_equal(outlet_write(&rig.outlet, FAKE_FD), OUTLET_DRAINED);
    assert_int_equal(rig.topic.delivered, 3);
    read_records(buf_slice(&fake.out), &answer);
    assert_int_equal(answer.records, 2);
    expect_buf(&answer.content, "onetwothree");
    rig_end(&rig);
}

static void test_gets_nothing_from_before_it_attached(void **state) {
    (void)state;
    struct rig rig;
    struct outlet late;
    struct answer answer;
    rig_begin(&rig, SIZE_MAX);
    rig_append(&rig, LITERAL("before"));
    outlet_init(&late, REQUEST_ID);
    outlet_attach(&late, &rig.feed);
    rig_append(&rig, LITERAL("after"));
    assert_int_equal(outlet_write(&late, FAKE_FD), OUTLET_DRAINED);
    read_records(buf_slice(&fake.out), &answer);
    expect_buf(&answer.content, "after");
    outlet_detach(&late, OUTLET_KEEP_ALL);
    outlet_release(&late);
    rig_end(&rig);
}

static void test_trailer_once(void **state) {
    (void)state;
    struct rig rig;
    struct answer answer;
    rig_begin(&rig, SIZE_MAX);
    rig_own(&rig, "bye");
    outlet_detach(&rig.outlet, OUTLET_KEEP_ALL);
    outlet_end(&rig.outlet);
    assert_false(outlet_is_empty(&rig.outlet));
    assert_int_equal(outlet_write(&rig.outlet, FAKE_FD), OUTLET_DONE);
    read_records(buf_slice(&fake.out), &answer);
    assert_true(answer.has_trailer);
    expect_buf(&answer.content, "bye");
    rig_end(&rig);
}

static void test_trailer_without_content(void **state) {
    (void)state;
    struct rig rig;
    struct answer answer;
    rig_begin(&rig, SIZE_MAX);
    outlet_detach(&rig.outlet, OUTLET_KEEP_BEGUN);
    outlet_end(&rig.outlet);
    assert_int_equal(outlet_write(&rig.outlet, FAKE_FD), OUTLET_DONE);
    read_records(buf_slice(&fake.out), &answer);
    assert_true(answer.has_trailer && answer.records == 0);
    rig_end(&rig);
}

/* 20 records' worth of each kind: more than one call's plan. */
static void test_much_at_once(void **state) {
    (void)state;
    struct rig rig;
    struct answer answer;
    struct buf wanted = {0};
    char *own = repeated('o', 20 * RECORD_CONTENT_MAX + 1);
    char *frame = repeated('f', 20 * RECORD_CONTENT_MAX + 1);
    rig_begin(&rig, SIZE_MAX);
    rig_own(&rig, own);
    rig_append(&rig, slice_of(frame));
    rig_append(&rig, LITERAL("last"));
    assert_int_equal(outlet_write(&rig.outlet, FAKE_FD), OUTLET_DRAINED);
    buf_printf(&wanted, "%s%slast", own, frame);
    read_records(buf_slice(&fake.out), &answer);
    expect_slice(buf_slice(&answer.content), buf_slice(&wanted), "content");
    assert_true(answer.is_whole);
    assert_true(outlet_is_empty(&rig.outlet));
    assert_int_equal(rig.topic.delivered, 2);
    buf_release(&answer.content);
    buf_release(&wanted);
    free(own);
    free(frame);
    rig_end(&rig);
}

/* As many whole frames as fit share a record; none is cut that would fit into the next. */
static void test_frames_share_records(void **state) {
    (void)state;
    struct rig rig;
    struct answer answer;
    char *frame = repeated('f', 6000);
    rig_begin(&rig, SIZE_MAX);
    for (int i = 0; i < 6; i++) {
        rig_append(&rig, slice_of(frame));
    }
    assert_int_equal(outlet_write(&rig.outlet, FAKE_FD), OUTLET_DRAINED);
    read_records(buf_slice(&fake.out), &answer);
    assert_int_equal(answer.records, 3);
    assert_int_equal(answer.content.length, 36000);
    buf_release(&answer.content);
    free(frame);
    rig_end(&rig);
}

static void test_broken(void **state) {
    (void)state;
    struct rig rig;
    int fds[2];
    rig_begin(&rig, 0);
    plain_pair(fds);
    close(fds[1]);
    rig_own(&rig, "x");
    assert_int_equal(outlet_write(&rig.outlet, fds[0]), OUTLET_BROKEN);
    assert_int_equal(errno, EPIPE);
    close(fds[0]);
    rig_end(&rig);
}

static void test_blocked(void **state) {
    (void)state;
    struct rig rig;
    rig_begin(&rig, 0);
    rig_own(&rig, "x");
    assert_int_equal(outlet_write(&rig.outlet, FAKE_FD), OUTLET_BLOCKED);
    assert_int_equal(rig.outlet.written_bytes, 0);
    assert_false(outlet_is_empty(&rig.outlet));
    rig_end(&rig);
}

/* --- detaching at every byte --------------------------------------------------------------------
 */

/* What one walk does: some bytes get out, then the client leaves the feed, and all that is left. */
struct walk {
    const char *own;
    struct slice frames[4];
    const char *own_while_blocked; /* appended when the socket has taken its bytes */
};

/* How many bytes would go out if nothing stopped. */
static size_t whole_length(const struct walk *walk) {
    struct rig rig;
    rig_begin(&rig, SIZE_MAX);
    rig_own(&rig, walk->own);
    for (size_t i = 0; i < length_of(walk->frames) && walk->frames[i].length > 0; i++) {
        rig_append(&rig, walk->frames[i]);
    }
    assert_int_equal(rig_write_all(&rig), OUTLET_DRAINED);
    size_t length = fake.out.length;
    rig_end(&rig);
    return length;
}

/* The content is own bytes and a run of whole frames from the first on; how many frames, or -1. */
static int frames_in(const struct rig *rig, const struct walk *walk, struct slice content) {
    for (size_t count = rig->frame_count + 1; count-- > 0;) {
        for (size_t before = 0; before <= count; before++) {
            struct buf wanted = {0};
            buf_append_text(&wanted, walk->own);
            frames_up_to(rig, before, &wanted);
            buf_append_text(&wanted, walk->own_while_blocked);
            for (size_t i = before; i < count; i++) {
                buf_append_slice(&wanted, rig->frames[i]);
            }
            buf_append_text(&wanted, "{after}");
            bool is_equal = slice_equals(content, buf_slice(&wanted));
            buf_release(&wanted);
            if (is_equal) {
                return (int)count;
            }
        }
    }
    return -1;
}

static void walk_once(const struct walk *walk, size_t allowance, enum outlet_kept kept) {
    struct rig rig;
    struct answer begun;
    struct answer answer;
    rig_begin(&rig, allowance);
    rig_own(&rig, walk->own);
    for (size_t i = 0; i < length_of(walk->frames) && walk->frames[i].length > 0; i++) {
        rig_append(&rig, walk->frames[i]);
    }
    assert_int_not_equal(outlet_write(&rig.outlet, FAKE_FD), OUTLET_BROKEN);
    assert_int_equal(rig.outlet.written_bytes, fake.out.length);
    read_records(buf_slice(&fake.out), &begun);
    rig_own(&rig, walk->own_while_blocked);
    outlet_detach(&rig.outlet, kept);
    outlet_detach(&rig.outlet, kept);    /* twice is harmless */
    feed_trim(&rig.feed, rig.feed.next); /* nothing of the feed is needed any more */
    rig_own(&rig, "{after}");
    outlet_end(&rig.outlet);
    assert_int_equal(rig_write_all(&rig), OUTLET_DONE);
    read_records(buf_slice(&fake.out), &answer);
    int count = frames_in(&rig, walk, buf_slice(&answer.content));
    bool is_right = answer.has_trailer && count >= 0 &&
                    (kept == OUTLET_KEEP_BEGUN || count == (int)rig.frame_count) &&
                    rig.topic.delivered == (uint64_t)count;
    if (!is_right) {
        fail_msg("%zu bytes out, %s: trailer %d, %d frames, %u delivered", allowance,
                 kept == OUTLET_KEEP_ALL ? "all kept" : "only what was begun", answer.has_trailer,
                 count, (unsigned)rig.topic.delivered);
    }
    /* what is dropped had not begun: at a clean end nothing more of the feed follows */
    if (kept == OUTLET_KEEP_BEGUN && begun.is_whole && begun.content.length <= strlen(walk->own)) {
        assert_int_equal(count, 0);
    }
    buf_release(&begun.content);
    buf_release(&answer.content);
    rig_end(&rig);
}

static void walk_all(const struct walk *walk, size_t step) {
    size_t length = whole_length(walk);
    for (size_t allowance = 0; allowance <= length; allowance += step) {
        walk_once(walk, allowance, OUTLET_KEEP_ALL);
        walk_once(walk, allowance, OUTLET_KEEP_BEGUN);
    }
}

static void test_detach_at_every_byte_of_small_frames(void **state) {
    (void)state;
    static const struct walk walks[] = {
        {"", {LITERAL("[one]"), LITERAL("[two]"), LITERAL("[three]")}, ""},
        {"{own}", {LITERAL("[one]"), LITERAL("[two]"), LITERAL("[three]")}, ""},
        {"{own}", {LITERAL("[one]"), LITERAL("[two]"), LITERAL("[three]")}, "{more}"},
        {"", {LITERAL("[one]"), LITERAL("[two]")}, "{more}"},
        {"{own}", {{NULL, 0}}, "{more}"},
        {"", {LITERAL("[one]")}, ""},
        {"", {{NULL, 0}}, ""},
    };
    for (size_t i = 0; i < length_of(walks); i++) {
        walk_all(&walks[i], 1);
    }
}

/* Frames around the size of a record, and one of several records between small ones. */
static void test_detach_within_long_frames(void **state) {
    (void)state;
    static const size_t sizes[] = {RECORD_CONTENT_MAX - 1, RECORD_CONTENT_MAX,
                                   RECORD_CONTENT_MAX + 1, 2 * RECORD_CONTENT_MAX + 5};
    for (size_t i = 0; i < length_of(sizes); i++) {
        char *text = repeated('L', sizes[i]);
        struct walk walk = {
            "{own}", {LITERAL("[one]"), {text, sizes[i]}, LITERAL("[three]")}, "{more}"};
        size_t length = whole_length(&walk);
        walk_all(&walk, 797);
        for (size_t near = 0; near < 40; near++) { /* the edges of records, byte for byte */
            static const size_t edges[] = {0, RECORD_CONTENT_MAX, 2 * RECORD_CONTENT_MAX};
            for (size_t e = 0; e < length_of(edges); e++) {
                if (edges[e] + near <= length) {
                    walk_once(&walk, edges[e] + near, OUTLET_KEEP_ALL);
                    walk_once(&walk, edges[e] + near, OUTLET_KEEP_BEGUN);
                }
            }
            walk_once(&walk, length - near, OUTLET_KEEP_ALL);
            walk_once(&walk, length - near, OUTLET_KEEP_BEGUN);
        }
        free(text);
    }
}

/* --- by chance
 * ------------------------------------------------------------------------------------ */

struct schedule {
    uint32_t random;
    struct feed feed;
    struct outlet outlet;
    unsigned frames; /* appended while attached */
    unsigned owns;
    struct fan_topic topic;
};

/* "[12:####]" is frame 12, "{12:####}" own bytes 12. */
static void unit_text(struct buf *out, char open, unsigned number, size_t filler) {
    char close = open == '[' ? ']' : '}';
    buf_printf(out, "%c%u:", open, number);
    char *fill = repeated('#', filler);
    buf_append_text(out, fill);
    free(fill);
    buf_append(out, &close, 1);
}

static size_t random_size(uint32_t *random) {
    switch (next_random(random) % 8) {
    case 0:
        return next_random(random) % 40000;
    case 1:
        return RECORD_CONTENT_MAX - 10 + next_random(random) % 20;
    default:
        return next_random(random) % 200;
    }
}

/* Reads units from content: each whole, own ones all and in order, frames ascending. Returns the
 * number of frames, or -1. */
static long count_units(struct slice content, unsigned owns, uint64_t *last_frame) {
    size_t at = 0;
    unsigned own = 0;
    long frames = 0;
    *last_frame = 0;
    while (at < content.length) {
        char open = content.at[at++];
        char close = open == '[' ? ']' : '}';
        uint64_t number = 0;
        if (open != '[' && open != '{') {
            return -1;
        }
        while (at < content.length && content.at[at] >= '0' && content.at[at] <= '9') {
            number = number * 10 + (uint64_t)(content.at[at++] - '0');
        }
        if (at == content.length || content.at[at++] != ':') {
            return -1;
        }
        while (at < content.length && content.at[at] == '#') {
            at++;
        }
        if (at == content.length || content.at[at++] != close) {
            return -1;
        }
        if (open == '{' && number != own++) {
            return -1;
        }
        if (open == '[' && frames++ > 0 && number <= *last_frame) {
            return -1;
        }
        *last_frame = open == '[' ? number : *last_frame;
    }
    return own == owns ? frames : -1;
}

/* Appends, writes, detaches (keeping all, so that no frame may be missing) and attaches again. At
 * the end it leaves in the way that was asked for. Returns false when the outcome is wrong. */
static bool run_schedule(uint32_t seed, enum outlet_kept last, int fds[2], struct buf *out) {
    struct schedule s = {.random = seed};
    struct buf text = {0};
    int fd = fds == NULL ? FAKE_FD : fds[0];
    bool is_done = false;
    fake_begin(0);
    feed_init(&s.feed);
    outlet_init(&s.outlet, REQUEST_ID);
    outlet_attach(&s.outlet, &s.feed);
    for (int step = 0; step < 200; step++) {
        text.length = 0;
        switch (next_random(&s.random) % 6) {
        case 0:
        case 1:
            if (s.outlet.feed != NULL) {
                unit_text(&text, '[', s.frames++, random_size(&s.random));
                memcpy(feed_append(&s.feed, text.length, &s.topic), text.bytes, text.length);
            }
            break;
        case 2:
            unit_text(&s.outlet.own, '{', s.owns++, random_size(&s.random));
            break;
        case 3:
            if (next_random(&s.random) % 8 == 0 && s.outlet.feed != NULL) {
                outlet_detach(&s.outlet, OUTLET_KEEP_ALL);
            } else if (s.outlet.feed == NULL) {
                outlet_attach(&s.outlet, &s.feed);
            }
            break;
        default:
            fake.allowance += next_random(&s.random) % 9000;
            fake.most = next_random(&s.random) % 5000;
            assert_int_not_equal(outlet_write(&s.outlet, fd), OUTLET_BROKEN);
            if (fds != NULL) {
                (void)drain(fds[1], out, next_random(&s.random) % 9000);
            }
            feed_trim(&s.feed, s.outlet.feed == NULL ? s.feed.next : s.outlet.cursor.frame);
            break;
        }
    }
    uint64_t delivered_before = s.topic.delivered; /* these may not be dropped any more */
    outlet_detach(&s.outlet, last);
    unit_text(&s.outlet.own, '{', s.owns++, 10);
    outlet_end(&s.outlet);
    fake.allowance = SIZE_MAX;
    for (int tries = 0; tries < 100000 && !is_done; tries++) {
        enum outlet_result result = outlet_write(&s.outlet, fd);
        is_done = result == OUTLET_DONE;
        if (fds != NULL) {
            (void)drain_all(fds[1], out);
        }
    }
    struct answer answer;
    uint64_t last_frame;
    read_records(fds == NULL ? buf_slice(&fake.out) : buf_slice(out), &answer);
    long frames = count_units(buf_slice(&answer.content), s.owns, &last_frame);
    bool is_right = is_done && answer.has_trailer && (uint64_t)frames >= delivered_before &&
                    (uint64_t)frames == s.topic.delivered &&
                    (frames == 0 || last_frame == (uint64_t)frames - 1) &&
                    (last == OUTLET_KEEP_BEGUN || frames == (long)s.frames);
    buf_release(&answer.content);
    buf_release(&text);
    outlet_release(&s.outlet);
    feed_release(&s.feed);
    fake_begin(0);
    return is_right;
}

static void test_random_schedules(void **state) {
    (void)state;
    for (uint32_t seed = 1; seed <= 400; seed++) {
        enum outlet_kept last = seed % 2 == 0 ? OUTLET_KEEP_ALL : OUTLET_KEEP_BEGUN;
        if (!run_schedule(seed, last, NULL, NULL)) {
            fail_msg("seed %u", seed);
        }
    }
}

static void test_random_schedules_on_a_small_socket(void **state) {
    (void)state;
    for (uint32_t seed = 1; seed <= 100; seed++) {
        enum outlet_kept last = seed % 2 == 0 ? OUTLET_KEEP_ALL : OUTLET_KEEP_BEGUN;
        struct buf out = {0};
        int fds[2];
        small_pair(fds);
        if (!run_schedule(seed, last, fds, &out)) {
            fail_msg("seed %u", seed);
        }
        buf_release(&out);
        close(fds[0]);
        close(fds[1]);
    }
}

/* Byte by byte is the hardest way out. */
static void test_one_byte_at_a_time(void **state) {
    (void)state;
    struct rig rig;
    struct answer answer;
    rig_begin(&rig, SIZE_MAX);
    fake.most = 1;
    rig_own(&rig, "{own}");
    rig_append(&rig, LITERAL("[one]"));
    rig_append(&rig, LITERAL("[two]"));
    assert_int_equal(outlet_write(&rig.outlet, FAKE_FD), OUTLET_DRAINED);
    outlet_detach(&rig.outlet, OUTLET_KEEP_ALL);
    outlet_end(&rig.outlet);
    assert_int_equal(outlet_write(&rig.outlet, FAKE_FD), OUTLET_DONE);
    read_records(buf_slice(&fake.out), &answer);
    assert_true(answer.has_trailer);
    assert_int_equal(rig.topic.delivered, 2);
    expect_buf(&answer.content, "{own}[one][two]");
    rig_end(&rig);
}

RUN_TESTS(TEST(test_own_bytes_only), TEST(test_frames_are_counted_as_delivered),
          TEST(test_gets_nothing_from_before_it_attached), TEST(test_trailer_once),
          TEST(test_trailer_without_content), TEST(test_much_at_once),
          TEST(test_frames_share_records), TEST(test_broken), TEST(test_blocked),
          TEST(test_detach_at_every_byte_of_small_frames), TEST(test_detach_within_long_frames),
          TEST(test_random_schedules), TEST(test_random_schedules_on_a_small_socket),
          TEST(test_one_byte_at_a_time))
