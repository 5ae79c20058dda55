/* Markers: which are trusted, the positions written with them, and how long they are known. */
#include "drawn_marker.h"
#include "markers.h"
#include "support.h"

enum { PID = 4711, MEMORY_MS = 1000 };

static const struct slice channels = LITERAL("pgsse_marker\ntopic_broadcast_0\n");

static void begin(struct markers *markers) {
    markers_init(markers, MEMORY_MS, channels, 0);
    markers_trust(markers, DRAWN_MARKER_US);
}

static struct position position_of(const struct markers *markers) {
    struct position position;
    markers_position(markers, &position);
    assert_int_equal(position.durable, 0);
    assert_true(marker_is_valid(slice_of(position.marker)));
    return position;
}

/* The place of the marker itself. */
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
    enum marker_verdict verdict = hear(markers, payload, PID, now_ms);
    memcpy(name, markers->written, MARKER_BYTES + 1);
    return verdict;
}

/* Another broker's, heard; random is its random part, name what it is known by. */
static void foreign_heard(struct markers *markers, const char *random, char name[MARKER_BYTES + 1],
                          int64_t now_ms) {
    char payload[DRAWN_MARKER_BYTES];
    foreign_marker(markers, random, PID, DRAWN_MARKER_US, payload, name);
    assert_int_equal(hear(markers, payload, PID, now_ms), MARKER_FOREIGN);
}

static void test_starts_private(void **state) {
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
    struct markers markers;
    char payload[DRAWN_MARKER_BYTES];
    char wanted[DRAWN_MARKER_BYTES];
    begin(&markers);
    draw_marker(&markers, PID, payload);
    snprintf(wanted, sizeof wanted,
             "{\"marker\":\"%s\",\"set\":\"%s\",\"pid\":4711,\"at\":1767225600000000}",
             markers.expected, markers.set);
    assert_string_equal(payload, wanted);
    assert_true(marker_is_valid(slice_of(markers.expected)));
    assert_int_equal(strlen(markers.set), MARKER_SET_BYTES);
    assert_int_equal(strspn(markers.set, "0123456789abcdef"), MARKER_SET_BYTES);
    markers_release(&markers);
}

/* Positions go on from the newest marker of our own; the older one is still known. */
static void test_next_own_marker(void **state) {
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
    struct markers markers;
    char own[MARKER_BYTES + 1];
    char name[MARKER_BYTES + 1];
    uint64_t place;
    begin(&markers);
    assert_int_equal(own_heard(&markers, own, 0), MARKER_OWN);
    foreign_heard(&markers, "abcdefghijklm", name, 0);
    assert_string_equal(name, "4ir15cbg71xa7"); /* of SHA-256 */
    assert_string_equal(position_of(&markers).marker, own);
    assert_int_equal(position_of(&markers).since, 1);
    assert_true(find(&markers, name, &place) && place == 2);
    assert_false(find(&markers, "abcdefghijklm", &place));
    markers_release(&markers);
}

