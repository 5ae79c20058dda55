"""The health document, through a stream handler and on the status socket."""

import contextlib
import datetime
import json
import re
import socket
import time

import pytest

import wire
from waiting import wait_for

TOP = {"status", "reason", "degraded_since", "now", "last_notification_at", "version", "totals",
       "topics"}
TOTALS = set("""topics subscribers dispatch_depth pending_to_clients published broadcast
    delivered_frames dropped_clients dropped_events gzip_bytes gzip_saved_bytes total_memory_usage_bytes idle_topics
    listen_connected listen_connected_since notify_connected reconnects reconnect_attempts
    notifications bad_notifications errors last_error_at queue_usage canary_ms
    queue_warnings last_queue_warning_at hook_runs hook_failures hook_dropped last_hook_at""".split())
TOPIC = set("""topic subscribers dispatch_depth pending_to_clients published broadcast
    delivered_frames dropped_clients dropped_events memory_usage_bytes last_activity_unix
    is_idle""".split())
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"


def ask(deployment, query=""):
    answer = deployment.request("GET", "/healthz" + query)
    return answer.status, json.loads(answer.body)


def seconds_ago(text):
    assert re.fullmatch(TIME, text), text
    then = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (datetime.datetime.now(datetime.timezone.utc) - then).total_seconds()


def test_the_document(running):
    stream = running.stream()
    running.publish("alpha", 1)
    stream.next_data()
    answer = running.request("GET", "/healthz")
    assert answer.status == 200
    assert answer.header("Content-Type") == "application/json"
    assert answer.header("Cache-Control") == "no-store"
    health = json.loads(answer.body)
    assert TOP <= set(health), TOP - set(health)
    assert TOTALS <= set(health["totals"]), TOTALS - set(health["totals"])
    assert health["status"] == "ok" and not health["reason"] and not health["degraded_since"]
    assert abs(seconds_ago(health["now"])) < 5
    assert 0 <= seconds_ago(health["last_notification_at"]) < 60
    totals = health["totals"]
    assert totals["listen_connected"] is True and totals["notify_connected"] is True
    assert 0 <= seconds_ago(totals["listen_connected_since"]) < 60
    assert totals["subscribers"] == 1 and totals["published"] == 1 and totals["broadcast"] == 1
    assert totals["delivered_frames"] == 1
    assert totals["dropped_clients"] == totals["dropped_events"] == totals["errors"] == 0
    assert totals["dispatch_depth"] == totals["pending_to_clients"] == 0
    assert totals["bad_notifications"] == totals["reconnects"] == 0
    assert totals["last_error_at"] is None
    assert totals["total_memory_usage_bytes"] > 0
    assert totals["queue_warnings"] == totals["hook_runs"] == totals["hook_failures"] == 0
    assert totals["last_queue_warning_at"] is None and totals["last_hook_at"] is None
    assert 0 <= totals["queue_usage"] < 0.1 and 0 < totals["canary_ms"] < 1000
    assert [topic["topic"] for topic in health["topics"]] == ["alpha"]
    topic = health["topics"][0]
    assert TOPIC <= set(topic), TOPIC - set(topic)
    assert topic["subscribers"] == topic["published"] == topic["broadcast"] == 1
    assert topic["delivered_frames"] == 1 and topic["is_idle"] is False
    assert abs(time.time() - topic["last_activity_unix"]) < 5


def test_subscribers_and_deliveries_are_summed_over_handlers(deploy, database):
    deployment = deploy(database.url).start(handlers=2)
    first = [deployment.stream() for _ in range(3)]
    second = []
    for _ in range(2):
        connection = deployment.keep(deployment.streams[1].connect())
        second.append(connection.ask("GET", "/topics/alpha/events").read_headers())
        second[-1].next_block()
    for number in range(4):
        deployment.publish("alpha", number)
    for stream in first + second:
        assert [stream.next_data() for _ in range(4)] == [0, 1, 2, 3]
    topic = deployment.topic("alpha")
    assert topic["subscribers"] == 5 and topic["published"] == 4
    assert topic["delivered_frames"] == 20
    # Sent once to a handler: four times two, unless lighttpd took one handler for all.
    assert topic["broadcast"] in (4, 8)
    assert deployment.totals()["delivered_frames"] == 20


def test_no_topic_is_an_empty_list(running):
    status, health = ask(running)
    assert status == 200 and health["topics"] == []


def test_the_limit_cuts_topics_and_no_totals(running):
    streams = [running.stream(f"subscribed-{number}") for number in range(3)]
    for number in range(10):
        running.publish(f"quiet-{number}", number)
    running.wait_totals(published=10, topics=13)
    for limit, length in [(0, 0), (1, 1), (5, 5), (13, 13), (1000, 13)]:
        _, health = ask(running, f"?limit={limit}")
        assert len(health["topics"]) == length
        assert health["totals"]["topics"] == 13 and health["totals"]["published"] == 10
    names = [topic["topic"] for topic in ask(running, "?limit=3")[1]["topics"]]
    assert sorted(names) == [f"subscribed-{number}" for number in range(3)]
    names = [topic["topic"] for topic in ask(running, "?limit=6")[1]["topics"]]
    assert names[3:] == ["quiet-9", "quiet-8", "quiet-7"], "the most recently active first"
    assert len(streams) == 3


