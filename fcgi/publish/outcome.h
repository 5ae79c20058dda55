/* The outcome of a statement, and the answer for the client that waits for it. Pure. */
#pragma once

#include "buf.h"
#include "schema.h"

enum outcome_kind {
    OUTCOME_DONE,           /* committed */
    OUTCOME_REFUSED,        /* Postgres does not take this */
    OUTCOME_UNAVAILABLE,    /* not done: Postgres was away, or failed */
    OUTCOME_BUSY,           /* not done: others were before it until its deadline */
    OUTCOME_UNKNOWN,        /* sent, but nobody can say whether it was committed */
    OUTCOME_NO_SCHEMA,      /* not done, like the next three: the schema is not installed, */
    OUTCOME_OTHER_SCHEMA,   /* or in a version that this program does not know, */
    OUTCOME_FOREIGN_SCHEMA, /* or of a role whose code is not run, */
    OUTCOME_FORBIDDEN,      /* or the role of database_url may not use it */
};

struct outcome {
    enum outcome_kind kind;
    int schema_version; /* OTHER_SCHEMA: the one that is installed */
};

/* From the SQLSTATE of a failure; "": the connection broke without a report. */
struct outcome outcome_of(const char *sqlstate) must_check;

/* True if another server may succeed, and the statement is known to be rolled back: the server
 * shuts down, or has become a standby. */
bool outcome_is_passing(const char *sqlstate) must_check;

/* Appends a sentence about the outcome, and a NUL that is not part of the length. */
void outcome_describe(struct outcome outcome, struct buf *text);

/* Appends a whole answer in JSON, for an outcome that is not DONE. For UNKNOWN it has a member
 * "outcome" for programs. */
void outcome_append_answer(struct outcome outcome, bool without_body, struct buf *answer);
