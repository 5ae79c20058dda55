/* Markers: which are believed, what is written from them, and how long they are known. */
#include "drawn_marker.h"
#include "markers.h"
#include "support.h"

enum { PID = 4711, MEMORY_MS = 1000 };

static const char *const channels[] = {"pgsse_marker", "topic_broadcast_0"};

static void begin(struct markers *markers) {
    markers_init(markers, MEMORY_MS, channels, length_of(channels));
}

static struct position position_of(const struct markers *markers) {
    struct position position;
    markers_position(markers, &position);
    assert_int_equal(position.durable, 0);
    assert_true(marker_is_valid(slice_of(position.marker)));
    return position;
}

static enum marker_verdict hear(struct markers *markers, const char *payload, int pid,
                                int64_t now_ms) {
    char *memory;
    struct slice text = exact(slice_of(payload), &memory);
    markers_count(markers);
    enum marker_verdict verdict = markers_hear(markers, text, pid, now_ms);
    free(memory);
    return verdict;
}

/* A marker of our own, sent and heard. */
static enum marker_verdict own_heard(struct markers *markers, char name[MARKER_BYTES + 1],
                                     int64_t now_ms) {
    char payload[DRAWN_MARKER_BYTES];
    draw_marker(markers, PID, payload);
    memcpy(name, markers->expected, MARKER_BYTES + 1);
    return hear(markers, payload, PID, now_ms);
}

static void foreign(const struct markers *markers, const char *name, char *payload) {
    snprintf(payload, DRAWN_MARKER_BYTES, "{\"marker\":\"%s\",\"set\":\"%s\",\"pid\":%d}", name,
             markers->set, PID);
}

static void test_starts_private(void **state) {
    (void)state;
    struct markers markers;
    uint64_t place;
    begin(&markers);
    assert_false(markers.is_public);
    struct position position = position_of(&markers);
    assert_int_equal(position.since, 0);
    markers_count(&markers);
    markers_count(&markers);
    assert_int_equal(position_of(&markers).since, 2);
    assert_string_equal(position_of(&markers).marker, position.marker);
    assert_false(markers_find(&markers, "nobodyknows00", &place));
    markers_release(&markers);
}

static void test_own_marker(void **state) {
    (void)state;
    struct markers markers;
    char name[MARKER_BYTES + 1];
    uint64_t place;
    begin(&markers);
    markers_count(&markers);
    assert_int_equal(own_heard(&markers, name, 0), MARKER_OWN);
    assert_true(markers.is_public);
    struct position position = position_of(&markers);
    assert_string_equal(position.marker, name);
    assert_int_equal(position.since, 0); /* the marker itself is 0 */
    markers_count(&markers);
    assert_int_equal(position_of(&markers).since, 1);
    assert_true(markers_find(&markers, name, &place));
    assert_int_equal(place, 2);
    markers_release(&markers);
}

static void test_payload_as_documented(void **state) {
    (void)state;
    struct markers markers;
    char payload[DRAWN_MARKER_BYTES];
    char wanted[DRAWN_MARKER_BYTES];
    begin(&markers);
    draw_marker(&markers, PID, payload);
    foreign(&markers, markers.expected, wanted);
    assert_string_equal(payload, wanted);
    assert_true(marker_is_valid(slice_of(markers.expected)));
    assert_int_equal(strlen(markers.set), MARKER_SET_BYTES);
    assert_int_equal(strspn(markers.set, "0123456789abcdef"), MARKER_SET_BYTES);
    markers_release(&markers);
}

/* Positions go on from the newest marker of our own; the older one is still known. */
static void test_next_own_marker(void **state) {
    (void)state;
    struct markers markers;
    char first[MARKER_BYTES + 1];
    char second[MARKER_BYTES + 1];
    uint64_t place;
    begin(&markers);
    assert_int_equal(own_heard(&markers, first, 0), MARKER_OWN);
    markers_count(&markers);
    assert_int_equal(own_heard(&markers, second, 1), MARKER_OWN);
    assert_string_equal(position_of(&markers).marker, second);
    assert_true(markers_find(&markers, first, &place) && place == 1);
    assert_true(markers_find(&markers, second, &place) && place == 3);
    markers_release(&markers);
}

