"""A stream handler and a broker that a test makes by hand: what the handler says, and what it does
with what no broker should say."""

import contextlib
import socket
import struct

import pytest

import wire
from waiting import wait_for

MARKER = "abcdefghijklm"


def position(since, marker=MARKER):
    return struct.pack("<Q", 0) + wire.text(marker) + struct.pack("<Q", since)


class Broker:
    """Listens on broker.sock and talks to one handler at a time."""

    def __init__(self, deployment):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(5)
        self._listener.bind(str(deployment.broker_socket))
        self._listener.listen(5)
        self.peer = None

    def accept(self, greeting=None):
        """The handler has come, said HELLO, and is greeted."""
        if self.peer is not None:
            self.peer.close()
        connection, _ = self._listener.accept()
        connection.settimeout(5)
        self.peer = wire.Handler.__new__(wire.Handler)
        self.peer.socket, self.peer._input = connection, b""
        body = wire.Reader(self.peer.next_of(wire.HELLO))
        assert (body.number("I"), body.number("H")) == (wire.MAGIC, wire.VERSION)
        self.send(greeting if greeting is not None else welcome())
        return self

    def send(self, data):
        self.peer.socket.sendall(data)

    def accept_subscription(self, since=1, follows=b""):
        """Answers the next SUBSCRIBE; returns (token, position kind, topics)."""
        body = wire.Reader(self.peer.next_of(wire.SUBSCRIBE))
        token, form, kind = body.number("Q"), body.number("B"), body.number("B")
        body.position()
        user, tenant = body.text(), body.text()
        names = [body.text().decode() for _ in range(body.number("H"))]
        assert (form, user, tenant, body.body) == (0, b"", b"", b"")
        self.send(wire.frame(wire.ACCEPTED, struct.pack("<QB", token, bool(follows))
                             + position(since)))
        if follows:
            self.send(refresh(token, since, follows))
        self.send(wire.frame(wire.SUBSCRIBED, struct.pack("<Q", token) + position(since)))
        return token, kind, names

    def close(self):
        self._listener.close()
        if self.peer is not None:
            self.peer.close()


def welcome(magic=wire.MAGIC, version=wire.VERSION):
    return wire.frame(wire.WELCOME, struct.pack("<IHI", magic, version, 1))


def refresh(token, since, reason):
    return wire.frame(wire.REFRESH, struct.pack("<Q", token) + position(since)
                      + struct.pack("<BQ", reason[0], 7))


def event(since, topic="alpha", body=b"event: message\ndata: 1\n\n", publisher_id="", id_at=0):
    return wire.frame(wire.EVENT, position(since) + wire.text(topic) + wire.text(publisher_id)
                      + struct.pack("<I", id_at) + wire.text(body))


@pytest.fixture
def by_hand(deploy):
    """A handler, and a broker that waits for it."""
    deployment = deploy(None, keep_alive="60s")
    broker = Broker(deployment)
    deployment.start_stream()
    deployment.hand = broker
    with contextlib.closing(broker):
        yield deployment


def ask(deployment, topic="alpha"):
    return deployment.keep(deployment.streams[0].connect()).ask("GET", f"/topics/{topic}/events")


def test_a_stream_from_end_to_end(by_hand):
    hand = by_hand.hand.accept()
    stream = ask(by_hand)
    token, kind, names = hand.accept_subscription(since=4)
    assert token != 0 and kind == 0 and names == ["alpha"]
    stream.read_headers()
    greeting = stream.next_block()
    assert greeting.raw.endswith(f"\n: listening alpha\nid: 0.{MARKER}.4\n\n".encode())
    hand.send(event(5) + event(6, topic="beta") + event(
        7, body=b": note\nevent: e\ndata: 2\n\n", publisher_id="own", id_at=7))
    assert stream.next_block().raw == f"id: 0.{MARKER}.5\nevent: message\ndata: 1\n\n".encode()
    assert stream.next_block().raw == \
        f": note\nid: 0.{MARKER}.7~own\nevent: e\ndata: 2\n\n".encode()
    stream.close()
    body = wire.Reader(hand.peer.next_of(wire.UNSUBSCRIBE))
    body.number("Q")
    assert body.body == wire.topics("alpha")


def test_refused_is_answered_with_its_status(by_hand):
    hand = by_hand.hand.accept()
    stream = ask(by_hand)
    token = wire.Reader(hand.peer.next_of(wire.SUBSCRIBE)).number("Q")
    hand.send(wire.frame(wire.REFUSED, struct.pack("<QH", token, 403) + wire.text("not yours")))
    stream.answer()
    assert stream.status == 403 and b"not yours" in stream.raw
    assert stream.end_status == (0, 0)


