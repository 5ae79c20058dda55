"""What one client wrote down, in the order in which it happened to it. Times are monotonic seconds
of the machine, the same for all processes. Items are lists, the first element names the kind:

    asked    time, position                      HEAD told where a stream may begin
    open     time, machine, last id or None      a request was sent; "0": all that is kept
    status   time, HTTP status                   the head of the answer was read (200: only by
                                                 connections)
    waiting  time                                ": waiting" came
    greeted  time                                the greeting's line came
    first    time, id                            "event: position", if it was the connection's first id
    run      time, time, first seq, last seq, id ephemeral events, each the next number (times of
                                                 both ends, the last one's id)
    runs     time, time, {topic: [first seq, last seq]}, id  the same of several topics; the topic
                                                 of the last event is the last one
    durable  time, time, [ids], id               durable events (the last one's id)
    late     time, seq, topic                    a new event took long from its publisher to here
    late_durable  time, id                       the same of a durable one
    id       time, id                            a later "event: position" (the last of several)
    refresh  time, reason, dropped, id, topics   id None: the block had none; topics: None: all
    close    time                                "event: close"
    pause    time, seconds                       does not read for so long
    end      time, how                           the connection ended; "left", "reset": our doing
    bad      time, text                          what no server may send

An id that stands on an event's block is not an item: its run tells as much."""

ITEM_SECONDS = 0.5  # an item is not longer, unless its events tell how old the position is


class Record:
    def __init__(self, number, topics, habit, names=(), user="", tenant=""):
        """topics: the keys of all that it may be sent. names: what it asked for, on a stream of the
        events API. user: of a connection, a stream of the durable API."""
        self.number = number
        self.topics = topics
        self.names = names
        self.user = user
        self.tenant = tenant
        self.habit = habit
        self.items = []

    @property
    def what(self):
        """For messages."""
        what = ", ".join(self.names or self.topics) + (f" as {self.user}" if self.user else "")
        return what + (f" in {self.tenant}" if self.tenant else "")

    @property
    def is_slow(self):
        return self.habit == "slow"

    def add(self, kind, *what):
        self.items.append([kind, *what])

    def add_event(self, now, topic, seq, position):
        if len(self.topics) > 1:
            self._add_one_of_many(now, topic, seq, position)
            return
        last = self.items[-1]
        if last[0] == "run" and last[4] == seq - 1:
            last[2] = now
            last[4:] = seq, position
        else:
            self.items.append(["run", now, now, seq, seq, position])

    def _add_one_of_many(self, now, topic, seq, position):
        last = self.items[-1]
        if last[0] == "runs" and now - last[1] < ITEM_SECONDS:
            first, before = last[3].get(topic, (seq, seq - 1))
            if before == seq - 1:
                last[3].pop(topic, None)  # so that it stands last
                last[3][topic] = [first, seq]
                last[2] = now
                last[4] = position
                return
        self.items.append(["runs", now, now, {topic: [seq, seq]}, position])

    def add_durable(self, now, number, position):
        last = self.items[-1]
        if last[0] == "durable" and now - last[1] < ITEM_SECONDS:
            last[2] = now
            last[3].append(number)
            last[4] = position
        else:
            self.items.append(["durable", now, now, [number], position])

    def add_id(self, now, position):
        last = self.items[-1]
        if last[0] == "id":
            last[1] = now
            last[2] = position
        else:
            self.items.append(["id", now, position])

    def around(self, index, since, before=14, after=4):
        """The items around one, as text; times count from since."""
        first = max(0, index - before)
        return "\n".join(
            f"    {'>' if at == index else ' '} {describe(item, since)}"
            for at, item in enumerate(self.items[first:index + after + 1], first))

    def text(self, since):
        return "\n".join(describe(item, since) for item in self.items)


def describe(item, since):
    kind, *rest = item
    if kind == "run":
        start, end, first, last, *position = rest
        return f"{start - since:9.3f} events {first}..{last} until {end - since:.3f} {position}"
    if kind == "runs":
        start, end, ranges, position = rest
        text = " ".join(f"{topic}:{first}..{last}" for topic, (first, last) in ranges.items())
        return f"{start - since:9.3f} events {text} until {end - since:.3f} {position}"
    if kind == "durable":
        start, end, ids, position = rest
        return (f"{start - since:9.3f} durable {ids[0]}..{ids[-1]} ({len(ids)})"
                f" until {end - since:.3f} {position}")
    return f"{rest[0] - since:9.3f} {kind} {' '.join(str(word) for word in rest[1:])}"
