"""Clients that do not read: what waits for them is bounded; what they miss is counted and told, or
they come back for it. Nobody else notices."""

import random
import signal
import time

import pytest

import fastcgi
import program
from source import Source
from waiting import wait_for

BIG = "x" * 7000


@pytest.fixture
def streaming(deploy, database):
    """streaming(**settings): a deployment with one who reads well, in .well."""
    def start(**settings):
        deployment = deploy(database.url, **{"client_queue_bytes": "128KiB", **settings})
        deployment.database = database
        deployment.start_broker()
        deployment.start_stream()
        deployment.wait_served()
        deployment.well = Source(deployment).greeted()
        deployment.last = 0
        return deployment
    return start


def publish(deployment, count, at_a_time=10, rest=BIG, other="unread"):
    """At the pace of the one who reads, and an event of another topic behind each."""
    for _ in range(0, count, at_a_time):
        first, last = deployment.last + 1, deployment.last + at_a_time
        deployment.database.execute(
            "SELECT pg_notify('topic_broadcast_0', json_build_object('topic', 'alpha', 'data',"
            " n || %s)::text), pg_notify('topic_broadcast_1', json_build_object('topic', %s, 'data',"
            " n)::text) FROM generate_series(%s, %s) n", (rest, other, first, last))
        for number in range(first, last + 1):
            assert deployment.well.next_data() == f"{number}{rest}"
        deployment.well.connection.forget()
        deployment.last = last


def numbers(source):
    """A refresh is the list of its reason and count."""
    return [[block.json()["reason"], block.json()["dropped"]] if block.event == "refresh"
            else int(block.json().rstrip("x")) for block in source.events]


def read_to_head(deployment, source):
    """The last that there is may be a refresh, or an event."""
    while source.position != deployment.well.position:
        source.next_event()


def assert_exact(deployment, source, first=1):
    """What is missing is counted exactly, in its place; returns the number missing in all."""
    ids = {number: block.id for number, block in zip(numbers(deployment.well),
                                                     deployment.well.events)}
    expected, missing = first, 0
    for number, block in zip(numbers(source), source.events):
        if isinstance(number, int):
            assert number == expected and block.id == ids[number]
            expected += 1
        else:
            reason, dropped = number
            assert reason == "overflow" and dropped > 0
            assert block.json()["topics"] == ["alpha"]
            missing += dropped
            expected += dropped
            assert block.id == ids[expected - 1]  # that of the last one dropped
    assert expected == deployment.last + 1
    return missing


# --- refresh: it is told what it misses ------------------------------------------------------------

def test_one_refresh_with_the_exact_count(streaming):
    deployment = streaming()
    slow = Source(deployment).greeted()
    publish(deployment, 150)
    read_to_head(deployment, slow)
    missing = assert_exact(deployment, slow)
    refreshes = [block for block in slow.events if block.event == "refresh"]
    assert len(refreshes) == 1 and 50 < missing < 150
    deployment.wait_totals(dropped_events=missing, dropped_clients=0, subscribers=2)
    assert deployment.topic("alpha")["dropped_events"] == missing
    publish(deployment, 10)
    read_to_head(deployment, slow)
    assert assert_exact(deployment, slow) == missing


def test_the_refresh_stands_at_its_own_last_event(streaming):
    """And not at that of another client of the same handler, which came behind it."""
    deployment = streaming()
    slow, other = Source(deployment).greeted(), Source(deployment, "other").greeted()
    publish(deployment, 150, other="other")
    read_to_head(deployment, slow)
    assert_exact(deployment, slow)
    assert other.read_to(150).data == list(range(1, 151))


def test_several_overflows(streaming):
    deployment = streaming()
    slow = Source(deployment).greeted()
    for _ in range(4):
        publish(deployment, 120)
        read_to_head(deployment, slow)
    missing = assert_exact(deployment, slow)
    assert len([block for block in slow.events if block.event == "refresh"]) == 4
    deployment.wait_totals(dropped_events=missing, dropped_clients=0)


