/* One client's way out, at every possible partial write: what comes out are whole FastCGI records
 * whose content is own bytes and frames, in order, none inside another. */
#include "fake_send.h"
#include "fanout.h"
#include "output.h"

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

static struct rig {
    struct feed feed;
    struct output output;
    struct slice frames[16]; /* what was appended since it attached */
    size_t frame_count;
} rig;

/* What is counted: of the frames, and of events among the own bytes. */
static struct tally frames_topic;
static struct tally own_topic;

static void counts_begin(void) {
    frames_topic = (struct tally){0};
    own_topic = (struct tally){0};
}

static void rig_end(void) {
    output_release(&rig.output);
    feed_release(&rig.feed);
    fake_begin(0);
}

static void rig_begin(size_t allowance) {
    fixture_begin(rig_end);
    rig = (struct rig){0};
    counts_begin();
    fake_begin(allowance);
    feed_init(&rig.feed);
    output_init(&rig.output, REQUEST_ID);
    output_attach(&rig.output, &rig.feed);
}

static void rig_append(struct slice frame) {
    feed_append(&rig.feed, frame, &(const struct feed_mark){.tally = &frames_topic});
    rig.frames[rig.frame_count++] = frame;
}

static enum output_result rig_write_all(void) {
    fake.allowance = SIZE_MAX;
    return output_write(&rig.output, FAKE_FD);
}

static void rig_own(const char *text) {
    buf_append_text(&rig.output.own, text);
}

static bool contains(struct slice text, struct slice part) {
    return text.length > 0 && memmem(text.at, text.length, part.at, part.length) != NULL;
}

/* Frames that come before `count`, one behind the other. */
static void frames_up_to(size_t count, struct buf *into) {
    for (size_t i = 0; i < count; i++) {
        buf_append_slice(into, rig.frames[i]);
    }
}

/* --- plain ---------------------------------------------------------------------------------------
 */

static void test_own_bytes_only(void **state) {
    struct answer answer;
    rig_begin(SIZE_MAX);
    assert_true(output_is_empty(&rig.output));
    assert_int_equal(output_write(&rig.output, FAKE_FD), OUTPUT_DRAINED);
    rig_own("hello");
    assert_int_equal(queued_bytes(&rig.output), 5);
    assert_false(output_is_empty(&rig.output));
    assert_int_equal(output_write(&rig.output, FAKE_FD), OUTPUT_DRAINED);
    assert_true(output_is_empty(&rig.output));
    assert_int_equal(queued_bytes(&rig.output), 0);
    assert_true(rig.output.has_written);
    read_records(buf_slice(&fake.out), &answer);
    assert_int_equal(answer.records, 1);
    expect_buf(&answer.content, "hello");
}

static void test_frames_are_counted_as_delivered(void **state) {
    struct answer answer;
    rig_begin(SIZE_MAX);
    rig_append(LITERAL("one"));
    rig_append(LITERAL("two"));
    assert_int_equal(queued_bytes(&rig.output), 6);
    assert_int_equal(frames_topic.delivered, 0);
    assert_int_equal(output_write(&rig.output, FAKE_FD), OUTPUT_DRAINED);
    assert_int_equal(frames_topic.delivered, 2);
    rig_append(LITERAL("three"));
    assert_int_equal(output_write(&rig.output, FAKE_FD), OUTPUT_DRAINED);
    assert_int_equal(frames_topic.delivered, 3);
    read_records(buf_slice(&fake.out), &answer);
    assert_int_equal(answer.records, 2);
    expect_buf(&answer.content, "onetwothree");
}

static void test_gets_nothing_from_before_it_attached(void **state) {
    struct output late;
    struct answer answer;
    rig_begin(SIZE_MAX);
    rig_append(LITERAL("before"));
    output_init(&late, REQUEST_ID);
    output_attach(&late, &rig.feed);
    rig_append(LITERAL("after"));
    assert_int_equal(output_write(&late, FAKE_FD), OUTPUT_DRAINED);
    read_records(buf_slice(&fake.out), &answer);
    expect_buf(&answer.content, "after");
    output_detach(&late);
    output_release(&late);
}

