"""gzip: clients that accept it get it, decode each event as soon as it arrives, and have the same events
as those that do not."""

import base64
import json
import random
import signal
import subprocess
import time

import pytest

import apache
import deployment as deployments
import fastcgi
import program
from apache import Apache
from durable_api import change, publish as publish_durable
from schema import install
from source import Source
from waiting import wait_for
from web import HttpStream

GZIP = {"Accept-Encoding": "gzip, deflate, br"}
PATH = "/topics/alpha/events"


def compressed(running, topic="alpha", **headers):
    stream = running.stream(topic, {**GZIP, **headers})
    assert stream.header("content-encoding") == "gzip"
    return stream


def numbers(stream, count):
    return [stream.next_data() for _ in range(count)]


# --- who gets it ---------------------------------------------------------------------------------

@pytest.mark.parametrize("accepted, has_gzip", [
    ("gzip", True), ("gzip, deflate, br, zstd", True), ("x-gzip", True), ("*", True),
    ("GZIP;q=0.1", True), ("identity;q=0.5, gzip", True), ("br;q=1, *;q=0.1", True),
    (None, False), ("", False), ("identity", False), ("br, deflate", False), ("gzip;q=0", False),
    ("gzip;q=0.000, *", False), ("*;q=0", False), ("identity, gzip;q=0.5", False),
    ("gzip;q=banana", False), (";;;,,,=,gzip;q=2", False), ("\xff\xfe", False),
])
def test_who_gets_it(shared, accepted, has_gzip):
    headers = {} if accepted is None else {"Accept-Encoding": accepted}
    stream = shared.keep(HttpStream(shared.port, PATH, headers))
    assert (stream.header("content-encoding"), stream.header("vary")) == (
        ("gzip", "Accept-Encoding") if has_gzip else (None, None))
    assert "listening alpha" in stream.next_block().comments
    head = shared.request("HEAD", PATH, headers=headers)
    told = dict(head.headers)
    assert told.pop("pgsse-position") and head.body == b""
    passing = {"date", "server", "transfer-encoding", "content-length",
               "accept-ranges"}  # lighttpd's own
    assert {name: value for name, value in told.items() if name not in passing} == {
        name: value for name, value in stream.headers if name not in passing}
    stream.close()


def test_the_events_api(shared):
    path = "/events?topics=a,b.*&with_topic=1"
    head = shared.request("HEAD", path, headers=GZIP)
    assert head.status == 200 and head.header("pgsse-position")
    assert head.header("content-encoding") == "gzip" and head.header("vary") == "Accept-Encoding"
    assert shared.request("HEAD", path).header("content-encoding") is None
    stream = shared.keep(HttpStream(shared.port, path, GZIP))
    assert stream.header("content-encoding") == "gzip"
    assert stream.next_block().comments == ["connected"]
    shared.publish("a", 1)
    assert stream.next_data() == {"topic": "a", "data": 1}
    stream.close()


@pytest.mark.parametrize("path", ["/healthz", "/health", "/nowhere", "/topics/$/events"])
def test_what_is_no_stream_is_not_compressed(shared, path):
    answer = shared.request("GET", path, headers=GZIP)
    assert answer.header("content-encoding") is None and answer.header("vary") is None
    assert answer.body.decode()


def test_off(deploy, database):
    running = deploy(database.url, gzip="off").start()
    stream = running.stream(headers=GZIP)
    assert stream.header("content-encoding") is None and stream.header("vary") is None
    running.publish("alpha", 1)
    assert stream.next_data() == 1
    assert running.request("HEAD", PATH, headers=GZIP).header("content-encoding") is None


# --- what it gets --------------------------------------------------------------------------------

def test_each_event_as_soon_as_it_arrives(running):
    """And byte for byte what a plain stream has."""
    plain, one = running.stream(), compressed(running)
    for number in range(50):
        running.publish("alpha", {"n": number, "text": "x" * (number * 37)})
        assert one.next_event().raw == plain.next_event().raw
    totals = wait_for(lambda: (found := running.totals())["gzip_bytes"] and found, "it is reported")
    assert totals["gzip_saved_bytes"] > totals["gzip_bytes"] > 0


def test_newcomers(running):
    """They come between events, one after the other, and again."""
    plain, streams, wanted = running.stream(), [], []
    for turn in range(60):
        streams.append((compressed(running), turn))
        running.publish("alpha", {"n": turn, "say": "something like the last one"})
        wanted.append(plain.next_event().raw)  # else it might be new to the next one
        if turn % 7 == 6:
            streams.pop(turn % len(streams))[0].close()
    for stream, first in streams:
        assert [stream.next_event().raw for _ in wanted[first:]] == wanted[first:]