static void test_foreign_marker(void **state) {
    (void)state;
    struct markers markers;
    char own[MARKER_BYTES + 1];
    char payload[DRAWN_MARKER_BYTES];
    uint64_t place;
    begin(&markers);
    assert_int_equal(own_heard(&markers, own, 0), MARKER_OWN);
    foreign(&markers, "abcdefghijklm", payload);
    assert_int_equal(hear(&markers, payload, PID, 0), MARKER_FOREIGN);
    assert_string_equal(position_of(&markers).marker, own);
    assert_int_equal(position_of(&markers).since, 1);
    assert_true(markers_find(&markers, "abcdefghijklm", &place) && place == 2);
    markers_release(&markers);
}

/* Not the one that was drawn last: an old one of ours is like another broker's. */
static void test_own_marker_that_comes_too_late(void **state) {
    (void)state;
    struct markers markers;
    char late[DRAWN_MARKER_BYTES];
    char payload[DRAWN_MARKER_BYTES];
    begin(&markers);
    draw_marker(&markers, PID, late);
    draw_marker(&markers, PID, payload);
    assert_int_equal(hear(&markers, late, PID, 0), MARKER_FOREIGN);
    assert_false(markers.is_public);
    assert_int_equal(hear(&markers, payload, PID, 0), MARKER_OWN);
    assert_true(markers.is_public);
    markers_release(&markers);
}

static void test_malformed_and_forged(void **state) {
    (void)state;
    static const char *const formats[] = {
        "",
        "x",
        "null",
        "[]",
        "\"%s\"",
        "{}",
        "{\"marker\":\"abcdefghijklm\"}",
        "{\"set\":\"%s\",\"pid\":4711}",
        "{\"marker\":\"abcdefghijklm\",\"set\":\"%s\"}",
        "{\"marker\":\"abcdefghijklm\",\"pid\":4711}",
        "{\"marker\":\"abcdefghijklm\",\"set\":\"%s\",\"pid\":4712}",
        "{\"marker\":\"abcdefghijklm\",\"set\":\"%s\",\"pid\":\"4711\"}",
        "{\"marker\":\"abcdefghijklm\",\"set\":\"%s\",\"pid\":4711.0}",
        "{\"marker\":\"abcdefghijklm\",\"set\":\"%s\",\"pid\":-4711}",
        "{\"marker\":\"abcdefghijklm\",\"set\":\"%s\",\"pid\":null}",
        "{\"marker\":\"abcdefghijklm\",\"set\":\"%s\",\"pid\":4294972007}",
        "{\"marker\":\"abcdefghijklm\",\"set\":\"%s\",\"pid\":18446744073709556327}",
        "{\"marker\":\"abcdefghijkl\",\"set\":\"%s\",\"pid\":4711}",
        "{\"marker\":\"abcdefghijklmn\",\"set\":\"%s\",\"pid\":4711}",
        "{\"marker\":\"ABCDEFGHIJKLM\",\"set\":\"%s\",\"pid\":4711}",
        "{\"marker\":\"abcdefghijkl.\",\"set\":\"%s\",\"pid\":4711}",
        "{\"marker\":\"abcdefg\\u0061\",\"set\":\"%s\",\"pid\":4711}",
        "{\"marker\":\"\",\"set\":\"%s\",\"pid\":4711}",
        "{\"marker\":5,\"set\":\"%s\",\"pid\":4711}",
        "{\"marker\":\"abcdefghijklm\",\"set\":\"%sx\",\"pid\":4711}",
        "{\"marker\":\"abcdefghijklm\",\"set\":\"0000000000000000\",\"pid\":4711}",
        "{\"marker\":\"abcdefghijklm\",\"set\":\"\",\"pid\":4711}",
        "{\"marker\":\"abcdefghijklm\",\"set\":5,\"pid\":4711}",
        "{\"marker\":\"abcdefghijklm\",\"set\":\"%s\",\"pid\":4711}x",
        "{\"marker\":\"abcdefghijklm\",\"set\":\"%s\",\"pid\":4711",
        "[{\"marker\":\"abcdefghijklm\",\"set\":\"%s\",\"pid\":4711}]",
    };
    struct markers markers;
    uint64_t place;
    begin(&markers);
    for (size_t i = 0; i < length_of(formats); i++) {
        char payload[256];
        const char *set = strstr(formats[i], "%s");
        size_t before = set == NULL ? strlen(formats[i]) : (size_t)(set - formats[i]);
        snprintf(payload, sizeof payload, "%.*s%s%s", (int)before, formats[i],
                 set == NULL ? "" : markers.set, set == NULL ? "" : set + 2);
        if (hear(&markers, payload, PID, 0) != MARKER_BAD ||
            markers_find(&markers, "abcdefghijklm", &place)) {
            fail_msg("%s", payload);
        }
    }
    assert_int_equal(markers.count, length_of(formats)); /* counted all the same */
    markers_release(&markers);
}