static void test_trailer_once(void **state) {
    struct answer answer;
    rig_begin(SIZE_MAX);
    rig_own("bye");
    output_detach(&rig.output);
    output_end(&rig.output);
    assert_false(output_is_empty(&rig.output));
    assert_int_equal(output_write(&rig.output, FAKE_FD), OUTPUT_DONE);
    read_records(buf_slice(&fake.out), &answer);
    assert_true(answer.has_trailer);
    expect_buf(&answer.content, "bye");
}

static void test_trailer_without_content(void **state) {
    struct answer answer;
    rig_begin(SIZE_MAX);
    output_detach(&rig.output);
    output_end(&rig.output);
    assert_int_equal(output_write(&rig.output, FAKE_FD), OUTPUT_DONE);
    read_records(buf_slice(&fake.out), &answer);
    assert_true(answer.has_trailer && answer.records == 0);
}

/* 20 records' worth of each kind: more than one call's plan. */
static void test_much_at_once(void **state) {
    struct answer answer;
    struct buf wanted = {0};
    char *own = repeated('o', 20 * RECORD_CONTENT_MAX + 1);
    char *frame = repeated('f', 20 * RECORD_CONTENT_MAX + 1);
    rig_begin(SIZE_MAX);
    rig_own(own);
    rig_append(slice_of(frame));
    rig_append(LITERAL("last"));
    assert_int_equal(output_write(&rig.output, FAKE_FD), OUTPUT_DRAINED);
    buf_printf(&wanted, "%s%slast", own, frame);
    read_records(buf_slice(&fake.out), &answer);
    expect_slice(buf_slice(&answer.content), buf_slice(&wanted), "content");
    assert_true(answer.is_whole);
    assert_true(output_is_empty(&rig.output));
    assert_int_equal(frames_topic.delivered, 2);
    buf_release(&answer.content);
    buf_release(&wanted);
    free(own);
    free(frame);
}

/* As many whole frames as fit share a record; none is cut that would fit into the next. */
static void test_frames_share_records(void **state) {
    struct answer answer;
    char *frame = repeated('f', 6000);
    rig_begin(SIZE_MAX);
    for (int i = 0; i < 6; i++) {
        rig_append(slice_of(frame));
    }
    assert_int_equal(output_write(&rig.output, FAKE_FD), OUTPUT_DRAINED);
    read_records(buf_slice(&fake.out), &answer);
    assert_int_equal(answer.records, 3);
    assert_int_equal(answer.content.length, 36000);
    buf_release(&answer.content);
    free(frame);
}

static void test_broken(void **state) {
    int fds[2];
    rig_begin(0);
    plain_pair(fds);
    close(fds[1]);
    rig_own("x");
    assert_int_equal(output_write(&rig.output, fds[0]), OUTPUT_BROKEN);
    assert_int_equal(errno, EPIPE);
    close(fds[0]);
}

static void test_blocked(void **state) {
    rig_begin(0);
    rig_own("x");
    assert_int_equal(output_write(&rig.output, FAKE_FD), OUTPUT_BLOCKED);
    assert_false(rig.output.has_written);
    assert_false(output_is_empty(&rig.output));
}

/* --- leaving the feed at every byte
 * --------------------------------------------------------------- */

/* What one walk does: some bytes get out, then the client leaves the feed, and all that is left. */
struct walk {
    const char *own;
    struct slice own_events[3]; /* behind it, among the own bytes */
    struct slice frames[4];
    const char *own_while_blocked; /* appended when the socket has taken its bytes; "<": an event */
};

static void walk_append_more(const struct walk *walk) {
    if (walk->own_while_blocked[0] == '<') {
        output_append_event(&rig.output, slice_of(walk->own_while_blocked), &own_topic);
    } else {
        rig_own(walk->own_while_blocked);
    }
}

static void walk_begin(const struct walk *walk, size_t allowance) {
    rig_begin(allowance);
    rig_own(walk->own);
    for (size_t i = 0; i < length_of(walk->own_events) && walk->own_events[i].length > 0; i++) {
        output_append_event(&rig.output, walk->own_events[i], &own_topic);
    }
    for (size_t i = 0; i < length_of(walk->frames) && walk->frames[i].length > 0; i++) {
        rig_append(walk->frames[i]);
    }
}

