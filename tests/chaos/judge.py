"""Decides whether a run kept the promise: every event of the topic, in order, once, or a `refresh`
that is justified. Pure: it knows nothing but what publishers, clients and faults wrote down. What
is said here is about ephemeral events; about durable ones, rows.py. The two are judged apart, so
that a refresh for the one kind never excuses that the other is missing.

What is held against what:

  - A topic has one publisher, so its numbers rise in the order of commits. An event whose publisher
    was not told the outcome may have been published, perhaps later than the next ones: its place
    is where the clients saw it, and all have to agree.
  - Between two refreshes a client gets exactly the committed events: a missing one is "short", one
    that came before is "twice", an older one is "disorder". Behind a refresh nothing older comes;
    `dropped` says exactly how many are left out, and without a number everything comes that lies
    behind the place of the refresh (its id), and everything published after it was read.
  - A refresh is "needless" unless something has happened since the client's position that the rules
    name for its reason; a break is told of once. A position's age is known from the publishing of
    the event it came with.
  - A stream that begins without id gets what is published after its greeting; behind the position
    that HEAD told. One that begins with an id of the table alone likewise, and no refresh: where
    its broker was then, perhaps later than the other, its ephemeral events begin. One that begins with "0" begins a new record: it gets what the broker has heard
    since its start, unless a refresh says that something of that has left the log; what was
    before it is not asked for. Behind such a refresh everything comes that must still be kept.
  - A stream of several topics gets each of them by these rules; an event that several of its names
    match is due once. Their order is the same for everybody: clients look at that, since the count in
    an id rises and stands for one event. `dropped` counts the events of all of them. Whoever has a
    pattern among the names may also be told of the loss of an event of any other topic: the log does
    not remember which it was.
  - Streams that the server ends, or refuses, and events that take seconds need a reason, too.
  - At the end everybody has the last event of its topics: who does not was left "deaf".
"""

import bisect
import collections
import dataclasses
import itertools

from keys import is_covered, name_of
from user_streams import ConnectionHearing
from rows import Place, Table
from limits import (ALLOWANCE, CLOCK_SLACK, DURABLE_SLACK, ENTRY_OVERHEAD, LATE, LOG_SLACK, REPLAY,
                    SLOW_SLACK, WAIT)
from published import COMMITTED, REFUSED, UNKNOWN

SERVED = ("greeted", "first", "run", "runs", "durable", "refresh", "end", "close")
REASONS = ("unknown_position", "restart", "gap", "overflow")


@dataclasses.dataclass
class Window:
    """A fault: from its start to the moment when everything had answered again. effects:

    break    LISTEN of these machines may have broken
    broker   their broker was replaced
    handler  a stream handler of theirs was replaced, or is told to stop
    stall    something of theirs did not run for a while
    table    the table of durable events could not be read or written for a while"""
    kind: str
    start: float
    end: float
    machines: frozenset
    effects: frozenset
    detail: str = ""


@dataclasses.dataclass
class Settings:
    client_queue_bytes: int = 1 << 20
    history_bytes: int = 32 << 20
    ring_capacity: int = 1024
    slow_client: str = "refresh"


@dataclasses.dataclass
class Seen:
    """What all clients together learnt from the ids: {(marker, count): (topic, seq)} of events,
    {marker: (when it was first seen, machine)}, and {id: (topic, number)} of durable events."""
    places: dict = dataclasses.field(default_factory=dict)
    markers: dict = dataclasses.field(default_factory=dict)
    durable: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Violation:
    kind: str
    time: float
    text: str
    record: object = None
    index: int = 0


def place_of(position):
    """(marker, count) of an id, or None."""
    parts = position.split("~")[0].split(".") if position else ()
    return (parts[1], int(parts[2])) if len(parts) == 3 else None


# --- what was published ---------------------------------------------------------------------------

