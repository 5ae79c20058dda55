"""The broker does not answer at once: streams wait, and then go on as if nothing had been."""

import contextlib
import re
import signal

import pytest

from source import Source


@contextlib.contextmanager
def stopped(program):
    program.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        program.send_signal(signal.SIGCONT)


@pytest.fixture
def streaming(deploy, database):
    deployment = deploy(database.url, keep_alive="200ms")
    deployment.start_broker()
    deployment.start_stream()
    deployment.wait_served()
    return deployment


def waiting(source):
    """Its first block."""
    block = source.next_block(1)
    assert re.fullmatch(rb"retry: \d+\n: waiting\n", block.raw), block


def greeting_of(source):
    """The next piece that is no heartbeat: the greeting alone, without retry and id."""
    for _ in range(20):
        block = source.next_block()
        if block.raw != b": heartbeat\n":
            assert block.raw == b": listening alpha\n"
            return
    raise AssertionError("nothing but heartbeats")


def test_without_position_it_may_have_missed_something(streaming, database):
    with stopped(streaming.broker):
        source = Source(streaming)
        waiting(source)
    greeting_of(source)
    assert source.next_event().json() == {"reason": "gap", "dropped": None, "topics": ["alpha"]}
    database.publish("alpha", 1)
    assert source.next_event().json() == 1
    assert source.events[1].place[2] == source.events[0].place[2] + 1


def test_a_position_is_gone_on_from_exactly(streaming, database):
    live = Source(streaming).greeted()
    with stopped(streaming.broker):
        for number in range(5):
            database.publish("alpha", number)
        source = Source(streaming, position=live.position)
        waiting(source)
        assert source.next_block().raw == b": heartbeat\n"
    greeting_of(source)
    assert source.read_to(4).data == list(range(5))
    assert [one.raw for one in source.events] == [one.raw for one in live.read_to(4).events]


def test_a_position_with_a_replay_behind_it(streaming, database):
    source = Source(streaming).greeted().cut()
    for number in range(5):
        database.publish("alpha", number, id=f"own-{number}")
    live_again = Source(streaming, position=source.position).read_to(4)
    with stopped(streaming.broker):
        source.position = live_again.events[1].id
        source.connect()
        waiting(source)
    greeting_of(source)
    assert [source.next_block().raw for _ in range(3)] == [one.raw for one in live_again.events[2:]]
    database.publish("alpha", "live")
    assert source.next_event().json() == "live"


def test_at_the_head_it_is_just_greeted(streaming, database):
    live = Source(streaming).greeted()
    database.publish("alpha", 1)
    live.read_to(1)
    with stopped(streaming.broker):
        source = Source(streaming, position=live.position)
        waiting(source)
    greeting_of(source)
    database.publish("alpha", 2)
    assert source.next_event().json() == 2


def test_zero_is_replayed_without_refresh(streaming, database):
    live = Source(streaming).greeted()
    for number in range(3):
        database.publish("alpha", number)
    live.read_to(2)
    with stopped(streaming.broker):
        source = Source(streaming, position="0")
        waiting(source)
    assert source.read_to(2).data == [0, 1, 2]


def test_a_malformed_position_makes_one_refresh(streaming, database):
    with stopped(streaming.broker):
        source = Source(streaming, position="junk")
        waiting(source)
    greeting_of(source)
    assert source.next_event().json()["reason"] == "unknown_position"
    database.publish("alpha", 1)
    assert source.next_event().json() == 1


def test_an_unknown_position_makes_one_refresh(streaming, database):
    with stopped(streaming.broker):
        source = Source(streaming, position="0.abcdefghijklm.4")
        waiting(source)
    greeting_of(source)
    assert source.next_event().json()["reason"] == "unknown_position"
    database.publish("alpha", 1)
    assert source.next_event().json() == 1


def test_live_streams_notice_nothing(streaming, database):
    """Nothing but heartbeats comes meanwhile, and nothing is missing."""
    live = Source(streaming).greeted()
    database.publish("alpha", 1)
    live.read_to(1)
    with stopped(streaming.broker):
        database.publish("alpha", 2)
        for _ in range(2):
            assert live.next_block().raw == b": heartbeat\n"
    assert live.read_to(2).data == [1, 2]


def test_who_leaves_while_it_waits(streaming):
    sources = []
    with stopped(streaming.broker):
        for _ in range(5):
            sources.append(Source(streaming))
            waiting(sources[-1])
        for source in sources[1:]:
            source.cut()
    sources[0].next_event()
    streaming.wait_totals(subscribers=1)
    assert streaming.topic("alpha")["subscribers"] == 1