def test_an_overflow_behind_a_refresh_that_is_out(streaming):
    """It reads up to somewhere, and stops again, so that refreshes are begun or not."""
    deployment = streaming(client_queue_bytes="32KiB")
    chance = random.Random(7)
    slow = Source(deployment).greeted()
    slow.connection.receive_bytes = 5000
    for _ in range(30):
        publish(deployment, 20, at_a_time=20)
        target = len(slow.connection.raw) + chance.randrange(90_000)
        while len(slow.connection.raw) < target and slow.connection._fill(time.monotonic()):
            pass
    slow.connection.receive_bytes = 1 << 20
    read_to_head(deployment, slow)
    missing = assert_exact(deployment, slow)
    assert len([block for block in slow.events if block.event == "refresh"]) > 2
    deployment.wait_totals(dropped_events=missing, dropped_clients=0)


def test_who_resumes_at_the_refresh_goes_on_behind_it(streaming):
    deployment = streaming()
    slow = Source(deployment).greeted()
    publish(deployment, 150)
    while slow.next_event().event != "refresh":
        pass
    slow.cut().connect()
    read_to_head(deployment, slow)
    assert assert_exact(deployment, slow) > 50


def test_who_resumes_before_the_refresh_misses_nothing(streaming):
    """What was dropped of its queue is still in the log."""
    deployment = streaming()
    slow = Source(deployment).greeted()
    publish(deployment, 150)
    slow.next_event()
    slow.cut().connect()
    read_to_head(deployment, slow)
    assert assert_exact(deployment, slow) == 0


def test_a_gap_that_is_dropped_with_the_rest_is_told(streaming):
    """Two causes before either was sent make one refresh: the first of the list, and the count is
    unknown."""
    deployment = streaming()
    slow = Source(deployment).greeted()
    publish(deployment, 40)
    database = deployment.database
    database.terminate(database.listen_backends())
    assert deployment.well.next_event().json()["reason"] == "gap"
    publish(deployment, 100)
    read_to_head(deployment, slow)
    refresh, = [block for block in slow.events if block.event == "refresh"]
    assert refresh.json() == {"reason": "gap", "dropped": None, "topics": ["alpha"]}


def test_many_stalled_clients_do_not_take_the_memory(streaming):
    """25 MB past 20 who read nothing."""
    deployment = streaming(client_queue_bytes="1MiB")
    stalled = [Source(deployment).greeted() for _ in range(20)]
    handler = deployment.streams[0]
    publish(deployment, 300, at_a_time=100)
    before = handler.memory_kib()
    publish(deployment, 3300, at_a_time=100)
    if not program.is_sanitized():
        assert handler.memory_kib() - before < 12 * 1024
    dropped = 0
    for slow in stalled:
        read_to_head(deployment, slow)
        dropped += assert_exact(deployment, slow)
    deployment.wait_totals(dropped_events=dropped, dropped_clients=0, subscribers=21)


def test_others_are_served_at_once(streaming):
    deployment = streaming()
    slow = [Source(deployment).greeted() for _ in range(10)]
    publish(deployment, 200)
    started = time.monotonic()
    publish(deployment, 10, at_a_time=1)
    assert time.monotonic() - started < 0.5
    assert len(slow) == 10


# --- an empty queue ---------------------------------------------------------------------------------

def test_an_empty_queue_takes_one_event_of_any_size(streaming):
    deployment = streaming(client_queue_bytes="4KiB")
    publish(deployment, 30, at_a_time=1)
    assert deployment.totals()["dropped_events"] == 0


def test_and_while_it_stalls_one_waits(streaming):
    """Each event is larger than the queue, so that the one that waits gives way to the next."""
    deployment = streaming(client_queue_bytes="4KiB")
    slow = Source(deployment).greeted()
    publish(deployment, 80, at_a_time=1)
    read_to_head(deployment, slow)
    missing = assert_exact(deployment, slow)
    deployment.wait_totals(dropped_events=missing)


# --- disconnect: it comes back for it ------------------------------------------------------------------

def test_it_is_ended_in_order_and_comes_back_for_the_rest(streaming):
    deployment = streaming(slow_client="disconnect")
    slow = Source(deployment).greeted()
    publish(deployment, 150)
    totals = deployment.wait_totals(subscribers=1, dropped_clients=1)
    slow.read_ended()
    assert slow.connection.end_status == (0, 0)
    assert slow.connection.records[-1].type == fastcgi.END_REQUEST
    got = len(slow.events)
    assert 0 < got < 150 and slow.events[-1].event == "message"
    assert 18 <= totals["dropped_events"] <= 150 - got  # what waited then
    read_to_head(deployment, slow.connect())
    assert assert_exact(deployment, slow) == 0