def test_frames_in_single_bytes_are_understood(by_hand):
    hand = by_hand.hand.accept()
    stream = ask(by_hand)
    hand.accept_subscription()
    stream.read_headers().next_block()
    for byte in event(2) + event(3):
        hand.send(bytes([byte]))
    assert [stream.next_block().place[2] for _ in range(2)] == [2, 3]


def test_frames_for_nobody_are_dropped(by_hand):
    hand = by_hand.hand.accept()
    stream = ask(by_hand)
    token, _, _ = hand.accept_subscription()
    stream.read_headers().next_block()
    other = token + 1000
    hand.send(event(2, topic="nobody's")
              + wire.frame(wire.ACCEPTED, struct.pack("<QB", other, 0) + position(2))
              + wire.frame(wire.SUBSCRIBED, struct.pack("<Q", other) + position(2))
              + refresh(other, 2, b"\x02")
              + wire.frame(wire.REFUSED, struct.pack("<QH", other, 500) + wire.text("no"))
              + wire.frame(wire.HEALTH, struct.pack("<QH", other, 200) + wire.text("{}"))
              + event(3))
    assert stream.next_block().place[2] == 3


@pytest.mark.parametrize("garbage", [
    b"\xff" * 64, wire.frame(60), wire.frame(wire.EVENT), wire.frame(wire.EVENT, b"x" * 30),
    event(2, id_at=9999), wire.frame(wire.SUBSCRIBED, b"1"), wire.frame(wire.ACCEPTED, b"\x01" * 9),
    wire.frame(wire.HELLO, struct.pack("<IHI", wire.MAGIC, wire.VERSION, 1)), welcome(),
    struct.pack("<IB", 0xFFFFFFFF, wire.EVENT), refresh(0, 2, b"\x63"), event(2)[:-1] + b"",
    wire.frame(wire.GOODBYE, wire.text("tired of you")), b"",
], ids=["ff", "type 60", "no EVENT", "bad EVENT", "id_at", "SUBSCRIBED", "ACCEPTED", "HELLO",
        "WELCOME again", "huge", "reason", "half a frame", "GOODBYE", "nothing"])
def test_a_broker_that_talks_nonsense_is_left_and_its_clients_are_kept(by_hand, garbage):
    hand = by_hand.hand.accept()
    stream = ask(by_hand)
    hand.accept_subscription()
    stream.read_headers().next_block()
    hand.send(garbage)
    if garbage in (b"", event(2)[:-1]) or garbage[4:5] == bytes([wire.GOODBYE]):
        hand.peer.close()  # otherwise it is the handler that ends this
    hand.accept()
    _, kind, names = hand.accept_subscription(since=0, follows=b"\x01")
    assert names == ["alpha"] and kind == 3  # from where it is
    block = stream.next_event()
    assert block.event == "refresh"
    assert block.json() == {"reason": "restart", "dropped": 7, "topics": ["alpha"]}
    hand.send(event(1))
    assert stream.next_block().event == "message"


@pytest.mark.parametrize("greeting", [welcome(version=2), welcome(version=0)])
def test_another_version_ends_the_streams_and_the_handler(by_hand, greeting):
    """So that the web server starts the one that fits."""
    hand = by_hand.hand.accept()
    stream = ask(by_hand)
    hand.accept_subscription()
    stream.read_headers().next_block()
    with contextlib.suppress(OSError):
        hand.accept(greeting)
    blocks = stream.read_to_end()
    assert blocks[-1].event == "close" and blocks[-1].id is None
    assert stream.end_status == (0, 0)
    handler = by_hand.streams[0]
    wait_for(lambda: not handler.is_running(), "it exits")
    assert handler.process.returncode >= 0
    handler.expected = {handler.process.returncode}


def test_who_is_no_broker_is_left(by_hand):
    """Not even its greeting is one: the handler goes on trying, and keeps its clients."""
    stream = ask(by_hand)
    for greeting in (welcome(magic=1), b"HTTP/1.1 200 OK\r\n\r\n", wire.frame(wire.WELCOME)):
        by_hand.hand.accept(greeting)
    hand = by_hand.hand.accept()
    hand.accept_subscription()
    stream.read_headers()
    assert stream.next_block().retry
    assert by_hand.streams[0].is_running()