/* An old marker of ours, not the one drawn last, counts as another broker's. */
static void test_own_marker_that_comes_too_late(void **state) {
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

#define GOOD "\"marker\":\"abcdefghijklm\",\"set\":\"%s\""

static void test_malformed_and_forged(void **state) {
    static const char *const formats[] = {
        "",
        "x",
        "null",
        "[]",
        "\"%s\"",
        "{}",
        "{\"marker\":\"abcdefghijklm\"}",
        "{\"set\":\"%s\",\"pid\":4711,\"at\":1767225600000000}",
        "{" GOOD "}",
        "{" GOOD ",\"at\":1767225600000000}",
        "{" GOOD ",\"pid\":4711}",
        "{\"marker\":\"abcdefghijklm\",\"pid\":4711,\"at\":1767225600000000}",
        "{" GOOD ",\"pid\":4712,\"at\":1767225600000000}",
        "{" GOOD ",\"pid\":\"4711\",\"at\":1767225600000000}",
        "{" GOOD ",\"pid\":4711.0,\"at\":1767225600000000}",
        "{" GOOD ",\"pid\":-4711,\"at\":1767225600000000}",
        "{" GOOD ",\"pid\":null,\"at\":1767225600000000}",
        "{" GOOD ",\"pid\":4294972007,\"at\":1767225600000000}",
        "{" GOOD ",\"pid\":18446744073709556327,\"at\":1767225600000000}",
        "{" GOOD ",\"pid\":4711,\"at\":null}",
        "{" GOOD ",\"pid\":4711,\"at\":\"1767225600000000\"}",
        "{" GOOD ",\"pid\":4711,\"at\":1767225600000000.0}",
        "{" GOOD ",\"pid\":4711,\"at\":-1767225600000000}",
        "{" GOOD ",\"pid\":4711,\"at\":9223372036854775808}",
        "{\"marker\":\"abcdefghijkl\",\"set\":\"%s\",\"pid\":4711,\"at\":1767225600000000}",
        "{\"marker\":\"abcdefghijklmn\",\"set\":\"%s\",\"pid\":4711,\"at\":1767225600000000}",
        "{\"marker\":\"ABCDEFGHIJKLM\",\"set\":\"%s\",\"pid\":4711,\"at\":1767225600000000}",
        "{\"marker\":\"abcdefghijkl.\",\"set\":\"%s\",\"pid\":4711,\"at\":1767225600000000}",
        "{\"marker\":\"abcdefg\\u0061\",\"set\":\"%s\",\"pid\":4711,\"at\":1767225600000000}",
        "{\"marker\":\"\",\"set\":\"%s\",\"pid\":4711,\"at\":1767225600000000}",
        "{\"marker\":5,\"set\":\"%s\",\"pid\":4711,\"at\":1767225600000000}",
        "{\"marker\":\"abcdefghijklm\",\"set\":\"%sx\",\"pid\":4711,\"at\":1767225600000000}",
        "{\"marker\":\"abcdefghijklm\",\"set\":\"0000000000000000\",\"pid\":4711,"
        "\"at\":1767225600000000}",
        "{\"marker\":\"abcdefghijklm\",\"set\":\"\",\"pid\":4711,\"at\":1767225600000000}",
        "{\"marker\":\"abcdefghijklm\",\"set\":5,\"pid\":4711,\"at\":1767225600000000}",
        "{" GOOD ",\"pid\":4711,\"at\":1767225600000000}x",
        "{" GOOD ",\"pid\":4711,\"at\":1767225600000000",
        "[{" GOOD ",\"pid\":4711,\"at\":1767225600000000}]",
    };
    struct markers markers;
    begin(&markers);
    for (size_t i = 0; i < length_of(formats); i++) {
        char payload[256];
        const char *set = strstr(formats[i], "%s");
        size_t before = set == NULL ? strlen(formats[i]) : (size_t)(set - formats[i]);
        snprintf(payload, sizeof payload, "%.*s%s%s", (int)before, formats[i],
                 set == NULL ? "" : markers.set, set == NULL ? "" : set + 2);
        if (hear(&markers, payload, PID, 0) != MARKER_BAD || HASH_COUNT(markers.by_name) != 1) {
            fail_msg("%s", payload);
        }
    }
    assert_int_equal(markers.count, length_of(formats)); /* still counted */
    markers_release(&markers);
}

/* Our own marker's text, sent by another backend. */
static void test_own_name_from_another_backend(void **state) {
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
    static const struct slice other = LITERAL("pgsse_marker\ntopic_broadcast_1\n");
    static const struct slice joined = LITERAL("pgsse_markertopic_broadcast_0\n");
    struct markers a;
    struct markers b;
    struct markers c;
    struct markers same;
    char payload[DRAWN_MARKER_BYTES];
    begin(&a);
    begin(&same);
    markers_init(&b, MEMORY_MS, other, 0);
    markers_init(&c, MEMORY_MS, joined, 0);
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

/* A name that was heard twice is not used. */
static void test_heard_twice(void **state) {
    struct markers markers;
    char payload[DRAWN_MARKER_BYTES];
    char name[MARKER_BYTES + 1];
    uint64_t place;
    begin(&markers);
    foreign_marker(&markers, "abcdefghijklm", PID, DRAWN_MARKER_US, payload, name);
    assert_int_equal(hear(&markers, payload, PID, 0), MARKER_FOREIGN);
    assert_true(find(&markers, name, &place));
    assert_int_equal(hear(&markers, payload, PID, 0), MARKER_BAD);
    assert_false(find(&markers, name, &place));
    assert_int_equal(hear(&markers, payload, PID, 0), MARKER_BAD);
    assert_false(find(&markers, name, &place));
    markers_release(&markers);
}

/* The name that positions are written with is repeated: they go on with a private one. */
static void test_own_marker_repeated(void **state) {
    struct markers markers;
    char name[MARKER_BYTES + 1];
    char next[MARKER_BYTES + 1];
    char payload[DRAWN_MARKER_BYTES];
    uint64_t place;
    begin(&markers);
    draw_marker(&markers, PID, payload);
    assert_int_equal(hear(&markers, payload, PID, 0), MARKER_OWN);
    memcpy(name, position_of(&markers).marker, sizeof name);
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
    /* a marker sent before LISTEN was in force does not count as ours */
    assert_int_equal(hear(&markers, in_flight, PID, 0), MARKER_EARLY);
    assert_false(markers.is_public);
    assert_int_equal(position_of(&markers).since, 1);
    /* earlier markers stay known, and the count goes on */
    assert_true(find(&markers, name, &place) && place == 1);
    assert_int_equal(own_heard(&markers, name, 0), MARKER_OWN);
    assert_true(markers.is_public);
    assert_true(find(&markers, name, &place) && place == 4);
    markers_release(&markers);
}

/* --- epochs: what is counted without a break ----------------------------------------------------
 */

/* Places are counted from each marker up to the end of its epoch, and not one further. */
static void test_places_end_at_the_break(void **state) {
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
            for (size_t f = 0; f < length_of(far); f++) { /* also if the sum overflows */
                position.since = far[f];
                assert_false(markers_resolve(&markers, &position, &got));
            }
        }
    }
    markers_release(&markers);
}

