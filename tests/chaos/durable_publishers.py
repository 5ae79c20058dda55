"""Publishers of durable events. They share topics: the table knows the order. What they know of
each event goes into one ledger."""

import collections
import http.client
import itertools
import json
import threading
import time

import psycopg2

from keys import name_of, tenant_of
from rows import Note
from published import COMMITTED, REFUSED, UNKNOWN
from web import Connection

EVENT = "durable"  # the type of them all
PUBLISH = "SELECT pgsse.publish(%s, %s::json, %s, tenant => %s)"
PUBLISH_ARRAYS = ("SELECT * FROM pgsse.publish_many(%s::text[], %s::json[], %s::text[],"
                  " tenants => %s::text[])")
PATH = "/api/events/publish"
NOTHING_DONE = b"nothing was "
PUBLISH_JSON = "SELECT * FROM pgsse.publish_many(%s::json)"


class Drawn:
    """An event that is to be published. id: 0 as long as it is not."""

    def __init__(self, number, topic, data):
        self.number = number
        self.topic = topic
        self.data = data
        self.begun = time.monotonic()
        self.id = 0


class Ledger:
    def __init__(self, heavy):
        self.heavy = heavy
        self.notes = []
        self._numbers = itertools.count()

    def draw(self, topic, rng):
        number = next(self._numbers)
        pad = rng.randint(0, 200)
        if topic in self.heavy or rng.random() < 0.02:
            pad = rng.randint(2000, 9000)
        elif rng.random() < 0.001:
            pad = rng.randint(20000, 300000)
        return Drawn(number, topic, f"{topic} {number} {int(time.monotonic() * 1000)} {pad} "
                                    + "x" * pad)

    def note(self, events, outcome):
        now = time.monotonic()
        self.notes += [Note(event.number, event.topic, event.begun, now, outcome, event.id)
                       for event in events]

    def counts(self):
        return collections.Counter(f"durable {note.outcome}" for note in self.notes)


def publish_durable(cursor, events, rng):
    """One or more statements; each event learns its id."""
    way = rng.random()
    if len(events) < 3 or way < 0.2 and len(events) < 30:
        for event in events:
            cursor.execute(PUBLISH, (name_of(event.topic), json.dumps(event.data), EVENT,
                                     tenant_of(event.topic)))
            event.id, = cursor.fetchone()
        return
    if way < 0.6:
        cursor.execute(PUBLISH_ARRAYS, ([name_of(event.topic) for event in events],
                                        [json.dumps(event.data) for event in events],
                                        [EVENT] * len(events),
                                        [tenant_of(event.topic) for event in events]))
    else:
        cursor.execute(PUBLISH_JSON, (json.dumps(
            [{"topic": name_of(event.topic), "tenant": tenant_of(event.topic), "data": event.data,
              "event": EVENT} for event in events]),))
    for event, (number,) in zip(events, cursor.fetchall(), strict=True):
        event.id = number


class Steady(threading.Thread):
    """Publishes at a steady rate, until it is told to stop."""

    def __init__(self, ledger, topics, rate, rng):
        super().__init__(daemon=True)
        self.ledger = ledger
        self.topics = topics
        self.rate = rate
        self.rng = rng
        self.published = {}
        self.counts = collections.Counter()
        self.stopping = threading.Event()
        self.failure = None

    def run(self):
        due = time.monotonic()
        try:
            while not self.stopping.is_set():
                due = max(due, time.monotonic() - 0.2) + self._publish_some() / self.rate
                self.stopping.wait(max(0, due - time.monotonic()))
        except Exception as error:  # the process tells it at the end
            self.failure = error

    def publish_one(self, topic):
        """True if it is known to be committed."""
        raise NotImplementedError

    def publish_last(self):
        """One more event on every topic, however long it takes."""
        for topic in self.topics:
            while not self.publish_one(topic):
                pass


class DurablePublisher(Steady):
    """Transactions of all kinds. Its connections leave synchronous_commit off: what was committed
    must outlive a crash of the server all the same."""

    def __init__(self, url, *rest):
        super().__init__(*rest)
        self.url = url
        self._connection = None

    def _cursor(self):
        while self._connection is None:
            try:
                self._connection = psycopg2.connect(self.url, connect_timeout=5,
                                                    options="-c synchronous_commit=off")
            except psycopg2.Error:
                time.sleep(0.05)
        return self._connection.cursor()

    def _lose(self):
        self._connection.close()
        self._connection = None

    def _publish_some(self):
        """One transaction; returns how many events it had."""
        rng = self.rng
        kind = rng.random()
        count = 1 if kind < 0.7 else rng.randint(2, 25)
        if kind > 0.999:
            count = rng.randint(300, 1500)  # more than a page
        topics = self.topics if rng.random() < 0.7 else [rng.choice(self.topics)]
        events = [self.ledger.draw(rng.choice(topics), rng) for _ in range(count)]
        self.transaction(events, rng.random() > 0.05,
                         rng.uniform(0.1, 0.8) if rng.random() < 0.005 else 0)
        return count

    def transaction(self, events, is_wanted=True, pause=0.0):
        """True if it is known to be committed. Some of it may be rolled back alone."""
        outcome, undone = REFUSED, []
        cursor = self._cursor()
        try:
            with cursor:
                for first in range(0, len(events), part := self.rng.choice([1, 5, len(events)])):
                    some = events[first:first + part]
                    is_undone = len(events) > 1 and self.rng.random() < 0.05
                    if is_undone:
                        cursor.execute("SAVEPOINT before")
                    publish_durable(cursor, some, self.rng)
                    if is_undone:
                        cursor.execute("ROLLBACK TO SAVEPOINT before")
                        undone += some
                time.sleep(pause)
                if is_wanted:
                    outcome = UNKNOWN
                    self._connection.commit()
                    outcome = COMMITTED
                else:
                    self._connection.rollback()
        except psycopg2.Error:
            self._lose()
        self.ledger.note([event for event in events if event not in undone], outcome)
        self.ledger.note(undone, REFUSED)
        return outcome == COMMITTED and not undone

    def publish_one(self, topic):
        return self.transaction([self.ledger.draw(topic, self.rng)])


class DurableHttpPublisher(Steady):
    """POST, one by one, here or at the other machine. It is not told the ids."""

    def __init__(self, ports, *rest):
        super().__init__(*rest)
        self.ports = ports
        self.is_served = True  # a build may not know that API yet
        self._connections = {}

    def _publish_some(self):
        self.publish_one(self.rng.choice(self.topics))
        return 1

    def publish_one(self, topic):
        port = self.ports[self.rng.choice(sorted(self.ports))][tenant_of(topic)]
        event = self.ledger.draw(topic, self.rng)
        outcome = self._post(port, json.dumps(
            {"channel": name_of(topic), "eventType": EVENT, "payload": event.data}))
        self.ledger.note([event], outcome)
        return outcome == COMMITTED or not self.is_served

    def _post(self, port, body):
        connection = self._connections.get(port) or Connection(port, seconds=15)
        self._connections[port] = connection
        try:
            answer = connection.request("POST", PATH, body)
        except (OSError, http.client.HTTPException):
            connection.close()
            del self._connections[port]
            return UNKNOWN
        if answer.status == 202:
            return COMMITTED
        time.sleep(0.02)
        if answer.status == 404:
            self.is_served = False
            self.stopping.set()
            return REFUSED
        self.counts[f"durable answered {answer.status}"] += 1
        if answer.status == 503 and NOTHING_DONE in answer.body:
            return REFUSED
        return UNKNOWN
