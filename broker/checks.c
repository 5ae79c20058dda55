#include "checks.h"

#include "pg_array.h"

void checks_init(struct checks *checks) {
    TAILQ_INIT(&checks->waiting);
    TAILQ_INIT(&checks->asked);
}

static struct check_list *list_of(const struct check *check) {
    return check->is_asked ? &check->checks->asked : &check->checks->waiting;
}

void check_ask(struct checks *checks, struct check *check) {
    check_cancel(check);
    check->checks = checks;
    check->granted = 0;
    TAILQ_INSERT_TAIL(&checks->waiting, check, link);
}

void check_cancel(struct check *check) {
    if (check->checks != NULL) {
        TAILQ_REMOVE(list_of(check), check, link);
        check->checks = NULL;
        check->is_asked = false;
    }
}

static void move_to_asked(struct check *check, uint64_t number) {
    struct checks *checks = check->checks;
    TAILQ_REMOVE(&checks->waiting, check, link);
    check->is_asked = true;
    check->number = number;
    check->granted = 0;
    TAILQ_INSERT_TAIL(&checks->asked, check, link);
}

/* A topic's number in the statement is made of its check's number and its index in the check. */
static void add(const struct check *check, struct buf arrays[CHECKS_ARRAYS]) {
    for (size_t i = 0; i < check->topic_count; i++) {
        pg_array_add_number(&arrays[0], check->number * NAMES_ASKED_MAX + i);
        pg_array_add(&arrays[1], slice_of(check->user));
        pg_array_add(&arrays[2], topic_key_name(topic_key_of(check->topics[i])));
        pg_array_add(&arrays[3], topic_key_tenant(topic_key_of(check->topics[i])));
    }
}

void checks_begin(struct checks *checks, struct buf arrays[CHECKS_ARRAYS]) {
    struct check *check;
    for (size_t i = 0; i < CHECKS_ARRAYS; i++) {
        pg_array_begin(&arrays[i]);
    }
    for (uint64_t number = 0;
         number < CHECKS_MAX && (check = TAILQ_FIRST(&checks->waiting)) != NULL; number++) {
        move_to_asked(check, number);
        add(check, arrays);
    }
    for (size_t i = 0; i < CHECKS_ARRAYS; i++) {
        pg_array_end(&arrays[i]);
    }
}

void checks_take_back(struct checks *checks) {
    struct check *check;
    while ((check = TAILQ_LAST(&checks->asked, check_list)) != NULL) {
        TAILQ_REMOVE(&checks->asked, check, link);
        check->is_asked = false;
        TAILQ_INSERT_HEAD(&checks->waiting, check, link);
    }
}

/* Rows come in the order of the numbers. A number that was not asked is ignored. A cancelled check
 * is no longer in the list. */
static void note_granted(struct checks *checks, const struct pg_result *result) {
    struct check *check = TAILQ_FIRST(&checks->asked);
    for (int row = 0; row < result->rows; row++) {
        uint64_t number = pg_number(result, row, 0);
        while (check != NULL && check->number < number / NAMES_ASKED_MAX) {
            check = TAILQ_NEXT(check, link);
        }
        if (check != NULL && check->number == number / NAMES_ASKED_MAX &&
            number % NAMES_ASKED_MAX < check->topic_count) {
            check->granted |= (uint64_t)1 << (number % NAMES_ASKED_MAX);
        }
    }
}

void checks_end(struct checks *checks, const struct pg_result *result) {
    struct check *check;
    note_granted(checks, result);
    while ((check = TAILQ_FIRST(&checks->asked)) != NULL) {
        check_cancel(check);
        check->on_checked(check);
    }
}
