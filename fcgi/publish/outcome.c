#include "outcome.h"

#include "json.h"
#include "reply.h"

static bool is_one_of(const char *sqlstate, const char *const *states, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(sqlstate, states[i]) == 0) {
            return true;
        }
    }
    return false;
}

struct outcome outcome_of(const char *sqlstate) {
    /* No such schema, table, function. */
    static const char *const missing[] = {"3F000", "42P01", "42883"};
    enum outcome_kind kind = OUTCOME_UNAVAILABLE;
    if (sqlstate[0] == '\0' || strncmp(sqlstate, "08", 2) == 0 || strcmp(sqlstate, "40003") == 0) {
        kind = OUTCOME_UNKNOWN; /* a pooler's own words when its server breaks off, for instance */
    } else if (is_one_of(sqlstate, missing, length_of(missing))) {
        kind = OUTCOME_NO_SCHEMA;
    } else if (strcmp(sqlstate, "42501") == 0) {
        kind = OUTCOME_FORBIDDEN;
    } else if (strncmp(sqlstate, "22", 2) == 0) { /* data exceptions */
        kind = OUTCOME_REFUSED;
    }
    return (struct outcome){.kind = kind};
}

bool outcome_is_passing(const char *sqlstate) {
    return strncmp(sqlstate, "57P", 3) == 0 || strcmp(sqlstate, "25006") == 0;
}

static unsigned status_of(enum outcome_kind kind) {
    switch (kind) {
    case OUTCOME_DONE:
        return HTTP_OK;
    case OUTCOME_REFUSED:
        return HTTP_BAD_REQUEST;
    case OUTCOME_NO_SCHEMA:
    case OUTCOME_OTHER_SCHEMA:
    case OUTCOME_FOREIGN_SCHEMA:
        return HTTP_NOT_IMPLEMENTED;
    case OUTCOME_UNAVAILABLE:
    case OUTCOME_BUSY:
    case OUTCOME_UNKNOWN:
    case OUTCOME_FORBIDDEN:
        break;
    }
    return HTTP_UNAVAILABLE;
}

static const char *sentence_of(enum outcome_kind kind) {
    switch (kind) {
    case OUTCOME_DONE:
        return "done";
    case OUTCOME_REFUSED:
        return "Postgres does not take this";
    case OUTCOME_UNAVAILABLE:
        return "Postgres is away: nothing was done";
    case OUTCOME_BUSY:
        return "Postgres is busy: nothing was done within publish_timeout";
    case OUTCOME_UNKNOWN:
        return "Postgres did not say whether it was done";
    case OUTCOME_NO_SCHEMA:
        return "the schema pgsse is not installed: " SCHEMA_COMMAND;
    case OUTCOME_OTHER_SCHEMA:
        return "the schema pgsse is installed in another version";
    case OUTCOME_FOREIGN_SCHEMA:
        return SCHEMA_STRANGER;
    case OUTCOME_FORBIDDEN:
        return "Postgres does not permit this to the role of database_url, which needs: GRANT "
               "USAGE "
               "ON SCHEMA pgsse; GRANT SELECT ON pgsse.events; GRANT SELECT, INSERT, DELETE ON "
               "pgsse.subscriptions";
    }
    return "";
}

void outcome_describe(struct outcome outcome, struct buf *text) {
    buf_append_text(text, sentence_of(outcome.kind));
    if (outcome.kind == OUTCOME_OTHER_SCHEMA) {
        buf_printf(text, ", %d, and this program needs %d: " SCHEMA_COMMAND, outcome.schema_version,
                   SCHEMA_VERSION);
    }
    buf_append(text, "", 1);
    text->length--;
}

void outcome_append_answer(struct outcome outcome, bool without_body, struct buf *answer) {
    struct buf text = {0};
    struct buf document = {0};
    outcome_describe(outcome, &text);
    buf_append_text(&document, "{\"error\":");
    json_quote(buf_slice(&text), &document);
    buf_append_text(&document, outcome.kind == OUTCOME_UNKNOWN ? ",\"outcome\":\"unknown\"}" : "}");
    struct reply reply = {
        .status = status_of(outcome.kind),
        .type = "application/json",
        .body = buf_slice(&document),
        .without_body = without_body,
    };
    reply_append(answer, &reply);
    buf_release(&text);
    buf_release(&document);
}
