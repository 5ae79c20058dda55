"""A process full of clients: raw sockets in one loop. Each follows a topic, or several topics and
patterns, as EventSource would, remembers its last id, and leaves and comes back at the worst
moments, here or at the other machine."""

import collections
import dataclasses
import heapq
import random
import re
import selectors
import socket
import struct
import time
import zlib

from child import Child
from keys import BROADCAST, is_covered, key_of, name_of, tenant_of
from record import Record

DATA = rb'"([\w./*]+) (\d+) (\d+) (\d+) (x*)"'
EVENT = re.compile(rb'id: ((\d+)(?:\.([0-9a-z]{13})\.(\d+))?)\nevent: (message|durable)\n'
                   rb'data: (?:\{"topic":"([\w.*]+)","data":' + DATA + rb'\}|' + DATA + rb')')
REFRESH = re.compile(
    r'\{"reason":"([a-z_]+)","dropped":(null|\d+),"topics":\[("[^"]*"(?:,"[^"]*")*)\]\}')
POSITION = re.compile(r"(\d+)(?:\.([0-9a-z]{13})\.(\d+))?")
HEAD_POSITION = re.compile(rb"200 [^\0]*\r\nPgsse-Position: (\S+)\r\n", re.IGNORECASE)
DURABLE = re.compile(rb'id: (\d+)\nevent: durable\ndata: ' + DATA)
ID = re.compile(r"\d+")
# What a stream consists of besides blocks: its opening, and the heartbeats of topics streams.
OPENING = rb"retry: (\d+)\n(?=: (?:listening |connected\n|waiting\n))|: (waiting|connected|listening [^\n]*)\n"
LINE = re.compile(OPENING + rb"|: heartbeat\n")
LATE_MS = 2500
CREDIT = 64 << 10     # of a replay, until the client has read
RETRY_MOST = 0.3      # of a second: nobody waits longer, whatever the server asks for
SMALL_WINDOW = 4096   # of slow clients, and a small segment: the kernel must not hold their backlog
SMALL_SEGMENT = 536

# How long, in seconds, each habit stays (the mean), and how long it stays away at the most.
HABITS = {
    "steady": (12.0, RETRY_MOST),
    "hopper": (1.2, RETRY_MOST),
    "hasty": (1.2, 0.0),
    "jumpy": (0.02, RETRY_MOST),
    "away": (2.5, 4.0),
    "slow": (15.0, RETRY_MOST),
    "newcomer": (1.5, RETRY_MOST),  # forgets its id: begins with none, with HEAD's, or with "0"
}
SHARES = {"steady": 32, "hopper": 24, "hasty": 11, "jumpy": 7, "away": 9, "slow": 9, "newcomer": 8}


@dataclasses.dataclass
class Planned:
    """A client. topics: the keys of all that it may be sent. names: None, or what it asks the events
    API for. user: "", or whom it names to the durable API, and stable: those of its channels that
    nobody unsubscribes."""
    number: int
    topics: list
    habit: str
    names: list = None
    user: str = ""
    stable: list = ()

    @property
    def tenant(self):
        return tenant_of(self.topics[0])