/* Our own text in somebody else's mouth. */
static void test_own_name_from_another_backend(void **state) {
    (void)state;
    struct markers markers;
    char payload[DRAWN_MARKER_BYTES];
    begin(&markers);
    draw_marker(&markers, PID, payload);
    assert_int_equal(hear(&markers, payload, PID + 1, 0), MARKER_BAD);
    assert_false(markers.is_public);
    assert_int_equal(hear(&markers, payload, PID, 0), MARKER_OWN);
    markers_release(&markers);
}

static void test_set_depends_on_the_channels(void **state) {
    (void)state;
    static const char *const other[] = {"pgsse_marker", "topic_broadcast_1"};
    static const char *const joined[] = {"pgsse_markertopic_broadcast_0"};
    struct markers a;
    struct markers b;
    struct markers c;
    struct markers same;
    char payload[DRAWN_MARKER_BYTES];
    begin(&a);
    begin(&same);
    markers_init(&b, MEMORY_MS, other, length_of(other));
    markers_init(&c, MEMORY_MS, joined, length_of(joined));
    assert_string_equal(a.set, same.set);
    assert_string_not_equal(a.set, b.set);
    assert_string_not_equal(a.set, c.set);
    draw_marker(&b, PID, payload);
    assert_int_equal(hear(&a, payload, PID, 0), MARKER_BAD);
    draw_marker(&same, PID, payload);
    assert_int_equal(hear(&a, payload, PID, 0), MARKER_FOREIGN);
    markers_release(&a);
    markers_release(&b);
    markers_release(&c);
    markers_release(&same);
}

/* A name that names two places names none. */
static void test_heard_twice(void **state) {
    (void)state;
    struct markers markers;
    char payload[DRAWN_MARKER_BYTES];
    uint64_t place;
    begin(&markers);
    foreign(&markers, "abcdefghijklm", payload);
    assert_int_equal(hear(&markers, payload, PID, 0), MARKER_FOREIGN);
    assert_true(markers_find(&markers, "abcdefghijklm", &place));
    assert_int_equal(hear(&markers, payload, PID, 0), MARKER_BAD);
    assert_false(markers_find(&markers, "abcdefghijklm", &place));
    assert_int_equal(hear(&markers, payload, PID, 0), MARKER_BAD);
    assert_false(markers_find(&markers, "abcdefghijklm", &place));
    markers_release(&markers);
}

/* The name that positions are being written from is repeated: they go on from a private one. */
static void test_own_marker_repeated(void **state) {
    (void)state;
    struct markers markers;
    char name[MARKER_BYTES + 1];
    char next[MARKER_BYTES + 1];
    char payload[DRAWN_MARKER_BYTES];
    uint64_t place;
    begin(&markers);
    assert_int_equal(own_heard(&markers, name, 0), MARKER_OWN);
    foreign(&markers, name, payload);
    assert_int_equal(hear(&markers, payload, PID, 0), MARKER_BAD);
    assert_false(markers_find(&markers, name, &place));
    assert_string_not_equal(position_of(&markers).marker, name);
    assert_false(markers.is_public);
    assert_int_equal(own_heard(&markers, next, 0), MARKER_OWN);
    assert_true(markers.is_public);
    assert_string_equal(position_of(&markers).marker, next);
    markers_release(&markers);
}

