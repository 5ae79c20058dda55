"""A stream handler and a broker that a test makes by hand: what the handler says, and what it does
with what no broker should say."""

import contextlib
import json
import socket
import struct

import pytest

import wire
from waiting import wait_for

MARKER = "abcdefghijklm"


def position(since, marker=MARKER):
    return wire.position(marker, since)


class Broker:
    """Listens on broker.sock and talks to one handler at a time."""

    def __init__(self, deployment):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(5)
        self._listener.bind(str(deployment.broker_socket))
        self._listener.listen(5)
        self.peer = None
        self.resumed = None

    def accept(self, greeting=None):
        """The handler has come, said HELLO and RESUME, and is greeted."""
        if self.peer is not None:
            self.peer.close()
        connection, _ = self._listener.accept()
        connection.settimeout(5)
        self.peer = wire.Handler.__new__(wire.Handler)
        self.peer.socket, self.peer._input = connection, b""
        body = wire.Reader(self.peer.next_of(wire.HELLO))
        assert (body.number("I"), body.number("H")) == (wire.MAGIC, wire.VERSION)
        self.send(greeting if greeting is not None else welcome())
        if greeting is None:
            self.resumed = self._take_resume()
        return self

    def _take_resume(self):
        """(position kind, (D, M, S), {topic: live clients})."""
        body = wire.Reader(self.peer.next_of(wire.RESUME))
        is_last, kind, place = body.number("B"), body.number("B"), body.position()
        entries = body.entries()
        assert is_last == 1 and body.body == b""
        return kind, place, entries

    def send(self, data):
        self.peer.socket.sendall(data)

    def accept_subscription(self, since=1, follows=b""):
        """Answers the next SUBSCRIBE; returns (token, position kind, topics)."""
        body = wire.Reader(self.peer.next_of(wire.SUBSCRIBE))
        token, form, kind = body.number("Q"), body.number("B"), body.number("B")
        body.position()
        user = body.text()
        names = body.topics()
        assert (form, user, body.body) == (wire.OF_TOPICS, b"", b"")
        self.send(accepted(token, since, bool(follows), *names))
        if follows:
            self.send(refresh(token, since, follows))
        self.send(subscribed(token, since))
        return token, kind, names

    def close(self):
        self._listener.close()
        if self.peer is not None:
            self.peer.close()


def welcome(magic=wire.MAGIC, version=wire.VERSION):
    return wire.frame(wire.WELCOME, struct.pack("<IHI", magic, version, 1))


def accepted(token, since, follows=True, *names):
    return wire.frame(wire.ACCEPTED, struct.pack("<QB", token, follows) + position(since)
                      + wire.topics(*(names or ("alpha",))))


def subscribed(token, since):
    return wire.frame(wire.SUBSCRIBED, struct.pack("<Q", token) + position(since))


def refresh(token, since, reason, topic="", is_durable=0):
    return wire.frame(wire.REFRESH, struct.pack("<QB", token, is_durable) + wire.topic(topic)
                      + position(since) + struct.pack("<BQ", reason[0], 7))


def event_body(since, topic="alpha", body=b"event: message\ndata: 1\n\n", publisher_id="",
               id_at=0, is_durable=0):
    return (struct.pack("<B", is_durable) + position(since) + wire.topic(topic)
            + wire.text(publisher_id) + struct.pack("<I", id_at) + wire.text(body))


def event(*what, **how):
    return wire.frame(wire.EVENT, event_body(*what, **how))


