/* What was published, and whether a reader got it: every event of its topics in order and once, or
 * a refresh that came after the event was published, and between the events of its topic that it
 * stood between. An event's id names the event's own place, and no id stands before an earlier one.
 * A user stream gets nothing that was published after its user's right is known to have gone.
 *
 * Ephemeral and durable events of a topic are two orders. What happens has moments, counted from
 * 1. */
#pragma once

#include "position.h"

enum { TOPICS = 5, USERS = 3 };
enum judge_kind { EPHEMERAL, DURABLE, KINDS };

/* How a topic is called: "ta0" to "u4", or otherwise. */
enum { TOPIC_NAME_BYTES = 12 };
const char *topic_name(int topic) must_check;

/* Of the tenant that all topics of this world are of. The other one has topics of the same names, whose
 * events no reader may get: they have the number JUDGE_STRANGER. */
extern const char *judge_tenant;
enum { JUDGE_STRANGER = 99999999 };
static inline const char *judge_other_tenant(void) {
    return judge_tenant[0] == '\0' ? "t" : "";
}
void topic_rename(int topic, const char *name);
/* -1: none. */
int topic_find(struct slice name) must_check;

/* What one reader is owed, and has got. */
struct claim {
    int reader;
    bool is_of_user; /* a user stream: durable events only */
    bool is_wanted[TOPICS];
    bool is_excused[TOPICS];        /* its right has come or gone since it was greeted */
    bool has_changed[TOPICS];       /* the same, since it was opened */
    uint64_t from[TOPICS][KINDS];   /* what was published up to that moment is not owed */
    uint32_t next[TOPICS][KINDS];   /* the number of the next one within its order */
    uint64_t got_at[TOPICS][KINDS]; /* blocks that it had got with the last one */
    uint64_t last_moment[KINDS];
    uint64_t blocks;
    uint64_t refresh_at; /* blocks that it had got with the last refresh */
    uint64_t refresh_moment;
    struct position position; /* of the last id */
    uint64_t place;           /* where the last that is known is in the order of notifications */
    bool is_placed;           /* that is of the last id */
    bool has_id;              /* there was one */
    bool must_be_told;        /* its position is none that anybody could know */
    bool was_closed;          /* by the server, on purpose */
    uint64_t events;
    uint64_t refreshes;
};

extern unsigned judge_violations;

/* An event is committed now, with that id, or as that notification of all; returns its number,
 * which its data has to carry. */
uint32_t judge_published(int topic, enum judge_kind kind, uint64_t place);

/* It forgets all that it has, its position too. */
void claim_forget(struct claim *claim);

/* Its right to a topic has come or gone. */
void claim_excuse(struct claim *claim, int topic);

/* The table goes. A topic stream whose last id has no durable part has no place in it: it is owed
 * nothing of that table. */
void claim_on_drop(struct claim *claim);

/* It has a position that stands here; what is published from now on is owed. */
void claim_on_position(struct claim *claim);

/* It asks: what its user may have is looked up from now on. */
void claim_on_open(struct claim *claim);

void claim_on_greeting(struct claim *claim, bool has_position, const bool rights[TOPICS]);

/* A block has this id: before the block itself. place: of its M.S, 0 if that is not known;
 * may_fall: the block is a refresh, and other tables have given ids. */
void claim_on_id(struct claim *claim, const char *id, uint64_t place, bool may_fall);

/* forbidden_us[topic]: what was published later may not be sent to it. */
void claim_on_event(struct claim *claim, uint32_t number, const int64_t forbidden_us[TOPICS]);
/* is_needless: nothing can have been missed. */
void claim_on_refresh(struct claim *claim, bool is_needless);
/* Anything else that has data. */
void claim_on_block(struct claim *claim, bool is_close);

/* All is quiet, and has been for long: it has all, or was told. */
void claim_at_end(const struct claim *claim);

void complain(const struct claim *claim, const char *kind, const char *format, ...)
    printf_like(3, 4);

uint32_t judge_event_count(void);