static void test_restart_is_private_again(void **state) {
    (void)state;
    struct markers markers;
    char name[MARKER_BYTES + 1];
    char in_flight[DRAWN_MARKER_BYTES];
    uint64_t place;
    begin(&markers);
    assert_int_equal(own_heard(&markers, name, 0), MARKER_OWN);
    draw_marker(&markers, PID, in_flight);
    markers_restart(&markers);
    assert_false(markers.is_public);
    struct position position = position_of(&markers);
    assert_string_not_equal(position.marker, name);
    assert_int_equal(position.since, 0);
    assert_false(markers_find(&markers, position.marker, &place));
    /* what was under way was sent before LISTEN was in force: it does not count as ours */
    assert_int_equal(hear(&markers, in_flight, PID, 0), MARKER_FOREIGN);
    assert_false(markers.is_public);
    assert_int_equal(position_of(&markers).since, 1);
    /* what was known before stays known, and the count goes on */
    assert_true(markers_find(&markers, name, &place) && place == 1);
    assert_int_equal(own_heard(&markers, name, 0), MARKER_OWN);
    assert_true(markers.is_public);
    assert_true(markers_find(&markers, name, &place) && place == 3);
    markers_release(&markers);
}

static void test_old_markers_are_forgotten(void **state) {
    (void)state;
    struct markers markers;
    char payload[DRAWN_MARKER_BYTES];
    uint64_t place;
    begin(&markers);
    foreign(&markers, "aaaaaaaaaaaaa", payload);
    assert_int_equal(hear(&markers, payload, PID, 0), MARKER_FOREIGN);
    foreign(&markers, "bbbbbbbbbbbbb", payload);
    assert_int_equal(hear(&markers, payload, PID, MEMORY_MS / 2), MARKER_FOREIGN);
    foreign(&markers, "ccccccccccccc", payload);
    assert_int_equal(hear(&markers, payload, PID, MEMORY_MS), MARKER_FOREIGN);
    assert_true(markers_find(&markers, "aaaaaaaaaaaaa", &place));
    foreign(&markers, "ddddddddddddd", payload);
    assert_int_equal(hear(&markers, payload, PID, MEMORY_MS + 1), MARKER_FOREIGN);
    assert_false(markers_find(&markers, "aaaaaaaaaaaaa", &place));
    assert_true(markers_find(&markers, "bbbbbbbbbbbbb", &place));
    markers_release(&markers);
}

/* However many names come, memory is bounded: the oldest go first. */
static void test_memory_bound(void **state) {
    (void)state;
    struct markers markers;
    uint64_t place;
    begin(&markers);
    for (int i = 0; i < MARKERS_MAX + 100; i++) {
        char name[MARKER_BYTES + 1];
        char payload[DRAWN_MARKER_BYTES];
        snprintf(name, sizeof name, "%013d", i);
        foreign(&markers, name, payload);
        assert_int_equal(hear(&markers, payload, PID, 0), MARKER_FOREIGN);
        assert_true(HASH_COUNT(markers.by_name) <= MARKERS_MAX);
    }
    assert_false(markers_find(&markers, "0000000000000", &place));
    assert_false(markers_find(&markers, "0000000000099", &place));
    assert_true(markers_find(&markers, "0000000000100", &place));
    markers_release(&markers);
}

RUN_TESTS(TEST(test_starts_private), TEST(test_own_marker), TEST(test_payload_as_documented),
          TEST(test_next_own_marker), TEST(test_foreign_marker),
          TEST(test_own_marker_that_comes_too_late), TEST(test_malformed_and_forged),
          TEST(test_own_name_from_another_backend), TEST(test_set_depends_on_the_channels),
          TEST(test_heard_twice), TEST(test_own_marker_repeated),
          TEST(test_restart_is_private_again), TEST(test_old_markers_are_forgotten),
          TEST(test_memory_bound))
