"""The publishers, threads of one process. Each owns some topics, so that the numbers of a topic
rise in the order of its commits, and each knows what became of every event: in SQL because a row of
a table commits with it, over HTTP because the answer says so, or says that nobody knows."""

import collections
import http.client
import json
import random
import threading
import time

import psycopg2

from child import Child
from durable_publishers import (NOTHING_DONE, DurableHttpPublisher, DurablePublisher, Ledger,
                                publish_durable)
from keys import BROADCAST, name_of, tenant_of
from published import COMMITTED, REFUSED, UNKNOWN, Published
from web import Connection

CHANNELS = 8
DURABLE_PUBLISHERS = [(DurablePublisher, "sql"), (DurablePublisher, "sql"),
                      (DurableHttpPublisher, "http"), (DurableHttpPublisher, "http")]
TABLE = "CREATE TABLE IF NOT EXISTS chaos_published (topic text, seq bigint)"
NOTIFY = "SELECT pg_notify(c, p) FROM unnest(%s::text[], %s::text[]) AS t(c, p)"
INSERT = "INSERT INTO chaos_published SELECT * FROM unnest(%s::text[], %s::bigint[])"
WITNESS = "SELECT count(*) FROM chaos_published WHERE topic = %s AND seq = %s"


def envelope(key, data):
    """Of a notification."""
    tenant = {"tenant": tenant_of(key)} if tenant_of(key) else {}
    return json.dumps({"topic": name_of(key), "data": data, **tenant})


class Publisher(threading.Thread):
    """Publishes at a steady rate on the topics it owns, until it is told to stop."""

    def __init__(self, topics, heavy, rate, rng):
        super().__init__(daemon=True)
        self.topics = topics
        self.heavy = heavy
        self.rate = rate
        self.rng = rng
        self.published = {topic: [] for topic in topics}
        self.counts = collections.Counter()
        self.stopping = threading.Event()
        self.failure = None

    def run(self):
        due = time.monotonic()
        try:
            while not self.stopping.is_set():
                due = max(due, time.monotonic() - 0.2) + self.publish_some() / self.rate
                self.stopping.wait(max(0, due - time.monotonic()))
        except Exception as error:  # the process tells it at the end
            self.failure = error

    def draw(self, topic):
        """The next event of a topic: (number, data)."""
        seq = len(self.published[topic])
        rng = self.rng
        if topic in self.heavy:
            pad = rng.randint(2000, 7400)
        else:
            pad = rng.randint(0, 200) if rng.random() < 0.95 else rng.randint(200, 6000)
        return seq, f"{topic} {seq} {int(time.monotonic() * 1000)} {pad} {'x' * pad}"

    def note(self, topic, seq, begun, size, outcome):
        assert seq == len(self.published[topic])
        self.published[topic].append(Published(seq, begun, time.monotonic(), size, outcome))
        self.counts[outcome] += 1


class SqlPublisher(Publisher):
    """Now and then with durable events in the same transaction."""

    def __init__(self, url, ledger, durable_topics, *rest):
        super().__init__(*rest)
        self.url = url
        self.ledger = ledger
        self.durable_topics = durable_topics
        self._connection = None

    def connection(self):
        while self._connection is None:
            try:
                self._connection = psycopg2.connect(self.url, connect_timeout=5)
                with self._connection.cursor() as cursor:  # a row has to survive what follows
                    cursor.execute("SET synchronous_commit = on")
                self._connection.commit()
            except psycopg2.Error:
                self._lose()
                time.sleep(0.05)
        return self._connection

    def _lose(self):
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def publish_some(self):
        """One transaction; returns how many events it had."""
        rng = self.rng
        kind = rng.random()
        count = 1 if kind < 0.75 else rng.randint(2, 25)
        if kind > 0.9985:
            count = rng.randint(300, 1200)
        elif kind > 0.98:  # for those that do not read
            count = rng.randint(26, 60)
        one_topic = rng.random() < 0.3 or count > 25
        events = []  # (topic, number, data)
        numbers = {topic: len(self.published[topic]) for topic in self.topics}
        is_heavy = 25 < count <= 60
        favourite = rng.choice([topic for topic in self.topics
                                if (topic in self.heavy) == is_heavy] or self.topics)
        for _ in range(count):
            topic = favourite if one_topic else rng.choice(self.topics)
            _, data = self.draw(topic)
            head, _, tail = data.split(" ", 2)
            events.append((topic, numbers[topic], f"{head} {numbers[topic]} {tail}"))
            numbers[topic] += 1
        is_wanted = rng.random() > 0.05
        self.transaction(events, is_wanted, rng.uniform(0.1, 0.8) if rng.random() < 0.01 else 0,
                         self._draw_durable())
        return count

    def _draw_durable(self):
        if not self.durable_topics or self.rng.random() > 0.1:
            return []
        return [self.ledger.draw(self.rng.choice(self.durable_topics), self.rng)
                for _ in range(self.rng.randint(1, 4))]

    def transaction(self, events, is_wanted=True, pause=0.0, durable=()):
        payloads = [envelope(topic, data) for topic, _, data in events]
        channels = [f"topic_broadcast_{self.rng.randrange(CHANNELS)}" for _ in events]
        outcome = REFUSED
        begun = time.monotonic()
        connection = self.connection()
        try:
            with connection.cursor() as cursor:
                cursor.execute(INSERT, ([topic for topic, _, _ in events],
                                        [seq for _, seq, _ in events]))
                half = len(events) // 2 if pause else 0
                for part in (slice(0, half), slice(half, None)):
                    if channels[part]:
                        cursor.execute(NOTIFY, (channels[part], payloads[part]))
                    if durable and not durable[0].id:
                        publish_durable(cursor, durable, self.rng)
                    time.sleep(pause)
                    pause = 0
                begun = time.monotonic()
                if is_wanted:
                    outcome = UNKNOWN
                    connection.commit()
                    outcome = COMMITTED
                else:
                    connection.rollback()
        except psycopg2.Error:
            self._lose()
            if outcome == UNKNOWN:
                outcome = COMMITTED if self._is_there(events[0]) else REFUSED
        self.ledger.note(durable, outcome)
        for (topic, seq, _), payload in zip(events, payloads):
            self.note(topic, seq, begun, len(payload), outcome)

    def _is_there(self, event):
        """After a commit without an answer: the server process that ran it is gone."""
        while True:
            try:
                with self.connection().cursor() as cursor:
                    cursor.execute(WITNESS, event[:2])
                    found = cursor.fetchone()[0]
                self._connection.rollback()
                return found > 0
            except psycopg2.Error:
                self._lose()

    def publish_last(self):
        """One more event on every topic, however long it takes."""
        for topic in self.topics:
            while True:
                seq, data = self.draw(topic)
                self.transaction([(topic, seq, data)])
                if self.published[topic][-1].outcome == COMMITTED:
                    break


