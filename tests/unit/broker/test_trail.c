/* A trail compared with a plain array: entries leave in the order in which they came, and are found
 * by cursor. */
#include "history.h"
#include "support.h"
#include "trail.h"

enum { MOST = 3000 };

/* An empty trail has no memory. */
static void drop_all(struct trail *trail) {
    while (trail_first(trail) != NULL) {
        trail_drop_first(trail);
    }
}

/* The model: all entries; the trail must hold those from first to before next. */
struct model {
    struct trail trail;
    struct entry entries[MOST];
    size_t first;
    size_t next;
    uint64_t place; /* of the last one */
};

static void model_push(struct model *model, uint64_t step) {
    check(model->next < MOST);
    model->place += step;
    model->entries[model->next].at.place = model->place;
    trail_push(&model->trail, &model->entries[model->next++]);
}

static void model_drop(struct model *model) {
    trail_drop_first(&model->trail);
    model->first++;
}

static struct entry *model_after(struct model *model, uint64_t place) {
    for (size_t i = model->first; i < model->next; i++) {
        if (model->entries[i].at.place > place) {
            return &model->entries[i];
        }
    }
    return NULL;
}

static void expect_same(struct model *model, uint64_t place) {
    assert_int_equal(model->trail.count, model->next - model->first);
    assert_ptr_equal(trail_after(&model->trail, &(struct cursor){place, 0}),
                     model_after(model, place));
    assert_ptr_equal(trail_first(&model->trail), model_after(model, 0));
}

static void test_empty(void **state) {
    struct trail trail = {0};
    assert_null(trail_first(&trail));
    assert_null(trail_after(&trail, &(struct cursor){0, 0}));
    assert_null(trail_after(&trail, &(struct cursor){UINT64_MAX, UINT64_MAX}));
    assert_int_equal(trail_bytes(&trail), 0);
    drop_all(&trail);
}

/* Trails of all lengths, searched from every place, also between entries. */
static void test_after_every_place(void **state) {
    for (size_t count = 0; count <= 20; count++) {
        struct model model = {0};
        for (size_t i = 0; i < count; i++) {
            model_push(&model, 3);
        }
        for (uint64_t place = 0; place <= model.place + 2; place++) {
            expect_same(&model, place);
        }
        expect_same(&model, UINT64_MAX);
        drop_all(&model.trail);
        assert_null(trail_first(&model.trail));
    }
}

/* As with ring_capacity 1: an entry comes, then the one before leaves. */
static void test_one_at_a_time(void **state) {
    struct model model = {0};
    model_push(&model, 1);
    for (int i = 0; i < MOST - 1; i++) {
        model_push(&model, 1);
        model_drop(&model);
        expect_same(&model, model.place - 1);
        expect_same(&model, model.place);
        assert_true(model.trail.size <= 4);
    }
    model_drop(&model);
    assert_int_equal(trail_bytes(&model.trail), 0);
    assert_null(model.trail.ring);
}

static void test_grows_and_shrinks(void **state) {
    struct model model = {0};
    size_t most = 0;
    for (int i = 0; i < MOST; i++) {
        model_push(&model, 1);
        assert_true(model.trail.size >= model.trail.count);
        assert_true(model.trail.size < 2 * model.trail.count || model.trail.count == 1);
        most = trail_bytes(&model.trail);
    }
    assert_int_equal(most, 4096 * sizeof(struct entry *));
    while (model.trail.count > 1) {
        model_drop(&model);
        expect_same(&model, model.place / 2);
        assert_true(model.trail.size <= 4 || model.trail.size <= 4 * model.trail.count);
    }
    assert_true(trail_bytes(&model.trail) <= 4 * sizeof(struct entry *));
    model_drop(&model);
    assert_int_equal(trail_bytes(&model.trail), 0);
}

/* The ring is not resized while one entry comes and one leaves. */
static void test_does_not_move_to_and_fro(void **state) {
    static const size_t counts[] = {4, 8, 9, 16, 17, 64, 65};
    for (size_t i = 0; i < length_of(counts); i++) {
        struct model model = {0};
        for (size_t n = 0; n < counts[i]; n++) {
            model_push(&model, 1);
        }
        model_push(&model, 1);
        model_drop(&model);
        const void *ring = model.trail.ring;
        for (int n = 0; n < 500; n++) {
            model_push(&model, 1);
            model_drop(&model);
            assert_ptr_equal(model.trail.ring, ring);
        }
        drop_all(&model.trail);
    }
}

static void test_by_chance(void **state) {
    for (uint32_t seed = 1; seed <= 40; seed++) {
        uint32_t random = seed;
        struct model model = {0};
        while (model.next < MOST) {
            /* waves: rather up, then rather down */
            bool is_up = next_random(&random) % 8 < (model.next / 200 % 2 == 0 ? 6 : 3);
            if (is_up || model.first == model.next) {
                model_push(&model, 1 + next_random(&random) % 5);
            } else {
                model_drop(&model);
            }
            if (next_random(&random) % 8 == 0) {
                expect_same(&model, next_random(&random) % (model.place + 3));
            }
        }
        drop_all(&model.trail);
    }
}

/* Every sequence of both kinds, from every cursor: 'e' moves the place, 'd' the id. */
static void test_both_kinds_after_every_cursor(void **state) {
    enum { LENGTH = 8 };
    for (unsigned word = 0; word < 1u << LENGTH; word++) {
        struct trail trail = {0};
        struct entry entries[LENGTH] = {0};
        struct cursor at = {0};
        for (unsigned i = 0; i < LENGTH; i++) {
            bool is_durable = (word >> i & 1) != 0;
            at.place += is_durable ? 0 : 1;
            at.durable += is_durable ? 1 : 0;
            entries[i].kind = is_durable ? ENTRY_DURABLE : ENTRY_EPHEMERAL;
            entries[i].at = at;
            trail_push(&trail, &entries[i]);
        }
        for (uint64_t place = 0; place <= at.place + 1; place++) {
            for (uint64_t durable = 0; durable <= at.durable + 1; durable++) {
                struct cursor cursor = {place, durable};
                const struct entry *wanted = NULL;
                for (unsigned i = LENGTH; i-- > 0;) {
                    wanted = entry_is_new(&entries[i], &cursor) ? &entries[i] : wanted;
                }
                assert_ptr_equal(trail_after(&trail, &cursor), wanted);
            }
        }
        drop_all(&trail);
    }
}

RUN_TESTS(TEST(test_empty), TEST(test_after_every_place), TEST(test_one_at_a_time),
          TEST(test_grows_and_shrinks), TEST(test_does_not_move_to_and_fro), TEST(test_by_chance),
          TEST(test_both_kinds_after_every_cursor))