class Client:
    """Of one topic, by the topics API."""

    def __init__(self, crowd, planned, rng):
        self.crowd = crowd
        self.record = Record(planned.number, planned.topics, planned.habit, planned.names or (),
                             planned.user, planned.tenant)
        self.topics = {topic.encode(): topic for topic in planned.topics}
        self.names = {name_of(topic) for topic in planned.topics}  # that a refresh may have
        self.habit = planned.habit
        self.rng = rng
        self.machine = rng.choice(sorted(crowd.ports))
        self.socket = None
        self.last_id = None
        self.seqs = {topic: -1 for topic in planned.topics}
        self.counts = {}           # {marker: the highest count of its ids}
        self.durable = 0           # the D of its last id
        self.retry = RETRY_MOST
        self.wake_serial = 0       # of the one timer that counts
        self.is_paused = False
        self.is_greeted = False    # on this connection
        self._has_id = False       # an id came on this connection
        self.was_refused = False
        self._buffer = b""
        self._has_head = False
        self._gzip = None          # the decoder of this connection, if it is compressed
        self._is_asking = False    # by HEAD
        self._has_asked = False
        self._leave_at = 0.0
        self._leave_after = 0      # blocks
        self._pause_at = 0.0
        self._opened_ms = 0.0
        self._replayed_bytes = 0   # on this connection
        self._is_replaying = False  # its last event was older than the connection

    # --- time -------------------------------------------------------------------------------------

    def _wake_at(self, when):
        self.wake_serial += 1
        heapq.heappush(self.crowd.timers, (when, self.wake_serial, self.record.number, self))

    def _wake_when_needed(self):
        self._wake_at(min(self._leave_at, self._pause_at))

    def on_wake(self, now):
        if self.socket is None:
            self._connect(now)
        elif self.is_paused:
            self._go_on(now)
        elif self.crowd.is_settling:
            pass
        elif now >= self._leave_at:
            self.leave(now)
        elif now >= self._pause_at:
            self._pause(now)

    def settle(self, now):
        """No more leaving, no more pauses."""
        if self.is_paused:
            self._go_on(now)
        self._leave_at = self._pause_at = float("inf")
        self._leave_after = 1 << 60

    # --- connecting -------------------------------------------------------------------------------

    def start(self, now):
        self._wake_at(now + self.rng.random())

    def _begin_anew(self):
        """As a page that is loaded again."""
        self.last_id = "0" if self.habit == "slow" else self.rng.choice([None, None, "0"])
        self._is_asking = self.last_id is None and self.rng.random() < 0.5

    def _forgets(self):
        """Whether this connection is a new page's."""
        if self._has_asked or self.crowd.is_settling:
            return False
        return self.habit == "newcomer" or self.habit == "slow" and self.rng.random() < 0.25

    def _connect(self, now):
        if self._forgets():
            self._begin_anew()
        elif self.last_id and "." in self.last_id and self.rng.random() < 0.02:
            self.last_id = self.last_id.split(".")[0]  # as the durable API writes it
            self.counts = {}  # "from now" is where that broker is: it may be behind the other
            self.crowd.counts["ids of another API"] += 1
        if self.last_id in (None, "0"):
            self.counts = {}  # all that is kept may be older than what it has seen
            self.durable = 0
        self._has_asked = False
        self._opened_ms = now * 1000
        self._replayed_bytes = 0
        self._is_replaying = False
        self._has_id = False
        self.socket = socket.socket()
        if self.habit == "slow":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_WINDOW)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SMALL_SEGMENT)
        self._buffer = b""
        self._has_head = False
        self._gzip = None
        self.is_greeted = False
        self._plan(now)
        accept = "Accept-Encoding: gzip\r\n" if self.record.number // 2 % 2 else ""
        resume = f"Last-Event-ID: {self.last_id}\r\n" if self.last_id else ""
        if not self._is_asking:
            self.record.add("open", now, self.machine, self.last_id)
            self.crowd.counts["connections"] += 1
            self.crowd.counts["resumes"] += self.last_id is not None
        try:
            self.socket.connect(("127.0.0.1", self.crowd.ports[self.machine][self.record.tenant]))
            self.socket.sendall(f"{'HEAD' if self._is_asking else 'GET'} {self._target()} "
                                f"HTTP/1.0\r\nHost: localhost\r\n{accept}{resume}\r\n".encode())
        except OSError as error:
            self._on_end(now, str(error))
            return
        self.socket.setblocking(False)
        self.crowd.selector.register(self.socket, selectors.EVENT_READ, self)
        self._wake_when_needed()

    def _target(self):
        return f"/topics/{name_of(self.record.topics[0])}/events"

    def _plan(self, now):
        """When this connection is left: after a while, or in the middle of what comes first."""
        rng = self.rng
        self._leave_at = now + rng.expovariate(1 / HABITS[self.habit][0])
        is_short = self.habit != "steady" and rng.random() < 0.25
        self._leave_after = rng.randint(1, 30) if is_short else 1 << 60
        self._pause_at = float("inf")
        if self.habit == "slow":  # perhaps in the middle of what comes first
            self._pause_at = now + rng.choice([0.0, 0.02, rng.uniform(0.3, 3)])
        if self.crowd.is_settling:
            self.settle(now)

    # --- leaving ----------------------------------------------------------------------------------

    def leave(self, now):
        how = "left"
        if self.rng.random() < 0.5:  # without a goodbye
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            how = "reset"
        self._on_end(now, how)

    def _close(self):
        if self.socket.fileno() in self.crowd.selector.get_map():
            self.crowd.selector.unregister(self.socket)
        self.socket.close()
        self.socket = None
        self.is_paused = False

    def _on_end(self, now, how):
        self._close()
        self.crowd.counts["cut in a replay"] += self._is_replaying
        if self._is_asking:  # without an answer: it asks again
            self._wake_at(now + self.rng.uniform(0, RETRY_MOST))
            return
        self.record.add("end", now, how)
        if self.rng.random() < 0.5:
            self.machine = self.rng.choice(sorted(set(self.crowd.ports) - {self.machine}))
            self.crowd.counts["hops"] += 1
        longest = max(HABITS[self.habit][1], 0.1 if self.was_refused else 0)
        if self.crowd.is_settling:
            longest = RETRY_MOST
        self._wake_at(now + self.rng.uniform(0, longest))

    def _pause(self, now):
        seconds = self.rng.uniform(1, 6)
        self.record.add("pause", now, round(seconds, 3))
        self.is_paused = True
        self.crowd.selector.unregister(self.socket)
        self._wake_at(now + seconds)

    def _go_on(self, now):
        self.is_paused = False
        self.crowd.selector.register(self.socket, selectors.EVENT_READ, self)
        self._pause_at = now + self.rng.uniform(0.2, 2)
        self._wake_when_needed()

    # --- reading ----------------------------------------------------------------------------------

    def on_readable(self, now):
        try:
            got = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError as error:
            self._on_end(now, error.strerror)
            return
        if not got:
            self._on_end(now, "end of stream" if self._has_head else "end before the head")
            return
        if self._is_asking:
            self._on_asked(now, got)
            return
        self._buffer += self._decoded(got)
        if not self._has_head and not self._take_head(now):
            return
        *blocks, self._buffer = self._buffer.split(b"\n\n")
        for block in blocks:
            self._on_block(now, self._take_lines(now, block))
            self._leave_after -= 1
            if self._leave_after == 0:
                self.leave(now)
                return
        self._buffer = self._take_lines(now, self._buffer)

    LINE = LINE

    def _take_lines(self, now, text):
        """Those that stand before a block; returns the rest."""
        while (line := self.LINE.match(text)) is not None:
            retry, comment = line[1], line[2] or b""
            if retry:
                self.retry = min(int(retry) / 1000, RETRY_MOST)
            elif comment == b"waiting":
                self.record.add("waiting", now)
            elif comment:
                self.is_greeted = True
                self.record.add("greeted", now)
            text = text[line.end():]
        return text

    def _on_asked(self, now, got):
        """HEAD's answer: the stream is opened with the position that it tells."""
        self._buffer += got
        if b"\r\n\r\n" not in self._buffer:
            return
        match = HEAD_POSITION.search(self._buffer)
        self._is_asking = False
        if match:
            self.last_id = match[1].decode()
            self.record.add("asked", now, self.last_id)
            self._has_asked = True
            self.crowd.counts["asked"] += 1
        self._close()
        self._wake_at(now + self.rng.choice([0, self.rng.uniform(0, 0.5)]))

    def _take_head(self, now):
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return False
        status = int(head.split(None, 2)[1])
        self.was_refused = status != 200
        if self.was_refused:
            self.record.add("status", now, status)
            self.crowd.counts["refused"] += 1
            self._on_end(now, "refused")
            return False
        if b"\r\ncontent-encoding: gzip\r\n" in head.lower() + b"\r\n":
            self._gzip = zlib.decompressobj(16 + zlib.MAX_WBITS)
            self.crowd.counts["compressed"] += 1
        self._buffer = self._decoded(rest)
        self._has_head = True
        return True

    def _decoded(self, got):
        """As far as it has come. A stream that is broken ends the run."""
        return self._gzip.decompress(got) if self._gzip else got

    def _on_block(self, now, block):
        event = EVENT.fullmatch(block)
        if not event:
            self._on_other_block(now, block)
            return
        position, durable, marker, count, kind, said = event.groups()[:6]
        data, seq, sent_ms, pad, padding = event.groups()[6 if said else 11:][:5]
        durable, count, seq = int(durable), int(count or 0), int(seq)
        topic = self.topics.get(data)
        if topic is None or int(pad) != len(padding) or not self._is_as_asked(topic, said):
            self.record.add("bad", now, f"event {block[:200]!r}")
            return
        self._is_replaying = int(sent_ms) < self._opened_ms
        if kind == b"durable":
            self._on_durable(now, position.decode(), durable, marker, count, (topic, seq))
        else:
            self._move(now, position.decode(), durable, marker, count, (topic, seq))
            self.crowd.counts["deliveries"] += 1
            self.record.add_event(now, topic, seq, self.last_id)
            self.seqs[topic] = seq
        if self._is_replaying:
            self._note_replayed(len(block))
        elif now * 1000 - int(sent_ms) > LATE_MS:
            if kind == b"durable":
                self.record.add("late_durable", now, durable)
            else:
                self.record.add("late", now, seq, topic)

    def _is_as_asked(self, _topic, said):
        return said is None

    def _on_durable(self, now, position, durable, marker, count, event):
        self._move_count(now, position, marker, count)
        if durable <= self.durable:
            self.record.add("bad", now, f"durable event {event} with id {position} came behind "
                            f"{self.durable}")
        self._on_row(now, position, durable, event)

    def _on_row(self, now, position, durable, event):
        """event: (topic, number)"""
        if self.crowd.durable.setdefault(durable, event) != event:
            self.record.add("bad", now, f"id {position} is {event} and "
                            f"{self.crowd.durable[durable]}")
        self.durable = durable
        self.last_id = position
        self._has_id = True
        self.crowd.counts["durable deliveries"] += 1
        self.crowd.counts["durable deliveries in replays"] += self._is_replaying
        self.record.add_durable(now, durable, position)

    def _note_replayed(self, length):
        before = self._replayed_bytes
        self._replayed_bytes += length
        self.crowd.counts["replays over 64 KiB"] += before <= CREDIT < self._replayed_bytes

    def _on_other_block(self, now, block):
        fields = {}
        for line in block.decode(errors="replace").split("\n"):
            name, colon, value = line.partition(":")
            if not colon or name not in ("", "id", "event", "data", "retry") or name in fields \
                    or value and value[0] != " ":
                self.record.add("bad", now, f"line {line[:200]!r}")
                return
            fields[name] = value[1:]
        if "data" not in fields:
            if block != self.HEARTBEAT:
                self.record.add("bad", now, f"a block without data: {block!r}")
            return
        if "retry" in fields:
            self.retry = min(int(fields["retry"]) / 1000, RETRY_MOST)
        is_in_place = self._is_replaying and fields.get("id") == self.last_id
        is_position = fields.get("event") == "position"
        position = self._take_id(now, fields.get("id"), is_position)
        if is_position:
            if fields["data"] != f'{{"position":"{position}"}}':
                self.record.add("bad", now, f"position {block[:200]!r}")
        elif fields.get("event") == "refresh":
            self.crowd.counts["evictions under a replay"] += is_in_place
            self._on_refresh(now, fields.get("data", ""), position)
        elif fields.get("event") == "close":
            self.record.add("close", now)
            if position is not None:
                self.record.add("bad", now, f"close with an id: {block!r}")
        else:
            self.record.add("bad", now, f"event {block[:200]!r}")

    def _take_id(self, now, position, is_alone):
        if position is None or position == self.last_id == "0":  # what it sent, written again
            return None
        match = POSITION.fullmatch(position)
        if not match:
            self.record.add("bad", now, f"id {position!r}")
            return None
        is_first = not self._has_id
        self._move(now, position, int(match[1]), match[2] and match[2].encode(),
                   int(match[3] or 0), None)
        if is_first and is_alone:
            self.record.add("first", now, position)
        elif is_alone:
            self.record.add_id(now, position)
        return position

    def _on_refresh(self, now, data, position):
        match = REFRESH.fullmatch(data)
        topics = match[3].replace('"', "").split(",") if match else []
        if not topics or not set(topics) <= self.names:
            self.record.add("bad", now, f"refresh {data!r}")
            return
        dropped = None if match[2] == "null" else int(match[2])
        self.record.add("refresh", now, match[1], dropped, position, topics)

    def _move_count(self, now, position, marker, count, least=0):
        """Without a marker: only the one that it came with."""
        if marker is None:
            if position != self.last_id:
                self.record.add("bad", now, f"id {position} has no place")
            return
        self.crowd.markers.setdefault(marker, (now, self.machine))
        known = self.counts.get(marker, -1)
        if count < known + least:
            self.record.add("bad", now, f"id {position} came behind {known}")
        self.counts[marker] = count

    def _move(self, now, position, durable, marker, count, event):
        """The position moves: no part of it back, and the same place is the same event for
        everybody. event: an ephemeral one, or None."""
        if position != self.last_id:
            self._move_count(now, position, marker, count, event is not None)
            if durable < self.durable:
                self.record.add("bad", now, f"id {position} came behind {self.durable}")
            self.durable = durable
        elif event is not None:
            self.record.add("bad", now, f"event {event[1]} has the last one's id: {position}")
        if event is not None and self.crowd.places.setdefault((marker, count), event) != event:
            self.record.add("bad", now, f"id {position} is {event} and "
                            f"{self.crowd.places[marker, count]}")
        self.last_id = position
        self._has_id = True

    HEARTBEAT = None  # as a block

    def is_settled(self, goal):
        """goal: {topic: (its last event, its last durable id)}, when all is published."""
        if self.socket is None or not self.is_greeted or goal is None:
            return self.socket is not None and self.is_greeted
        return (all(seq >= goal[topic][0] for topic, seq in self.seqs.items())
                and self.durable >= max(goal[topic][1] for topic in self.seqs))