def replay(token, *what, **how):
    return wire.frame(wire.REPLAY, struct.pack("<Q", token) + event_body(*what, **how))


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
    assert greeting.raw.endswith(f"\n: listening alpha\nevent: position\nid: 0.{MARKER}.4\n"
                                 f'data: {{"position":"0.{MARKER}.4"}}\n\n'.encode())
    hand.send(event(5) + event(6, topic="beta") + event(
        7, body=b": note\nevent: e\ndata: 2\n\n", publisher_id="own", id_at=7))
    assert stream.next_block().raw == f"id: 0.{MARKER}.5\nevent: message\ndata: 1\n\n".encode()
    assert stream.next_block().raw == \
        f": note\nid: 0.{MARKER}.7~own\nevent: e\ndata: 2\n\n".encode()
    stream.close()
    body = wire.Reader(hand.peer.next_of(wire.UNSUBSCRIBE))
    assert (body.number("Q"), body.number("B")) == (0, wire.OF_TOPICS)
    assert body.body == wire.topics("alpha")


def subscription_of(hand):
    """(token, position kind, (D, M, S)) of the next SUBSCRIBE, unanswered."""
    body = wire.Reader(hand.peer.next_of(wire.SUBSCRIBE))
    token, _, kind = body.number("Q"), body.number("B"), body.number("B")
    return token, kind, body.position()


def test_a_replay_from_end_to_end(by_hand):
    hand = by_hand.hand.accept()
    stream = by_hand.keep(by_hand.streams[0].connect())
    stream.ask("GET", "/topics/alpha/events", HTTP_LAST_EVENT_ID=f"0.{MARKER}.4~own")
    token, kind, place = subscription_of(hand)
    assert kind == wire.KNOWN_POSITION and place == (0, MARKER.encode(), 4)
    other = token + 1000
    hand.send(accepted(token, 9) + event(5) + replay(token, 6, publisher_id="own")
              + replay(other, 6) + replay(token, 6, topic="beta"))
    assert stream.next_block().raw.endswith(b"\n: listening alpha\n")
    assert stream.next_block().raw == \
        f"id: 0.{MARKER}.6~own\nevent: message\ndata: 1\n\n".encode()
    hand.send(event(9) + refresh(token, 8, b"\x02") + subscribed(token, 9) + event(10))
    assert stream.next_block().event == "refresh"
    assert stream.next_block().place[2] == 10  # what came before SUBSCRIBED was for others


def test_who_asked_for_all_that_is_kept_is_told_of_the_next_broker(by_hand):
    """Nothing but the news that something had left the log has come when the broker goes: what the
    next one keeps may be less than what was published since."""
    hand = by_hand.hand.accept()
    stream = by_hand.keep(by_hand.streams[0].connect())
    stream.ask("GET", "/topics/alpha/events", HTTP_LAST_EVENT_ID="0")
    token, kind, _ = subscription_of(hand)
    assert kind == wire.ALL_POSITION
    hand.send(accepted(token, 9)
              + wire.frame(wire.REFRESH, struct.pack("<QB", token, 0) + wire.text("")
                           + wire.no_position() + struct.pack("<BQ", 2, 2 ** 64 - 1)))
    stream.next_event()
    hand.accept()
    token, kind, _ = subscription_of(hand)
    assert kind == wire.NO_POSITION
    hand.send(accepted(token, 9, False))
    refresh = stream.next_event()
    assert refresh.event == "refresh" and json.loads(refresh.data)["reason"] == "gap"


def test_credit_is_renewed_as_the_client_drains(by_hand):
    hand = by_hand.hand.accept()
    stream = by_hand.keep(by_hand.streams[0].connect())
    stream.ask("GET", "/topics/alpha/events", HTTP_LAST_EVENT_ID="0")
    token, kind, _ = subscription_of(hand)
    assert kind == wire.ALL_POSITION
    body = b"data: " + b"x" * 10_000 + b"\n\n"
    hand.send(accepted(token, 1000))
    sent = granted = 0
    for since in range(1, 101):  # 1 MB, and never more under way than was granted
        frame = replay(token, since, body=body)
        while sent >= wire.CREDIT_BYTES + granted:
            credit = wire.Reader(hand.peer.next_of(wire.CREDIT))
            assert credit.number("Q") == token
            granted += credit.number("I")
        hand.send(frame)
        sent += len(frame) - 5
        stream.next_event()
    assert sent - 2 * wire.CREDIT_BYTES < granted <= sent