/* What goes out if nothing stops it. */
static void walk_whole(const struct walk *walk, struct buf *out) {
    walk_begin(walk, SIZE_MAX);
    assert_int_equal(rig_write_all(), OUTPUT_DRAINED);
    buf_append_slice(out, buf_slice(&fake.out));
}

/* How much content stands in the records of which so many bytes are a part. */
static size_t begun_content(struct slice whole, size_t bytes) {
    size_t content = 0;
    size_t at = 0;
    while (at < bytes) {
        size_t length =
            (size_t)(unsigned char)whole.at[at + 4] << 8 | (unsigned char)whole.at[at + 5];
        content += length;
        at += RECORD_HEADER_BYTES + length;
    }
    return content;
}

static size_t own_length(const struct walk *walk) {
    size_t length = strlen(walk->own);
    for (size_t i = 0; i < length_of(walk->own_events); i++) {
        length += walk->own_events[i].length;
    }
    return length;
}

/* How many frames stand, if only with one byte, in so much content. */
static size_t frames_begun(const struct walk *walk, size_t content) {
    size_t start = own_length(walk);
    size_t count = 0;
    while (count < rig.frame_count && start < content) {
        start += rig.frames[count++].length;
    }
    return count;
}

/* An event counts from the moment in which its last byte is out, and not before. */
static void expect_counted(const struct walk *walk, size_t allowance) {
    struct answer answer;
    uint64_t own_events = 0;
    uint64_t frames = 0;
    read_records(buf_slice(&fake.out), &answer);
    for (size_t i = 0; i < length_of(walk->own_events) && walk->own_events[i].length > 0; i++) {
        own_events += contains(buf_slice(&answer.content), walk->own_events[i]) ? 1 : 0;
    }
    if (walk->own_while_blocked[0] == '<') {
        own_events +=
            contains(buf_slice(&answer.content), slice_of(walk->own_while_blocked)) ? 1 : 0;
    }
    for (size_t i = 0; i < rig.frame_count; i++) {
        frames += contains(buf_slice(&answer.content), rig.frames[i]) ? 1 : 0;
    }
    if (own_topic.delivered != own_events || frames_topic.delivered != frames) {
        fail_msg("%zu bytes out: %u own events and %u frames are counted, %u and %u are out",
                 allowance, (unsigned)own_topic.delivered, (unsigned)frames_topic.delivered,
                 (unsigned)own_events, (unsigned)frames);
    }
    buf_release(&answer.content);
}

/* Own bytes, what was begun of the feed, what was appended meanwhile, and nothing else. */
static void expect_walk(const struct walk *walk, size_t frames, size_t allowance) {
    struct answer answer;
    struct buf wanted = {0};
    read_records(buf_slice(&fake.out), &answer);
    buf_append_text(&wanted, walk->own);
    for (size_t i = 0; i < length_of(walk->own_events); i++) {
        buf_append_slice(&wanted, walk->own_events[i]);
    }
    frames_up_to(frames, &wanted);
    buf_printf(&wanted, "%s{after}", walk->own_while_blocked);
    if (!answer.has_trailer || !slice_equals(buf_slice(&answer.content), buf_slice(&wanted))) {
        fail_msg("%zu bytes out, %zu frames begun: the rest is not as it should be", allowance,
                 frames);
    }
    buf_release(&wanted);
    buf_release(&answer.content);
}

