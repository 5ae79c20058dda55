"""Garbage, half messages and silence on the sockets: that peer is closed, nobody else notices."""

import contextlib
import os
import struct
import time

import pytest

import fastcgi
import wire
from waiting import wait_for


@pytest.fixture
def guarded(running):
    """Somebody who reads all the while, and must not notice."""
    stream = running.stream()
    pids = (running.broker.pid, running.streams[0].pid, running.publisher.pid)
    yield running
    running.publish("alpha", "undisturbed")
    assert stream.next_data(2) == "undisturbed"
    assert pids == (running.broker.pid, running.streams[0].pid, running.publisher.pid)
    assert all(one.is_running() for one in (running.broker, running.streams[0], running.publisher))
    running.wait_totals(subscribers=1)


# --- the broker's socket ----------------------------------------------------------------------------

def frame_of(kind, body=b"", length=None):
    return struct.pack("<IB", len(body) if length is None else length, kind) + body


GREETED = {
    "HTTP": b"GET / HTTP/1.0\r\n\r\n",
    "zero bytes": b"\x00" * 64,
    "an unknown type": frame_of(60),
    "type 0": frame_of(0),
    "an answer's type": frame_of(wire.EVENT, b"\x00" * 40),
    "a RECHECK": frame_of(wire.RECHECK, wire.text("")),
    "a huge length": frame_of(wire.SUBSCRIBE, length=0xFFFFFFFF),
    "one over the limit": frame_of(wire.REPORT, length=wire.REQUEST_BYTES_MAX + 1),
    "a second HELLO": wire.hello(),
    "a second RESUME": wire.resume(),
    "an empty RESUME": frame_of(wire.RESUME),
    "a CREDIT of 3 bytes": frame_of(wire.CREDIT, b"123"),
    "an empty SUBSCRIBE": frame_of(wire.SUBSCRIBE),
    "a SUBSCRIBE cut short": frame_of(wire.SUBSCRIBE, wire.subscribe(1, "alpha")[5:-1]),
    "a SUBSCRIBE with something behind": frame_of(wire.SUBSCRIBE, wire.subscribe(1, "a")[5:] + b"x"),
    "67 topics": wire.subscribe(1, *[f"t{number}" for number in range(67)]),
    "topics that lie about their count": frame_of(
        wire.SUBSCRIBE, wire.subscribe(1, "alpha")[5:-12] + struct.pack("<H", 65535)
        + wire.topic("alpha")),
    "a text that lies about its length": frame_of(
        wire.SUBSCRIBE, wire.subscribe(1)[5:-2] + struct.pack("<HI", 1, 0xFFFFFFF0) + b"\nalpha"),
    "an UNSUBSCRIBE of nobody": wire.unsubscribe(77, "alpha"),
    "an empty UNSUBSCRIBE": frame_of(wire.UNSUBSCRIBE),
    "an UNSUBSCRIBE in no form": wire.unsubscribe(0, "alpha", form=2),
    "an UNSUBSCRIBE of the second version": frame_of(
        wire.UNSUBSCRIBE, struct.pack("<Q", 0) + wire.topics("alpha")),
    "an ASK_POSITION of 3 bytes": frame_of(wire.ASK_POSITION, b"123"),
    "an ASK_DOCUMENT of 3 bytes": frame_of(wire.ASK_DOCUMENT, b"123"),
    "an ASK_DOCUMENT without token": wire.ask_document(wire.USER_STREAMS, 0),
    "an ASK_DOCUMENT of an unknown kind": wire.ask_document(wire.STREAM_STATS + 1, 1),
    "a REPORT that lies about its count": frame_of(
        wire.REPORT, struct.pack("<IIBI", 1, 5, 1, 0xFFFFFFFF)),
    "a REPORT with half an entry": frame_of(
        wire.REPORT, struct.pack("<IIBI", 1, 5, 1, 1) + wire.topic("alpha") + b"\x01"),
    "a SUBSCRIBE in no form": wire.subscribe(1, "alpha", form=255),
    "a SUBSCRIBE in the form behind the last": wire.subscribe(1, "alpha", form=2),
    "a position of no kind": frame_of(
        wire.SUBSCRIBE, b"\x01" + b"\x00" * 7 + b"\x00\xff" + wire.no_position() + wire.text("")
        + wire.topics("alpha")),
    "a marker of 5 bytes": frame_of(
        wire.SUBSCRIBE, b"\x01" + b"\x00" * 7 + b"\x00\x03" + struct.pack("<Q", 0)
        + wire.text("short") + struct.pack("<Q", 1) + wire.text("")
        + wire.topics("alpha")),
}