def test_who_does_not_read_gets_no_credit(by_hand):
    """So that what waits for it stays bounded."""
    hand = by_hand.hand.accept()
    stream = by_hand.keep(by_hand.streams[0].connect())
    stream.ask("GET", "/topics/alpha/events", HTTP_LAST_EVENT_ID="0")
    token, _, _ = subscription_of(hand)
    hand.send(accepted(token, 1000))
    body = b"data: " + b"x" * 10_000 + b"\n\n"
    sent, allowed = [], wire.CREDIT_BYTES
    hand.peer.socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        while True:
            while sum(sent) >= allowed:
                allowed += wire.Reader(hand.peer.next_of(wire.CREDIT)[8:]).number("I")
            frame = replay(token, len(sent) + 1, body=body)
            hand.send(frame)
            sent.append(len(frame) - 5)
    assert sum(sent) < 800_000
    hand.peer.socket.settimeout(5)
    for _ in sent:
        stream.next_event()
    assert wire.Reader(hand.peer.next_of(wire.CREDIT)).number("Q") == token


def test_the_broker_goes_in_mid_replay(by_hand):
    """It subscribes anew, behind the last that was queued, with a token of its own."""
    hand = by_hand.hand.accept()
    stream = by_hand.keep(by_hand.streams[0].connect())
    stream.ask("GET", "/topics/alpha/events", HTTP_LAST_EVENT_ID=f"0.{MARKER}.4")
    token, _, _ = subscription_of(hand)
    hand.send(accepted(token, 9) + replay(token, 6) + replay(token, 7))
    assert [stream.next_event().place[2] for _ in range(2)] == [6, 7]
    hand.accept()
    assert hand.resumed[2] == {}  # it was not live
    again, kind, place = subscription_of(hand)
    assert again != token and kind == wire.KNOWN_POSITION and place == (0, MARKER.encode(), 7)
    hand.send(accepted(again, 9) + replay(token, 8) + replay(again, 8) + subscribed(again, 8))
    hand.send(event(9))
    assert [stream.next_block().place[2] for _ in range(2)] == [8, 9]  # it was greeted before


def test_a_broker_that_goes_often_gives_no_credit_to_who_does_not_read(by_hand):
    """In mid-replay: it asks anew when it has read what waits for it, not before."""
    hand = by_hand.hand.accept()
    stream = by_hand.keep(by_hand.streams[0].connect())
    stream.ask("GET", "/topics/alpha/events", HTTP_LAST_EVENT_ID="0")
    token, _, _ = subscription_of(hand)
    hand.send(accepted(token, 1000))
    body = b"data: " + b"x" * 10_000 + b"\n\n"
    count = sent = 0
    allowed = wire.CREDIT_BYTES
    hand.peer.socket.settimeout(0.3)
    with contextlib.suppress(TimeoutError):
        while True:
            while sent >= allowed:
                allowed += wire.Reader(hand.peer.next_of(wire.CREDIT)[8:]).number("I")
            count += 1
            frame = replay(token, count, body=body)
            hand.send(frame)
            sent += len(frame) - 5
    for _ in range(10):
        hand.accept()
        assert hand.resumed[2] == {}
        hand.peer.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            subscription_of(hand)
    hand.peer.socket.settimeout(5)
    assert [stream.next_event().place[2] for _ in range(count)] == list(range(1, count + 1))
    token, kind, place = subscription_of(hand)
    assert (kind, place) == (wire.KNOWN_POSITION, (0, MARKER.encode(), count))
    hand.send(accepted(token, 1000) + replay(token, count + 1) + subscribed(token, 1000))
    assert stream.next_event().place[2] == count + 1


