/* Markers: which are believed, what is written from them, and how long they are known. */
#include "drawn_marker.h"
#include "markers.h"
#include "support.h"

enum { PID = 4711, MEMORY_MS = 1000 };

static const char *const channels[] = {"pgsse_marker", "topic_broadcast_0"};

static void begin(struct markers *markers) {
    markers_init(markers, MEMORY_MS, channels, length_of(channels), 0);
}

static struct position position_of(const struct markers *markers) {
    struct position position;
    markers_position(markers, &position);
    assert_int_equal(position.durable, 0);
    assert_true(marker_is_valid(slice_of(position.marker)));
    return position;
}

/* The place that the name itself means. */
static bool find(const struct markers *markers, const char *name, uint64_t *place) {
    struct position position = {0};
    snprintf(position.marker, sizeof position.marker, "%s", name);
    return markers_resolve(markers, &position, place);
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
    assert_false(find(&markers, "nobodyknows00", &place));
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
    assert_true(find(&markers, name, &place));
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
    assert_true(find(&markers, first, &place) && place == 1);
    assert_true(find(&markers, second, &place) && place == 3);
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
    assert_true(find(&markers, "abcdefghijklm", &place) && place == 2);
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
            find(&markers, "abcdefghijklm", &place)) {
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
    markers_init(&b, MEMORY_MS, other, length_of(other), 0);
    markers_init(&c, MEMORY_MS, joined, length_of(joined), 0);
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
    assert_true(find(&markers, "abcdefghijklm", &place));
    assert_int_equal(hear(&markers, payload, PID, 0), MARKER_BAD);
    assert_false(find(&markers, "abcdefghijklm", &place));
    assert_int_equal(hear(&markers, payload, PID, 0), MARKER_BAD);
    assert_false(find(&markers, "abcdefghijklm", &place));
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
    assert_false(find(&markers, name, &place));
    assert_string_not_equal(position_of(&markers).marker, name);
    assert_false(markers.is_public);
    assert_int_equal(own_heard(&markers, next, 0), MARKER_OWN);
    assert_true(markers.is_public);
    assert_string_equal(position_of(&markers).marker, next);
    markers_release(&markers);
}

static void test_break_is_private_again(void **state) {
    (void)state;
    struct markers markers;
    char name[MARKER_BYTES + 1];
    char in_flight[DRAWN_MARKER_BYTES];
    uint64_t place;
    begin(&markers);
    assert_int_equal(own_heard(&markers, name, 0), MARKER_OWN);
    draw_marker(&markers, PID, in_flight);
    markers_break(&markers, 0);
    assert_false(markers.is_public);
    struct position position = position_of(&markers);
    assert_string_not_equal(position.marker, name);
    assert_int_equal(position.since, 0);
    assert_true(markers_resolve(&markers, &position, &place) && place == 2); /* the break's own */
    /* what was under way was sent before LISTEN was in force: it does not count as ours */
    assert_int_equal(hear(&markers, in_flight, PID, 0), MARKER_FOREIGN);
    assert_false(markers.is_public);
    assert_int_equal(position_of(&markers).since, 1);
    /* what was known before stays known, and the count goes on */
    assert_true(find(&markers, name, &place) && place == 1);
    assert_int_equal(own_heard(&markers, name, 0), MARKER_OWN);
    assert_true(markers.is_public);
    assert_true(find(&markers, name, &place) && place == 4);
    markers_release(&markers);
}

/* --- epochs: what is counted without a break ----------------------------------------------------
 */

