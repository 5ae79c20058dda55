#include "journal.h"

void journal_position(const struct journal *journal, struct position *position) {
    markers_position(&journal->markers, position);
    position->durable = journal->table.head;
}

struct cursor journal_cursor(const struct journal *journal) {
    return (struct cursor){journal->markers.count, journal->table.head};
}