@pytest.mark.parametrize("garbage", GREETED.values(), ids=GREETED.keys())
def test_who_breaks_the_protocol_is_closed_with_a_reason(shared, garbage):
    handler = shared.handler_by_hand()
    lines_before = len(shared.broker.log().splitlines())
    handler.send(garbage)
    assert handler.goodbye()
    new = shared.broker.log().splitlines()[lines_before:]
    assert any(str(os.getpid()) in line for line in new), new
    with contextlib.closing(shared.stream()) as stream:
        shared.publish("alpha", "undisturbed")
        assert stream.next_data(2) == "undisturbed"


def resume_of(entries, count=1, kind=0):
    """HELLO and then that, without position."""
    return wire.hello() + frame_of(wire.RESUME, struct.pack("<BB", 1, kind) + wire.no_position()
                                   + struct.pack("<I", count) + entries)


@pytest.mark.parametrize("garbage", [
    b"GET / HTTP/1.0\r\n\r\n", b"\x00" * 64, wire.subscribe(1, "alpha"), wire.hello(magic=1),
    wire.hello(version=wire.VERSION + 1), wire.hello(version=wire.VERSION - 1), frame_of(wire.HELLO, b"123"),
    frame_of(wire.REPORT, struct.pack("<IIBI", 1, 5, 1, 0)), os.urandom(5000) + b"\xff" * 8,
    wire.hello() + wire.subscribe(1, "alpha"), wire.resume(),
    resume_of(b"", 0, kind=1), resume_of(b"", 0xFFFFFFFF),
    wire.hello() + frame_of(wire.RESUME, b"\x01\x00" + wire.no_position()),
    resume_of(wire.resume_entry("", 1)), resume_of(wire.resume_entry("alpha", 0)),
    resume_of(wire.resume_entry("alpha", 2) + b"\x00"),
], ids=["HTTP", "zeros", "SUBSCRIBE first", "magic", "newer", "older", "short HELLO", "REPORT first",
        "random", "no RESUME", "RESUME first", "no position's RESUME", "a lying RESUME",
        "a RESUME without count", "a RESUME without topic", "a RESUME without clients",
        "a RESUME with a byte too many"])
def test_who_does_not_greet_is_closed_with_a_reason(shared, garbage):
    handler = shared.handler_by_hand(greet=False)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        handler.send(garbage)
    assert handler.goodbye()
    assert shared.health()["status"] == "ok"


def test_half_frames_wait_and_disturb_nobody(guarded):
    whole = wire.introduction() + wire.subscribe(5, "alpha")
    peers = []
    for length in range(0, len(whole), 3):
        peers.append(guarded.handler_by_hand(greet=False))
        peers[-1].send(whole[:length])
    guarded.publish("beta", 1)
    assert guarded.request("HEAD", "/topics/alpha/events").status == 200
    for peer in peers:
        peer.close()


def test_frames_in_single_bytes_are_understood(guarded):
    handler = guarded.handler_by_hand(greet=False)
    for byte in wire.introduction() + wire.subscribe(5, "gamma"):
        handler.send(bytes([byte]))
    assert handler.next_of(wire.WELCOME)
    token = wire.Reader(handler.next_of(wire.ACCEPTED)).number("Q")
    assert token == 5
    assert wire.Reader(handler.next_of(wire.SUBSCRIBED)).number("Q") == 5
    guarded.publish("gamma", {"n": 1})
    event = wire.Reader(handler.next_of(wire.EVENT))
    is_durable, position = event.number("B"), event.position()
    topic, publisher_id = event.topic(), event.text()
    id_at, body = event.number("I"), event.text()
    assert (is_durable, topic, publisher_id, id_at) == (0, b"gamma", b"", 0)
    assert body == b'event: message\ndata: {"n":1}\n\n' and len(position[1]) == 13
    handler.close()