/* From each marker that was heard, as far as its epoch goes, and not one further. */
static void test_places_end_at_the_break(void **state) {
    (void)state;
    enum { HEARD = 3, BEHIND = 4 };
    static const uint64_t far[] = {UINT64_MAX, UINT64_MAX - 1, UINT64_MAX / 2};
    struct markers markers;
    struct position positions[2][HEARD] = {0}; /* by epoch; of the names themselves */
    uint64_t places[2][HEARD];
    uint64_t ends[2];
    uint64_t got;
    begin(&markers);
    for (size_t epoch = 0; epoch < 2; epoch++) {
        for (size_t i = 0; i < HEARD; i++) {
            assert_int_equal(own_heard(&markers, positions[epoch][i].marker, 0), MARKER_OWN);
            places[epoch][i] = markers.count;
            markers_count(&markers);
        }
        for (size_t i = 0; i < BEHIND; i++) {
            markers_count(&markers);
        }
        ends[epoch] = markers.count;
        if (epoch == 0) {
            markers_break(&markers, 0);
            assert_int_equal(markers.count, ends[0] + 1); /* the break has a place */
        }
    }
    for (size_t epoch = 0; epoch < 2; epoch++) {
        for (size_t i = 0; i < HEARD; i++) {
            struct position position = positions[epoch][i];
            uint64_t last = ends[epoch] - places[epoch][i];
            for (uint64_t since = 0; since <= last; since++) {
                position.since = since;
                assert_true(markers_resolve(&markers, &position, &got));
                assert_int_equal(got, places[epoch][i] + since);
            }
            position.since = last + 1;
            assert_false(markers_resolve(&markers, &position, &got));
            for (size_t f = 0; f < length_of(far); f++) { /* nor where the sum wraps around */
                position.since = far[f];
                assert_false(markers_resolve(&markers, &position, &got));
            }
        }
    }
    markers_release(&markers);
}

/* A second break does not move the ends that the first one set. */
static void test_two_breaks(void **state) {
    (void)state;
    struct markers markers;
    struct position first = {0};
    struct position second = {0};
    uint64_t place;
    begin(&markers);
    assert_int_equal(own_heard(&markers, first.marker, 0), MARKER_OWN);  /* at 1 */
    markers_break(&markers, 0);                                          /* at 2 */
    assert_int_equal(own_heard(&markers, second.marker, 0), MARKER_OWN); /* at 3 */
    markers_count(&markers);
    markers_break(&markers, 0); /* at 5 */
    markers_break(&markers, 0); /* at 6 */
    markers_count(&markers);
    const struct {
        struct position *position;
        uint64_t since;
        uint64_t place; /* 0: unknown */
    } cases[] = {{&first, 0, 1}, {&first, 1, 0}, {&second, 0, 3}, {&second, 1, 4}, {&second, 2, 0}};
    for (size_t i = 0; i < length_of(cases); i++) {
        cases[i].position->since = cases[i].since;
        bool is_known = markers_resolve(&markers, cases[i].position, &place);
        assert_int_equal(is_known, cases[i].place > 0);
        assert_true(!is_known || place == cases[i].place);
    }
    struct position now = position_of(&markers);
    assert_int_equal(now.since, 1);
    assert_true(markers_resolve(&markers, &now, &place) && place == 7);
    markers_release(&markers);
}

static void test_private_names_resolve_here_only(void **state) {
    (void)state;
    struct markers here;
    struct markers there;
    uint64_t place;
    begin(&here);
    begin(&there);
    for (uint64_t i = 0; i < 5; i++) {
        struct position position = position_of(&here);
        assert_true(markers_resolve(&here, &position, &place) && place == i);
        assert_false(markers_resolve(&there, &position, &place));
        markers_count(&here);
        markers_count(&there);
    }
    markers_release(&here);
    markers_release(&there);
}

/* What positions are written from is known to clients, so it can be sent by anybody. */
static void test_private_name_repeated(void **state) {
    (void)state;
    struct markers markers;
    char payload[DRAWN_MARKER_BYTES];
    uint64_t place;
    begin(&markers);
    struct position before = position_of(&markers);
    foreign(&markers, before.marker, payload);
    assert_int_equal(hear(&markers, payload, PID, 0), MARKER_BAD);
    assert_false(markers_resolve(&markers, &before, &place));
    struct position after = position_of(&markers);
    assert_string_not_equal(after.marker, before.marker);
    assert_true(markers_resolve(&markers, &after, &place) && place == 1);
    assert_false(markers.is_public);
    markers_release(&markers);
}