class Topic:
    """The committed events of one topic in their order, known by index."""

    def __init__(self, name, published, records, seen):
        self.name = name
        self.by_seq = {event.seq: event for event in published}
        order = [event.seq for event in published if event.outcome == COMMITTED]
        self.unplaced = set()
        if any(event.outcome == UNKNOWN for event in published):
            order = self._with_unknown(order, records)
        self.order = order
        self.index = {seq: at for at, seq in enumerate(order)}
        self._begun = list(itertools.accumulate((self.event(at).begun for at in range(len(order))),
                                                max))
        self.uncertain = sum(event.outcome == UNKNOWN and event.seq not in self.index
                             for event in published)
        self._by_marker = collections.defaultdict(list)
        for (marker, count), (topic, seq) in seen.places.items():
            if topic == name and seq in self.index:
                self._by_marker[marker].append((count, self.index[seq]))
        for known in self._by_marker.values():
            known.sort()

    def event(self, index):
        return self.by_seq[self.order[index]]

    def first_since(self, time):
        """The index of the first event that was published after this time."""
        return bisect.bisect_right(self._begun, time)

    def first_behind(self, place):
        """The index of the first event that anybody saw behind this place, or None."""
        known = self._by_marker.get(place[0], ()) if place is not None else ()
        at = bisect.bisect_right(known, place[1], key=lambda entry: entry[0]) if known else 0
        return known[at][1] if at < len(known) else None

    def _is_unknown(self, seq):
        return seq in self.by_seq and self.by_seq[seq].outcome == UNKNOWN

    def _with_unknown(self, order, records):
        """Events of unknown outcome go where most clients saw them: behind the one before, else in
        front of the one after. Who was seen alone has no place and is not asked for."""
        behind, in_front = (collections.defaultdict(collections.Counter) for _ in range(2))
        seen = set()
        for record in records:
            for before, seq, after in _neighbours(record, self.name, self._is_unknown):
                seen.add(seq)
                if before is not None:
                    behind[seq][before] += 1
                if after is not None:
                    in_front[seq][after] += 1
        placed = list(order)
        waiting = sorted(seen)
        while waiting:
            left = [seq for seq in waiting if not _insert(placed, seq, behind[seq], in_front[seq])]
            if len(left) == len(waiting):
                break
            waiting = left
        self.unplaced = set(waiting)
        return placed


def runs_of(record, item):
    """[(topic, first, last)] of an item of ephemeral events, the last one's topic at the end."""
    if item[0] == "run":
        return [(record.topics[0], item[3], item[4])]
    return [(topic, first, last) for topic, (first, last) in item[3].items()]


def _neighbours(record, name, is_wanted):
    """(event before, event, event after) of wanted events of a topic, within stretches without
    refresh."""
    stretch = []
    for item in record.items + [["refresh"]]:
        if item[0] in ("run", "runs"):
            for topic, first, last in runs_of(record, item):
                stretch += range(first, last + 1) if topic == name else ()
        elif item[0] == "refresh" or item[0] == "open" and item[3] is None:
            for at, seq in enumerate(stretch):
                if is_wanted(seq):
                    yield (stretch[at - 1] if at else None, seq,
                           stretch[at + 1] if at + 1 < len(stretch) else None)
            stretch = []


def _insert(order, seq, behind, in_front):
    for votes, offset in ((behind, 1), (in_front, 0)):
        for neighbour, _ in votes.most_common():
            if neighbour in order:
                order.insert(order.index(neighbour) + offset, seq)
                return True
    return False


# --- the judge ------------------------------------------------------------------------------------