def test_the_limit_is_1000_by_default(running, database):
    database.execute("SELECT pg_notify('topic_broadcast_0', json_build_object('topic', 't' || n, 'data', 1)::text)"
                     " FROM generate_series(1, 1200) n")
    running.wait_totals(published=1200)
    assert len(ask(running)[1]["topics"]) == 1000
    assert len(ask(running, "?limit=1200")[1]["topics"]) == 1200


@pytest.mark.parametrize("query", ["?limit=", "?limit=x", "?limit=-1", "?limit=99999999999999999999",
                                   "?limit=1&limit=2", "?limit=%31", "?other=1", "?"])
def test_odd_limits_do_no_harm(shared, query):
    answer = shared.request("GET", "/healthz" + query)
    assert answer.status in (200, 400)


def test_a_topic_becomes_idle(deploy, database):
    deployment = deploy(database.url, topic_idle="1s").start()
    stream = deployment.stream("watched")
    deployment.publish("left", 1)
    wait_for(lambda: deployment.topic("left"), "the topic is known")
    left = deployment.topic("left")
    assert left["is_idle"] is False
    assert deployment.totals()["idle_topics"] == 0
    wait_for(lambda: deployment.topic("left")["is_idle"], "it is idle", 3)
    assert deployment.totals()["idle_topics"] == 1
    assert deployment.topic("left")["last_activity_unix"] == left["last_activity_unix"]
    assert deployment.topic("watched")["is_idle"] is False
    stream.close()


@pytest.fixture(name="quiet")
def fixture_quiet(deploy, database):
    """Nothing is heard from Postgres but what a test publishes: the next marker comes in an hour."""
    return deploy(database.url, canary_interval="1h").start()


def later_health(deployment, health):
    return wait_for(lambda: (new := deployment.health())["now"] > health["now"] and new,
                    "time goes by")


def test_what_was_heard_is_counted_and_when(quiet):
    before = quiet.health()
    for number in range(5):
        quiet.publish("alpha", number)
    quiet.wait_totals(published=5)
    after = quiet.health()
    assert after["totals"]["notifications"] == before["totals"]["notifications"] + 5
    assert after["last_notification_at"] > before["last_notification_at"]
    later = later_health(quiet, after)
    assert later["last_notification_at"] == after["last_notification_at"] < later["now"]
    assert later["totals"]["notifications"] == after["totals"]["notifications"]


def test_topics_that_cannot_be_in_a_path(quiet, database):
    for topic in ("alpha", "Alpha", "orders:42", "a_b-9", "x" * 129):
        database.publish(topic, 1)
    assert quiet.wait_totals(published=5)["odd_topics"] == 3


def test_what_is_kept(deploy, database):
    deployment = deploy(database.url, ring_capacity="3").start(publisher=False)
    before = deployment.totals()
    for number in range(10):
        database.publish("alpha", f"{number}" + "x" * 1000)
    totals = deployment.wait_totals(published=10)
    assert totals["history_events"] == before["history_events"] + 3
    assert totals["history_dropped"] == before["history_dropped"] + 7
    assert 3000 < totals["history_bytes"] - before["history_bytes"] < 4500
    assert 0 < deployment.topic("alpha")["memory_usage_bytes"] < 3000  # without what is kept
    assert totals["total_memory_usage_bytes"] >= totals["history_bytes"]
    deployment.stream("beta")
    totals = deployment.wait_totals(subscribers=1)
    assert totals["total_memory_usage_bytes"] > totals["history_bytes"]


def test_what_waits_for_a_handler(deploy, database):
    deployment = deploy(database.url).start(publisher=False)
    slow = deployment.handler_by_hand()
    slow.send(wire.subscribe(1, "alpha"))
    slow.next_of(wire.SUBSCRIBED)
    for _ in range(200):
        database.publish("alpha", "x" * 7000)
    database.publish("beta", 1)
    deployment.wait_totals(published=201)
    health = deployment.health()
    depth, = [topic["dispatch_depth"] for topic in health["topics"] if topic["topic"] == "alpha"]
    assert 0 < depth < 200 and health["totals"]["dispatch_depth"] >= depth
    assert health["totals"]["total_memory_usage_bytes"] > (200 + depth) * 7000  # kept, and waiting
    assert deployment.topic("beta")["dispatch_depth"] == 0
    for _ in range(200):
        slow.next_of(wire.EVENT)
    deployment.wait_totals(dispatch_depth=0)
    assert deployment.topic("alpha")["dispatch_depth"] == 0


