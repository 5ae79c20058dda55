"""The judge's part for durable events. A table is the truth: what was committed, in the order of
its ids, and what was pruned when; triggers wrote that down in the very transactions. So nothing
has to be guessed from times: whoever stands at an id gets every later row of its topics, once, in
order.

  - An id speaks for everything before it: also one that only moves the position, or stands on an
    ephemeral event. What it jumps over is "lost".
  - A `refresh` excuses rows of its topics that were pruned before it came, wherever they stand
    behind it: what was pruned is told before the stream goes on. It excuses, of an overflow of a
    client that may overflow, what it drops, up to the id it carries. Nothing else: what another
    cause takes along is "hidden" loss.
  - A row comes "again" whose id was passed by.
  - A row that a publisher was told is committed stays so ("undone"), stands there once ("doubled"),
    under an id that nobody else has or had ("reused"); and what is "rolled back" is not there."""

import bisect
import collections
import dataclasses

from published import COMMITTED, REFUSED


@dataclasses.dataclass
class Row:
    """A durable event that was committed. number: which of all of the run it is; removed: when a
    prune was about to take it, or None."""
    id: int
    topic: str
    number: int
    size: int = 100
    removed: float = None


@dataclasses.dataclass
class Note:
    """What its publisher knows of a durable event. id: 0 if it was not told."""
    number: int
    topic: str
    begun: float
    done: float
    outcome: str
    id: int = 0


class Table:
    def __init__(self, rows=(), notes=()):
        self.rows = sorted(rows, key=lambda row: row.id)
        self.by_id = {row.id: row for row in self.rows}
        self.notes = {note.number: note for note in notes}
        self._ids = collections.defaultdict(list)
        self._begun = collections.defaultdict(list)
        for row in self.rows:
            self._ids[row.topic].append(row.id)
            self._begun[row.topic].append(self.begun(row))
        for begun in self._begun.values():
            begun.sort()

    def begun(self, row):
        note = self.notes.get(row.number)
        return note.begun if note else 0.0

    def done(self, row):
        """When it was committed at the latest."""
        note = self.notes.get(row.number)
        return note.done if note else self.begun(row)

    def note_of(self, number):
        """What its publisher knows of the row with this id; None if there is none."""
        row = self.by_id.get(number)
        return self.notes.get(row.number) if row else None

    def between(self, topic, low, high=None):
        """The rows of the topic behind one id and up to another."""
        ids = self._ids.get(topic, [])
        end = len(ids) if high is None else bisect.bisect_right(ids, high)
        return [self.by_id[number] for number in ids[bisect.bisect_right(ids, low):end]]

    def count_since(self, topic, start, end):
        """How many rows of the topic were begun in that time."""
        begun = self._begun.get(topic, [])
        return bisect.bisect_right(begun, end) - bisect.bisect_left(begun, start)

    def bytes_since(self, topic, start, end):
        """What they have, with what a stream adds."""
        return sum(row.size + 100 for row in self.between(topic, 0)
                   if start <= self.begun(row) <= end)

    def last_id(self, topic):
        return max(self._ids.get(topic, [0]))

    def faults(self, places=()):
        """(kind, time, text) of what is wrong with the table itself. places: (id, (topic, number))
        as clients have seen them."""
        yield from self._reused()
        by_number = collections.defaultdict(list)
        for row in self.rows:
            by_number[row.number].append(row)
        for number, rows in by_number.items():
            if len(rows) > 1:
                yield "doubled", self.begun(rows[0]), f"{number} is {[row.id for row in rows]}"
        for note in self.notes.values():
            yield from self._faults_of(note, by_number.get(note.number, []))
        for number, event in places:
            row = self.by_id.get(number)
            if row is not None and (row.topic, row.number) != event:
                yield "reused", self.begun(row), f"{number} was {event}, and is {row}"

    def _reused(self):
        for before, row in zip(self.rows, self.rows[1:]):
            if before.id == row.id:
                yield "reused", self.begun(row), f"{row.id} is {before} and {row}"

    @staticmethod
    def _faults_of(note, rows):
        if note.outcome == COMMITTED and not rows:
            yield "undone", note.done, f"its publisher was told that it is committed: {note}"
        if note.outcome == REFUSED and rows:
            yield "rolled back", note.done, f"its publisher was told that it is not: {note}, {rows}"
        if note.id and any(row.id != note.id for row in rows):
            yield "reused", note.done, f"its publisher was told another id: {note}, {rows}"


