"""Clients that go, and clients that do not read."""

import time

from waiting import wait_for

BIG = "x" * 7000


def direct(deployment, topic="alpha"):
    """A stream without lighttpd's buffers between, of which only the greeting is read."""
    connection = deployment.keep(deployment.streams[0].connect())
    connection.ask("GET", f"/topics/{topic}/events").read_headers()
    assert f"listening {topic}" in connection.next_block().comments
    return connection


def publish_big(database, stream, count, at_a_time=10):
    """At the pace of a stream that reads."""
    for first in range(0, count, at_a_time):
        database.execute(
            "SELECT pg_notify('topic_broadcast_0', json_build_object('topic', 'alpha', 'data',"
            " n || %s)::text) FROM generate_series(%s, %s) n",
            (BIG, first, first + at_a_time - 1))
        for number in range(first, first + at_a_time):
            assert stream.next_data() == f"{number}{BIG}"


# --- going ------------------------------------------------------------------------------------------

def test_going_is_noticed_at_once_and_frees_everything(running):
    handler = running.streams[0]
    running.stream().close()
    wait_for(lambda: running.totals()["subscribers"] == 0, "the first has gone")
    descriptors = handler.settled_fd_count()
    streams = [running.stream(f"t{number % 7}") for number in range(60)]
    assert handler.fd_count() == descriptors + 60
    running.wait_totals(subscribers=60, topics=7)  # nothing is left of alpha
    for stream in streams:
        stream.close()
    running.wait_totals(1, subscribers=0)
    wait_for(lambda: handler.fd_count() == descriptors, "their descriptors are freed", 1)
    assert running.totals()["dropped_clients"] == 0  # they went of themselves


def test_going_without_reading_what_waits(running):
    """A reset instead of a goodbye."""
    streams = [running.stream() for _ in range(20)]
    for number in range(20):
        running.publish("alpha", number)
    for stream in streams:
        stream.close()
    running.wait_totals(1, subscribers=0)
    running.publish("alpha", "nobody")


def test_going_before_the_answer(running):
    """The client is gone before the broker can have answered."""
    descriptors = running.streams[0].settled_fd_count()
    for _ in range(50):
        connection = running.streams[0].connect()
        connection.ask("GET", "/topics/alpha/events")
        connection.close()
    running.wait_totals(2, subscribers=0)
    wait_for(lambda: running.streams[0].fd_count() == descriptors, "descriptors are freed")


def test_a_client_that_goes_is_no_crash_of_the_handler(running):
    """To lighttpd a request without END_REQUEST is a handler that died, and it logs so."""
    log = running.path("lighttpd-errors.log")
    running.stream().close()
    running.wait_totals(1, subscribers=0)
    stream = running.stream()
    running.publish("alpha", 1)
    stream.next_data()
    stream.close()
    running.wait_totals(1, subscribers=0)
    assert "fastcgi process died" not in log.read_text()
    assert "backend returned error" not in log.read_text()


def test_subscribers_are_counted_by_topic(running):
    streams = {name: [running.stream(name) for _ in range(count)]
               for name, count in [("a", 3), ("b", 2)]}
    assert running.topic("a")["subscribers"] == 3 and running.topic("b")["subscribers"] == 2
    streams["a"].pop().close()
    wait_for(lambda: running.topic("a")["subscribers"] == 2, "one less")
    assert running.topic("b")["subscribers"] == 2
    running.publish("a", 1)
    for stream in streams["a"]:
        assert stream.next_data() == 1
    assert running.topic("b")["broadcast"] == 0


# --- not reading ------------------------------------------------------------------------------------

def test_overflow_closes_the_client_and_nobody_else(deploy, database):
    deployment = deploy(database.url, client_queue_bytes="256KiB", slow_client="disconnect")
    deployment.start(publisher=False)
    well = deployment.stream()
    slow = direct(deployment)
    deployment.wait_totals(subscribers=2)
    descriptors = deployment.streams[0].settled_fd_count()
    publish_big(database, well, 150)  # 1 MB: more than a socket and the queue take
    totals = deployment.wait_totals(2, subscribers=1, dropped_clients=1)
    assert totals["dropped_events"] > 0
    topic = deployment.topic("alpha")
    assert topic["dropped_clients"] == 1 and topic["subscribers"] == 1
    # What it did get is whole: it resumes from there.
    blocks = slow.read_to_end()
    assert [block.json() for block in blocks] == [f"{n}{BIG}" for n in range(len(blocks))]
    assert 0 < len(blocks) < 150 and slow.end_status == (0, 0)
    wait_for(lambda: deployment.streams[0].fd_count() == descriptors - 1, "its descriptor is freed")
    publish_big(database, well, 10)