def test_it_says_no_id_and_no_goodbye(streaming):
    deployment = streaming(slow_client="disconnect")
    slow = Source(deployment).greeted()
    publish(deployment, 150)
    deployment.wait_totals(subscribers=1)
    assert all(block.event == "message" for block in slow.read_ended())


# --- nobody stays attached and deaf ---------------------------------------------------------------------

@pytest.mark.parametrize("mode", ["refresh", "disconnect"])
def test_stall_timeout_closes_in_either_mode(streaming, mode):
    queue = "128KiB" if mode == "refresh" else "64MiB"
    deployment = streaming(slow_client=mode, client_queue_bytes=queue, stall_timeout="1s")
    slow = Source(deployment).greeted()
    publish(deployment, 60)
    assert deployment.totals()["dropped_clients"] == 0
    deployment.wait_totals(3, subscribers=1, dropped_clients=1, pending_to_clients=0)
    slow.read_bytes(len(slow.connection.raw)).cut()
    read_to_head(deployment, slow.connect())
    assert assert_exact(deployment, slow) == 0


def test_its_age_does_not_keep_it(streaming):
    """It has overflowed, and takes not even the end of that; meanwhile it becomes old."""
    deployment = streaming(slow_client="disconnect", stall_timeout="1s", max_stream_age="1s")
    deployment.well.read_ended()
    deployment.well.cut()
    handler = deployment.streams[0]
    descriptors = handler.settled_fd_count()
    slow = Source(deployment).greeted()
    deployment.database.execute(
        "SELECT pg_notify('topic_broadcast_0', json_build_object('topic', 'alpha', 'data',"
        " n || %s)::text) FROM generate_series(1, 300) n", (BIG,))
    wait_for(lambda: handler.fd_count() == descriptors, "it is closed", 4)
    assert slow.read_ended()[-1].event == "message"  # no goodbye was queued


def test_a_stalled_replay_is_closed_too(streaming):
    deployment = streaming(stall_timeout="1s", client_queue_bytes="64MiB")
    start = deployment.well.position
    publish(deployment, 200)
    slow = Source(deployment, position=start).greeted()
    assert deployment.totals()["subscribers"] == 2
    deployment.wait_totals(3, subscribers=1, dropped_clients=1)
    slow.cut().connect()
    read_to_head(deployment, slow)
    assert numbers(slow) == list(range(1, 201))


# --- the handler stops ---------------------------------------------------------------------------------

@pytest.mark.parametrize("is_live", [True, False], ids=["live", "replaying"])
def test_who_lags_when_the_handler_stops_comes_back_for_the_rest(streaming, is_live):
    """It gets whole events, then the goodbye without id."""
    deployment = streaming(client_queue_bytes="64MiB")
    start = deployment.well.position
    slow = Source(deployment).greeted()
    if not is_live:
        slow.cut()
    publish(deployment, 150)
    if not is_live:
        slow = Source(deployment, position=start).greeted()
        slow.next_event()
    deployment.streams[0].send_signal(signal.SIGTERM)
    blocks = slow.read_ended()
    assert slow.connection.end_status == (0, 0)
    close = slow.events.pop()
    assert close is blocks[-1] and close.event == "close" and close.id is None
    assert 0 < len(slow.events) < 150
    deployment.streams[0].wait()
    deployment.restart_stream(0)
    read_to_head(deployment, slow.connect())
    assert assert_exact(deployment, slow) == 0


# --- heartbeats -----------------------------------------------------------------------------------------

def test_no_id_stands_behind_what_was_not_sent(streaming):
    """Heartbeats are due all the while; whatever was read, going on from there loses nothing."""
    deployment = streaming(keep_alive="100ms", client_queue_bytes="64MiB")
    chance = random.Random(11)
    slow = Source(deployment, position=deployment.well.position)
    for _ in range(10):
        publish(deployment, 40, at_a_time=20)
        deployment.database.publish("somebody-elses", 1)
        time.sleep(0.13)
        slow.read_bytes(min(chance.randrange(400_000), available(slow))).cut().connect()
    read_to_head(deployment, slow)
    assert assert_exact(deployment, slow) == 0


def available(source):
    """How many bytes of the body have come by now."""
    while source.connection._fill(time.monotonic() + 0.01):
        pass
    return len(source.connection.raw)