class Listener(Client):
    """A stream of the events API."""

    def __init__(self, crowd, planned, rng):
        super().__init__(crowd, planned, rng)
        self.names = set(planned.names or ["*"])
        self.with_topic = planned.number % 2 > 0

    def _target(self):
        query = [f"topics={','.join(self.record.names)}"] * bool(self.record.names)
        return "/events?" + "&".join(query + ["with_topic=1"] * self.with_topic)

    def _is_as_asked(self, topic, said):
        return said == (name_of(topic).encode() if self.with_topic else None)


class Connection(Client):
    """A stream of the durable API, for a user with stored subscriptions."""

    LINE = re.compile(OPENING)
    HEARTBEAT = b": heartbeat"

    def __init__(self, crowd, planned, rng):
        super().__init__(crowd, planned, rng)
        self.stable = planned.stable
        self.is_forbidden = False

    def _target(self):
        """Half of those without an id ask for one at once; the others get it when nothing else came."""
        wants_position = self.last_id is None and self.rng.random() < 0.5
        return (f"/api/events/stream?userId={self.record.user}"
                f"&channels={','.join(map(name_of, self.record.topics))}" + "&position=1" * wants_position)

    def _begin_anew(self):
        super()._begin_anew()
        self._is_asking = False

    def _take_head(self, now):
        if not super()._take_head(now):
            self.is_forbidden = self.record.items[-1] == ["end", now, "refused"] \
                and self.record.items[-2][2] == 403
            return False
        self.is_forbidden = False
        self.record.add("status", now, 200)
        return True

    def _on_block(self, now, block):
        event = DURABLE.fullmatch(block)
        if not event:
            self._on_other_block(now, block)
            return
        position, data, number, sent_ms, pad, padding = event.groups()
        topic = self.topics.get(data)
        if topic is None or int(pad) != len(padding):
            self.record.add("bad", now, f"event {block[:200]!r}")
            return
        self._is_replaying = int(sent_ms) < self._opened_ms
        self._on_row(now, position.decode(), int(position), (topic, int(number)))
        if self._is_replaying:
            self._note_replayed(len(block))
        elif now * 1000 - int(sent_ms) > LATE_MS:
            self.record.add("late_durable", now, int(position))

    def _take_id(self, now, position, is_alone):
        if position is None or position == self.last_id == "0":
            return None
        if not ID.fullmatch(position):
            self.record.add("bad", now, f"id {position!r}")
            return None
        if int(position) < self.durable:
            self.record.add("bad", now, f"id {position} came behind {self.durable}")
        if not self._has_id and is_alone:
            self.record.add("first", now, position)
        elif is_alone:
            self.record.add_id(now, position)
        self.durable = int(position)
        self.last_id = position
        self._has_id = True
        return position

    def is_settled(self, goal):
        if self.is_forbidden and not self.stable:
            return True
        return self.socket is not None and self.is_greeted and (goal is None or self.durable >= max(
            (goal[channel][1] for channel in self.stable), default=0))