class Judge:
    def __init__(self, published, records, windows, settings=None, seen=None, table=None,
                 unsubscribed=None):
        """published: {topic: [Published in the order of their numbers]}. unsubscribed: {(user,
        channel): (begun, done)}"""
        self.unsubscribed = unsubscribed or {}
        self.settings = settings or Settings()
        self.table = table or Table()
        self.seen = seen or Seen()
        self.windows = sorted(windows, key=lambda window: window.start)
        self.records = records
        self.violations = []
        self.refreshes = collections.Counter()
        self.coverage = collections.Counter()
        self.dropped = 0
        by_topic = collections.defaultdict(list)
        for record in records:
            for topic in record.topics if not record.user else ():
                by_topic[topic].append(record)
        self.topics = {name: Topic(name, events, by_topic[name], self.seen)
                       for name, events in published.items()}
        self._volume = Volume(
            [(event.begun, event.done, event.size + ENTRY_OVERHEAD)
             for events in published.values() for event in events if event.outcome != REFUSED]
            + [(self.table.begun(row), self.table.done(row) + DURABLE_SLACK,
                row.size + ENTRY_OVERHEAD) for row in self.table.rows])
        self._first_events = {}  # {marker: when the first event known behind it was published}
        for (marker, _), (name, seq) in self.seen.places.items():
            begun = self.topics[name].by_seq[seq].begun if name in self.topics \
                and seq in self.topics[name].by_seq else float("inf")
            self._first_events[marker] = min(begun, self._first_events.get(marker, begun))

    def judge(self):
        self.violations += [Violation(*fault) for fault in
                            self.table.faults(self.seen.durable.items())]
        for record in self.records:
            hearing = ConnectionHearing(self, record, Violation) if record.user \
                else Hearing(self, record)
            hearing.hear()
        self.violations.sort(key=lambda violation: violation.time)
        return self.violations

    def overlapping(self, machine, effect, start, end):
        """Is there a fault with this effect on this machine that touches [start, end]?"""
        return any(effect in window.effects and machine in window.machines
                   and window.start <= end and window.end + ALLOWANCE >= start
                   for window in self.windows)

    def any_overlapping(self, machine, start, end):
        return any(machine in window.machines and window.effects and window.start <= end
                   and window.end + ALLOWANCE >= start for window in self.windows)

    def may_be_late(self, machine, opened, start, end):
        """For ephemeral events: whoever cannot read the table is no reason, unless he has to: because
        he came with a position while it could not be read."""
        for window in self.windows:
            if "table" in window.effects and window.start <= end and window.end >= start:
                if window.start - CLOCK_SLACK <= opened <= window.end:
                    return True
                start = min(start, window.start)
        return any(machine in window.machines and window.effects - {"table"}
                   and window.start <= end and window.end + ALLOWANCE >= start
                   for window in self.windows)

    def before_faults(self, machine, age, time):
        """The age of what was seen at that time, if faults held it up."""
        for window in reversed(self.windows):
            if machine in window.machines and window.effects \
                    and window.start <= time and window.end + ALLOWANCE >= age:
                age = min(age, window.start - CLOCK_SLACK)
        return age

    def running_since(self, machine, time, *effects):
        """The end of the last fault with such an effect that had begun by then."""
        return max((window.end for window in self.windows if window.start <= time
                    and machine in window.machines and window.effects.intersection(effects)),
                   default=float("-inf"))

    def started_before(self, machine, time):
        """The end of the last start of this broker that was over by then."""
        return max((window.end for window in self.windows if window.end <= time
                    and machine in window.machines and "broker" in window.effects),
                   default=float("-inf"))

    def first_kept(self, machine, topic, time):
        """The index of the first event that must stand in this broker's log at that time, behind
        the last break."""
        published = topic.first_since(time)
        at_most = self.settings.ring_capacity - topic.uncertain
        if 0 < at_most and published:  # durable events stand in the same ring
            since = topic.event(max(0, published - at_most)).begun - DURABLE_SLACK
            at_most -= self.table.count_since(topic.name, since, time)
        held_since = self._volume.held_since(time, self.settings.history_bytes)
        held = published if held_since is None else topic.first_since(held_since + LOG_SLACK)
        return max(topic.first_since(self.running_since(machine, time, "broker", "break")),
                   published - max(0, at_most), held)

    def marker_sent(self, marker):
        """(sent not later than this, first seen, by the clients of that machine), or None. Who
        replays sees old ones for the first time; an event that carries it may have been begun long
        before."""
        if marker not in self.seen.markers:
            return None
        first, machine = self.seen.markers[marker]
        return min(first, self._first_events.get(marker, first)), first, machine

    def bytes_between(self, start, end):
        return self._volume.between(start, end)


