"""Several machines on one database: a client takes its place from one broker to another."""

import contextlib
import os
import signal
import time

import pytest

from publisher import Publisher
from source import Source
from waiting import wait_for


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def ask_for_marker(deployment):
    """The broker sends one, because somebody comes with a place that it does not know."""
    source = Source(deployment, "unread", "0.zzzzzzzzzzzzz.1")
    assert source.next_event().event == "refresh"
    source.cut()


@pytest.fixture
def pair(deploy, database):
    """Two deployments, each of which has heard a marker of the other."""
    both = [deploy(database.url), deploy(database.url)]
    for deployment in both:
        others = set(database.listen_backends())
        deployment.start_broker()
        deployment.listen_backend, = set(database.listen_backends()) - others
        deployment.start_stream()
    for deployment in both:
        deployment.wait_served()
        ask_for_marker(deployment)
    return both


def test_a_place_means_the_same_at_each(pair, database):
    one, two = pair
    source = Source(one).greeted()
    for number in range(6):
        database.publish("alpha", number)
        source.cut().connect([two, one][number % 2])
    assert source.read_to(5).data == list(range(6))


def test_the_replay_is_written_by_who_replays_it(pair, database):
    """By its own marker, in the same order and with the same rest of the frame."""
    one, two = pair
    source = Source(one).greeted().cut()
    live = Source(two).greeted()
    for number in range(3):
        database.publish("alpha", number, id=f"own-{number}")
    live.read_to(2)
    source.connect(two).greeted()
    assert [source.next_block().raw for _ in range(3)] == [block.raw for block in live.events]


def test_to_a_broker_that_is_behind(pair, database):
    """It does not run at all while events flow; then it hears of the client and of them at once."""
    one, two = pair
    source = Source(one).greeted()
    with stopped(two.broker.pid):
        for number in range(50):
            database.publish("alpha", number)
        source.read_to(30)
        ahead = source.position
        source.cut().connect(two)
        waiting = source.next_block()
        assert waiting.comments == ["waiting"]
    greeting = source.next_block()
    assert greeting.comments == ["listening alpha"] and source.position == ahead
    assert source.read_to(49).data == list(range(50))


def test_to_a_broker_that_hears_late(pair, database):
    """The broker decides, but its server process delivers nothing: it must not say unknown."""
    one, two = pair
    source = Source(one).greeted()
    deaf = two.listen_backend
    with stopped(deaf):
        for number in range(20):
            database.publish("alpha", number)
        source.read_to(9)
        ahead = source.position
        source.cut().connect(two)
        waiting = source.next_block()
        assert waiting.comments == ["waiting"]
        time.sleep(0.2)  # a barrier that does not wait for its marker to be heard is over by now
    greeting = source.next_block()
    assert greeting.comments == ["listening alpha"] and source.position == ahead
    assert source.read_to(19).data == list(range(20))


def test_a_place_from_before_its_listen_is_unknown_once(pair, deploy, database):
    one, _ = pair
    source = Source(one).greeted()
    database.publish("alpha", 1)
    source.read_to(1).cut()
    late = deploy(database.url)
    late.start_broker()
    late.start_stream()
    source.connect(late).greeted()
    refresh = source.next_event()
    assert refresh.json() == {"reason": "unknown_position", "dropped": None, "topics": ["alpha"]}
    database.publish("alpha", 2)
    assert source.next_event().json() == 2
    source.cut().connect(one)  # from the late one's own marker: known to both
    database.publish("alpha", 3)
    assert source.next_event().json() == 3


def test_a_hundred_join_and_hop_at_once(pair, database):
    one, two = pair
    first = Source(one).greeted().cut()
    with Publisher(database) as publisher:
        wait_for(lambda: publisher.count > 50, "a backlog")
        sources = [Source(one, position=first.position) for _ in range(100)]
        for source in sources:
            source.next_block()
            source.cut().connect(two)
        count = publisher.count
        wait_for(lambda: publisher.count > count + 20, "live events")
    for source in sources:
        source.read_to(publisher.count)
        assert source.data == list(range(1, publisher.count + 1))


def test_hops_while_brokers_leave_and_join(deploy, database):
    """Markers come often; a broker that has joined is gone to when it knows the client's."""
    three = [deploy(database.url, canary_interval="100ms") for _ in range(3)]
    for deployment in three:
        deployment.start_broker()
        deployment.start_stream()
    for deployment in three:
        deployment.wait_served()
    source = Source(three[0]).greeted()
    with Publisher(database, pause=0.002) as publisher:
        for turn in range(12):
            here, there = three[turn % 3], three[(turn + 1) % 3]
            if turn % 4 == 3:
                there.broker.stop()
                there.start_broker()
            count = publisher.count  # from here on it hears what the client does
            while source.next_data() < count + 1:
                pass
            known = source.position.split(".")[1]
            while source.position.split(".")[1] == known:
                assert source.next_data() < count + 2000
            assert here is source.deployment
            source.cut().connect(there)
    source.read_to(publisher.count)
    assert source.data == list(range(1, publisher.count + 1))