class Crowd:
    """The clients of one process, in their loop."""

    def __init__(self, ports, plan, seed):
        """ports: {machine: {tenant: port}}. plan: [Planned]"""
        self.ports = ports
        self.selector = selectors.DefaultSelector()
        self.timers = []
        self.counts = collections.Counter()
        self.places = {}
        self.durable = {}          # {id: (topic, number)}
        self.markers = {}
        self.is_settling = False
        self.goal = None           # {topic: the last event, the last durable id}, at the end
        self.clients = [self._kind(planned)(
            self, planned, random.Random(f"{seed} client {planned.number}")) for planned in plan]

    @staticmethod
    def _kind(planned):
        if planned.user:
            return Connection
        return Client if planned.names is None else Listener

    def run(self, pipe):
        """Until it is told to hand over: ("settle",), ("goal", {...}), ("end",)."""
        now = time.monotonic()
        for client in self.clients:
            client.start(now)
        was_settled = False
        while True:
            self._turn()
            if self.is_settling:
                is_settled = all(client.is_settled(self.goal) for client in self.clients)
                if is_settled and not was_settled:
                    pipe.send("settled")
                was_settled = is_settled
            if pipe.poll() and not self._obey(pipe.recv()):
                return

    def _turn(self):
        now = time.monotonic()
        wait = min(0.05, max(0, self.timers[0][0] - now)) if self.timers else 0.05
        for key, _ in self.selector.select(wait):
            if key.data.socket is key.fileobj:
                key.data.on_readable(time.monotonic())
        now = time.monotonic()
        while self.timers and self.timers[0][0] <= now:
            _, serial, _, client = heapq.heappop(self.timers)
            if serial == client.wake_serial:
                client.on_wake(now)

    def _obey(self, command):
        if command[0] == "end":
            return False
        if command[0] == "settle":
            self.is_settling = True
            for client in self.clients:
                client.settle(time.monotonic())
        elif command[0] == "goal":
            self.goal = command[1]
        return True

    def results(self):
        return {"records": [client.record for client in self.clients], "counts": self.counts,
                "places": {(marker.decode(), count): event
                           for (marker, count), event in self.places.items()},
                "durable": self.durable,
                "markers": {marker.decode(): seen for marker, seen in self.markers.items()}}