def test_heartbeats_between_events(deploy, database):
    running = deploy(database.url, keep_alive="100ms").start()
    one, two = compressed(running), compressed(running)
    for number in range(8):
        running.publish("alpha", {"n": number})
        assert one.next_data() == two.next_data() == {"n": number}
        time.sleep(0.15 * (number % 3))
    assert b": heartbeat\n" in one.raw and b": heartbeat\n" in two.raw


def test_large_and_small_events(deploy, database):
    """Larger than a record and than the window, and some that do not shrink."""
    install(database)
    running = deploy(database.url, client_queue_bytes="64MiB").start()
    chance = random.Random(1)
    plain, one = running.stream(), compressed(running)
    for size in (1, 5000, 200_000, 3, 600_000, 70_000):
        text = base64.b64encode(chance.randbytes(size)).decode() if size != 200_000 else "y" * size
        database.execute("SELECT pgsse.publish('alpha', to_json(%s::text)::text)", (text,))
        assert one.next_event(20).raw == plain.next_event(20).raw
    again = running.stream(headers={**GZIP, "Last-Event-ID": "0"}, greeted=False)
    assert [len(again.next_event(20).json()) for _ in range(6)] == [
        4, 6668, 200_000, 4, 800_000, 93_336]


def test_a_replay(running):
    """What was missed is compressed for the client alone; then it shares."""
    first = running.stream()
    for number in range(300):
        running.publish("alpha", {"n": number, "text": "something that comes again and again"})
    ids = [first.next_event().id for _ in range(300)]
    streams = [running.stream(headers={**GZIP, "Last-Event-ID": ids[at]}) for at in (0, 99, 298)]
    running.publish("alpha", {"n": 300})
    for stream, at in zip(streams, (0, 99, 298)):
        assert [stream.next_data()["n"] for _ in range(300 - at)] == list(range(at + 1, 301))


def test_curl(running):
    """Which writes what it could decode."""
    with subprocess.Popen([program.tool("curl"), "-sN", "--compressed",
                           f"http://127.0.0.1:{running.port}{PATH}"],
                          stdout=subprocess.PIPE) as curl:
        while curl.stdout.readline() != b": listening alpha\n":
            pass
        for number in range(5):
            running.publish("alpha", number)
            while curl.stdout.readline() != b"data: %d\n" % number:
                pass
        running.streams[0].stop()
        assert b"event: close\ndata: {}\n\n" in curl.stdout.read()
    assert curl.returncode == 0  # 23, 56 or 61 if the end were wrong


def test_user_streams(deploy, database):
    """Their other headers stay as existing clients compare them."""
    install(database)
    running = deploy(database.url).start()
    change(running, "subscribe", {"userId": 1, "channel": "orders"})
    path = "/api/events/stream?userId=1&channels=orders"
    wait_for(lambda: running.request("HEAD", path).status == 200, "the schema is seen")
    one = running.keep(HttpStream(running.port, path, GZIP))
    assert one.header("content-encoding") == "gzip"
    assert one.header("cache-control") == "no-cache" and one.header("connection") == "keep-alive"
    assert one.next_block().comments == ["connected"]
    publish_durable(running, "orders", {"n": 1})
    event = one.next_event()
    assert (event.event, event.json()) == ("note", {"n": 1})
    assert running.request("HEAD", path, headers=GZIP).header("content-encoding") == "gzip"


# --- ends ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_handler_stops(running, number):
    streams = [compressed(running) for _ in range(3)]
    running.publish("alpha", 1)
    streams[0].next_event()
    late = compressed(running)
    running.streams[0].stop(number)
    for stream in [*streams, late]:
        assert stream.read_to_end()[-1].event == "close"
        assert stream.ended_in_order and stream.has_gzip_end


def test_an_old_stream_ends(deploy, database):
    running = deploy(database.url, max_stream_age="1s").start()
    stream = compressed(running)
    running.publish("alpha", 1)
    blocks = stream.read_to_end()
    assert [block.event for block in blocks] == ["message", "close"]
    assert stream.has_gzip_end


