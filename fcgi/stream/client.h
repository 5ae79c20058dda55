/* One request of the web server, from its hand-over to its end: its socket, its output, its timer
 * and its end. Its role decides what it gets: a stream (subscribe.h) or an answer (answer.h). The
 * struct of a role has the client as its first member.
 *
 *   OPEN     its role is at work
 *   ENDING   all that it will ever get is queued, END_REQUEST last
 *   GONE     the web server has closed its end: END_REQUEST is sent if the socket takes it at once
 *            (without it the web server would log a crash)
 *   CLOSED   it is freed in the reap phase of this turn
 *
 * client_close only marks a client, so that a loop over all clients may close the current one. */
#pragma once

#include "config.h"
#include "loop.h"
#include "request.h"
#include "seat.h"

struct client;
LIST_HEAD(client_list, client);

/* All clients of the process, and what they share. */
struct clients {
    struct loop *loop;           /* borrowed */
    const struct config *config; /* borrowed */
    struct client_list list;
    size_t count;
    void *owner;
    void (*on_closed)(void *owner); /* a client was freed */
};

/* Called while the client is OPEN, except for the last two. */
struct client_role {
    void (*on_writable)(struct client *client); /* the socket was blocked, and takes bytes again */
    void (*on_drained)(struct client *client);  /* all that waited is written */
    void (*on_blocked)(struct client *client);  /* after a flush: the socket is blocked */
    void (*on_time)(struct client *client);     /* its timer is due; the role starts it */
    /* Ends the client in order. refusal: the text of a 503, if it is to get no stream. */
    void (*end)(struct client *client, int64_t retry_ms, const char *why, const char *refusal);
    /* The client leaves all that it waits for: when OPEN ends, and once more before it is freed. */
    void (*leave)(struct client *client);
    void (*release)(struct client *client); /* of what the role owns; then it is freed */
};

enum client_state { CLIENT_OPEN, CLIENT_ENDING, CLIENT_GONE, CLIENT_CLOSED };

struct client {
    struct clients *clients;        /* borrowed */
    const struct client_role *role; /* borrowed */
    LIST_ENTRY(client) link;        /* in clients.list */
    struct seat seat;
    struct loop_io io;
    struct loop_timer timer; /* OPEN: its role's; ENDING: a stall */
    struct loop_task flush;
    struct loop_task reap;
    int64_t written_ms; /* when the socket last took bytes, or blocked */
    int fd;
    enum client_state state;
    bool is_blocked;   /* the socket takes no bytes now */
    bool without_body; /* HEAD */
    bool is_refused_in_json;
};

/* Takes fd over. The client is zero-initialised, and free releases its memory. */
void client_init(struct client *client, struct clients *clients, const struct client_role *role,
                 int fd, uint16_t request_id, const struct request *request);

static inline bool client_is_open(const struct client *client) {
    return client->state == CLIENT_OPEN;
}

int64_t client_now_ms(const struct client *client);

/* --- output ----------------------------------------------------------------------------------- */

/* The buffer for the bytes of this client alone (see output_own). A flush writes them. */
struct buf *client_own(struct client *client);

/* Writes what waits; called in the flush phase only. */
void client_flush(struct client *client);

void client_flush_soon(struct client *client);

/* --- time ------------------------------------------------------------------------------------- */

/* on_time is called after that time, or earlier if the socket blocks. */
void client_start_timer(struct client *client, int64_t delay_ms);

/* How long the socket may still take no bytes; 0: it has stalled. */
int64_t client_patience_ms(const struct client *client) must_check;

/* --- ends ------------------------------------------------------------------------------------- */

/* It gets its own bytes, and then the end; frames of its feed that are not begun are dropped. */
void client_finish(struct client *client);

/* Answers with a line of text, or with JSON in the durable API, and ends. allow may be NULL. */
void client_refuse(struct client *client, unsigned status, const char *text, const char *allow);

/* The handler stops: a stream is told when to come back, anything else is answered 503. */
void client_end(struct client *client, int64_t retry_ms);

/* Logs that its socket took nothing for stall_timeout, and closes it. */
void client_stall(struct client *client);

/* Logs that a client reads too slowly. */
void client_note_slow(const char *reason);

/* Closes it without END_REQUEST. */
void client_close(struct client *client, const char *reason);