def test_an_event_is_sent_once_to_a_handler(running):
    """However many of its clients want it; and not at all when none is left."""
    handler = running.handler_by_hand()
    for token in range(1, 11):
        handler.send(wire.subscribe(token, "alpha"))
    for _ in range(10):
        handler.next_of(wire.SUBSCRIBED)
    running.publish("alpha", "first")
    assert b"first" in handler.next_of(wire.EVENT)
    for token in range(1, 11):
        handler.send(wire.unsubscribe(token, "alpha"))
    running.wait_totals(subscribers=0)
    running.publish("alpha", "unwanted")
    running.wait_totals(published=2, broadcast=1)
    handler.send(wire.subscribe(11, "alpha"))
    handler.next_of(wire.SUBSCRIBED)
    running.publish("alpha", "second")
    assert b"second" in handler.next_of(wire.EVENT)


def test_a_handler_that_does_not_read_is_closed(deploy, database):
    deployment = deploy(database.url, handler_queue_bytes="256KiB").start(publisher=False)
    stream = deployment.stream()
    stuck = deployment.handler_by_hand()
    stuck.send(wire.subscribe(1, "alpha"))
    stuck.next_of(wire.SUBSCRIBED)
    deployment.wait_totals(subscribers=2)
    for number in range(150):
        database.publish("alpha", f"{number}" + "x" * 7000)
        assert stream.next_data().startswith(str(number))
    deployment.wait_totals(subscribers=1)
    assert deployment.health()["status"] == "ok"


# --- the handlers' sockets --------------------------------------------------------------------------

INTRUSIONS = {
    "nothing": b"",
    "half a header": fastcgi.begin()[:3],
    "a header without content": fastcgi.begin()[:8],
    "BEGIN_REQUEST and nothing else": fastcgi.begin(),
    "half the parameters": fastcgi.request_bytes("GET", "/topics/alpha/events")[:60],
    "no empty PARAMS": fastcgi.begin() + fastcgi.record(fastcgi.PARAMS, fastcgi.pairs({"A": "b"})),
    "a body that does not come": fastcgi.request_bytes(
        "POST", "/topics/alpha/events", b"", CONTENT_LENGTH="100")[:-8],
    "GET_VALUES": fastcgi.record(fastcgi.GET_VALUES, fastcgi.pairs(
        {"FCGI_MAX_CONNS": "", "FCGI_MAX_REQS": "", "FCGI_MPXS_CONNS": ""}), 0),
    "GET_VALUES of 64 KB": fastcgi.record(fastcgi.GET_VALUES, b"\x01\x00a" * 21000, 0),
    "GET_VALUES with a long name": fastcgi.record(
        fastcgi.GET_VALUES, struct.pack(">II", 1 << 31 | 60000, 1 << 31) + b"n" * 60000, 0),
    "a management record of no type": fastcgi.record(99, b"x" * 500, 0),
    "HTTP": b"GET / HTTP/1.0\r\nHost: x\r\n\r\n",
    "zero bytes": b"\x00" * 4096,
    "another version": b"\x02" + fastcgi.begin()[1:],
    "PARAMS first": fastcgi.record(fastcgi.PARAMS, b"junk"),
    "STDIN first": fastcgi.record(fastcgi.STDIN, b"junk"),
    "END_REQUEST": fastcgi.record(fastcgi.END_REQUEST, b"\x00" * 8),
    "an unknown role": fastcgi.record(fastcgi.BEGIN_REQUEST, struct.pack(">HB5x", 99, 0)),
    "parameters that lie about their length": fastcgi.begin() + fastcgi.record(
        fastcgi.PARAMS, b"\xff\xff\xff\xff\xff\xff\xff\xffab") + fastcgi.record(fastcgi.PARAMS),
    "parameters that end in a length": fastcgi.begin() + fastcgi.record(
        fastcgi.PARAMS, b"\x05") + fastcgi.record(fastcgi.PARAMS),
    "no parameter at all": fastcgi.begin() + fastcgi.record(fastcgi.PARAMS)
                           + fastcgi.record(fastcgi.STDIN),
    "very many parameters": fastcgi.begin() + fastcgi.record(
        fastcgi.PARAMS, fastcgi.pairs({f"N{n}": "v" * 20 for n in range(2000)})[:65000]) * 10,
    "two requests at once": fastcgi.begin() + fastcgi.begin(request_id=2),
    "ABORT_REQUEST": fastcgi.begin() + fastcgi.record(fastcgi.ABORT_REQUEST),
}


