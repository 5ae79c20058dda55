/* Asks the table of subscriptions which of some topics a user has subscribed to. Each user stream
 * is checked this way before it is accepted. Many checks go into one statement. Pure. */
#pragma once

#include "pg.h"
#include "topics.h"
#include "wire.h"

enum { CHECKS_MAX = 1000 }; /* in one statement */

struct checks;

/* Embedded in the replay that asks. Zero-initialised: nothing is asked. */
struct check {
    TAILQ_ENTRY(check) link; /* in the list of its state */
    struct checks *checks;   /* borrowed; NULL: the check is in no list */
    bool is_asked;           /* its statement is under way */
    const char *user;        /* borrowed, as are the topics */
    struct topic *const *topics;
    size_t topic_count;
    uint64_t number;  /* is_asked: its number in the statement */
    uint64_t granted; /* bit i: topics[i] */
    /* granted is complete; the check is in no list any more. */
    void (*on_checked)(struct check *check);
};
_Static_assert(NAMES_ASKED_MAX <= 64, "granted has a bit for each topic");
TAILQ_HEAD(check_list, check);

struct checks {
    struct check_list waiting;
    struct check_list asked; /* in the order of the statement */
};

void checks_init(struct checks *checks);

/* The check waits for the next statement. */
void check_ask(struct checks *checks, struct check *check);

/* The answer is not wanted any more. Harmless when the check is in no list. */
void check_cancel(struct check *check);

/* Text arrays, parameters of pgsse.subscribed: numbers, users, topics, the topics' tenants. */
enum { CHECKS_ARRAYS = 4 };

/* Moves waiting checks, up to CHECKS_MAX, to the list `asked` and appends their parameters to the
 * arrays. */
void checks_begin(struct checks *checks, struct buf arrays[CHECKS_ARRAYS]);

/* The statement has no outcome: its checks wait again, ahead of the others. */
void checks_take_back(struct checks *checks);

/* The statement's outcome: calls on_checked of each of its checks. */
void checks_end(struct checks *checks, const struct pg_result *result);