static void walk_once(const struct walk *walk, struct slice whole, size_t allowance) {
    size_t content = begun_content(whole, allowance);
    size_t own = own_length(walk);
    walk_begin(walk, allowance);
    size_t frames = frames_begun(walk, content);
    assert_int_not_equal(output_write(&rig.output, FAKE_FD), OUTPUT_BROKEN);
    assert_int_equal(rig.output.has_written, fake.out.length > 0);
    expect_counted(walk, allowance);
    assert_int_equal(output_first_unbegun(&rig.output), frames);
    assert_int_equal(output_own_unbegun(&rig.output), own - (content < own ? content : own));
    walk_append_more(walk);
    assert_int_equal(output_own_unbegun(&rig.output),
                     own - (content < own ? content : own) + strlen(walk->own_while_blocked));
    output_detach(&rig.output);
    output_detach(&rig.output);          /* twice is harmless */
    expect_counted(walk, allowance);     /* nothing has gone out by that */
    feed_trim(&rig.feed, rig.feed.next); /* nothing of the feed is needed any more */
    rig_own("{after}");
    output_end(&rig.output);
    enum output_result result = OUTPUT_BLOCKED;
    for (size_t byte = 0; byte < (fake.out.length < 1000 ? 70 : 10) && result != OUTPUT_DONE;
         byte++) {
        fake.allowance = 1;
        result = output_write(&rig.output, FAKE_FD);
        expect_counted(walk, allowance);
    }
    if (result != OUTPUT_DONE) {
        assert_int_equal(rig_write_all(), OUTPUT_DONE);
    }
    expect_counted(walk, allowance);
    expect_walk(walk, frames, allowance);
    assert_null(rig.output.events);
}

static void walk_all(const struct walk *walk, size_t step) {
    struct buf whole = {0};
    walk_whole(walk, &whole);
    for (size_t allowance = 0; allowance <= whole.length; allowance += step) {
        walk_once(walk, buf_slice(&whole), allowance);
    }
    buf_release(&whole);
}

static void test_detach_at_every_byte_of_small_frames(void **state) {
#define FRAMES \
    { LITERAL("[one]"), LITERAL("[two]"), LITERAL("[three]") }
#define EVENTS \
    { LITERAL("<first>"), LITERAL("<second>"), LITERAL("<third>") }
#define NOTHING     \
    {               \
        { NULL, 0 } \
    }
    static const struct walk walks[] = {
        {"", NOTHING, FRAMES, ""},
        {"{own}", NOTHING, FRAMES, ""},
        {"{own}", NOTHING, FRAMES, "{more}"},
        {"", NOTHING, {LITERAL("[one]"), LITERAL("[two]")}, "{more}"},
        {"{own}", NOTHING, NOTHING, "{more}"},
        {"", NOTHING, {LITERAL("[one]")}, ""},
        {"", NOTHING, NOTHING, ""},
        {"", EVENTS, NOTHING, ""},
        {"", EVENTS, NOTHING, "{more}"},
        {"{own}", EVENTS, FRAMES, ""},
        {"{own}", EVENTS, FRAMES, "{more}"},
        {"", {LITERAL("<first>")}, {LITERAL("[one]")}, "{more}"},
        {"", NOTHING, FRAMES, "<more>"},
        {"{own}", EVENTS, FRAMES, "<more>"},
        {"", EVENTS, NOTHING, "<more>"},
    };
#undef FRAMES
#undef EVENTS
#undef NOTHING
    for (size_t i = 0; i < length_of(walks); i++) {
        walk_all(&walks[i], 1);
    }
}

/* Frames and own events around the size of a record, and of several records between small ones. */
static void test_detach_within_long_frames(void **state) {
    static const size_t sizes[] = {RECORD_CONTENT_MAX - 1, RECORD_CONTENT_MAX,
                                   RECORD_CONTENT_MAX + 1, 2 * RECORD_CONTENT_MAX + 5};
    for (size_t i = 0; i < length_of(sizes); i++) {
        char *text = repeated('L', sizes[i]);
        const struct walk walks[] = {
            {"{own}",
             {LITERAL("<first>")},
             {LITERAL("[one]"), {text, sizes[i]}, LITERAL("[three]")},
             "{more}"},
            {"{own}",
             {LITERAL("<first>"), {text, sizes[i]}, LITERAL("<third>")},
             {LITERAL("[one]"), LITERAL("[two]")},
             "{more}"},
        };
        for (size_t w = 0; w < length_of(walks); w++) {
            static const size_t edges[] = {0, RECORD_CONTENT_MAX, 2 * RECORD_CONTENT_MAX};
            struct buf whole = {0};
            walk_whole(&walks[w], &whole);
            walk_all(&walks[w], 1597);
            for (size_t near = 0; near < 40; near++) { /* the edges of records, byte for byte */
                for (size_t e = 0; e < length_of(edges); e++) {
                    if (edges[e] + near <= whole.length) {
                        walk_once(&walks[w], buf_slice(&whole), edges[e] + near);
                    }
                }
                walk_once(&walks[w], buf_slice(&whole), whole.length - near);
            }
            buf_release(&whole);
        }
        free(text);
    }
}