def test_a_resume_tells_the_last_position_and_who_is_live(by_hand):
    """Those who wait are no part of it: they ask anew."""
    hand = by_hand.hand.accept()
    assert hand.resumed[0] == wire.NO_POSITION and hand.resumed[2] == {}
    streams = [ask(by_hand, topic) for topic in ("alpha", "alpha", "beta")]
    for since in (3, 4, 5):
        hand.accept_subscription(since=since)
    for stream in streams:
        stream.next_block()
    waiting = ask(by_hand, "gamma")
    subscription_of(hand)
    hand.send(event(7))
    for stream in streams[:2]:
        assert stream.next_block().place[2] == 7
    hand.accept()
    assert hand.resumed == (wire.KNOWN_POSITION, (0, MARKER.encode(), 7), {"alpha": 2, "beta": 1})
    hand.send(event(8) + refresh(0, 9, b"\x02", topic="alpha") + event(10) + event(10, topic="beta"))
    for stream in streams[:2]:
        assert [stream.next_block().place[2] for _ in range(3)] == [8, 9, 10]
    assert streams[2].next_block().place[2] == 10  # another topic's refresh is not for it
    token, kind, _ = subscription_of(hand)
    hand.send(accepted(token, 10, False, "gamma") + subscribed(token, 10))
    assert waiting.next_block().data is None


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
              + accepted(other, 2, False) + subscribed(other, 2)
              + refresh(other, 2, b"\x02")
              + wire.frame(wire.REFUSED, struct.pack("<QH", other, 500) + wire.text("no"))
              + wire.frame(wire.DOCUMENT, struct.pack("<QH", other, 200) + wire.text("{}"))
              + event(3))
    assert stream.next_block().place[2] == 3


@pytest.mark.parametrize("garbage", [
    b"\xff" * 64, wire.frame(60), wire.frame(wire.EVENT), wire.frame(wire.EVENT, b"x" * 30),
    event(2, id_at=9999), wire.frame(wire.SUBSCRIBED, b"1"), wire.frame(wire.ACCEPTED, b"\x01" * 9),
    wire.frame(wire.HELLO, struct.pack("<IHI", wire.MAGIC, wire.VERSION, 1)), welcome(),
    struct.pack("<IB", 0xFFFFFFFF, wire.EVENT), refresh(0, 2, b"\x63"), event(2)[:-1] + b"",
    accepted(0, 2, 2), wire.frame(wire.ACCEPTED, accepted(0, 2)[5:] + b"x"), event(2, is_durable=4),
    replay(0, 2, is_durable=4), refresh(0, 2, b"\x01", is_durable=2),
    wire.frame(wire.RECHECK), wire.ask_document(wire.SHORT_HEALTH, 1),
    wire.frame(wire.GOODBYE, wire.text("tired of you")), b"",
], ids=["ff", "type 60", "no EVENT", "bad EVENT", "id_at", "SUBSCRIBED", "ACCEPTED", "HELLO",
        "WELCOME again", "huge", "reason", "half a frame", "follows", "ACCEPTED and more",
        "durable EVENT", "durable REPLAY", "durable REFRESH", "no RECHECK", "a handler's question",
        "GOODBYE", "nothing"])
def test_a_broker_that_talks_nonsense_is_left_and_its_clients_are_kept(by_hand, garbage):
    hand = by_hand.hand.accept()
    stream = ask(by_hand)
    hand.accept_subscription()
    stream.read_headers().next_block()
    hand.send(garbage)
    if garbage in (b"", event(2)[:-1]) or garbage[4:5] == bytes([wire.GOODBYE]):
        hand.peer.close()  # otherwise it is the handler that ends this
    hand.accept()
    assert hand.resumed == (wire.KNOWN_POSITION, (0, MARKER.encode(), 1), {"alpha": 1})
    hand.send(refresh(0, 0, b"\x01"))
    block = stream.next_event()
    assert block.event == "refresh"
    assert block.json() == {"reason": "restart", "dropped": 7, "topics": ["alpha"]}
    hand.send(event(1))
    assert stream.next_block().event == "message"


@pytest.mark.parametrize("greeting", [welcome(version=wire.VERSION + 1), welcome(version=wire.VERSION - 1)])
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