/* A position without M.S names no place, and the name of no marker none either. */
static void test_no_marker_is_no_place(void **state) {
    (void)state;
    static const struct position cases[] = {
        {0, "", 0}, {5, "", 0}, {0, "", 1}, {0, "nobodyknows00", 0}};
    struct markers markers;
    uint64_t place;
    begin(&markers);
    markers_count(&markers);
    for (size_t i = 0; i < length_of(cases); i++) {
        assert_false(markers_resolve(&markers, &cases[i], &place));
    }
    markers_release(&markers);
}

/* --- two brokers at one server ------------------------------------------------------------------
 */

/* What all listeners hear, in one order. */
struct server {
    uint32_t random;
    struct markers markers[2];
    bool is_listening[2];
    char flying[2][DRAWN_MARKER_BYTES]; /* sent, not delivered yet; "" when none is */
    uint64_t heard;                     /* how many notifications there were in all */
    struct buf events[2];               /* of uint64_t: which notification stands at each place */
};

static void note(struct server *server, size_t broker, uint64_t notification) {
    buf_append(&server->events[broker], &notification, sizeof notification);
}

/* Which notification a broker has at that place; 0: none, it was a break. */
static uint64_t noted(const struct server *server, size_t broker, uint64_t place) {
    uint64_t notification;
    memcpy(&notification, server->events[broker].bytes + place * sizeof notification,
           sizeof notification);
    return notification;
}

/* payload "": no marker. */
static void deliver(struct server *server, const char *payload) {
    server->heard++;
    for (size_t b = 0; b < 2; b++) {
        if (server->is_listening[b]) {
            markers_count(&server->markers[b]);
            note(server, b, server->heard);
            if (payload[0] != '\0') {
                (void)(markers_hear(&server->markers[b], slice_of(payload), PID, 0) == MARKER_OWN);
            }
        }
    }
}

static void listen_again(struct server *server, size_t b) {
    if (server->markers[b].count > 0) {
        markers_break(&server->markers[b], 0);
        note(server, b, 0);
    }
    server->is_listening[b] = true;
    server->flying[b][0] = '\0';
}

static void server_step(struct server *server) {
    size_t b = next_random(&server->random) % 2;
    switch (next_random(&server->random) % 16) {
    case 0:
        if (server->is_listening[b]) {
            draw_marker(&server->markers[b], PID, server->flying[b]);
        }
        return;
    case 1:
    case 2:
        if (server->flying[b][0] != '\0') {
            char payload[DRAWN_MARKER_BYTES];
            memcpy(payload, server->flying[b], sizeof payload);
            server->flying[b][0] = '\0';
            deliver(server, payload);
        }
        return;
    case 3:
        if (next_random(&server->random) % 4 == 0) {
            server->is_listening[b] = false;
        }
        return;
    case 4:
        if (!server->is_listening[b]) {
            listen_again(server, b);
        }
        return;
    default:
        deliver(server, "");
        return;
    }
}

/* A position of one broker means, wherever it is known, the same notification. */
static void test_two_brokers_mean_the_same(void **state) {
    (void)state;
    uint64_t taken_over = 0;
    uint64_t unknown = 0;
    for (uint32_t seed = 1; seed <= 60; seed++) {
        struct server server = {.random = seed, .is_listening = {true, false}};
        for (size_t b = 0; b < 2; b++) {
            begin(&server.markers[b]);
            note(&server, b, 0); /* place 0 is before everything */
        }
        for (int step = 0; step < 600; step++) {
            server_step(&server);
            size_t from = next_random(&server.random) % 2;
            struct position position = position_of(&server.markers[from]);
            uint64_t here;
            uint64_t there;
            assert_true(markers_resolve(&server.markers[from], &position, &here));
            assert_int_equal(here, server.markers[from].count);
            if (!markers_resolve(&server.markers[1 - from], &position, &there)) {
                unknown++;
            } else if (noted(&server, from, here) != noted(&server, 1 - from, there)) {
                fail_msg("seed %u, step %d", seed, step);
            } else {
                taken_over++;
            }
        }
        for (size_t b = 0; b < 2; b++) {
            markers_release(&server.markers[b]);
            buf_release(&server.events[b]);
        }
    }
    assert_true(taken_over > 5000 && unknown > 5000); /* the test tests something */
}