# --- who is there -----------------------------------------------------------------------------------

def draw_habits(rng, count):
    return rng.choices(list(SHARES), SHARES.values(), k=count)


def plan(rng, first, count, topics, heavy):
    """Of the topics API: topics get their share in turn; who is slow follows a heavy one."""
    return [Planned(first + number,
                    [rng.choice(heavy) if habit == "slow" else topics[number % len(topics)]], habit)
            for number, habit in enumerate(draw_habits(rng, count))]


# What listeners ask for: how often, and patterns, of which {} is a group's; then single topics, at
# most so many. Who asks for everything gets as much as all those of a topic together.
ASKED = [(6, ["{}*"], 0), (5, ["{}*"], 2), (3, ["{}0*", "{}*"], 1), (8, [], 5), (1, ["*"], 2),
         (1, [], 0)]


SLOW_LISTENERS = 4


def plan_listeners(rng, first, count, topics, groups, overflows):
    """Of the events API, for topics of one tenant. groups: what patterns may begin with. Often
    several names match an event, or a name matches nothing. overflows: the names of the first few,
    which are slow."""
    tenant = tenant_of(topics[0])
    names_of_all = [name_of(topic) for topic in topics if name_of(topic) != BROADCAST]
    planned = []
    for number, habit in enumerate(draw_habits(rng, count)):
        _, patterns, most = rng.choices(ASKED, [weight for weight, _, _ in ASKED])[0]
        group = rng.choice(groups)
        names = [pattern.format(group) for pattern in patterns]
        names += rng.sample(names_of_all, min(len(names_of_all), rng.randint(most > 0, most)))
        if number < SLOW_LISTENERS:
            names, habit = overflows, "slow"
        covered = [topic for topic in topics if is_covered(name_of(topic), names or ["*"])]
        planned.append(Planned(first + number, covered + [key_of(tenant, BROADCAST)], habit, names))
    return planned


def plan_users(rng, count, topics):
    """{user: (channels, the stable ones among them)}. Of the last user nothing is."""
    users = {}
    for number in range(count):
        channels = sorted(rng.sample(topics, rng.randint(1, min(4, len(topics)))))
        stable = channels if number % 2 else rng.sample(channels, rng.randint(1, len(channels)))
        users[f"u{number}"] = (channels, [] if number == count - 1 else stable)
    return users


def plan_connections(rng, first, count, users, heavy):
    """Of the durable API. Who is slow is of a user with heavy channels."""
    with_heavy = [user for user, (channels, _) in users.items() if set(channels) & set(heavy)]
    planned = []
    for number, habit in enumerate(draw_habits(rng, count)):
        user = rng.choice(with_heavy if habit == "slow" and with_heavy else list(users))
        channels, stable = users[user]
        planned.append(Planned(first + number, channels, habit, user=user, stable=stable))
    return planned


def start(name, ports, share, seed):
    def work(pipe):
        crowd = Crowd(ports, share, seed)
        crowd.run(pipe)
        return crowd.results()
    return Child(name, work)