def id_of(position):
    """The D of a position; None if there is none."""
    number = position.split("~")[0].split(".")[0] if position else ""
    return int(number) if number.isdecimal() else None


class Place:
    """Where one client stands in the table."""

    def __init__(self, table, topics, complain):
        """complain(kind, time, text)"""
        self.table = table
        self.topics = topics
        self.complain = complain
        self.up_to = None      # it has all up to here; None: it has no position
        self.newest = 0        # that has come
        self.excused = {}      # {topic: since when nothing of it has to come}
        self.told = None       # when it was last told that something is missing
        self.replayed = 0

    def on_open(self, last_id):
        self.up_to = 1 if last_id == "0" else id_of(last_id)  # no event has the id 1
        if last_id in (None, "0"):
            self.newest = 0

    def _behind(self, high=None):
        found = [row for topic in self.topics
                 for row in self.table.between(topic, self.up_to, high)]
        return sorted(found, key=lambda row: row.id)

    def _is_excused(self, row, time):
        return (row.topic in self.excused and time >= self.excused[row.topic]) or (
            self.told is not None and is_removed(row, self.told))

    def _move(self, time, number, what):
        """To a place that speaks for all before it."""
        if self.up_to is None:
            self.up_to = number
        elif number < self.up_to:
            self.complain("back", time, f"{what}: from {self.up_to} back to {number}")
        else:
            lost = [row for row in self._behind(number) if not self._is_excused(row, time)]
            if lost:
                self.complain("lost", time, f"{what} jumps from {self.up_to} over {listed(lost)}")
            self.up_to = number

    def on_id(self, time, position):
        number = id_of(position)
        if number is not None:
            self._move(time, number, f"position {position}")

    def on_event(self, time, number):
        row = self.table.by_id.get(number)
        if row is None or row.topic not in self.topics:
            self.complain("unpublished", time, f"durable event {number} was never committed")
        elif self.up_to is not None and number <= self.up_to:
            how = "again" if number <= self.newest else "behind its position"
            self.complain("again", time, f"durable event {number} came {how}: {self.up_to}")
        else:
            self._move(time, number - 1, f"durable event {number}")
            self.up_to = number
        self.newest = max(self.newest, number)

    def is_pruned(self, time):
        """Has something been removed that this client did not have?"""
        return self.up_to is not None and any(is_removed(row, time) for row in self._behind())

    def on_refresh(self, time, reason, position, may_drop, topics=None):
        """Returns how many durable events it takes along. topics: None: all."""
        number = id_of(position)
        self.told = time
        if number is None or self.up_to is None:
            self.up_to = number if self.up_to is None else self.up_to
            return 0
        if number < self.up_to:
            self._move(time, number, f"refresh {reason}")
            return 0
        rows = self._behind(number)
        lost = [row for row in rows if not self._is_excused(row, time)
                and not (is_removed(row, time) and row.topic in (topics or self.topics))]
        if lost and not may_drop:
            self.complain("hidden", time, f"refresh {reason} jumps from {self.up_to} over "
                          f"{listed(lost)}")
        self.up_to = number
        return len(rows)

    def on_last(self, time):
        if self.up_to is not None:
            rows = [row for row in self._behind() if not self._is_excused(row, time)]
            if rows:
                self.complain("deaf", time, f"never got {listed(rows)} at the end")


def is_removed(row, time):
    return row.removed is not None and row.removed <= time


def listed(rows):
    some = f"{rows[0].id}..{rows[-1].id} ({len(rows)})" if len(rows) > 1 else f"{rows[0].id}"
    removed = sum(row.removed is not None for row in rows)
    return f"durable {some} of {rows[0].topic}" + (f", {removed} pruned" if removed else "")
