"""Durable events, as tests publish them and look at what has come of them."""

import contextlib
import itertools
import threading

import pytest

from deployment import Deployment, ending
from schema import installed, value
from source import Source
from waiting import wait_for


def publish(database, topic, data, **more):
    """data is JSON, as text; more: what pgsse.publish takes. Returns the id."""
    names = "".join(f", {name} => %s" for name in more)
    return value(database, f"SELECT pgsse.publish(%s, %s::json{names})",
                 (topic, str(data), *more.values()))


def publish_numbers(database, topic, first, last, rest=""):
    """One transaction; with a rest, the data is a string: the number and the rest."""
    database.execute(
        "SELECT pgsse.publish_many(array_agg(%s::text), array_agg(CASE WHEN %s = '' THEN"
        " to_json(n) ELSE to_json(n || %s) END ORDER BY n)) FROM generate_series(%s, %s) n",
        (topic, rest, rest, first, last))


def sneak_in(database, topic, data, **more):
    """A row put there by its owner around the functions: nobody is told."""
    row = {"topic": topic, "type": "message", "data": str(data), "publisher_id": None,
           "retry": None, "comment": None, "is_text": False, **more}
    return value(
        database, "SELECT pgsse._open(true); INSERT INTO pgsse.events (id, bytes,"
        f" {', '.join(row)}) VALUES (nextval('pgsse.event_id'), 9"
        f"{', %s' * len(row)}) RETURNING id", tuple(row.values()))


def open_guard(database, sql):
    """As the owner, who knows what he does."""
    database.execute(f"BEGIN; SELECT pgsse._open(true); {sql}; COMMIT")


def head(deployment):
    return deployment.totals()["durable_head"]


def wait_head(deployment, number, seconds=5):
    """It has read up to there."""
    wait_for(lambda: head(deployment) >= number, lambda: f"{number}: {deployment.totals()}",
             seconds)


def is_refresh(block):
    return block.event == "refresh"


def bodies(blocks):
    """All but the position."""
    return [[line if not line.startswith("id: ") else line.partition("~")[2]
             for line in block.lines] for block in blocks]


def split(data, is_durable):
    """([durable], [ephemeral]) in their order."""
    return ([item for item in data if is_durable(item)],
            [item for item in data if not is_durable(item)])


def refreshes(source):
    return [block.json()["reason"] for block in source.events if is_refresh(block)]


def events(source):
    """Data of what is no refresh."""
    return [block.json() for block in source.events if not is_refresh(block)]


def start_streaming(deployment):
    """Without a web server: broker and one handler."""
    deployment.start_broker()
    deployment.start_stream()
    deployment.wait_served()
    return deployment


@contextlib.contextmanager
def running(cluster, database, **settings):
    """For fixtures of a module: a deployment that its tests share, in .database the database."""
    with installed(database), ending(Deployment(database.url, **settings)) as deployment:
        deployment.database = database
        start_streaming(deployment)
        yield deployment
    cluster.give_back(database)


NAMES = itertools.count(1)


@pytest.fixture(name="topic")
def fixture_topic():
    """A name of its own, as table and log go on from test to test."""
    return f"durable-{next(NAMES)}"


class Publisher:
    """Publishes all the while: n durable and -n ephemeral, n from 1 on."""

    def __init__(self, database, topic, pause=0.001):
        self._connection = database.connect()
        self._topic = topic
        self._pause = pause
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.count = 0

    def _run(self):
        with self._connection.cursor() as cursor:
            while not self._is_over.wait(self._pause):
                number = self.count + 1
                cursor.execute("SELECT pgsse.publish(%s, to_json(%s)), pgsse.notify(%s, to_json(%s))",
                               (self._topic, number, self._topic, -number))
                self.count = number

    def wait_more(self, more):
        count = self.count
        wait_for(lambda: self.count >= count + more, f"{more} events more")

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()
        self._connection.close()


def read_both(source, count, seconds=5):
    """Up to where count events of either kind have come, refreshes not counted."""
    while len(events(source)) < count:
        source.next_event(seconds)
    return source


def assert_both(source, count):
    """Each of both kinds from 1 to count, in order, once."""
    durable, ephemeral = split(events(source), lambda number: number > 0)
    assert durable == list(range(1, count + 1))
    assert ephemeral == [-number for number in range(1, count + 1)]


def come_back(deployment, topic, position, **how):
    return Source(deployment, topic, position, **how).greeted()
