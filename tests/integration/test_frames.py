"""What a stream looks like, byte for byte."""

import json
import re
import time

import pytest

OPENING = re.compile(rb"retry: (\d+)\n: listening alpha\nevent: position\n"
                     rb"id: (0\.[0-9a-z]{13}\.\d+)\ndata: \{\"position\":\"\2\"\}\n\n")


class Frames:
    """One stream, and what each NOTIFY makes of it."""

    def __init__(self, deployment):
        self.stream = deployment.stream()
        self._database = deployment.database
        self._place = self.stream.greeting.place

    def frame_of(self, payload):
        """The frame that this NOTIFY brings, with ID for its id as far as it is the position."""
        self._database.notify("topic_broadcast_0", payload)
        durable, marker, since = self._place
        self._place = durable, marker, since + 1
        block = self.stream.next_block()
        own = f"id: {durable}.{marker}.{since + 1}".encode()
        assert block.raw.count(own) == 1, (block, own)
        return block.raw.replace(own, b"ID")


@pytest.fixture(scope="module")
def frames(shared):
    return Frames(shared)


@pytest.fixture
def streaming(deploy, database):
    """No publish handler: these events come by NOTIFY."""
    deployment = deploy(database.url).start(publisher=False)
    deployment.database = database
    return deployment


def test_headers_of_a_stream(streaming):
    stream = streaming.stream()
    assert stream.status == 200
    assert stream.header("Content-Type") == "text/event-stream; charset=utf-8"
    assert stream.header("Cache-Control") == "no-cache, no-transform"
    assert stream.header("X-Accel-Buffering") == "no"
    assert stream.header("Incremental") == "?1"
    assert stream.header("Content-Length") is None
    servers = {"content-type", "cache-control", "x-accel-buffering", "incremental", "date", "server",
               "transfer-encoding", "connection"}
    assert {name for name, _ in stream.headers} <= servers, stream.headers


def test_the_opening(streaming):
    """A client that came without a position is given one; another is given lines alone."""
    stream = streaming.stream(greeted=False)
    opening = OPENING.fullmatch(stream.next_block().raw)
    stream.silence(0.2)
    back = streaming.stream(headers={"Last-Event-ID": opening[2].decode()}, greeted=False)
    assert re.fullmatch(rb"retry: \d+\n: listening alpha\n", back.next_block().raw)
    back.silence(0.2)


def test_retry_is_jittered_by_a_fifth(deploy, database):
    deployment = deploy(database.url, retry="1000").start(publisher=False)
    values = {int(deployment.stream().greeting.retry) for _ in range(20)}
    assert all(800 <= value <= 1200 for value in values), values
    assert len(values) > 1


def test_an_event_is_id_type_data(streaming):
    stream = streaming.stream()
    _, marker, since = stream.greeting.place
    streaming.database.publish("alpha", {"n": 1})
    block = stream.next_block()
    assert block.raw == f'id: 0.{marker}.{since + 1}\nevent: message\ndata: {{"n":1}}\n\n'.encode()


def test_all_of_a_stream_is_frames(streaming):
    """Nothing stands between the frames: the whole body is predicted."""
    stream = streaming.stream()
    _, marker, since = stream.greeting.place
    expected = stream.greeting.raw
    for number in range(1, 51):
        streaming.database.publish("alpha", number)
        expected += f"id: 0.{marker}.{since + number}\nevent: message\ndata: {number}\n\n".encode()
    for _ in range(50):
        stream.next_block()
    assert stream.raw == expected


@pytest.mark.parametrize("envelope, frame", [
    ({"event": "created"}, "ID\nevent: created\ndata: 1\n\n"),
    ({"event": ""}, "ID\nevent: message\ndata: 1\n\n"),
    ({"event": None}, "ID\nevent: message\ndata: 1\n\n"),
    ({"event": "é: x"}, "ID\nevent: é: x\ndata: 1\n\n"),
    ({"event": "t" * 255}, "ID\nevent: " + "t" * 255 + "\ndata: 1\n\n"),
    ({"id": "own-1"}, "ID~own-1\nevent: message\ndata: 1\n\n"),
    ({"id": "A-z_0.9" + "i" * 57}, "ID~A-z_0.9" + "i" * 57 + "\nevent: message\ndata: 1\n\n"),
    ({"retry": 0}, "ID\nevent: message\nretry: 0\ndata: 1\n\n"),
    ({"retry": 3600000}, "ID\nevent: message\nretry: 3600000\ndata: 1\n\n"),
    ({"comment": "look"}, ": look\nID\nevent: message\ndata: 1\n\n"),
    ({"comment": "a\nb\r\nc\rd"}, ": a\n: b\n: c\n: d\nID\nevent: message\ndata: 1\n\n"),
    ({"comment": "x\ndata: 2\n\nid: 3"},
     ": x\n: data: 2\n:\n: id: 3\nID\nevent: message\ndata: 1\n\n"),
    ({"event": "e", "id": "i", "retry": 7, "comment": "c"},
     ": c\nID~i\nevent: e\nretry: 7\ndata: 1\n\n"),
    ({"nonce": "n1"}, "ID\nevent: message\ndata: 1\n\n"),
    ({"unknown": {"deep": [1]}}, "ID\nevent: message\ndata: 1\n\n"),
    ({"text": False}, "ID\nevent: message\ndata: 1\n\n"),
])
def test_keys_of_the_envelope(frames, envelope, frame):
    block = frames.frame_of(json.dumps({"topic": "alpha", "data": 1, **envelope},
                                       ensure_ascii=False))
    assert block == frame.encode()