def test_overflow_through_lighttpd(deploy, database):
    deployment = deploy(database.url, client_queue_bytes="256KiB", slow_client="disconnect")
    deployment.start(publisher=False)
    well = deployment.stream()
    slow = deployment.stream(receive_buffer=4096)
    deployment.wait_totals(subscribers=2)
    published = 0
    while deployment.totals()["dropped_clients"] == 0:
        publish_big(database, well, 200, 20)
        published += 200
        assert published < 4000, "a client that never reads is still there after 28 MB"
    deployment.wait_totals(subscribers=1)
    slow.close()
    publish_big(database, well, 10)


def test_a_large_event_passes_an_empty_queue(deploy, database):
    """An empty queue takes one event of any size."""
    deployment = deploy(database.url, client_queue_bytes="4KiB").start(publisher=False)
    stream = deployment.stream()
    publish_big(database, stream, 20, 1)
    totals = deployment.totals()
    assert totals["dropped_clients"] == 0 and totals["dropped_events"] == 0


def test_a_stalled_client_is_closed(deploy, database):
    deployment = deploy(database.url, client_queue_bytes="64MiB", stall_timeout="1s")
    deployment.start(publisher=False)
    well = deployment.stream()
    slow = direct(deployment)
    publish_big(database, well, 100)
    started = time.monotonic()
    totals = deployment.totals()
    assert totals["dropped_clients"] == 0 and totals["pending_to_clients"] > 0
    assert deployment.topic("alpha")["pending_to_clients"] > 0
    assert totals["total_memory_usage_bytes"] > 100_000
    deployment.wait_totals(4, subscribers=1, dropped_clients=1)
    assert 0.5 < time.monotonic() - started < 3
    assert deployment.totals()["pending_to_clients"] == 0
    assert deployment.totals()["dropped_events"] > 0
    publish_big(database, well, 10)
    slow.close()


def test_who_reads_slowly_is_not_stalled(deploy, database):
    """It takes something now and then; nothing is dropped, nothing is lost."""
    deployment = deploy(database.url, client_queue_bytes="64MiB", stall_timeout="2s")
    deployment.start(publisher=False)
    well = deployment.stream()
    slow = direct(deployment)
    slow.receive_bytes = 32 * 1024  # what it holds itself is no reading
    publish_big(database, well, 200)
    deadline = time.monotonic() + 4
    number = 0
    while time.monotonic() < deadline:
        for _ in range(10):
            assert slow.next_data() == f"{number}{BIG}"
            number += 1
        time.sleep(0.25)
    while number < 200:
        assert slow.next_data() == f"{number}{BIG}"
        number += 1
    assert deployment.totals()["dropped_clients"] == 0


def test_silence_is_no_stall(deploy, database):
    deployment = deploy(database.url, stall_timeout="1s").start(publisher=False)
    stream = direct(deployment)
    time.sleep(1.4)
    database.publish("alpha", 1)
    assert stream.next_data() == 1


def test_one_slow_client_delays_nobody(deploy, database):
    deployment = deploy(database.url, client_queue_bytes="64MiB").start(publisher=False)
    well = deployment.stream()
    direct(deployment)
    publish_big(database, well, 200)
    started = time.monotonic()
    database.publish("alpha", "quick")
    assert well.next_data() == "quick"
    assert time.monotonic() - started < 0.2


def test_a_burst_to_many(deploy, database):
    """Every stream gets every event once, in order."""
    deployment = deploy(database.url).start(handlers=2, publisher=False)
    streams = [deployment.stream() for _ in range(100)]
    for first in range(1, 401, 20):
        database.execute("SELECT pg_notify('topic_broadcast_' || n %% 8,"
                         " json_build_object('topic', 'alpha', 'data', n)::text)"
                         " FROM generate_series(%s, %s) n", (first, first + 19))
    for stream in streams:
        assert [stream.next_data() for _ in range(400)] == list(range(1, 401))
    assert deployment.totals()["delivered_frames"] == 40000
