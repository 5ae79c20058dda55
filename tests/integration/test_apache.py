"""Under Apache, configured by deploy/apache-mod_fcgid.conf: one process per stream."""

import concurrent.futures
import json
import os
import pathlib
import signal
import time

import pytest

import apache
from apache import Apache
from deployment import Deployment, ending
from waiting import wait_for

KEEP_ALIVE = 0.3
SETTINGS = {"keep_alive": f"{KEEP_ALIVE * 1000:.0f}ms", **apache.settings()}
TOO_LARGE = json.dumps({"data": "x" * (1 << 20)})


def start(new, **values):
    """A broker, and Apache before it, in a new deployment."""
    new.start_broker()
    new.apache = Apache(new, **values)
    return new


@pytest.fixture(scope="module")
def serving(cluster):
    """One for all tests that leave it as it was. Its first request is one for health."""
    database = cluster.create_database()
    with ending(Deployment(database.url, **SETTINGS)) as deployment:
        deployment.database = database
        start(deployment)
        deployment.first_answer = deployment.request("GET", "/healthz")
        yield deployment
    cluster.give_back(database)


@pytest.fixture
def fresh(deploy, database):
    """fresh(**defined): one of its own."""
    def new(**values):
        deployment = deploy(database.url, **SETTINGS)
        deployment.database = database
        return start(deployment, **values)
    return new


@pytest.fixture(autouse=True)
def alone(request):
    """Streams of the test before have gone, so that their processes are free: mod_fcgid waits for a
    second before it starts another while all are busy."""
    if "serving" in request.fixturenames:
        deployment = request.getfixturevalue("serving")
        for client in deployment._open:
            client.close()
        deployment.wait_totals(subscribers=0)


# --- streams -------------------------------------------------------------------------------------

def test_the_first_request_of_a_process_is_answered_well(serving):
    """The handler has only begun, and does not call the broker away before it has asked."""
    assert serving.first_answer.status == 200, serving.first_answer


def test_events_arrive_at_once_and_in_order(serving):
    stream = serving.stream()
    for number in range(20):
        started = time.monotonic()
        serving.database.publish("alpha", number)
        assert stream.next_data() == number
        assert time.monotonic() - started < KEEP_ALIVE / 2  # and not with something behind it
    for number in range(500):
        serving.database.publish("alpha", [number, "x" * 500])
    assert [stream.next_data()[0] for _ in range(500)] == list(range(500))


def test_the_answer_to_a_stream(serving):
    stream = serving.stream()
    for name, value in {"content-type": "text/event-stream; charset=utf-8",
                        "cache-control": "no-cache, no-transform",
                        "x-accel-buffering": "no", "incremental": "?1"}.items():
        assert [got for key, got in stream.headers if key == name] == [value], stream.headers
    assert stream.header("Content-Security-Policy") is None  # that is for pages


def test_heartbeats(serving):
    stream = serving.stream()
    for _ in range(3):
        started = time.monotonic()
        block = stream.next_block()
        assert block.raw == b": heartbeat\n"
        assert time.monotonic() - started < KEEP_ALIVE + 0.3


def test_each_stream_is_a_process(serving):
    """Those that are opened at once wait for a second together, and not one after the other."""
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        started = time.monotonic()
        streams = list(pool.map(lambda _: serving.stream(seconds=10), range(12)))
        assert time.monotonic() - started < 5
    assert len(serving.apache.handlers("pgsse-stream")) >= 12
    assert serving.totals()["subscribers"] == 12
    serving.publish("alpha", "for all")
    assert [stream.next_data() for stream in streams] == ["for all"] * 12


def test_a_client_that_goes_frees_its_process(serving):
    stream = serving.stream()
    pids = serving.apache.handlers("pgsse-stream")
    stream.close()
    started = time.monotonic()
    serving.wait_totals(subscribers=0)
    assert time.monotonic() - started < 2 * KEEP_ALIVE + 0.5
    started = time.monotonic()
    serving.stream()
    assert time.monotonic() - started < 0.9  # none had to be started
    assert serving.apache.handlers("pgsse-stream") == pids


# --- other requests ------------------------------------------------------------------------------

def test_head_tells_the_position(serving):
    stream = serving.stream()
    answer = serving.request("HEAD", "/topics/alpha/events")
    assert answer.status == 200 and answer.body == b""
    assert answer.header("Pgsse-Position") == stream.greeting.id


def test_publishing(serving):
    stream = serving.stream()
    answer = serving.post("alpha", '{"data": {"n": 1.0}, "event": "tick"}')
    assert answer.status == 200 and answer.body == b'{"topic":"alpha","data":{"n":1.0}}'
    event = stream.next_event()
    assert (event.event, event.data) == ("tick", '{"n":1.0}')
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda number: serving.publish("alpha", number).status, range(40)))
    assert sorted(stream.next_data() for _ in range(40)) == list(range(40))


def test_health(serving):
    answer = serving.request("GET", "/healthz?limit=0")
    assert answer.status == 200 and answer.header("Content-Type") == "application/json"
    assert json.loads(answer.body)["status"] == "ok"
    assert serving.request("HEAD", "/healthz").body == b""


