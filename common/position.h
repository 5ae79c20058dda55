/* A place in what a client may hear: the pair of two independent orders, written "D.M.S".
 *
 *   D    durable events: an id of the table; 0 without one
 *   M.S  ephemeral events: a marker heard from Postgres, and how many notifications since it
 *
 * A client gets positions as SSE ids and hands them back as Last-Event-ID. Two positions are
 * compared by the broker, by where their places lie in its own count, never as text. Pure. */
#pragma once

#include "base.h"

enum {
    MARKER_BYTES = 13,            /* of [0-9a-z] */
    POSITION_TEXT_BYTES = 64 + 1, /* the longest written position, and a NUL */
    PUBLISHER_ID_BYTES_MAX = 64,
};

struct position {
    uint64_t durable;              /* D */
    char marker[MARKER_BYTES + 1]; /* M; "" when the position has no M.S */
    uint64_t since;                /* S */
};

/* What a client handed in as the position to go on from. */
enum position_kind {
    POSITION_NONE,      /* nothing, or nothing but white space: live events only */
    POSITION_MALFORMED, /* something that no pgsse ever wrote */
    POSITION_ALL,       /* "0": all that is kept */
    POSITION_KNOWN,     /* "D" or "D.M.S" */
};

/* Strict: unsigned decimals of at most 19 digits without sign or space; what stands behind '~', the
 * publisher's own id, is checked and left out. *position is set for ALL and KNOWN. */
enum position_kind position_parse(struct slice text, struct position *position) must_check;

/* Writes "D.M.S", or "D" without marker, and a NUL; returns the length. */
size_t position_print(const struct position *position, char text[POSITION_TEXT_BYTES]);

/* Its place among durable events alone. */
struct position position_durable(const struct position *position) must_check;

/* It is written "0", which asks for all that is kept. */
bool position_is_start(const struct position *position) must_check;

bool position_equals(const struct position *a, const struct position *b) must_check;

/* Fresh random name from the kernel's generator; unguessable and never used again. */
void marker_draw(char marker[MARKER_BYTES + 1]);

/* MARKER_BYTES of [0-9a-z]. */
bool marker_is_valid(struct slice marker) must_check;

/* 1 to 64 of [A-Za-z0-9_.-]: an event's own id, given by its publisher. */
bool publisher_id_is_valid(struct slice id) must_check;
