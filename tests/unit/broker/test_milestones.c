/* Milestones of a log whose entries come and go by chance: from a milestone it is not far to the
 * first entry that is new to a cursor, and none before it is new. */
#include "milestones.h"
#include "support.h"

enum { MOST = 4000, NEAR = 2 * MILESTONE_ENTRIES };

static struct milestones milestones;
static struct entry_list entries;
static struct cursor head;
static size_t entry_count;

static void add(bool is_durable) {
    struct entry *entry = must_zalloc(sizeof *entry);
    head.place += is_durable ? 0 : 1;
    head.durable += is_durable ? 1 : 0;
    entry->at = head;
    TAILQ_INSERT_TAIL(&entries, entry, link);
    milestones_add(&milestones, entry);
    entry_count++;
}

static void drop(struct entry *entry) {
    milestones_drop(&milestones, entry);
    TAILQ_REMOVE(&entries, entry, link);
    free(entry);
    entry_count--;
}

/* The one after so many others. */
static struct entry *entry_at(size_t others) {
    struct entry *entry = TAILQ_FIRST(&entries);
    for (; others > 0 && entry != NULL; others--) {
        entry = TAILQ_NEXT(entry, link);
    }
    return entry;
}

static bool is_known(const struct entry *entry, const struct cursor *cursor) {
    return entry->at.place <= cursor->place && entry->at.durable <= cursor->durable;
}

static void expect_near(const struct cursor *cursor) {
    const struct entry *start = milestones_before(&milestones, cursor);
    const struct entry *entry;
    size_t steps = 0;
    TAILQ_FOREACH(entry, &entries, link) {
        if (entry == start) {
            break;
        }
        assert_true(start == NULL || is_known(entry, cursor));
    }
    entry = start == NULL ? TAILQ_FIRST(&entries) : start;
    assert_true(start == NULL || is_known(start, cursor));
    while (entry != NULL && is_known(entry, cursor)) {
        entry = TAILQ_NEXT(entry, link);
        steps++;
    }
    assert_true(steps <= NEAR);
}

static void expect_sound(uint32_t *random) {
    size_t marked = 0;
    const struct entry *entry;
    TAILQ_FOREACH(entry, &entries, link) {
        marked += entry->is_milestone ? 1 : 0;
    }
    assert_int_equal(marked, milestones.count);
    assert_true((milestones.count == 0) == (entry_count == 0));
    assert_true(milestones.first + milestones.count <= milestones.size);
    expect_near(&(struct cursor){0, 0});
    expect_near(&head);
    for (int i = 0; i < 10; i++) {
        expect_near(&(struct cursor){next_random(random) % (head.place + 2),
                                     next_random(random) % (head.durable + 2)});
        const struct entry *any = entry_at(next_random(random) % (entry_count + 1));
        if (any != NULL) {
            expect_near(&any->at);
        }
    }
}

static void play(uint32_t seed) {
    uint32_t random = seed;
    uint32_t from_front = next_random(&random) % 100; /* the others go from anywhere */
    TAILQ_INIT(&entries);
    head = (struct cursor){0};
    for (int round = 0; round < 60; round++) {
        for (uint32_t more = next_random(&random) % 1500; more > 0 && entry_count < MOST; more--) {
            add(next_random(&random) % 3 == 0);
        }
        for (uint32_t less = next_random(&random) % 1500; less > 0 && entry_count > 0; less--) {
            bool is_oldest = next_random(&random) % 100 < from_front;
            drop(entry_at(is_oldest ? 0 : next_random(&random) % entry_count));
        }
        expect_sound(&random);
    }
    while (entry_count > 0) {
        drop(TAILQ_FIRST(&entries));
    }
    assert_int_equal(milestones.count, 0);
    assert_null(milestones.list);
}

static void test_by_chance(void **state) {
    for (uint32_t seed = 1; seed <= 12; seed++) {
        play(seed);
    }
}

/* As in a full log of which each event drops the oldest: the list does not grow. */
static void test_full_log(void **state) {
    TAILQ_INIT(&entries);
    head = (struct cursor){0};
    for (size_t i = 0; i < (size_t)200 * MILESTONE_ENTRIES; i++) {
        add(false);
        if (entry_count > (size_t)20 * MILESTONE_ENTRIES) {
            drop(TAILQ_FIRST(&entries));
        }
    }
    assert_in_range(milestones.count, 20, 22);
    assert_true(milestones.size <= 64);
    while (entry_count > 0) {
        drop(TAILQ_FIRST(&entries));
    }
}

static void test_empty(void **state) {
    assert_null(milestones_before(&milestones, &(struct cursor){0}));
    milestones_release(&milestones);
}

RUN_TESTS(TEST(test_by_chance), TEST(test_full_log), TEST(test_empty))
