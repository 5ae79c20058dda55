/* A position: how far a client has come in two independent orders, written "D.M.S".
 *
 *   D    durable events: an id of the table; 0 without one
 *   M.S  ephemeral events: a marker heard from Postgres, and how many notifications since it
 *
 * A client gets positions as SSE ids and sends them back as Last-Event-ID. Only the broker compares
 * positions, by their places in its own count, never as text. Pure. */
#pragma once

#include "base.h"

enum {
    MARKER_BYTES = 13,            /* of [0-9a-z] */
    POSITION_TEXT_BYTES = 64 + 1, /* the longest written position, and a NUL */
};

struct position {
    uint64_t durable;              /* D */
    char marker[MARKER_BYTES + 1]; /* M; "" when the position has no M.S */
    uint64_t since;                /* S */
};

/* The position that a client sent. */
enum position_kind {
    POSITION_NONE,      /* nothing, or nothing but white space: live events only */
    POSITION_MALFORMED, /* not a position that pgsse writes */
    POSITION_ALL,       /* "0": all that is kept */
    POSITION_KNOWN,     /* "D" or "D.M.S" */
};

/* Strict: unsigned decimals of at most 19 digits without sign or space. The publisher's own id,
 * after '~', is checked and ignored. *position is set for ALL and KNOWN. */
enum position_kind position_parse(struct slice text, struct position *position) must_check;

/* Writes "D.M.S", or "D" without marker, and a NUL; returns the length. */
size_t position_print(const struct position *position, char text[POSITION_TEXT_BYTES]);

/* The position without M.S: its place among durable events. */
struct position position_durable(const struct position *position) must_check;

/* True if it is written "0", which asks for all that is kept. */
bool position_is_start(const struct position *position) must_check;

bool position_equals(const struct position *a, const struct position *b) must_check;

/* A new random name from the kernel's generator, which nobody can guess. */
void marker_draw(char marker[MARKER_BYTES + 1]);

/* The name that these bytes make. */
void marker_from_bytes(char marker[MARKER_BYTES + 1], const unsigned char bytes[MARKER_BYTES]);

/* MARKER_BYTES of [0-9a-z]. */
bool marker_is_valid(struct slice marker) must_check;
