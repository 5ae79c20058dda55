/* What became of a statement, and how whoever waits for it is told. Pure. */
#pragma once

#include "buf.h"
#include "schema.h"

enum outcome_kind {
    OUTCOME_DONE,         /* committed */
    OUTCOME_REFUSED,      /* Postgres does not take this */
    OUTCOME_UNAVAILABLE,  /* not done: Postgres was away, too slow to begin with it, or failed */
    OUTCOME_UNKNOWN,      /* sent, but nobody can say whether it was committed */
    OUTCOME_NO_SCHEMA,    /* not done, like the next two: the schema is not installed, */
    OUTCOME_OTHER_SCHEMA, /* or in a version that this program does not know, */
    OUTCOME_FORBIDDEN,    /* or the role of database_url may not use it */
};

struct outcome {
    enum outcome_kind kind;
    int schema_version; /* OTHER_SCHEMA: the one that is installed */
};

/* From the SQLSTATE of a failure; "": the connection broke, and nobody reported anything. */
struct outcome outcome_of(const char *sqlstate) must_check;

/* Whether a failure will pass when another server is asked, and what was under way is known to be
 * rolled back: the server goes down, or has become a standby. */
bool outcome_is_passing(const char *sqlstate) must_check;

/* The HTTP status of an outcome that is not DONE. */
unsigned outcome_status(enum outcome_kind kind) must_check;

/* A sentence about an outcome that is not DONE, ended by NUL, which does not count. */
void outcome_describe(struct outcome outcome, struct buf *text);

/* Appends a whole answer, for an outcome that is not DONE: JSON, which for UNKNOWN says so to
 * programs, too. */
void outcome_append_answer(struct outcome outcome, bool without_body, struct buf *answer);