def test_head_of_health(shared):
    answer = shared.request("HEAD", "/healthz")
    assert answer.status == 200 and answer.body == b""


def test_the_broker_away(running):
    running.broker.kill()
    wait_for(lambda: running.request("GET", "/healthz").status == 503, "503")
    started = time.monotonic()
    answer = running.request("GET", "/healthz")
    assert answer.status == 503 and answer.header("Retry-After")
    assert time.monotonic() - started < 3


def test_faults_are_named_to_this_machine_alone(deploy, fragile_cluster, fragile_database):
    """libpq names host, port, socket and user: strangers get the kind of fault."""
    deployment = deploy(fragile_database.url).start()
    fragile_database.close()
    fragile_cluster.stop()
    wait_for(lambda: "connection to server" in (deployment.health()["reason"] or ""),
             "libpq says why")
    deployment.wait_totals(listen_connected=False, listen_connected_since=None,
                           notify_connected=False, table_connected=False)
    for path, key in (("/healthz", "reason"), ("/health", "message")):
        answer = deployment.request("GET", path)
        assert answer.status == 503
        document = json.loads(answer.body)
        assert document["status"] == "degraded"
        assert document[key] in ("the LISTEN connection is down", "the query connection is down")
        for word in (str(fragile_cluster.socket_path), "connection to server", "socket"):
            assert word.encode() not in answer.body
    fragile_cluster.start()


# --- the status socket ------------------------------------------------------------------------------

@contextlib.contextmanager
def connected(deployment):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(deployment.status_socket))
        yield connection


def read_all(connection):
    text = b""
    while True:
        try:
            got = connection.recv(1 << 20)
        except ConnectionResetError:
            return text
        if not got:
            return text
        text += got


def test_silence_is_answered_with_the_document(shared):
    with connected(shared) as connection:
        started = time.monotonic()
        document = json.loads(read_all(connection))
        assert 0.15 < time.monotonic() - started < 1.5
    assert document["status"] == "ok" and TOTALS <= set(document["totals"])


def test_silence_and_half_close_is_answered_too(shared):
    """nc -U with its input at an end."""
    with connected(shared) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert json.loads(read_all(connection))["status"] == "ok"


def speak(deployment, request):
    with connected(deployment) as connection:
        connection.sendall(request)
        return read_all(connection)


def test_http_is_answered_with_http(shared):
    for version in (b"1.0", b"1.1"):
        text = speak(shared, b"GET /healthz?limit=1 HTTP/" + version +
                     b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        head, _, body = text.partition(b"\r\n\r\n")
        assert head.split(b" ")[1] == b"200"
        headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        assert headers[b"content-type"] == b"application/json"
        assert int(headers[b"content-length"]) == len(body)
        assert len(json.loads(body)["topics"]) <= 1


def test_other_requests_there(shared):
    assert speak(shared, b"GET /nothing HTTP/1.0\r\n\r\n").split(b" ")[1] == b"404"
    assert speak(shared, b"POST /healthz HTTP/1.0\r\n\r\n").split(b" ")[1] == b"405"
    head = speak(shared, b"HEAD /healthz HTTP/1.0\r\n\r\n")
    assert head.split(b" ")[1] == b"200" and head.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("bytes_", [
    b"\x00" * 100 + b"\r\n\r\n", b"garbage\r\n\r\n", b"GET\r\n\r\n", b"GET /healthz\r\n\r\n",
    b"\r\n\r\n", b"GET /healthz?limit=\xff HTTP/1.0\r\n\r\n", b"G" * 100000,
    b"GET /" + b"a" * 100000 + b" HTTP/1.0\r\n\r\n", b"\xff\xfe\xfd\n\n",
], ids=lambda text: repr(text[:20]))
def test_garbage_there_harms_nobody(shared, bytes_):
    with connected(shared) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(bytes_)
            connection.shutdown(socket.SHUT_WR)
        read_all(connection)  # closed, with whatever answer
    assert shared.health()["status"] == "ok"


def test_a_request_in_pieces(shared):
    with connected(shared) as connection:
        for byte in b"GET /healthz HTTP/1.0\r\n\r\n":
            connection.sendall(bytes([byte]))
            time.sleep(0.002)
        assert read_all(connection).split(b" ")[1] == b"200"


def test_many_who_begin_and_do_not_end(shared):
    """However many: the status socket serves others, sooner or later, and the streams at once."""
    stream = shared.stream()
    sockets = []
    for _ in range(100):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5)
        connection.connect(str(shared.status_socket))
        with contextlib.suppress(BrokenPipeError):  # above some number they are turned away
            connection.sendall(b"GET /hea")
        sockets.append(connection)
    shared.publish("alpha", "through")
    assert stream.next_data(1) == "through"
    for connection in sockets:
        connection.close()
    assert shared.health()["status"] == "ok"
    stream.close()