@pytest.mark.parametrize("method, path, body, status, text", [
    ("GET", "/topics/alpha", None, 404, "nothing is served"),
    ("GET", "/topics//events", None, 404, "nothing is served"),
    ("GET", "/healthz/more", None, 404, "nothing is served"),
    ("GET", "/topics/a%2Fb/events", None, 400, "a topic is"),
    ("GET", "/topics/a.b/events", None, 400, "a topic is"),
    ("GET", "/healthz?limit=x", None, 400, "limit"),
    ("DELETE", "/topics/alpha/events", None, 405, "not served"),
    ("PUT", "/topics/alpha/events", "{}", 405, "not served"),
    ("OPTIONS", "/topics/alpha/events", None, 204, ""),
    ("POST", "/topics/alpha/events", "{", 400, ""),
    ("POST", "/topics/alpha/other", "{}", 404, ""),
    ("POST", "/topics/alpha/events", TOO_LARGE, 413, "max_body"),
], ids=lambda value: str(value)[:40])
def test_other_answers_come_through(serving, method, path, body, status, text):
    answer = serving.request(method, path, body)
    assert answer.status == status and text in answer.body.decode(), answer
    assert answer.header("X-Content-Type-Options") == "nosniff"
    assert answer.header("Cache-Control") == "no-store"
    assert status == 204 or answer.header("Content-Type") == "text/plain; charset=utf-8"
    assert answer.header("Allow") == (
        "GET, HEAD, POST, OPTIONS" if status in (204, 405) else None)


def test_the_path_is_taken_as_it_was_sent(serving):
    stream = serving.stream("%41lpha", greeted=False)
    assert stream.next_block().comments == ["listening alpha"]


def test_pages(serving):
    answer = serving.request("GET", "/")
    assert answer.status == 200 and b"<html" in answer.body
    assert "default-src 'self'" in answer.header("Content-Security-Policy")


def test_only_the_publisher_knows_the_database(serving):
    serving.publish("alpha", 1)
    environments = {name: "".join(pathlib.Path(f"/proc/{pid}/environ").read_text()
                                  for pid in serving.apache.handlers(name))
                    for name in ("pgsse-stream", "pgsse-publish")}
    assert "PGSSE_DATABASE_URL_FILE" in environments["pgsse-publish"]
    assert "PGSSE_SOCKET_DIR" in environments["pgsse-stream"]
    assert "DATABASE" not in environments["pgsse-stream"]


# --- ends ----------------------------------------------------------------------------------------

def test_an_old_stream_is_ended_and_resumed(fresh):
    """Nothing that is published before, between and after is lost, or comes twice."""
    deployment = fresh(PGSSE_MAX_STREAM_AGE=2)
    started = time.monotonic()
    stream = deployment.stream()
    deployment.database.publish("alpha", "before")
    blocks = stream.read_to_end()
    assert blocks[-1].event == "close" and blocks[-1].comments == ["max_stream_age reached"]
    assert int(blocks[-1].retry) <= 600
    assert stream.ended_in_order and 1.8 <= time.monotonic() - started < 2.5
    assert [block.data for block in blocks if block.event == "message"] == ['"before"']
    last = [block.id for block in blocks if block.id][-1]
    deployment.database.publish("alpha", "between")
    pids = deployment.apache.handlers("pgsse-stream")
    again = deployment.stream(headers={"Last-Event-ID": last})
    assert deployment.apache.handlers("pgsse-stream") == pids  # the process has not ended
    deployment.database.publish("alpha", "after")
    events = [again.greeting] if again.greeting.data is not None else []
    events += [again.next_event(), again.next_event()]
    assert [(event.event, event.data) for event in events] == [
        ("message", '"between"'), ("message", '"after"')]


def test_a_reload_ends_streams_in_order(fresh):
    deployment = fresh()
    stream = deployment.stream()
    pids = deployment.apache.handlers()
    deployment.apache.send_signal(signal.SIGUSR1)
    assert stream.read_to_end(10)[-1].event == "close"
    wait_for(lambda: not set(pids) & set(deployment.apache.handlers()), "the handlers have gone")
    deployment.stream()
    deployment.publish("alpha", 1)


def test_a_graceful_stop_leaves_nobody(fresh):
    """Although its stream does not end by itself: it is ended when Apache has waited enough."""
    deployment = fresh()
    stream = deployment.stream()
    deployment.publish("alpha", 1)
    assert len(deployment.apache.handlers()) == 2
    deployment.apache.send_signal(signal.SIGWINCH)  # as systemctl stop does
    assert stream.read_to_end(20)[-1].event == "close"
    stream.close()
    deployment.apache.wait()
    assert deployment.apache.handlers() == []


def test_handlers_die_with_the_process_that_started_them(fresh):
    deployment = fresh()
    stream = deployment.stream()
    pids = deployment.apache.handlers()
    os.kill(deployment.apache.process_manager(), signal.SIGKILL)
    assert stream.read_to_end()[-1].event == "close"
    wait_for(lambda: not set(pids) & set(deployment.apache.handlers()), "the handlers have gone")
    wait_for(lambda: deployment.apache.log().count("resuming normal operations") == 2,
             "Apache has restarted itself", 10)
    deployment.stream()
