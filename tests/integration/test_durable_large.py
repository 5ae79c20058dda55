"""A table of two million events: who is near its head is served as fast as if it were small, who is
far from it in as little memory."""

import time

import program
import pytest

from durable import come_back, head, publish, running, wait_head
from source import Source, place_text

ROWS = 2_000_000
FAR = 20_000  # events of one topic, of 1 KiB, from the beginning on
FILL = f"""
    BEGIN;
    DROP INDEX pgsse.events_topic_id;
    ALTER TABLE pgsse.events DROP CONSTRAINT events_pkey;
    SELECT pgsse._open(true);
    INSERT INTO pgsse.events (id, topic, type, data, bytes)
    SELECT n, 'other-' || n % 100, 'message', to_json(n), 7
    FROM generate_series(2, {ROWS}) n WHERE n % 100 <> 0
    UNION ALL
    SELECT n, 'far', 'message', to_json(n || repeat('x', 1024)), 1030
    FROM generate_series(100, {ROWS}, 100) n;
    SELECT setval('pgsse.event_id', {ROWS});
    ALTER TABLE pgsse.events ADD PRIMARY KEY (id);
    CREATE INDEX events_topic_id ON pgsse.events (topic, id);
    COMMIT"""


@pytest.fixture(scope="module", name="world")
def fixture_world(cluster):
    with running(cluster, cluster.create_database()) as deployment:
        deployment.broker.stop()
        deployment.database.execute(FILL)
        deployment.start_broker()
        deployment.wait_served()
        yield deployment


def place_at(world, number):
    """A position that has events up to there, and all ephemeral ones."""
    source = Source(world, "place").greeted().cut()
    return place_text(number, *source.greeting.place[1:])


def timed(call):
    started = time.monotonic()
    call()
    return time.monotonic() - started


def test_near_the_head_is_quick(world):
    """Whether its topic has been published to or not."""
    for topic, count in (("far", 10), ("other-1", 10), ("never", 0)):
        source = Source(world, topic, place_at(world, ROWS - 1000)).greeted()

        def read():
            for _ in range(count):
                source.next_event()
        assert timed(read) < 0.5
        number = publish(world.database, topic, 0)
        assert source.next_event().place[0] == number


def test_a_position_from_before_there_was_a_table_is_quick(world):
    position = place_at(world, 0)
    assert timed(lambda: come_back(world, "never", position)) < 0.5
    assert timed(lambda: come_back(world, "far", position).next_event()) < 0.5


def test_a_new_broker_starts_quickly(world):
    world.broker.stop()
    assert timed(world.start_broker) < 3
    world.wait_served()
    assert head(world) >= ROWS


def test_from_far_in_little_memory(world):
    """Broker and handler."""
    processes = (world.broker, world.streams[0])
    Source(world, "far", place_at(world, ROWS - 100_000)).greeted().next_event()
    before = [one.memory_kib() for one in processes]
    source = Source(world, "far", place_at(world, 1)).greeted()
    for number in range(100, ROWS + 1, 100):
        assert source.next_event(20).json().startswith(f"{number}x")
        source.events.clear()
        source.connection.records.clear()
        if number % 10_000 == 0:
            source.connection.forget()
            if not program.is_sanitized():
                for one, kib in zip(processes, before):
                    assert one.memory_kib() < kib + 8 * 1024, one.name


def test_a_handler_that_is_far_behind_in_little_memory(world):
    """A new broker brings its streams to the head from the table, of all topics."""
    source = Source(world, "near").greeted()
    world.broker.kill()
    world.database.execute(
        "SELECT pgsse.publish_many(array_agg('bulk'::text), array_agg(to_json(n || repeat('x',"
        " 1000)))) FROM generate_series(1, 20000) n")
    number = publish(world.database, "near", 1)
    world.start_broker()
    before = world.broker.memory_kib()
    source.read_to(1, 20)
    assert source.data == ["restart", 1]
    wait_head(world, number)
    if not program.is_sanitized():
        assert world.broker.memory_kib() < before + 16 * 1024
