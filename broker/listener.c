#include "listener.h"

#include "channels.h"
#include "config.h"
#include "log.h"
#include "loop.h"
#include "pg.h"
#include "server.h"

#include <stdio.h>
#include <stdlib.h>

struct listener {
    struct source source;
    struct source_owner owner;
    const struct channels *channels; /* borrowed */
    struct pg *pg;                   /* owned */
    bool is_listening;
    bool is_verified;
    bool is_pooled;   /* verified, and there is a pooler in between */
    bool must_change; /* the channels are not those of the last LISTEN that was sent */
};

enum listener_column { COLUMN_CHANNELS, COLUMN_PID, COLUMN_SERVER, COLUMN_CLOCK };

static const char channels_query[] =
    "SELECT pg_catalog.string_agg(c, ' ' ORDER BY c COLLATE pg_catalog.\"C\"), "
    "pg_catalog.pg_backend_pid(), " SERVER_QUERY ", " SERVER_CLOCK " "
    "FROM pg_catalog.pg_listening_channels() AS c";

enum { LISTENER_REASON_BYTES = 256 };

static const char pooler_hint[] =
    ": LISTEN goes through a pooler, and does not work if that pools transactions; set "
    "listen_database_url to the server itself";

static void go_on(struct listener *listener);

/* --- the session ------------------------------------------------------------------------- */

static void begin_listening(struct listener *listener) {
    listener->is_listening = true;
    listener->owner.on_listening(listener->owner.self);
}

static void on_listening(void *self, const struct pg_result *result) {
    struct listener *listener = self;
    if (!result->is_ok) {
        pg_drop(listener->pg, result->message);
        return;
    }
    if (!listener->is_listening) {
        begin_listening(listener);
    }
    go_on(listener);
}

/* One query: one transaction. before: "", or what undoes the last LISTEN. */
static void listen(struct listener *listener, const char *before) {
    struct buf sql = {0};
    listener->must_change = false;
    buf_append_text(&sql, before);
    channels_print_listen(listener->channels, &sql);
    buf_append(&sql, "", 1);
    pg_query(listener->pg, sql.bytes, 0, NULL, on_listening);
    buf_release(&sql);
}

static void on_connected(void *self) {
    struct listener *listener = self;
    const char *encoding = pg_encoding(listener->pg);
    if (!pg_encoding_is_served(encoding)) {
        char reason[LISTENER_REASON_BYTES];
        snprintf(reason, sizeof reason,
                 "the database's encoding is %s: pgsse serves UTF8 and SQL_ASCII", encoding);
        listener->owner.on_refused(listener->owner.self, reason);
        return;
    }
    listen(listener, "");
}

static void on_lost(void *self, const char *reason) {
    struct listener *listener = self;
    listener->is_listening = false;
    listener->is_verified = false;
    listener->is_pooled = false;
    listener->owner.on_lost(listener->owner.self, reason);
}

static void on_attempt(void *self) {
    const struct listener *listener = self;
    listener->owner.on_attempt(listener->owner.self);
}

static void on_notification(void *self, const char *channel, struct slice text, int sender_pid) {
    struct listener *listener = self;
    if (!listener->is_listening) {
        if (!pg_is_connected(listener->pg) || pg_is_ready(listener->pg)) {
            return; /* LISTEN was not sent: a pooler has left another session's LISTEN in force */
        }
        pg_set_timeout(listener->pg, 0);
        begin_listening(listener); /* LISTEN has committed: only its answer is incomplete */
    }
    listener->owner.on_notification(listener->owner.self, channel, text, sender_pid);
}

/* --- is it still listening? -------------------------------------------------------------- */

static bool is_complete(const struct listener *listener, const char *answer) {
    struct buf wanted = {0};
    channels_print_names(listener->channels, &wanted);
    bool is_equal = slice_is(buf_slice(&wanted), answer);
    buf_release(&wanted);
    return is_equal;
}

/* If there is a pooler in between, the reason says what to do. */
static void give_up(struct listener *listener, const char *reason) {
    char text[LISTENER_REASON_BYTES];
    if (listener->is_listening) {
        snprintf(text, sizeof text, "%s%s", reason, listener->is_pooled ? pooler_hint : "");
        pg_drop(listener->pg, text);
    }
}

static void on_channels(void *self, const struct pg_result *result) {
    struct listener *listener = self;
    if (!result->is_ok) {
        pg_drop(listener->pg, result->message);
        return;
    }
    if (listener->must_change) {
        go_on(listener); /* the answer is about other channels */
        return;
    }
    if (result->rows != 1 || pg_value(result, 0, COLUMN_SERVER)[0] == '\0') {
        pg_drop(listener->pg, "Postgres does not say which server it is");
        return;
    }
    int pid = (int)pg_number(result, 0, COLUMN_PID);
    listener->is_pooled = pid != pg_session_pid(listener->pg);
    if (!is_complete(listener, pg_value(result, 0, COLUMN_CHANNELS))) {
        give_up(listener, "Postgres does not listen for us any more");
    } else if (!listener->is_verified) {
        listener->is_verified = true;
        listener->owner.on_verified(listener->owner.self, pg_value(result, 0, COLUMN_SERVER),
                                    pg_number(result, 0, COLUMN_CLOCK));
    }
}

static void verify(struct listener *listener) {
    if (listener->is_listening && pg_is_ready(listener->pg)) {
        pg_query(listener->pg, channels_query, 0, NULL, on_channels);
    }
}

/* The channels may have changed while a statement was under way. */
static void go_on(struct listener *listener) {
    if (listener->is_listening && pg_is_ready(listener->pg) && listener->must_change) {
        listen(listener, "UNLISTEN *; ");
    } else {
        verify(listener);
    }
}

/* --- as a source ------------------------------------------------------------------------- */

static struct listener *listener_of(struct source *source) {
    return container_of(source, struct listener, source);
}

static void listener_start(struct source *source) {
    pg_start(listener_of(source)->pg);
}

static void listener_stop(struct source *source) {
    pg_stop(listener_of(source)->pg);
}

static void listener_verify(struct source *source) {
    verify(listener_of(source));
}

static void listener_change(struct source *source) {
    struct listener *listener = listener_of(source);
    listener->must_change = true;
    listener->is_verified = false;
    go_on(listener);
}

static void listener_settle(struct source *source) {
    pg_settled(listener_of(source)->pg);
}

static void listener_give_up(struct source *source, const char *reason) {
    give_up(listener_of(source), reason);
}

static void listener_destroy(struct source *source) {
    struct listener *listener = listener_of(source);
    pg_destroy(&listener->pg);
    free(listener);
}

static const struct source_kind listener_kind = {
    .start = listener_start,
    .change = listener_change,
    .stop = listener_stop,
    .verify = listener_verify,
    .settle = listener_settle,
    .give_up = listener_give_up,
    .destroy = listener_destroy,
};

struct source *listener_create(struct loop *loop, const struct config *config,
                               const struct channels *channels, const struct source_owner *owner) {
    struct listener *listener = must_zalloc(sizeof *listener);
    listener->source.kind = &listener_kind;
    listener->owner = *owner;
    listener->channels = channels;
    struct pg_settings settings =
        pg_settings_of(config, "listen", config->canary_timeout,
                       "Postgres does not answer on the LISTEN connection");
    if (config->listen_database_url[0] != '\0') {
        settings.dsn = config->listen_database_url;
    }
    struct pg_owner pg_owner = {listener, on_connected, on_lost, on_notification, on_attempt};
    listener->pg = pg_create(loop, &settings, &pg_owner);
    return &listener->source;
}