@pytest.mark.parametrize("intrusion", INTRUSIONS.values(), ids=INTRUSIONS.keys())
@pytest.mark.parametrize("which", ["stream", "publish"])
def test_intruders_are_not_noticed(shared, which, intrusion):
    """While they are connected, others are served at once."""
    program = shared.streams[0] if which == "stream" else shared.publisher
    with contextlib.closing(shared.stream()) as stream:
        intruders = [program.connect() for _ in range(3)]
        for intruder in intruders:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                intruder.send(intrusion)
        started = time.monotonic()
        shared.publish("alpha", "undisturbed")
        assert stream.next_data(2) == "undisturbed"
        assert shared.request("HEAD", "/topics/beta/events").status == 200
        assert time.monotonic() - started < 0.5
        for intruder in intruders:
            intruder.close()
        assert program.is_running()


def test_intruders_end(running):
    """Whether they go or stay: after some seconds their descriptors are freed, and nothing spins."""
    programs = [running.streams[0], running.publisher]
    running.publish("alpha", 1)
    running.request("HEAD", "/topics/alpha/events")
    descriptors = [program.settled_fd_count() for program in programs]
    cpu = [program.cpu_seconds() for program in programs]
    stayed = []
    for program in programs:
        for intrusion in INTRUSIONS.values():
            gone = program.connect()
            stayed.append(running.keep(program.connect()))
            for intruder in (gone, stayed[-1]):
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    intruder.send(intrusion)
            gone.close()
    def are_freed():
        return [program.fd_count() for program in programs] == descriptors
    wait_for(are_freed, lambda: f"{[program.fd_count() for program in programs]} descriptors,"
                                f" once {descriptors}", 8)
    assert all(program.cpu_seconds() - before < 0.5 for program, before in zip(programs, cpu))
    for intruder in stayed:
        intruder.wait_closed(1)


@pytest.mark.parametrize("intrusion", ["nothing", "half a header", "half the parameters",
                                       "a body that does not come"])
def test_silent_peers_do_not_use_up_the_publisher(deploy, database, intrusion):
    running = deploy(database.url, graceful_drain="500ms").start()
    stream = running.stream()
    for _ in range(100):
        running.keep(running.publisher.connect()).send(INTRUSIONS[intrusion])
    started = time.monotonic()
    running.publish("alpha", 1)
    assert stream.next_data() == 1
    assert time.monotonic() - started < 0.5


@pytest.mark.parametrize("which", ["stream", "publish"])
@pytest.mark.parametrize("size", [3, 8, 61])
def test_a_request_in_pieces_is_understood(shared, which, size):
    program = shared.streams[0] if which == "stream" else shared.publisher
    method, body = ("HEAD", b"") if which == "stream" else ("POST", b'{"data":1}')
    connection = shared.keep(program.connect())
    request = fastcgi.request_bytes(method, "/topics/alpha/events", body)
    for at in range(0, len(request), size):
        with contextlib.suppress(BrokenPipeError):  # a stream handler does not wait for STDIN's end
            connection.send(request[at:at + size])
        time.sleep(0.001)
    connection.answer()
    assert connection.status == 200 and connection.end_status == (0, 0)


def test_a_large_body_in_pieces_is_understood(shared):
    connection = shared.keep(shared.publisher.connect())
    request = fastcgi.request_bytes("POST", "/topics/alpha/events",
                                    b'{"data":1' + b" " * 200_000 + b"}")
    for at in range(0, len(request), 1000):
        connection.send(request[at:at + 1000])
    connection.answer()
    assert connection.status == 200 and connection.end_status == (0, 0)


def test_a_request_that_asks_to_keep_the_connection(shared):
    """The flag of other web servers; the answer is whole in any case."""
    connection = shared.keep(shared.publisher.connect())
    connection.send(fastcgi.request_bytes("POST", "/topics/alpha/events", b'{"data":1}',
                                          flags=fastcgi.KEEP_CONNECTION))
    connection.answer()
    assert connection.status == 200 and connection.end_status == (0, 0)


def test_another_request_id(shared):
    connection = shared.keep(shared.streams[0].connect())
    params = fastcgi.pairs({"REQUEST_METHOD": "HEAD", "REQUEST_URI": "/topics/alpha/events"})
    connection.send(fastcgi.begin(request_id=300)
                    + fastcgi.record(fastcgi.PARAMS, params, 300)
                    + fastcgi.record(fastcgi.PARAMS, b"", 300)
                    + fastcgi.record(fastcgi.STDIN, b"", 300))
    connection.answer()
    assert connection.status == 200
    assert {record.request_id for record in connection.records} == {300}
