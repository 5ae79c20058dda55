/* Postgres, played behind common/pg.h: one server with its table, its NOTIFY queue, and sessions
 * whose statements and notifications take their time. */
#pragma once

#include "judge.h"

struct database_settings {
    uint32_t page_rows;  /* a page has no more; 0: as many as are asked for */
    uint32_t slow_ms;    /* now and then a statement takes up to that */
    bool fails_at_times; /* now and then a statement is ended by the server */
};

enum { DATABASE_BROKERS = 2 };

/* Without the schema. */
void database_begin(const struct database_settings *settings);
void database_calm(void); /* nothing is slow, or fails, any more */

void database_publish(int topic);
/* Nothing, while that cannot be done. */
void database_publish_durable(int topic, uint32_t filler_bytes);
void database_notify(const char *channel, const char *payload);

/* The rows of the topic are pruned up to so many ids before the last one. */
void database_prune(int topic, uint64_t but_last);

/* The schema comes, or goes with all of its events. Subscriptions stay what they are, as if
 * somebody restored them at once. */
void database_install(void);
void database_drop(void);
/* So many tables there have been. */
unsigned database_tables(void);

/* The table is locked: what needs it waits. */
void database_set_locked(bool is_locked);

/* A marker that was sent before is sent again, by somebody who has got its sender's pid, or has
 * not. */
void database_repeat_marker(void);

/* LISTEN is not in force any more, and its session does not know. */
void database_forget_listen(int broker);

bool database_right(int user, int topic);
const bool *database_rights(int user);
void database_set_right(int user, int topic, bool has_it);
/* What was published after that may not be sent to the user by this broker: it has known for long
 * that the right is lost. INT64_MAX: it may. */
void database_forbidden_us(int broker, int user, int64_t forbidden_us[TOPICS]);

/* The server goes, with all sessions; or comes. */
void database_set_up(bool is_up);

/* A session ends: "listen", "query" or "table", of the broker that was created as the how-manieth.
 */
void database_end_session(const char *name, int broker);

/* Sessions that are created from now on are that broker's. */
void database_create_for(int broker);

void database_release(void);
