/* Tells handlers which users' streams have to subscribe again, because the users' rights may have
 * changed.
 *
 * The first user is told at once. A pause follows, in which further users are collected. At its end
 * they are told together; if they are too many, all users are told. The pause is needed because
 * hints can be forged: without it, streams could be made to subscribe again so often that they
 * never get an event. The pause lasts RECHECK_PAUSE_MS_MIN, and longer when many user streams are
 * open. */
#pragma once

#include "buf.h"
#include "loop.h"

enum {
    RECHECK_PAUSE_MS_MIN = 100,
    RECHECK_PAUSE_MS_MAX = 1000,
    RECHECK_USERS_MAX = 64,
};

struct recheck_owner {
    void *self;
    /* The user's streams have to subscribe again; user "": those of all users of all tenants. */
    void (*tell)(void *self, struct slice tenant, struct slice user);
    uint64_t (*count_streams)(void *self);
};

struct recheck {
    struct loop *loop; /* borrowed */
    struct recheck_owner owner;
    struct loop_timer pause;        /* started: handlers were told a moment ago */
    size_t count;                   /* of the users that wait */
    char *users[RECHECK_USERS_MAX]; /* owned: the tenant, a newline, the user; the first is "" when
                                     * all users of all tenants are meant */
};

void recheck_init(struct recheck *recheck, struct loop *loop, const struct recheck_owner *owner);
void recheck_release(struct recheck *recheck);

/* A hint has come for that user of that tenant, or, with user "", for all users of all tenants. The
 * tenant is valid, user may be any text. */
void recheck_user(struct recheck *recheck, struct slice tenant, struct slice user);

/* All users of all tenants, at once, without the pause. Only for causes that strangers cannot bring
 * about. */
void recheck_everybody(struct recheck *recheck);
