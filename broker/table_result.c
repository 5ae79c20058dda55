#include "table_result.h"

#include "decimal.h"
#include "schema.h"

#include <stdio.h>

#define NOT_INSTALLED \
    "the schema pgsse is not installed, or not for this role (" SCHEMA_COMMAND "): "

static bool is_id(const char *text) {
    uint64_t id;
    return decimal_parse(slice_of(text), DECIMAL_DIGITS_MAX, UINT64_MAX, &id);
}

/* --- the schema ------------------------------------------------------------------------------ */

enum look_column { LOOK_VERSION, LOOK_HEAD, LOOK_OID };
enum { LOOK_COLUMNS = 5 };

bool table_result_is_trusted(const struct pg_result *result, char reason[TABLE_REASON_BYTES]) {
    bool is_answer = result->is_ok && result->rows == 1;
    const char *stranger = is_answer ? pg_value(result, 0, 0) : "";
    if (!is_answer) {
        snprintf(reason, TABLE_REASON_BYTES, NOT_INSTALLED "%s",
                 result->is_ok ? "there is none" : result->message);
    } else if (stranger[0] != '\0') {
        snprintf(reason, TABLE_REASON_BYTES, SCHEMA_STRANGER ": %.64s", stranger);
    }
    return is_answer && stranger[0] == '\0';
}

bool table_result_is_schema(const struct pg_result *result, uint64_t *head, uint64_t *identity,
                            char reason[TABLE_REASON_BYTES]) {
    if (!result->is_ok) {
        snprintf(reason, TABLE_REASON_BYTES, NOT_INSTALLED "%s", result->message);
        return false;
    }
    if (result->rows != 1 || result->columns != LOOK_COLUMNS ||
        pg_number(result, 0, LOOK_VERSION) != SCHEMA_VERSION) {
        snprintf(reason, TABLE_REASON_BYTES, "the schema pgsse has version %s, wanted is %d (%s)",
                 pg_value(result, 0, LOOK_VERSION), SCHEMA_VERSION, SCHEMA_COMMAND);
        return false;
    }
    if (!is_id(pg_value(result, 0, LOOK_HEAD))) {
        snprintf(reason, TABLE_REASON_BYTES, "the answer of pgsse.head() is not an id");
        return false;
    }
    *head = pg_number(result, 0, LOOK_HEAD);
    *identity = pg_number(result, 0, LOOK_OID);
    return true;
}

/* --- pages ----------------------------------------------------------------------------------- */

/* As in TABLE_PAGE_COLUMNS. */
enum page_column {
    COLUMN_ID,
    COLUMN_TOPIC,
    COLUMN_IS_GAP,
    COLUMN_TYPE,
    COLUMN_DATA,
    COLUMN_PUBLISHER_ID,
    COLUMN_RETRY,
    COLUMN_COMMENT,
    COLUMN_IS_TEXT,
    COLUMN_TENANT,
};
enum { PAGE_COLUMNS = COLUMN_TENANT + 1 };

static bool is_true(const struct pg_result *result, int row, int column) {
    return pg_value(result, row, column)[0] == 't';
}

uint64_t table_result_id(const struct pg_result *result, int row) {
    return pg_number(result, row, COLUMN_ID);
}

bool table_result_is_gap(const struct pg_result *result, int row) {
    return is_true(result, row, COLUMN_IS_GAP);
}

/* The last row says where the page ends: it is neither a gap nor an event. */
bool table_result_has_more(const struct pg_result *result) {
    return result->rows > 0 && pg_value(result, result->rows - 1, COLUMN_IS_GAP)[0] == '\0';
}

int table_result_rows(const struct pg_result *result) {
    return result->rows - table_result_has_more(result);
}

uint64_t table_result_end(const struct pg_result *result) {
    return table_result_id(result, result->rows - 1);
}

bool table_result_is_page(const struct pg_result *result, uint64_t after) {
    uint64_t last = after;
    if (result->columns != PAGE_COLUMNS) {
        return false;
    }
    for (int i = 0; i < result->rows; i++) {
        uint64_t id = table_result_id(result, i);
        bool is_gap = table_result_is_gap(result, i);
        bool may_be_last = i == table_result_rows(result) && last > after;
        uint64_t least = is_gap ? 1 : last + (may_be_last ? 0 : 1);
        if (!is_id(pg_value(result, i, COLUMN_ID)) || id < least) {
            return false;
        }
        last = is_gap ? last : id;
    }
    return true;
}

void table_result_row(const struct pg_result *result, int row, struct event_row *event) {
    *event = (struct event_row){
        .tenant = slice_of(pg_value(result, row, COLUMN_TENANT)),
        .topic = slice_of(pg_value(result, row, COLUMN_TOPIC)),
        .type = slice_of(pg_value(result, row, COLUMN_TYPE)),
        .data = slice_of(pg_value(result, row, COLUMN_DATA)),
        .publisher_id = slice_of(pg_value(result, row, COLUMN_PUBLISHER_ID)),
        .retry = slice_of(pg_value(result, row, COLUMN_RETRY)),
        .comment = slice_of(pg_value(result, row, COLUMN_COMMENT)),
        .is_text = is_true(result, row, COLUMN_IS_TEXT),
    };
}
