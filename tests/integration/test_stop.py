"""Each program told to stop: it ends what it has begun, says goodbye, leaves nothing, exits 0."""

import concurrent.futures
import os
import re
import signal
import time

import pytest

from waiting import wait_for

GOODBYE = re.compile(rb"retry: \d+\n: server shutting down\nevent: close\ndata: \{\}\n\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_streams_get_a_goodbye(running, number):
    streams = [running.stream() for _ in range(3)]
    running.publish("alpha", 1)
    for stream in streams:
        stream.next_event()
    started = time.monotonic()
    running.streams[0].stop(number)
    assert time.monotonic() - started < 2
    for stream in streams:
        blocks = stream.read_to_end()
        assert len(blocks) == 1 and GOODBYE.fullmatch(blocks[0].raw), blocks
        assert stream.ended_in_order


def test_the_request_is_ended_in_order(running):
    """As the web server sees it: empty STDOUT, END_REQUEST with status 0, close."""
    import fastcgi
    connection = running.keep(running.streams[0].connect())
    connection.ask("GET", "/topics/alpha/events").read_headers()
    connection.next_block()
    running.streams[0].stop()
    assert [block.event for block in connection.read_to_end()] == ["close"]
    connection.wait_closed()
    assert connection.end_status == (0, 0)
    kinds = [record.type for record in connection.records]
    assert kinds[-1] == fastcgi.END_REQUEST and kinds[-2] == fastcgi.STDOUT
    assert connection.records[-2].content == b""
    assert kinds.count(fastcgi.END_REQUEST) == 1
    assert all(record.content for record in connection.records[:-2])
    assert all(len(record.content) <= 16384 for record in connection.records)


def test_a_waiting_stream_gets_a_goodbye_too(deploy):
    deployment = deploy(None)
    handler = deployment.start_stream()
    connection = deployment.keep(handler.connect())
    connection.ask("GET", "/topics/alpha/events", HTTP_LAST_EVENT_ID="0.abcdefghijklm.3")
    connection.read_headers()
    assert connection.next_block().comments == ["waiting"]
    handler.stop()
    block = connection.read_to_end()[-1]
    assert block.event == "close" and block.id is None  # the client has its own
    assert connection.end_status == (0, 0)


def test_no_id_stands_in_the_goodbye_of_a_stream_that_sent_ids(running):
    stream = running.stream()
    running.streams[0].stop()
    assert [block.id for block in stream.read_to_end()] == [None]


def test_they_come_back_as_a_flat_line(deploy, database):
    """50 streams, 10 a second: spread over some five seconds."""
    deployment = deploy(database.url, reconnect_rate="10", retry="1000").start(publisher=False)
    streams = [deployment.stream() for _ in range(50)]
    deployment.streams[0].stop()
    retries = sorted(int(stream.read_to_end()[-1].retry) for stream in streams)
    assert retries[-1] - retries[0] > 2500 and retries[-1] < 10000, retries
    assert len(set(retries)) > 20


def test_all_stop_together(deploy, database):
    """SIGINT to lighttpd, SIGTERM to the stream handlers, as `make run` does."""
    deployment = deploy(database.url).start(handlers=2)
    streams = [deployment.stream() for _ in range(4)]
    for one in deployment.streams:
        one.send_signal(signal.SIGTERM)
    deployment.lighttpd.send_signal(signal.SIGINT)
    for one in deployment.streams:
        one.wait(0)
    for stream in streams:
        assert [block.event for block in stream.read_to_end()] == ["close"]
    deployment.lighttpd.wait(0)
    deployment.publisher.stop()
    deployment.broker.stop()
    assert not deployment.broker_socket.exists() and not deployment.status_socket.exists()


def test_nobody_is_asked_to_leave_when_the_broker_stops(deploy, database):
    deployment = deploy(database.url).start(publisher=False)
    stream = deployment.stream()
    deployment.broker.stop()
    stream.silence(0.3)
    assert deployment.streams[0].is_running()


@pytest.mark.parametrize("which", ["broker", "stream", "publish"])
def test_alone_and_at_once(deploy, which):
    """Started with nobody to talk to, and told to stop right away."""
    deployment = deploy("host=/nonexistent dbname=none")
    new = {"broker": deployment.spawn_broker, "stream": deployment.start_stream,
           "publish": deployment.start_publisher}[which]()
    time.sleep(0.15)  # somewhere in its start
    new.stop(seconds=2)


def test_a_client_that_does_not_read_delays_no_more_than_graceful_drain(deploy, database):
    deployment = deploy(database.url, graceful_drain="1s", client_queue_bytes="64MiB")
    deployment.start(publisher=False)
    stuck = deployment.keep(deployment.streams[0].connect())
    stuck.ask("GET", "/topics/alpha/events").read_headers()
    well = deployment.stream()
    for _ in range(100):
        database.publish("alpha", "x" * 7000)
    assert len([well.next_data() for _ in range(100)]) == 100
    started = time.monotonic()
    deployment.streams[0].send_signal(signal.SIGTERM)
    assert [block.event for block in well.read_to_end(0.8)] == ["close"]
    deployment.streams[0].wait(0, 3)
    assert 0.8 < time.monotonic() - started < 2.5


def test_what_was_accepted_is_published(deploy, database):
    """The publish handler finishes its work; who comes then is told so."""
    deployment = deploy(database.url, publish_timeout="8s")
    deployment.start_broker()
    deployment.start_stream()
    backends = deployment.start_publisher_and_find(database)
    deployment.start_lighttpd()
    stream = deployment.stream()
    for pid in backends:
        os.kill(pid, signal.SIGSTOP)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(deployment.post, "alpha", '{"data":"begun"}')
        late = deployment.keep(deployment.publisher.connect())  # it comes before the stop ...
        time.sleep(0.3)
        deployment.publisher.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        late.ask("POST", "/topics/alpha/events", b'{"data":"late"}')  # ... and asks behind it
        assert not answer.done()
        late.answer()
        assert late.status == 503 and b"server draining" in late.raw
        assert "retry-after" in late.headers
        for pid in backends:
            os.kill(pid, signal.SIGCONT)
        assert answer.result().status == 200
    assert stream.next_data() == "begun"
    deployment.publisher.wait(0, 3)


def test_stopping_in_the_middle_of_a_storm(deploy, database):
    """Whole frames to the end, then the goodbye."""
    deployment = deploy(database.url).start(publisher=False)
    streams = [deployment.stream() for _ in range(20)]
    database.execute("SELECT pg_notify('topic_broadcast_0', json_build_object('topic', 'alpha', 'data', n)::text)"
                     " FROM generate_series(1, 3000) n")
    streams[0].next_event()
    deployment.streams[0].stop()
    for stream in streams:
        blocks = stream.read_to_end()
        assert blocks[-1].event == "close"
        numbers = [block.json() for block in blocks[:-1]]
        start = 2 if stream is streams[0] else 1
        assert numbers == list(range(start, start + len(numbers)))


def test_a_second_signal_does_no_harm(running):
    running.streams[0].send_signal(signal.SIGTERM)
    running.streams[0].send_signal(signal.SIGTERM)
    running.streams[0].wait(0)
    running.broker.send_signal(signal.SIGTERM)
    running.broker.send_signal(signal.SIGTERM)
    running.broker.wait(0)


def test_hangup_and_pipe_signals_do_not_end_anybody(running):
    stream = running.stream()
    for one in (running.broker, running.streams[0], running.publisher):
        one.send_signal(signal.SIGPIPE)
    wait_for(lambda: running.request("HEAD", "/topics/a/events").status == 200, "still there")
    running.publish("alpha", 1)
    assert stream.next_data() == 1
