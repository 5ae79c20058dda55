#include "recheck.h"

#include <stdlib.h>

enum { RECHECK_STREAMS_PER_MS = 5 };

static void on_pause_over(struct loop_timer *timer);

static void forget_users(struct recheck *recheck) {
    for (size_t i = 0; i < recheck->count; i++) {
        free(recheck->users[i]);
    }
    recheck->count = 0;
}

static void tell_users(struct recheck *recheck) {
    for (size_t i = 0; i < recheck->count; i++) {
        struct slice user = slice_of(recheck->users[i]);
        bool has_end;
        struct slice tenant = slice_take_until(&user, '\n', &has_end);
        recheck->owner.tell(recheck->owner.self, tenant, user);
    }
    forget_users(recheck);
}

static int64_t pause_ms(const struct recheck *recheck) {
    uint64_t streams = recheck->owner.count_streams(recheck->owner.self);
    uint64_t pause = streams / RECHECK_STREAMS_PER_MS;
    pause = pause > RECHECK_PAUSE_MS_MIN ? pause : RECHECK_PAUSE_MS_MIN;
    return (int64_t)(pause < RECHECK_PAUSE_MS_MAX ? pause : RECHECK_PAUSE_MS_MAX);
}

static void make_pass(struct recheck *recheck) {
    if (recheck->count > 0) {
        loop_timer_start(recheck->loop, &recheck->pause, pause_ms(recheck), on_pause_over);
        tell_users(recheck);
    }
}

static void on_pause_over(struct loop_timer *timer) {
    make_pass(container_of(timer, struct recheck, pause));
}

/* user: with its tenant, as in recheck.users. */
static bool waits(const struct recheck *recheck, struct slice user) {
    for (size_t i = 0; i < recheck->count; i++) {
        if (recheck->users[i][0] == '\0' || slice_is(user, recheck->users[i])) {
            return true;
        }
    }
    return false;
}

static void add_user(struct recheck *recheck, struct slice user) {
    if (waits(recheck, user)) {
        return;
    }
    if (user.length == 0 || recheck->count == RECHECK_USERS_MAX) {
        forget_users(recheck);
        user = slice_of("");
    }
    recheck->users[recheck->count++] = must_strdup(user.at, user.length);
}

void recheck_user(struct recheck *recheck, struct slice tenant, struct slice user) {
    if (user.length > 0 && memchr(user.at, '\0', user.length) != NULL) {
        return; /* no user's name contains NUL */
    }
    struct buf both = {0};
    if (user.length > 0) {
        buf_append_slice(&both, tenant);
        buf_append_text(&both, "\n");
        buf_append_slice(&both, user);
    }
    add_user(recheck, buf_slice(&both));
    buf_release(&both);
    if (!loop_timer_is_started(&recheck->pause)) {
        make_pass(recheck);
    }
}

void recheck_everybody(struct recheck *recheck) {
    add_user(recheck, slice_of(""));
    make_pass(recheck);
}

void recheck_init(struct recheck *recheck, struct loop *loop, const struct recheck_owner *owner) {
    *recheck = (struct recheck){.loop = loop, .owner = *owner};
}

void recheck_release(struct recheck *recheck) {
    loop_timer_stop(recheck->loop, &recheck->pause);
    forget_users(recheck);
}