/* Left and joined again before anything is out: what was begun comes once, and counts once. */
static void test_detach_and_attach_again(void **state) {
    struct answer answer;
    rig_begin(RECORD_HEADER_BYTES + 2);
    rig_append(LITERAL("[one]"));
    assert_int_equal(output_write(&rig.output, FAKE_FD), OUTPUT_BLOCKED);
    rig_append(LITERAL("[two]")); /* dropped */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(output_first_unbegun(&rig.output), rig.feed.next - (i == 0 ? 1 : 0));
        output_detach(&rig.output);
        output_append_event(&rig.output, LITERAL("<own>"), &own_topic);
        output_attach(&rig.output, &rig.feed);
    }
    rig_append(LITERAL("[three]"));
    assert_int_equal(rig_write_all(), OUTPUT_DRAINED);
    read_records(buf_slice(&fake.out), &answer);
    expect_buf(&answer.content, "[one]<own><own><own>[three]");
    assert_int_equal(frames_topic.delivered, 2);
    assert_int_equal(own_topic.delivered, 3);
}

/* A refresh in the feed is no event. */
static void test_refreshes_are_not_counted(void **state) {
    for (size_t allowance = 0; allowance < 30; allowance++) {
        rig_begin(allowance);
        feed_append(&rig.feed, LITERAL("[refresh]"),
                    &(const struct feed_mark){.reason = SSE_REFRESH_GAP});
        rig_append(LITERAL("[one]"));
        (void)(output_write(&rig.output, FAKE_FD) == OUTPUT_BLOCKED);
        bool is_begun = output_first_unbegun(&rig.output) > 0;
        output_detach(&rig.output);
        assert_int_equal(rig_write_all(), OUTPUT_DRAINED);
        assert_int_equal(is_begun, fake.out.length > 0);
        assert_int_equal(frames_topic.delivered, is_begun ? 1 : 0); /* one record holds both */
    }
}

/* --- by chance
 * ------------------------------------------------------------------------------------ */

struct schedule {
    uint32_t random;
    struct feed feed;
    struct output output;
    unsigned frames;  /* appended while attached */
    unsigned dropped; /* of them, when it left */
    unsigned owns;
    unsigned own_events; /* of them */
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
static long count_units(struct slice content, unsigned owns) {
    size_t at = 0;
    unsigned own = 0;
    long frames = 0;
    uint64_t last_frame = 0;
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
        if (open == '[' && frames++ > 0 && number <= last_frame) {
            return -1;
        }
        last_frame = open == '[' ? number : last_frame;
    }
    return own == owns ? frames : -1;
}

static void schedule_own(struct schedule *s, size_t filler) {
    struct buf text = {0};
    unit_text(&text, '{', s->owns++, filler);
    if (next_random(&s->random) % 2 == 0) {
        output_append_event(&s->output, buf_slice(&text), &own_topic);
        s->own_events++;
    } else {
        buf_append_slice(&s->output.own, buf_slice(&text));
    }
    buf_release(&text);
}

static void schedule_detach(struct schedule *s) {
    if (s->output.feed != NULL) {
        s->dropped += (unsigned)(s->feed.next - output_first_unbegun(&s->output));
        output_detach(&s->output);
    }
}

/* Appends, writes, leaves the feed and attaches again. Returns false when the outcome is wrong: all
 * own bytes and all frames, but for those that had not begun when it left, each once and in order.
 */