def test_one_that_leaves_in_the_middle(running):
    """Of a block; others read on."""
    other = compressed(running)
    leaving = [running.keep(running.streams[0].connect()) for _ in range(3)]
    for one in leaving:
        one.receive_bytes = 100
        one.ask("GET", PATH, HTTP_ACCEPT_ENCODING="gzip").read_headers()
        one.next_block()
    noise = base64.b64encode(random.Random(2).randbytes(5000)).decode()
    for number in range(60):
        running.publish("alpha", {"n": number, "noise": noise})
        if number % 20 == 10:
            leaving[number // 20]._fill(time.monotonic() + 1)
            leaving[number // 20].close()
    assert [other.next_data()["n"] for _ in range(60)] == list(range(60))
    running.wait_totals(subscribers=1)


def test_the_handler_is_killed(deploy, database):
    """The client comes back to another one, from the last event that it could decode."""
    running = deploy(database.url).start(handlers=2)
    source = Source(running, encoding="gzip").greeted()
    for number in range(1, 40):
        running.publish("alpha", number)
    source.read_to(20)
    running.streams[0].kill()
    running.streams[0].expected = {-signal.SIGKILL}
    for number in range(40, 60):
        running.publish("alpha", number)
    source.cut().connect(handler=1).read_to(59)
    got = source.data
    assert got == list(range(1, 60))


# --- slow clients --------------------------------------------------------------------------------

def flood(running, count):
    """Events of some 7 KB that hardly shrink."""
    chance = random.Random(3)
    for number in range(1, count + 1):
        noise = base64.b64encode(chance.randbytes(5000)).decode()
        running.database.execute(
            "SELECT pg_notify('topic_broadcast_0', json_build_object('topic', 'alpha', 'data',"
            " json_build_object('n', %s, 'noise', %s))::text)", (number, noise))
        assert running.well.next_data()["n"] == number


@pytest.fixture
def slowly(deploy, database):
    def start(**settings):
        running = deploy(database.url, client_queue_bytes="64KiB", **settings)
        running.database = database
        running.start_broker()
        running.start_stream()
        running.wait_served()
        running.well = Source(running, encoding="gzip").greeted()
        return running
    return start


def test_slow_ones_are_told(slowly):
    """What is missing is counted exactly, in its place; then it goes on, and may overflow again."""
    running = slowly()
    slow = [Source(running, encoding="gzip").greeted() for _ in range(3)]
    flood(running, 150)
    missing = 0
    for one in slow:
        expected = 1
        while one.position != running.well.position:
            block = one.next_event()
            if block.event == "refresh":
                assert block.json()["reason"] == "overflow"
                expected += block.json()["dropped"]
            else:
                assert block.json()["n"] == expected
                expected += 1
        assert expected == 151
        missing += sum(block.json()["dropped"] for block in one.events if block.event == "refresh")
    assert missing > 100
    running.wait_totals(dropped_events=missing, dropped_clients=0)
    running.streams[0].stop()
    for one in slow:
        assert one.read_ended()[-1].event == "close"
        assert one.connection.has_gzip_end


def test_slow_ones_are_ended(slowly):
    running = slowly(slow_client="disconnect")
    slow = Source(running, encoding="gzip").greeted()
    flood(running, 150)
    running.wait_totals(subscribers=1, dropped_clients=1)
    slow.read_ended()
    assert slow.connection.end_status == (0, 0) and slow.connection.has_gzip_end
    assert slow.connection.records[-1].type == fastcgi.END_REQUEST
    assert 0 < len(slow.events) < 150
    slow.connect()
    while slow.position != running.well.position:
        slow.next_event()
    assert [block.json()["n"] for block in slow.events] == list(range(1, 151))


# --- web servers ---------------------------------------------------------------------------------

def test_lighttpd_does_not_compress_again(deploy, database, monkeypatch):
    monkeypatch.setattr(deployments, "LIGHTTPD_CONF", deployments.LIGHTTPD_CONF.replace(
        '"mod_fastcgi")', '"mod_deflate", "mod_fastcgi")\n'
        'deflate.mimetypes = ("text/")\ndeflate.allowed-encodings = ("gzip", "deflate")'))
    running = deploy(database.url).start()
    one = compressed(running)
    for number in range(5):
        running.publish("alpha", number)
        assert one.next_data() == number  # decoded once
    running.streams[0].stop()
    assert one.read_to_end()[-1].event == "close" and one.has_gzip_end


@pytest.mark.parametrize("modules", [(), ("filter", "deflate")], ids=["alone", "mod_deflate"])
def test_apache(deploy, database, modules):
    running = deploy(database.url, keep_alive="300ms", **apache.settings())
    running.start_broker()
    running.apache = Apache(running, more_modules=modules)
    streams = [compressed(running), running.stream(), compressed(running)]
    for number in range(5):
        running.publish("alpha", number)
        assert [stream.next_data() for stream in streams] == [number] * 3
    assert streams[0].header("vary") == "Accept-Encoding"
    assert streams[1].header("content-encoding") is None
    assert json.loads(running.request("GET", "/healthz", headers=GZIP).body)["status"] == "ok"
    running.apache.send_signal(signal.SIGUSR1)
    for stream in streams[::2]:
        assert stream.read_to_end(10)[-1].event == "close" and stream.has_gzip_end