class Volume:
    """What the log counts, at the most: for events that were published between two times. When
    exactly one came is not known: not before it was begun, and not after its publisher was told, or
    the table was read."""

    def __init__(self, events):
        """[(begun, done, size)]"""
        self._begun, self._by_begun = self._summed((begun, size) for begun, _, size in events)
        self._done, self._by_done = self._summed((done, size) for _, done, size in events)

    @staticmethod
    def _summed(entries):
        entries = sorted(entries)
        return ([time for time, _ in entries],
                [0, *itertools.accumulate(size for _, size in entries)])

    def between(self, start, end):
        return (self._by_begun[bisect.bisect(self._begun, end)]
                - self._by_done[bisect.bisect_left(self._done, start)])

    def held_since(self, time, limit):
        """What came after that is no more than the limit, up to this time; None: nothing is."""
        least = self._by_begun[bisect.bisect(self._begun, time)] - limit
        if least <= 0:
            return float("-inf")
        at = bisect.bisect_left(self._by_done, least)
        return self._done[at] if at < len(self._done) else None


class Progress:
    """How far one client is in one of its topics."""

    def __init__(self, topic):
        self.topic = topic
        self.forget()

    def forget(self):
        self.highest = -1       # index of the newest event
        self.go_on_anywhere()

    def go_on_anywhere(self):
        self.is_exact = False   # what comes next is known: the one behind highest
        self.has_lost = False   # a refresh has told that something left the log

    def event_at(self, index):
        return f"event {self.topic.order[index]}" if index >= 0 else "nothing"

    def listed(self, indexes):
        seqs = [self.topic.order[at] for at in indexes]
        return f"{seqs[0]}..{seqs[-1]} ({len(seqs)})" if len(seqs) > 1 else str(seqs[0])

    def first_missed(self, since):
        """The index of the first event that the client does not have, as far as it is known."""
        return self.highest + 1 if self.is_exact else self.topic.first_since(since)


class Dropped:
    """Of a stream of several topics it is known how many events were dropped, but not which: that
    shows when something of each topic has come again."""

    def __init__(self):
        self.count = 0
        self.before = {}  # {topic: the index of the newest event before the first drop}

    def add(self, count, progresses):
        """False if the count says nothing."""
        progresses = [progress for progress in progresses
                      if progress.highest + 1 < len(progress.topic.order)]
        for progress in progresses:
            if not progress.is_exact and progress.topic.name not in self.before:
                return False
            self.before.setdefault(progress.topic.name, progress.highest)
        self.count += count
        return not any(progress.topic.uncertain or progress.topic.unplaced
                       for progress in progresses)

    def come(self, progress, index):
        """An event of the topic has come. True if it was the last topic that was awaited: then as
        many as are left of the count were not missing."""
        before = self.before.pop(progress.topic.name, None)
        if before is None:
            return False
        self.count -= index - before - 1
        return not self.before