class HttpPublisher(Publisher):
    """By the topics API where it can name the topic, else by the events API."""

    def __init__(self, ports, *rest):
        super().__init__(*rest)
        self.ports = ports
        self._connections = {}

    def publish_some(self):
        self._publish(self.rng.choice(self.topics))
        return 1

    def _publish(self, topic):
        port = self.ports[self.rng.choice(sorted(self.ports))][tenant_of(topic)]
        seq, data = self.draw(topic)
        name = name_of(topic)
        if name.isalnum() and self.rng.random() < 0.5:
            path, body = f"/topics/{name}/events", {"data": data}
        else:
            to = {} if name == BROADCAST else {"topic": name}
            path, body = "/api/sse/publish", {**to, "data": data, "text": False}
        body = json.dumps(body)
        begun = time.monotonic()
        self.note(topic, seq, begun, len(body), self._post(port, path, body))

    def _post(self, port, path, body):
        connection = self._connections.get(port) or Connection(port, seconds=15)
        self._connections[port] = connection
        try:
            answer = connection.request("POST", path, body)
        except (OSError, http.client.HTTPException):
            connection.close()
            del self._connections[port]
            return UNKNOWN
        if answer.status in (200, 201):
            return COMMITTED
        time.sleep(0.02)
        if answer.status == 503 and NOTHING_DONE in answer.body:
            return REFUSED
        self.counts[f"answered {answer.status}"] += 1
        return UNKNOWN  # ours says so, and of the web server's own answers nobody knows more

    def publish_last(self):
        for topic in self.topics:
            while True:
                self._publish(topic)
                if self.published[topic][-1].outcome == COMMITTED:
                    break


def shares(topics):
    """Who owns which, in turn: three publish by SQL, two over HTTP. Events of one kind should come in
    both ways."""
    return [topics[number::5] for number in range(5)]


def start(database_url, ports, topics, heavy, rate, durable_topics, durable_rate, seed):
    """The process: told ("stop",) it publishes a last event everywhere, and hands over. ports:
    {machine: {tenant: port}}"""
    def work(pipe):
        rng = random.Random(f"{seed} publishers")
        ledger = Ledger(heavy)
        mixed = durable_topics if durable_rate else []
        publishers = []
        for number, share in enumerate(shares(topics)):
            rest = (share, heavy, rate * len(share) / len(topics), random.Random(rng.random()))
            publishers.append(SqlPublisher(database_url, ledger, mixed, *rest) if number < 3
                              else HttpPublisher(ports, *rest))
        if durable_rate:
            for one, where in DURABLE_PUBLISHERS:
                publishers.append(one(database_url if where == "sql" else ports, ledger,
                                      durable_topics, durable_rate / len(DURABLE_PUBLISHERS),
                                      random.Random(rng.random())))
        for publisher in publishers:
            publisher.start()
        pipe.recv()
        for publisher in publishers:
            publisher.stopping.set()
        for publisher in publishers:
            publisher.join(30)
            if publisher.failure is not None:
                raise publisher.failure
            assert not publisher.is_alive(), "a publisher does not stop"
            publisher.publish_last()
        counts = collections.Counter(ledger.counts())
        for publisher in publishers:
            counts.update(publisher.counts)
        published = {topic: [] for topic in durable_topics}
        for publisher in publishers:
            published.update(publisher.published)
        return {"published": published, "notes": ledger.notes, "counts": counts}
    return Child("publishers", work)