static bool run_schedule(uint32_t seed, int fds[2], struct buf *out) {
    struct schedule s = {.random = seed};
    struct buf text = {0};
    int fd = fds == NULL ? FAKE_FD : fds[0];
    bool is_done = false;
    counts_begin();
    fake_begin(0);
    feed_init(&s.feed);
    output_init(&s.output, REQUEST_ID);
    output_attach(&s.output, &s.feed);
    for (int step = 0; step < 200; step++) {
        text.length = 0;
        switch (next_random(&s.random) % 6) {
        case 0:
        case 1:
            if (s.output.feed != NULL) {
                unit_text(&text, '[', s.frames++, random_size(&s.random));
                feed_append(&s.feed, buf_slice(&text),
                            &(const struct feed_mark){.tally = &frames_topic});
            }
            break;
        case 2:
            schedule_own(&s, random_size(&s.random));
            break;
        case 3:
            if (next_random(&s.random) % 8 == 0 && s.output.feed != NULL) {
                schedule_detach(&s);
            } else if (s.output.feed == NULL) {
                output_attach(&s.output, &s.feed);
            }
            break;
        default:
            fake.allowance += next_random(&s.random) % 9000;
            fake.max = next_random(&s.random) % 5000;
            assert_int_not_equal(output_write(&s.output, fd), OUTPUT_BROKEN);
            if (fds != NULL) {
                (void)drain(fds[1], out, next_random(&s.random) % 9000);
            }
            feed_trim(&s.feed, s.output.feed == NULL ? s.feed.next : s.output.cursor.frame);
            break;
        }
    }
    schedule_detach(&s);
    schedule_own(&s, 10);
    output_end(&s.output);
    fake.allowance = SIZE_MAX;
    for (int tries = 0; tries < 100000 && !is_done; tries++) {
        enum output_result result = output_write(&s.output, fd);
        is_done = result == OUTPUT_DONE;
        if (fds != NULL) {
            (void)drain_all(fds[1], out);
        }
    }
    struct answer answer;
    read_records(fds == NULL ? buf_slice(&fake.out) : buf_slice(out), &answer);
    long frames = count_units(buf_slice(&answer.content), s.owns);
    bool is_right = is_done && answer.has_trailer && frames == (long)(s.frames - s.dropped) &&
                    (uint64_t)frames == frames_topic.delivered &&
                    own_topic.delivered == s.own_events && s.output.events == NULL;
    buf_release(&answer.content);
    buf_release(&text);
    output_release(&s.output);
    feed_release(&s.feed);
    fake_begin(0);
    return is_right;
}

static void test_random_schedules(void **state) {
    for (uint32_t seed = 1; seed <= 400; seed++) {
        if (!run_schedule(seed, NULL, NULL)) {
            fail_msg("seed %u", seed);
        }
    }
}

static void test_random_schedules_on_a_small_socket(void **state) {
    for (uint32_t seed = 1; seed <= 100; seed++) {
        struct buf out = {0};
        int fds[2];
        small_pair(fds);
        if (!run_schedule(seed, fds, &out)) {
            fail_msg("seed %u", seed);
        }
        buf_release(&out);
        close(fds[0]);
        close(fds[1]);
    }
}

/* Byte by byte is the hardest way out. */
static void test_one_byte_at_a_time(void **state) {
    struct answer answer;
    rig_begin(SIZE_MAX);
    fake.max = 1;
    rig_own("{own}");
    rig_append(LITERAL("[one]"));
    rig_append(LITERAL("[two]"));
    assert_int_equal(output_write(&rig.output, FAKE_FD), OUTPUT_DRAINED);
    output_detach(&rig.output);
    output_end(&rig.output);
    assert_int_equal(output_write(&rig.output, FAKE_FD), OUTPUT_DONE);
    read_records(buf_slice(&fake.out), &answer);
    assert_true(answer.has_trailer);
    assert_int_equal(frames_topic.delivered, 2);
    expect_buf(&answer.content, "{own}[one][two]");
}

RUN_TESTS(TEST(test_own_bytes_only), TEST(test_frames_are_counted_as_delivered),
          TEST(test_gets_nothing_from_before_it_attached), TEST(test_trailer_once),
          TEST(test_trailer_without_content), TEST(test_much_at_once),
          TEST(test_frames_share_records), TEST(test_broken), TEST(test_blocked),
          TEST(test_detach_at_every_byte_of_small_frames), TEST(test_detach_within_long_frames),
          TEST(test_detach_and_attach_again), TEST(test_refreshes_are_not_counted),
          TEST(test_random_schedules), TEST(test_random_schedules_on_a_small_socket),
          TEST(test_one_byte_at_a_time))