@pytest.mark.parametrize("text, lines", [
    ("one", ["data: one"]),
    ("", ["data:"]),
    ("a\nb", ["data: a", "data: b"]),
    ("a\rb\r\nc\n\nd", ["data: a", "data: b", "data: c", "data:", "data: d"]),
    ("a\n", ["data: a", "data:"]),
    (" leads", ["data:  leads"]),
    ("a\n\nevent: forged\nid: 9", ["data: a", "data:", "data: event: forged", "data: id: 9"]),
    ("quote\" \\ é \U0001f600 \u2028", ["data: quote\" \\ é \U0001f600 \u2028"]),
])
def test_text_is_split_into_lines(frames, text, lines):
    """"text":true: the string itself, not its JSON."""
    block = frames.frame_of(json.dumps({"topic": "alpha", "data": text, "text": True}))
    assert block.decode() == "ID\nevent: message\n" + "\n".join(lines) + "\n\n"


@pytest.mark.parametrize("sent, data", [
    ('"a\\nb"', '"a\\nb"'),  # a string is sent as JSON, so it is one line
    ("null", "null"),
    ("[]", "[]"),
    ('""', '""'),
    (' { "a" : [ 1 , 2 ] , "b":"x  y" } ', '{"a":[1,2],"b":"x  y"}'),
    ("{\n\t\"a\":\r\n1}", '{"a":1}'),
    ('{"n":123456789012345678901234567890,"x":1.0,"s":"é\\u0000<","k":1,"k":2}',) * 2,
    ("-0.0e-10", "-0.0e-10"),
    ('"\\/\\ud83d\\ude00\\u00e9"', '"\\/\\ud83d\\ude00\\u00e9"'),
    ("[" * 100 + "]" * 100,) * 2,
])
def test_data_is_compacted_and_nothing_else(frames, sent, data):
    block = frames.frame_of('{"topic":"alpha","data":' + sent + "}")
    assert block.decode() == f"ID\nevent: message\ndata: {data}\n\n"


def test_the_last_of_duplicate_keys_wins(frames):
    block = frames.frame_of('{"topic":"beta","data":1,"event":"a","topic":"alpha","data":2,'
                            '"event":"b"}')
    assert block == b"ID\nevent: b\ndata: 2\n\n"


def test_a_heartbeat_is_a_line(deploy, database):
    deployment = deploy(database.url, keep_alive="200ms").start(publisher=False)
    stream = deployment.stream()
    for _ in range(3):
        assert stream.next_block().raw == b": heartbeat\n"
    database.publish("alpha", 1)
    assert stream.next_event().raw.startswith(b"id: ")


def test_a_heartbeat_that_a_script_can_see(deploy, database):
    deployment = deploy(database.url, keep_alive="200ms").start(publisher=False)
    stream = deployment.stream(query="heartbeat=event")
    _, marker, since = stream.greeting.place
    database.publish("beta", 1)  # moves the position, and nobody here gets it
    wanted = [f'event: position\nid: 0.{marker}.{since + moved}\n'
              f'data: {{"position":"0.{marker}.{since + moved}"}}\n\n'.encode() for moved in (0, 1)]
    seen = [stream.next_block().raw for _ in range(6)]
    assert set(seen) <= set(wanted) and seen[-1] == wanted[1], seen


def test_a_quiet_stream_is_told_how_far_it_is(deploy, database):
    """Once in position_interval, if there is anything to tell."""
    deployment = deploy(database.url, keep_alive="100ms", position_interval="400ms",
                        canary_interval="1h").start(publisher=False)
    stream = deployment.stream()
    _, marker, since = stream.greeting.place
    database.publish("beta", 1)
    blocks = [stream.next_block() for _ in range(20)]
    positions = [block for block in blocks if block.event == "position"]
    assert [block.id for block in positions] == [f"0.{marker}.{since + 1}"]
    assert all(block.raw == b": heartbeat\n" for block in blocks if block not in positions)
    assert blocks.index(positions[0]) >= 2


def test_heartbeats_come_in_silence_only(deploy, database):
    deployment = deploy(database.url, keep_alive="400ms").start(publisher=False)
    stream = deployment.stream()
    end = time.monotonic() + 1
    while time.monotonic() < end:
        database.publish("alpha", 1)
        assert stream.next_block().data == "1"
        time.sleep(0.05)
    started = time.monotonic()
    assert stream.next_block().comments == ["heartbeat"]
    assert 0.2 < time.monotonic() - started < 0.9