/* Nothing is missing between them: then nothing is unknown either. */
static void test_two_brokers_that_hear_all(void **state) {
    (void)state;
    struct server server = {.random = 7, .is_listening = {true, true}};
    uint64_t here;
    uint64_t there;
    for (size_t b = 0; b < 2; b++) {
        begin(&server.markers[b]);
        note(&server, b, 0);
    }
    for (size_t b = 0; b < 2; b++) {
        draw_marker(&server.markers[b], PID, server.flying[b]);
        deliver(&server, server.flying[b]);
    }
    for (int i = 0; i < 100; i++) {
        for (size_t b = 0; b < 2; b++) {
            struct position position = position_of(&server.markers[b]);
            assert_true(markers_resolve(&server.markers[b], &position, &here));
            assert_true(markers_resolve(&server.markers[1 - b], &position, &there));
            assert_int_equal(here, there);
        }
        deliver(&server, "");
    }
    for (size_t b = 0; b < 2; b++) {
        markers_release(&server.markers[b]);
        buf_release(&server.events[b]);
    }
}

/* They count different notifications: nothing that one writes means anything to the other. */
static void test_two_brokers_with_different_channels(void **state) {
    (void)state;
    static const char *const other[] = {"pgsse_marker", "topic_broadcast_0", "topic_broadcast_1"};
    struct markers a;
    struct markers b;
    char payload[DRAWN_MARKER_BYTES];
    uint64_t place;
    begin(&a);
    markers_init(&b, MEMORY_MS, other, length_of(other), 0);
    draw_marker(&a, PID, payload);
    assert_int_equal(hear(&a, payload, PID, 0), MARKER_OWN);
    assert_int_equal(hear(&b, payload, PID, 0), MARKER_BAD);
    struct position position = position_of(&a);
    assert_true(markers_resolve(&a, &position, &place));
    assert_false(markers_resolve(&b, &position, &place));
    markers_release(&a);
    markers_release(&b);
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
    assert_true(find(&markers, "aaaaaaaaaaaaa", &place));
    foreign(&markers, "ddddddddddddd", payload);
    assert_int_equal(hear(&markers, payload, PID, MEMORY_MS + 1), MARKER_FOREIGN);
    assert_false(find(&markers, "aaaaaaaaaaaaa", &place));
    assert_true(find(&markers, "bbbbbbbbbbbbb", &place));
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
    assert_false(find(&markers, "0000000000000", &place));
    assert_false(find(&markers, "0000000000099", &place));
    assert_true(find(&markers, "0000000000100", &place));
    markers_release(&markers);
}

RUN_TESTS(TEST(test_starts_private), TEST(test_own_marker), TEST(test_payload_as_documented),
          TEST(test_next_own_marker), TEST(test_foreign_marker),
          TEST(test_own_marker_that_comes_too_late), TEST(test_malformed_and_forged),
          TEST(test_own_name_from_another_backend), TEST(test_set_depends_on_the_channels),
          TEST(test_heard_twice), TEST(test_own_marker_repeated), TEST(test_break_is_private_again),
          TEST(test_places_end_at_the_break), TEST(test_two_breaks),
          TEST(test_private_names_resolve_here_only), TEST(test_private_name_repeated),
          TEST(test_no_marker_is_no_place), TEST(test_two_brokers_mean_the_same),
          TEST(test_two_brokers_that_hear_all), TEST(test_two_brokers_with_different_channels),
          TEST(test_old_markers_are_forgotten), TEST(test_memory_bound))