/* A second break does not move the ends that the first one set. */
static void test_two_breaks(void **state) {
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

/* Clients know the name that positions are written with, so anybody can send it as a random part:
 * that makes another name. */
static void test_private_name_repeated(void **state) {
    struct markers markers;
    char name[MARKER_BYTES + 1];
    uint64_t place;
    begin(&markers);
    struct position before = position_of(&markers);
    foreign_heard(&markers, before.marker, name, 0);
    assert_string_not_equal(name, before.marker);
    assert_true(markers_resolve(&markers, &before, &place) && place == 0);
    assert_string_equal(position_of(&markers).marker, before.marker);
    markers_release(&markers);
}

/* --- repetitions ---------------------------------------------------------------------------------
 */

/* The same random part from another backend, or of another time, is another marker. */
static void test_every_part_makes_the_name(void **state) {
    struct markers markers;
    char payload[DRAWN_MARKER_BYTES];
    char names[4][MARKER_BYTES + 1];
    begin(&markers);
    foreign_marker(&markers, "abcdefghijklm", PID, DRAWN_MARKER_US, payload, names[0]);
    foreign_marker(&markers, "abcdefghijkln", PID, DRAWN_MARKER_US, payload, names[1]);
    foreign_marker(&markers, "abcdefghijklm", PID + 1, DRAWN_MARKER_US, payload, names[2]);
    foreign_marker(&markers, "abcdefghijklm", PID, DRAWN_MARKER_US + 1, payload, names[3]);
    for (size_t i = 0; i < length_of(names); i++) {
        assert_true(marker_is_valid(slice_of(names[i])));
        for (size_t other = 0; other < i; other++) {
            assert_string_not_equal(names[i], names[other]);
        }
    }
    markers_release(&markers);
}

/* A broker that did not hear the marker hears its repetition, from a backend with the same pid. */
static void test_repetition_of_what_was_not_heard(void **state) {
    static const struct {
        uint64_t at_us;
        enum marker_verdict verdict;
    } cases[] = {{0, MARKER_EARLY},
                 {DRAWN_MARKER_US - 1, MARKER_EARLY},
                 {DRAWN_MARKER_US, MARKER_FOREIGN},
                 {DRAWN_MARKER_US + 1, MARKER_FOREIGN}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct markers markers;
        char payload[DRAWN_MARKER_BYTES];
        char name[MARKER_BYTES + 1];
        uint64_t place;
        begin(&markers);
        foreign_marker(&markers, "abcdefghijklm", PID, cases[i].at_us, payload, name);
        assert_int_equal(hear(&markers, payload, PID, 0), cases[i].verdict);
        assert_int_equal(find(&markers, name, &place), cases[i].verdict == MARKER_FOREIGN);
        markers_release(&markers);
    }
}

/* Until the server's clock is known, another broker's marker cannot be told from a repetition. */
static void test_nothing_is_trusted_before_the_clock_is_known(void **state) {
    struct markers markers;
    char payload[DRAWN_MARKER_BYTES];
    char name[MARKER_BYTES + 1];
    uint64_t place;
    markers_init(&markers, MEMORY_MS, channels, 0);
    for (int round = 0; round < 2; round++) {
        foreign_marker(&markers, "abcdefghijklm", PID, INT64_MAX, payload, name);
        assert_int_equal(hear(&markers, payload, PID, 0), MARKER_EARLY);
        assert_false(find(&markers, name, &place));
        assert_int_equal(own_heard(&markers, name, 0), MARKER_OWN); /* nobody knew of it before */
        markers_trust(&markers, DRAWN_MARKER_US);
        foreign_heard(&markers, round == 0 ? "aaaaaaaaaaaaa" : "bbbbbbbbbbbbb", name, 0);
        markers_break(&markers, 0);
    }
    markers_release(&markers);
}

/* A position without M.S has no place, nor has one with an unknown marker. */
static void test_no_marker_is_no_place(void **state) {
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

enum { REPEATED = 64, REMEMBERED = 64 };

/* The notifications that all listeners hear, in one order. Anybody may repeat an earlier one, with
 * the same pid. */
struct server {
    uint64_t clock_us;
    char said[REPEATED][DRAWN_MARKER_BYTES]; /* markers; "" where none is */
    size_t said_count;
    struct position remembered[REMEMBERED]; /* by clients; without marker: none yet */
    uint64_t meant[REMEMBERED];             /* the notifications that they are after */
    uint32_t random;
    struct markers markers[2];
    bool is_listening[2];
    char flying[2][DRAWN_MARKER_BYTES]; /* sent, not delivered yet; "" when none is */
    uint64_t heard;                     /* how many notifications there were in all */
    struct buf events[2];               /* of uint64_t: the notification at each place */
};

static void note(struct server *server, size_t broker, uint64_t notification) {
    buf_append(&server->events[broker], &notification, sizeof notification);
}

/* The notification at that place of a broker; 0: a break. */
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
    markers_trust(&server->markers[b], server->clock_us);
    server->is_listening[b] = true;
    server->flying[b][0] = '\0';
}

static void server_draw(struct server *server, size_t b) {
    char head[MARKER_HEAD_BYTES];
    markers_draw(&server->markers[b], head);
    complete_marker(head, PID, server->clock_us, server->flying[b]);
    memcpy(server->said[server->said_count++ % REPEATED], server->flying[b], DRAWN_MARKER_BYTES);
}

static void server_step(struct server *server) {
    size_t b = next_random(&server->random) % 2;
    server->clock_us++;
    switch (next_random(&server->random) % 17) {
    case 0:
        if (server->is_listening[b]) {
            server_draw(server, b);
        }
        return;
    case 16:
        if (next_random(&server->random) % 8 == 0) {
            deliver(server, server->said[next_random(&server->random) % REPEATED]);
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

static void remember(struct server *server, const struct position *position,
                     uint64_t notification) {
    size_t i = next_random(&server->random) % REMEMBERED;
    server->remembered[i] = *position;
    server->meant[i] = notification;
}

/* Checks a position that a client has kept for a while, whatever happened to both brokers since. */
static void check_remembered(struct server *server, uint32_t seed) {
    size_t i = next_random(&server->random) % REMEMBERED;
    uint64_t place;
    for (size_t b = 0; b < 2; b++) {
        if (server->remembered[i].marker[0] != '\0' &&
            markers_resolve(&server->markers[b], &server->remembered[i], &place) &&
            noted(server, b, place) != server->meant[i]) {
            fail_msg("seed %u: an old position", seed);
        }
    }
}

/* A position of one broker means the same notification at every broker that knows it. */
static void test_two_brokers_mean_the_same(void **state) {
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
            remember(&server, &position, noted(&server, from, here));
            check_remembered(&server, seed);
        }
        for (size_t b = 0; b < 2; b++) {
            markers_release(&server.markers[b]);
            buf_release(&server.events[b]);
        }
    }
    assert_true(taken_over > 5000 && unknown > 5000); /* the test tests something */
}

/* Both brokers hear all: then each knows all positions of the other. */
static void test_two_brokers_that_hear_all(void **state) {
    struct server server = {.random = 7, .is_listening = {true, true}};
    uint64_t here;
    uint64_t there;
    for (size_t b = 0; b < 2; b++) {
        begin(&server.markers[b]);
        note(&server, b, 0);
    }
    for (size_t b = 0; b < 2; b++) {
        server.clock_us = DRAWN_MARKER_US + b;
        server_draw(&server, b);
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

/* They count different notifications: neither knows the other's positions. */
static void test_two_brokers_with_different_channels(void **state) {
    static const struct slice other =
        LITERAL("pgsse_marker\ntopic_broadcast_0\ntopic_broadcast_1\n");
    struct markers a;
    struct markers b;
    char payload[DRAWN_MARKER_BYTES];
    uint64_t place;
    begin(&a);
    markers_init(&b, MEMORY_MS, other, 0);
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
    struct markers markers;
    char names[4][MARKER_BYTES + 1];
    uint64_t place;
    begin(&markers);
    foreign_heard(&markers, "aaaaaaaaaaaaa", names[0], 0);
    foreign_heard(&markers, "bbbbbbbbbbbbb", names[1], MEMORY_MS / 2);
    foreign_heard(&markers, "ccccccccccccc", names[2], MEMORY_MS);
    assert_true(find(&markers, names[0], &place));
    foreign_heard(&markers, "ddddddddddddd", names[3], MEMORY_MS + 1);
    assert_false(find(&markers, names[0], &place));
    assert_true(find(&markers, names[1], &place));
    markers_release(&markers);
}

/* Memory is bounded: the oldest names are forgotten first. */
static void test_memory_bound(void **state) {
    static const struct {
        int number;
        bool is_known;
    } cases[] = {{0, false}, {99, false}, {100, true}, {MARKERS_MAX + 99, true}};
    struct markers markers;
    char name[MARKER_BYTES + 1];
    uint64_t place;
    begin(&markers);
    for (int i = 0; i < MARKERS_MAX + 100; i++) {
        char payload[DRAWN_MARKER_BYTES];
        snprintf(payload, sizeof payload,
                 "{\"marker\":\"%013d\",\"set\":\"%s\",\"pid\":%d,\"at\":%llu}", i, markers.set,
                 PID, (unsigned long long)DRAWN_MARKER_US);
        assert_int_equal(hear(&markers, payload, PID, 0), MARKER_FOREIGN);
        assert_true(HASH_COUNT(markers.by_name) <= MARKERS_MAX);
    }
    for (size_t i = 0; i < length_of(cases); i++) {
        char payload[DRAWN_MARKER_BYTES];
        char random[MARKER_BYTES + 1];
        snprintf(random, sizeof random, "%013d", cases[i].number);
        foreign_marker(&markers, random, PID, DRAWN_MARKER_US, payload, name);
        assert_int_equal(find(&markers, name, &place), cases[i].is_known);
    }
    markers_release(&markers);
}

RUN_TESTS(TEST(test_starts_private), TEST(test_own_marker), TEST(test_payload_as_documented),
          TEST(test_next_own_marker), TEST(test_foreign_marker),
          TEST(test_own_marker_that_comes_too_late), TEST(test_malformed_and_forged),
          TEST(test_own_name_from_another_backend), TEST(test_set_depends_on_the_channels),
          TEST(test_heard_twice), TEST(test_own_marker_repeated), TEST(test_break_is_private_again),
          TEST(test_places_end_at_the_break), TEST(test_two_breaks),
          TEST(test_private_names_resolve_here_only), TEST(test_private_name_repeated),
          TEST(test_every_part_makes_the_name), TEST(test_repetition_of_what_was_not_heard),
          TEST(test_nothing_is_trusted_before_the_clock_is_known), TEST(test_no_marker_is_no_place),
          TEST(test_two_brokers_mean_the_same), TEST(test_two_brokers_that_hear_all),
          TEST(test_two_brokers_with_different_channels), TEST(test_old_markers_are_forgotten),
          TEST(test_memory_bound))
