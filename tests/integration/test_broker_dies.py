"""The broker is killed in the middle of things, or only its connection to a handler breaks: every
client stays, and is told once if something may be missing."""

import contextlib
import signal
import time

import pytest

from publisher import Publisher
from source import Source
from waiting import wait_for

BIG = "x" * 7000


def publish_large(database, first, last, topic="alpha"):
    database.execute("SELECT pg_notify('topic_broadcast_' || n %% 8, json_build_object('topic',"
                     " %s, 'data', n || %s)::text) FROM generate_series(%s, %s) n",
                     (topic, BIG, first, last))


def numbers(source):
    return [text if text[0].isalpha() else int(text.rstrip("x")) for text in source.data]


@pytest.fixture
def streaming(deploy, database):
    deployment = deploy(database.url, keep_alive="200ms", client_queue_bytes="64MiB")
    deployment.start_broker()
    deployment.start_stream()
    deployment.wait_served()
    return deployment


# --- killed --------------------------------------------------------------------------------------

def test_in_mid_live(streaming, database):
    sources = [Source(streaming).greeted() for _ in range(5)]
    with Publisher(database):
        for source in sources:
            source.next_data()
        streaming.broker.kill()
    streaming.start_broker()
    for source in sources:
        while source.next_event().event != "refresh":
            pass
        assert source.events[-1].json() == {"reason": "restart", "dropped": None,
                                            "topics": ["alpha"]}
        before = source.data[:-1]
        assert before == list(range(1, len(before) + 1))
    database.publish("alpha", "after")
    for source in sources:
        assert source.next_event().json() == "after"
    streaming.wait_totals(subscribers=5)


def test_in_mid_replay(streaming, database):
    """With more to come than socket and credit hold: what was sent is whole and in order, one refresh
    tells of the rest."""
    source = Source(streaming).greeted().cut()
    publish_large(database, 1, 400)
    streaming.wait_totals(published=400)
    source.connect().greeted()
    source.next_event()
    streaming.wait_totals(subscribers=1)
    streaming.broker.kill()
    while source.next_block().comments != ["heartbeat"]:
        pass
    got = len(source.events)
    assert 1 < got < 400 and numbers(source) == list(range(1, got + 1))
    streaming.start_broker()
    refresh = source.next_event()
    assert refresh.event == "refresh" and refresh.json()["reason"] == "unknown_position"
    database.publish("alpha", "after")
    assert source.next_event().json() == "after"
    streaming.wait_totals(subscribers=1)


def test_while_streams_wait(streaming, database):
    """Twice, so that the subscription is asked for on a third connection."""
    source = Source(streaming).greeted().cut()
    streaming.broker.kill()
    known, fresh = Source(streaming, position=source.position), Source(streaming)
    for one in (known, fresh):
        assert one.next_block().comments == ["waiting"]
    streaming.spawn_broker()
    wait_for(streaming.broker_socket.exists, "it listens")
    streaming.broker.kill()
    streaming.start_broker()
    for one, reason in ((known, "unknown_position"), (fresh, "gap")):
        assert one.next_event().json()["reason"] == reason
    database.publish("alpha", 1)
    for one in (known, fresh):
        assert one.next_event().json() == 1


def test_again_before_it_could_say_anything(streaming, database):
    """However often: one refresh."""
    source = Source(streaming).greeted()
    for pause in (0, 0.01, 0.03):
        streaming.broker.kill()
        streaming.spawn_broker(database_url="host=/nonexistent dbname=none")
        time.sleep(pause)
    streaming.broker.kill()
    streaming.start_broker()
    assert source.next_event().json()["reason"] == "restart"
    database.publish("alpha", 1)
    assert source.next_event().json() == 1


def test_a_place_from_before_is_unknown_afterwards(streaming, database):
    source = Source(streaming).greeted().cut()
    streaming.broker.kill()
    streaming.start_broker()
    assert source.connect().next_event().json()["reason"] == "unknown_position"
    database.publish("alpha", 1)
    assert source.next_event().json() == 1


# --- only the connection breaks ---------------------------------------------------------------------

@pytest.fixture
def strained(deploy, database):
    """A handler that falls behind is cut off soon."""
    deployment = deploy(database.url, handler_queue_bytes="256KiB", client_queue_bytes="64MiB",
                        ring_capacity="1000")
    deployment.start_broker()
    deployment.start_stream()
    deployment.wait_served()
    return deployment


@contextlib.contextmanager
def cut_off(deployment):
    """The handler sleeps until the broker has closed its connection."""
    handler = deployment.streams[0]
    closed = deployment.broker.log().count("too slow")
    handler.send_signal(signal.SIGSTOP)
    try:
        yield
        wait_for(lambda: deployment.broker.log().count("too slow") > closed, "it is cut off")
    finally:
        handler.send_signal(signal.SIGCONT)


