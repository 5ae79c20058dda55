/* Where notifications come from: the broker has one source, and knows it by these functions alone.
 * listener.h is LISTEN on a connection to Postgres. Another source stands in LISTEN's place, not
 * beside it: tests have one that they drive by hand. */
#pragma once

#include "buf.h"

struct source;

/* What a source reports, in this order: attempts, then listening, then verified; lost after any of
 * them. */
struct source_owner {
    void *self;
    /* A first, or another, attempt to listen begins. */
    void (*on_attempt)(void *self);
    /* All channels are listened to: what is sent from now on is heard. */
    void (*on_listening)(void *self);
    /* The source knows which server it has reached. server_us: that server's clock, in microseconds
     * since 1970, read after listening had begun. Called again after `change`, when the new
     * channels are listened to. */
    void (*on_verified)(void *self, const char *server, uint64_t server_us);
    /* An attempt failed, or nothing is heard any more. The source tries again by itself. */
    void (*on_lost)(void *self, const char *reason);
    /* text is of any shape. */
    void (*on_notification)(void *self, const char *channel, struct slice text, int sender_pid);
    /* The server was reached, but it can never be used. */
    void (*on_refused)(void *self, const char *reason);
};

struct source_kind {
    void (*start)(struct source *source);
    /* The channels have changed: the source listens to the new ones. Notifications on channels that
     * are in both sets are never missed. Until on_verified is called again, some of the old set may
     * still come, and some of the new set not yet. */
    void (*change)(struct source *source);
    /* Makes no further attempts. */
    void (*stop)(struct source *source);
    /* Asks whether all channels are still listened to. If not, the source is lost. */
    void (*verify)(struct source *source);
    /* A marker came back: this server is right. After the next loss the first attempt is immediate.
     * Without this call attempts back off, because each loss costs every stream a refresh. */
    void (*settle)(struct source *source);
    /* The owner has found that the source hears nothing any more: it is lost, with that reason. */
    void (*give_up)(struct source *source, const char *reason);
    void (*destroy)(struct source *source);
};

struct source {
    const struct source_kind *kind;
};

struct loop;
struct config;
struct channels;

/* Makes a source for the channels, which stay the caller's, and starts nothing. */
typedef struct source *source_create(struct loop *loop, const struct config *config,
                                     const struct channels *channels,
                                     const struct source_owner *owner);