class Hearing:
    """One client's record, from its beginning to its end."""

    def __init__(self, judge, record):
        self.judge = judge
        self.record = record
        self.progresses = {topic: Progress(judge.topics[topic]) for topic in record.topics}
        self.has_pattern = any(name.endswith("*") for name in record.names or ()) or (
            len(record.topics) > 1 and not record.names)
        self.slack = SLOW_SLACK if record.is_slow else CLOCK_SLACK
        self.at = 0
        self.machine = None
        self.opened = 0.0
        self.last_id = None         # as the client knows it
        self.last_place = None      # its (marker, count), also when an event brought it
        self.last_id_read = 0.0
        self.position_age = None    # when the position was still to come; None: no id yet
        self.had_place = False      # when the connection was opened
        self.wants_all = False      # it was opened with "0", and nothing came yet
        self.is_at_start = False    # the same, and no place has come yet but
        self.origin = None          # the one at which it was accepted
        self.breaks = set()         # the places of those that it was told of
        self.is_behind = False      # nothing has come in time on this connection
        self.waiting_since = None   # when ": waiting" came on this connection
        self.expected_from = None   # where no next one is known, events that were published later
        self.place = None           # than this have to come, and those behind this place
        self.drops = None           # of a stream of several topics, while they are not accounted for
        self.durable = Place(judge.table, record.topics, self._complain)

    def hear(self):
        is_awaited = False
        for self.at, item in enumerate(self.record.items):
            if item[0] == "open":
                is_awaited = True
            elif is_awaited and item[0] in SERVED:
                is_awaited = False
                self._on_served(item[1])
            getattr(self, "_on_" + item[0])(*item[1:])
        self._on_last()
        self.judge.coverage["durable, replayed from the table"] += self.durable.replayed

    def _complain(self, kind, time, text):
        self.judge.violations.append(Violation(kind, time, text, self.record, self.at))

    # --- connections ------------------------------------------------------------------------------

    def _on_open(self, time, machine, last_id):
        self.machine = machine
        self.opened = time
        self.is_behind = True
        self.waiting_since = None
        self.last_id = last_id
        self.last_place = place_of(last_id)
        self.had_place = self.last_place is not None
        self.durable.on_open(last_id)
        if not self.had_place:
            self._forget()
            self.wants_all = self.is_at_start = last_id == "0"

    def _forget(self):
        self.breaks = set()
        self.wants_all = self.is_at_start = False
        for progress in self.progresses.values():
            progress.forget()
        self.expected_from = self.place = self.position_age = self.origin = self.drops = None

    def _is_origin(self, place):
        """A client that asked for all that is kept and gets durable events first has everything
        ephemeral still to come. Its place is the one before the first ephemeral event that was kept
        when the broker accepted it. What leaves the log after that it is told of."""
        if self.is_at_start and self.origin is None:
            self.origin = place
        return self.is_at_start and place is not None and place == self.origin

    def _on_asked(self, time, position):
        """What a page reads from the database now, and a stream from here, have no gap."""
        self.wants_all = False
        for progress in self.progresses.values():
            progress.forget()
        self.drops = None
        self.expected_from = time
        self.place = place_of(position)
        self.durable.on_open(position)
        self._set_position(time, position, self._age_of_id(time))

    def _on_status(self, time, status):
        if status != 200 and not self.judge.any_overlapping(self.machine, self.opened - 1, time):
            self._complain("refused", time, f"answered {status} without a fault")

    def _on_waiting(self, time):
        self.waiting_since = time

    def _on_greeted(self, _time):
        pass

    def _on_served(self, time):
        """The first that comes on a connection, or its end. Who asks in an unlucky moment may wait
        for a marker or two."""
        waited = 0 if self.waiting_since is None else time - self.waiting_since
        if waited > WAIT + self.slack and \
                not self.judge.any_overlapping(self.machine, self.opened - 1, time):
            self._complain("waiting", time, f"had to wait for {waited:.1f} s without a fault")

    def _on_close(self, time):
        if not self.judge.overlapping(self.machine, "handler", self.opened - 1, time):
            self._complain("cut", time, "`close` without an orderly stop")

    def _on_end(self, time, how):
        if how in ("left", "reset"):
            return
        is_excused = (self.judge.any_overlapping(self.machine, time - 1 - self.slack, time)
                      or self._may_overflow(time))
        if not is_excused:
            self._complain("cut", time, f"the stream ended ({how}) without a fault")

    def _on_pause(self, _time, _seconds):
        pass

    def _on_bad(self, time, text):
        self._complain("bad", time, text)

    # --- positions --------------------------------------------------------------------------------

    def _on_first(self, time, position):
        self._begin_at(time, position)
        self._on_id(time, position)

    def _begin_at(self, time, position):
        """The first place of who came without one."""
        place = place_of(position)
        if place and self.position_age is None and not self.had_place and not self.wants_all:
            self.expected_from = time
            self.place = place

    def _on_id(self, time, position):
        self.durable.on_id(time, position)
        self._note_id(time, position)

    def _note_id(self, time, position):
        """An id that repeats the last place says nothing about its age."""
        if place_of(position) is None or self._is_origin(place_of(position)):
            return
        self._take_all(time)
        if self.position_age is None or place_of(position) != self.last_place:
            self._set_position(time, position, self._age_of_id(time))

    def _take_all(self, time):
        """What comes first to who asked for all that is kept, and not that something had left."""
        if self.wants_all:
            self.wants_all = False
            self.expected_from = self.judge.running_since(self.machine, time, "broker")

    def _age_of_id(self, time):
        """An id was current when it was sent; a fault may have held that up, or the broker."""
        return self.judge.before_faults(self.machine, time - self.slack, time)

    def _set_position(self, time, position, age):
        self.last_id = position
        self.last_place = place_of(position)
        self.last_id_read = time
        self.position_age = age
        self.is_at_start = False

    # --- events -----------------------------------------------------------------------------------

    def _on_run(self, start, end, first, last, position=None):
        self._on_runs(start, end, {self.record.topics[0]: (first, last)}, position)

    def _on_runs(self, start, end, ranges, position=None):
        for topic, (first, last) in ranges.items():
            for seq in range(first, last + 1):
                self._on_event(start if seq == first else end, self.progresses[topic], seq)
        self.durable.on_id(end, position)
        self.last_place = place_of(position)

    def _on_durable(self, start, end, ids, position):
        for number in ids:
            self.durable.on_event(end, number)
            note = self.judge.table.note_of(number)
            self.is_behind &= note is None or end - note.done >= LATE
        started = self.judge.started_before(self.machine, self.opened)
        self.durable.replayed += sum(
            number in self.judge.table.by_id
            and self.judge.table.begun(self.judge.table.by_id[number]) < started for number in ids)
        self._begin_at(start, position)
        self._note_id(start, position)

    def _on_late_durable(self, time, number):
        note = self.judge.table.note_of(number)
        if note is None or note.outcome != COMMITTED:
            return
        if note.done < self.opened or time - note.done < LATE or self.record.is_slow \
                or self._is_replaying(time):
            return
        if not self.judge.any_overlapping(self.machine, note.begun, time):
            self._complain("late", time, f"durable event {number} took {time - note.done:.1f} s "
                           "without a fault")

    def _on_event(self, time, progress, seq):
        topic = progress.topic
        event = topic.by_seq.get(seq)
        index = topic.index.get(seq)
        if seq in topic.unplaced:
            return
        if event is None or index is None:
            self._complain("unpublished", time, f"event {seq} of {topic.name} was never committed")
            return
        self.is_behind &= time - event.done >= LATE
        self.last_id_read = time
        self._take_all(time)
        self.last_id = None  # of the event: what matters is its age
        self.position_age = event.begun
        self.is_at_start = False
        if index <= progress.highest:
            self._complain("twice" if index == progress.highest else "disorder", time,
                           f"event {seq} of {topic.name} came behind "
                           f"{progress.event_at(progress.highest)}")
            return
        missing = self._missing_before(time, progress, index)
        if missing:
            self._complain("short", time, f"event {seq} of {topic.name} came, and nobody told about "
                           f"{progress.listed(missing)}; before it "
                           f"{progress.event_at(progress.highest)}")
        if self.drops is not None and self.drops.come(progress, index):
            self.judge.coverage["drops of several topics, counted"] += 1
            if self.drops.count:
                self._complain("count", time, f"{-self.drops.count} more events are missing than "
                               "were said to be dropped")
            self.drops = None
        progress.highest = index
        progress.is_exact = True
        progress.has_lost = False

    def _on_late(self, time, seq, name):
        event = self.judge.topics[name].by_seq.get(seq)
        if event is None or event.done < self.opened or time - event.done < LATE:
            return  # it was replayed, or its transaction took long
        if self.record.is_slow or self._is_replaying(time) or \
                self.judge.may_be_late(self.machine, self.opened, event.begun, time):
            return
        self._complain("late", time, f"event {seq} of {name} took {time - event.done:.1f} s without "
                       "a fault")

    def _is_replaying(self, time):
        return self.is_behind and time - self.opened < REPLAY

    def _missing_before(self, time, progress, index):
        """Indexes of events that had to come before this one."""
        topic = progress.topic
        if progress.is_exact:
            return list(range(progress.highest + 1, index))
        known = None if self._is_origin(self.place) else topic.first_behind(self.place)
        if progress.has_lost and (self.place is None or known is not None):
            # what is said to have left must have, and no more
            kept = self.judge.first_kept(self.machine, topic, time)
            known = kept if known is None else max(known, kept)
        return [at for at in range(progress.highest + 1, index)
                if known is not None and at >= known
                or self.expected_from is not None
                and topic.event(at).begun > self.expected_from]

    # --- refreshes --------------------------------------------------------------------------------

    def _on_refresh(self, time, reason, dropped, position, names=None):
        self.judge.refreshes[reason] += 1
        cause, since = self._why_needless(time, reason), self._since()
        is_of_prune = cause and reason == "gap" and self.durable.is_pruned(time)
        if cause and not is_of_prune:
            self._complain("needless", time, f"{reason} on {self.machine}: {cause}")
        may_drop = self.judge.settings.slow_client == "refresh" and (
            reason == "overflow" or dropped is None and self._may_overflow(time))
        durable = self.durable.on_refresh(time, reason, position, may_drop, self._told_of(names))
        if is_of_prune:
            self.judge.coverage["refreshes for what was pruned"] += 1
            self._note_id(time, position)
            return  # of ephemeral events nothing may be missing
        if dropped is not None:
            self._check_count(time, dropped, durable)
            dropped = max(0, dropped - durable)
        if reason == "overflow":
            self.judge.dropped += (dropped or 0) + durable
            self.judge.coverage["overflows"] += 1
            if not dropped and not durable or dropped is None:
                self._complain("count", time, f"overflow without a count: {dropped}")
        has_lost = reason == "gap" and self._may_be_evicted(time)
        is_placed = place_of(position) is not None and not self._is_origin(place_of(position))
        if is_placed:
            self._on_told(time, reason, position, has_lost)
        if has_lost:
            self.judge.coverage["refreshes for what left the log"] += 1
        self._go_on_behind(time, dropped, position)
        for progress in self.progresses.values():
            progress.has_lost = has_lost
        self.wants_all = False
        if is_placed:  # that of a floor is the client's own, and as old as that was
            is_same = place_of(position) == self.last_place
            age = self.position_age if is_same else self._age_of_id(time)
            if reason == "gap" and place_of(position)[1] == 0:
                age = min(age, since) if age is not None else since  # further breaks may follow it
            self._set_position(time, position, age)

    def _told_of(self, names):
        """The topics that these names of a refresh stand for; None: all."""
        return names and [topic for topic in self.record.topics if is_covered(name_of(topic), names)]

    def _check_count(self, time, dropped, durable):
        if durable > dropped:
            self._complain("count", time, f"{dropped} dropped, and {durable} durable ones among "
                           "them")

    def _on_told(self, time, reason, position, has_lost):
        """A break has a place of its own, where a new name begins: it is told of once."""
        place = place_of(position)
        if reason == "gap" and place[1] == 0:
            if place in self.breaks and not has_lost:
                self._complain("again", time, f"told twice of the break at {position}")
            self.breaks.add(place)

    def _go_on_behind(self, time, dropped, position):
        if len(self.progresses) == 1 and dropped is not None:
            progress, = self.progresses.values()
            if progress.is_exact:
                self._leave_out(time, dropped, progress)
                return
        self._note_dropped(dropped)
        for progress in self.progresses.values():
            progress.go_on_anywhere()
        self.expected_from = time
        self.place = place_of(position)

    def _leave_out(self, time, dropped, progress):
        if progress.highest + dropped < len(progress.topic.order):
            progress.highest += dropped
        else:
            self._complain("count", time, f"{dropped} dropped are more than were published")

    def _note_dropped(self, dropped):
        if dropped is None or len(self.progresses) == 1:
            self.drops = None
            return
        self.drops = self.drops or Dropped()
        if not self.drops.add(dropped, self.progresses.values()):
            self.drops = None

    def _why_needless(self, time, reason):
        """None if something justifies it."""
        return getattr(self, "_why_not_" + reason, self._why_not_known)(time)

    @staticmethod
    def _why_not_known(_time):
        return "there is no such reason"

    def _since(self):
        """When what the client may be told about began: its position's age."""
        if self.is_at_start:
            return self.judge.started_before(self.machine, self.opened)
        return self.position_age if self.position_age is not None else self.opened

    def _why_not_gap(self, time):
        has_broken = self.judge.overlapping(self.machine, "break", self._since(), time)
        if has_broken or self._may_be_evicted(time):
            return None
        if self.waiting_since is not None and not self.had_place and not self.wants_all:
            return None
        return "no LISTEN has broken, and nothing can have left the log"

    def _why_not_restart(self, time):
        """Only who was live when the broker went hears of it so."""
        has_gone = self.judge.overlapping(self.machine, "broker", max(self._since(), self.opened),
                                          time)
        return None if has_gone else "the broker was not restarted"

    def _why_not_overflow(self, time):
        if self.judge.settings.slow_client != "refresh":
            return "slow clients are to be disconnected"
        return None if self._may_overflow(time) else "the client was not slow"

    def _why_not_unknown_position(self, time):
        """Can this machine's broker have missed the marker, or lost its count?"""
        place = place_of(self.last_id)
        if self.is_at_start and (self.origin is not None or self.judge.overlapping(
                self.machine, "broker", self.opened, time)):
            return None  # the name of an origin is nobody else's, and lives as long as its broker
        if place is None and self.position_age is None:
            return "the client had no position"
        sent = self.position_age
        if place is not None:
            sent, seen, source = self.judge.marker_sent(place[0]) or (sent, sent, self.machine)
            if self._is_private(sent, seen, source):
                return None
        else:  # the marker of an event's id was sent before that, by less than a few markers
            sent = self.position_age - 2 * ALLOWANCE
        if self.judge.overlapping(self.machine, "broker", sent - CLOCK_SLACK, time):
            return None
        if self.judge.overlapping(self.machine, "break", sent - CLOCK_SLACK,
                                  self.last_id_read + CLOCK_SLACK):
            return None
        return f"{self.machine} has heard everything since {self.last_id or 'the last event'}"

    def _is_private(self, sent, seen, source):
        """A name from just after a LISTEN is perhaps not sent yet: only its own broker knows it."""
        return source != self.machine and any(
            self.judge.overlapping(source, effect, sent, seen) for effect in ("broker", "break"))

    def _may_be_evicted(self, time):
        if not self.is_at_start and self.position_age is None:
            return False
        since = self._since()
        known = {name: progress.first_missed(since - self.slack)
                 for name, progress in self.progresses.items()}
        if self.has_pattern:  # what left may have been of any topic
            known = {name: known.get(name, topic.first_since(since - self.slack))
                     for name, topic in self.judge.topics.items()}
        return (self.judge.bytes_between(since, time) >= self.judge.settings.history_bytes
                or any(self._is_pushed_out(self.judge.topics[name], first, since, time)
                       for name, first in known.items()))

    def _is_pushed_out(self, topic, first, since, time):
        """By the topic's own events."""
        published = topic.first_since(time) - first + topic.uncertain
        published += self.judge.table.count_since(topic.name, since - DURABLE_SLACK, time)
        return published > self.judge.settings.ring_capacity

    def _may_overflow(self, time):
        """It did not read, or its topics alone had more within seconds than may wait for it: what it
        got just before was in the queue, too."""
        if self.record.is_slow:
            return True
        queued = sum(self._queued(progress.topic, time) for progress in self.progresses.values())
        return queued >= self.judge.settings.client_queue_bytes

    def _queued(self, topic, time):
        recent = range(topic.first_since(time - 5), topic.first_since(time))
        return (sum(topic.event(at).size + 100 for at in recent)
                + self.judge.table.bytes_since(topic.name, time - 5 - DURABLE_SLACK, time))

    # --- the end ----------------------------------------------------------------------------------

    def _on_last(self):
        """Publishing has ended and everybody had time: nothing may be missing at the end."""
        if not self.record.items:
            return
        time = self.record.items[-1][1]
        self.durable.on_last(time)
        for progress in self.progresses.values():
            missing = range(progress.highest + 1, len(progress.topic.order))
            if missing:
                self._complain("deaf", time, f"never got {progress.listed(missing)} of "
                               f"{progress.topic.name} at the end")