def test_live_streams_miss_nothing(strained, database):
    """Nor do they hear of it."""
    alpha = [Source(strained).greeted() for _ in range(3)]
    beta = Source(strained, "beta").greeted()
    with cut_off(strained):
        for first in range(1, 301, 10):
            publish_large(database, first, first + 9)
            database.publish("beta", f"{first}")
    for source in alpha:
        source.read_to(f"300{BIG}")
        assert numbers(source) == list(range(1, 301))
        assert all(block.event == "message" for block in source.events)
        places = [block.place for block in source.events]
        assert len({marker for _, marker, _ in places}) == 1
        assert [since - places[0][2] for _, _, since in places] == \
            [number + number // 10 for number in range(300)]
    assert beta.read_to("291").data == [f"{first}" for first in range(1, 301, 10)]
    database.publish("alpha", "live")
    database.publish("beta", "live")
    for source in alpha + [beta]:
        assert source.next_event().json() == "live"


def test_it_can_break_again_and_again(strained, database):
    source = Source(strained).greeted()
    for turn in range(3):
        with cut_off(strained):
            publish_large(database, turn * 150 + 1, turn * 150 + 150)
        source.read_to(f"{turn * 150 + 150}{BIG}")
        database.publish("alpha", f"live-{turn}")
        source.read_to(f"live-{turn}")
    wanted = []
    for turn in range(3):
        wanted += [*range(turn * 150 + 1, turn * 150 + 151), f"live-{turn}"]
    assert numbers(source) == wanted


def test_a_handler_that_sleeps_in_mid_resume_goes_on(strained, database):
    """What it is sent waits in the log, not in its queue: it is not cut off for that."""
    source = Source(strained).greeted()
    with cut_off(strained):
        publish_large(database, 1, 200)
    source.next_event()
    strained.streams[0].send_signal(signal.SIGSTOP)
    publish_large(database, 201, 400)
    strained.wait_totals(published=400)
    strained.streams[0].send_signal(signal.SIGCONT)
    source.read_to(f"400{BIG}")
    assert numbers(source) == list(range(1, 401))


def test_who_comes_meanwhile_gets_nothing_from_before_itself(strained, database):
    live = Source(strained).greeted()
    with cut_off(strained):
        publish_large(database, 1, 200)
        newcomer = Source(strained)  # taken in when the handler wakes, on the new connection
    newcomer.next_block()
    live.read_to(f"200{BIG}")
    database.publish("alpha", "live")
    assert newcomer.next_event().json() == "live"
    assert live.next_event().json() == "live" and numbers(live)[:-1] == list(range(1, 201))


def test_a_replay_goes_on_where_it_was(strained, database):
    """Its credit is used up, its handler loses the connection: it subscribes anew behind the last
    event that it has queued."""
    source = Source(strained).greeted().cut()
    publish_large(database, 1, 400)
    strained.wait_totals(published=400)
    live = Source(strained, "beta").greeted()
    source.connect().greeted()
    source.next_event()
    with cut_off(strained):
        for number in range(1, 200):
            database.publish("beta", f"{number}{BIG}")
    source.read_to(f"400{BIG}")
    assert numbers(source) == list(range(1, 401))
    assert len(live.read_to(f"199{BIG}").events) == 199


def test_a_break_meanwhile_is_told_in_its_place(strained, database):
    source = Source(strained).greeted()
    with cut_off(strained):
        publish_large(database, 1, 200)
        strained.wait_totals(published=200)
        database.terminate(database.listen_backends())
        strained.wait_totals(reconnects=1)
        publish_large(database, 201, 210)
    source.read_to(f"210{BIG}")
    assert numbers(source) == [*range(1, 201), "gap", *range(201, 211)]


def test_what_the_log_has_dropped_is_told_to_whom_it_concerns(deploy, database):
    deployment = deploy(database.url, handler_queue_bytes="256KiB", client_queue_bytes="64MiB",
                        ring_capacity="20")
    deployment.start_broker()
    deployment.start_stream()
    deployment.wait_served()
    alpha, beta = Source(deployment).greeted(), Source(deployment, "beta").greeted()
    with cut_off(deployment):
        publish_large(database, 1, 300)
        database.publish("beta", 1)
        deployment.wait_totals(published=301)
    alpha.read_to(f"300{BIG}")
    gaps = [at for at, block in enumerate(alpha.events) if block.event == "refresh"]
    assert len(gaps) == 1
    assert alpha.events[gaps[0]].json() == {"reason": "gap", "dropped": None, "topics": ["alpha"]}
    before, after = numbers(alpha)[:gaps[0]], numbers(alpha)[gaps[0] + 1:]
    assert before == list(range(1, len(before) + 1))  # what had left before it was cut off
    assert after == list(range(281, 301))
    assert beta.read_to(1).data == [1]


# --- a handler dies ---------------------------------------------------------------------------------

def test_a_handler_that_is_killed_costs_nothing(streaming, database):
    source = Source(streaming).greeted()
    with Publisher(database) as publisher:
        for _ in range(4):
            for _ in range(10):
                source.next_event()
            streaming.streams[0].kill()
            streaming.restart_stream(0)
            source.cut().connect()
    source.read_to(publisher.count)
    assert source.data == list(range(1, publisher.count + 1))
    streaming.wait_totals(subscribers=1)
