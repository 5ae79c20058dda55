"""What a handler takes from the web server: how much it holds at a time, and from whose pages."""

import concurrent.futures
import json
import struct
import threading
import time

import pytest

import fastcgi
import program
from deployment import Deployment, ending
from schema import fixture_durable, installed  # noqa: F401
from test_durable_publish import held, padded, waiting_publishers
from durable_api import post
from waiting import wait_for

MIB = 1 << 20
FOREIGN = {"Origin": "https://elsewhere.example"}


class Peak:
    """The most memory that a program has had while it is watched."""

    def __init__(self, watched):
        self._watched = watched
        self._is_over = threading.Event()
        self.kib = self.first_kib = watched.memory_kib()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self):
        while not self._is_over.wait(0.01) and self._watched.is_running():
            try:
                self.kib = max(self.kib, self._watched.memory_kib())
            except AssertionError:
                return  # it has just ended

    def grown_kib(self):
        self._is_over.set()
        self._thread.join()
        return self.kib - self.first_kib


def slow_post(publisher, body):
    """In pieces, as fast as it is read; the status and the body."""
    connection = publisher.connect()
    connection._limit(20)
    whole = fastcgi.request_bytes("POST", "/api/events/publish", body.encode())
    for start in range(0, len(whole), 50000):
        connection.send(whole[start:start + 50000])
    connection.answer()
    connection.close()
    return connection.status, connection.raw


TOO_MANY = "too many requests wait: nothing was done"


def reason_of(body):
    """Of an error: one that was given before the request had come in is a line of text."""
    return TOO_MANY if body == TOO_MANY.encode() + b"\n" else json.loads(body)["error"]


class SlowPost:
    """A large one that is accepted, and comes in piece by piece."""

    def __init__(self, publisher):
        self.connection = publisher.connect()
        self._rest = fastcgi.request_bytes("POST", "/api/events/publish", padded(MIB).encode())
        self.send(1000)

    def send(self, length):
        self.connection.send(self._rest[:length])
        self._rest = self._rest[length:]

    def answer(self):
        self.connection._limit(10)
        self.connection.answer()
        return self.connection.status, self.connection.raw


def test_requests_that_are_held(deploy, durable):
    """One is answered after 5 s, one hangs up meanwhile, the oldest is read on; then there is room
    again."""
    deployment = deploy(durable.url, request_bytes="2MiB", publish_timeout="30s")
    deployment.start_publisher()
    deployment.start_lighttpd()
    oldest, kept, gone = [SlowPost(deployment.publisher) for _ in range(3)]
    release = held(deployment, durable)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        # With its parameters it fits into 1 MiB, so that the budget is left for its last piece, too.
        waiting = pool.submit(post, deployment, padded(MIB - MIB // 16))
        try:
            wait_for(lambda: waiting_publishers(durable) == 1, "a first one waits for Postgres")
            oldest.send(MIB // 2 + MIB // 4)
            for held_one in kept, gone:
                held_one.send(100000)
            answer = pool.submit(kept.answer)
            gone.connection.close()
            while not answer.done():
                oldest.send(1000)
                time.sleep(0.5)
            assert answer.result() == (503, TOO_MANY.encode() + b"\n")
        finally:
            release()
        assert waiting.result().status == 202
    assert kept.connection.headers["content-type"] == "text/plain; charset=utf-8"
    assert kept.connection.records[0].request_id == 1
    oldest.send(2 * MIB)
    assert oldest.answer()[0] == 202
    wait_for(lambda: post(deployment, padded(MIB)).status == 202, "publishing works again")


def test_many_large_posts_while_postgres_stalls(deploy, durable):
    """They are held up to request_bytes, and one more; all are answered, and with what is true."""
    deployment = deploy(durable.url, request_bytes="8MiB", publish_timeout="1s")
    deployment.start_publisher()
    deployment.start_lighttpd()
    release = held(deployment, durable)
    peak = Peak(deployment.publisher)
    try:
        with concurrent.futures.ThreadPoolExecutor(40) as pool:
            answers = [pool.submit(slow_post, deployment.publisher, padded(MIB))
                       for _ in range(40)]
            answers = [answer.result() for answer in answers]
    finally:
        grown_kib = peak.grown_kib()
        release()
    assert {status for status, _ in answers} == {503}
    assert {reason_of(body) for _, body in answers} <= {
        "Postgres did not say whether it was done", TOO_MANY, "Postgres is away: nothing was done",
        "Postgres is busy: nothing was done within publish_timeout"}
    if not program.is_sanitized():
        assert grown_kib < 24 * 1024  # all of them would be 40 MiB, kept twice
    wait_for(lambda: post(deployment, padded(MIB)).status == 202, "publishing works again")


def test_half_requests_at_the_stream_handler(deploy, database):
    """Parameters that never end: no more of them are read than request_bytes, and others get in."""
    deployment = deploy(database.url, request_bytes="1MiB")
    deployment.start_broker()
    stream = deployment.start_stream()
    peak = Peak(stream)
    begin = struct.pack(">BBHHBB", 1, 1, 1, 8, 0, 0) + struct.pack(">HB5x", 1, 0)
    part = struct.pack(">BBHHBB", 1, 4, 1, 60000, 0, 0) + b"\1" * 60000
    silent = []
    for _ in range(150):
        silent.append(stream.connect())
        silent[-1].socket.settimeout(0.05)
        try:
            silent[-1].send(begin + part)
        except OSError:
            pass  # it is not read
    time.sleep(0.3)  # nothing tells when the handler has looked at all of them
    if not program.is_sanitized():
        assert peak.grown_kib() < 4 * 1024  # all of them would be 9 MB
    for connection in silent:
        connection.close()
    other = deployment.keep(stream.connect())
    other.ask("HEAD", "/topics/alpha/events").answer()
    assert other.status == 200


# --- whose pages -----------------------------------------------------------------------------

PATHS = [("/topics/alpha/events", '{"data":1}', 200),
         ("/api/events/publish", '{"channel":"c","eventType":"t","payload":1}', 202),
         ("/api/events/channels/subscribe", '{"userId":1,"channel":"c"}', 201),
         ("/api/events/channels/unsubscribe", '{"userId":1,"channel":"c"}', 200)]


@pytest.fixture(scope="module")
def site(cluster):
    """A deployment whose publishers come through a proxy at 127.0.0.1, and from b.example."""
    database = cluster.create_database()
    settings = {"cors_origins": "https://b.example", "trusted_proxies": "127.0.0.0/8"}
    with installed(database), ending(Deployment(database.url, **settings)) as deployment:
        deployment.start()
        yield deployment
    cluster.give_back(database)


@pytest.mark.parametrize("path, body, status", PATHS)
def test_who_may_post(site, path, body, status):
    own = f"http://127.0.0.1:{site.port}"
    for headers, wanted in [
            ({}, status),
            ({"Origin": own}, status),
            ({"Origin": own, "Sec-Fetch-Site": "same-origin"}, status),
            ({"Origin": "https://b.example", "Sec-Fetch-Site": "cross-site"}, status),
            ({"Origin": "https://a.example", "X-Forwarded-Proto": "https",
              "X-Forwarded-Host": "a.example"}, status),
            (FOREIGN, 403), ({"Origin": "null"}, 403), ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Origin": own.replace("http", "https")}, 403),
            ({"Origin": "http://127.0.0.1"}, 403)]:
        answer = site.request("POST", path, body, headers)
        assert answer.status == wanted, (headers, answer)
        if wanted == 403:
            assert b"cors_origins" in answer.body and headers.get("Origin", "").encode() in answer.body


def test_a_foreign_page_publishes_nothing(site):
    stream = site.stream()
    assert site.request("POST", "/topics/alpha/events", '{"data":"foreign"}',
                        FOREIGN).status == 403
    site.publish("alpha", "own")
    assert stream.next_event().data == '"own"'
    stream.close()


def test_no_proxy_is_believed_by_itself(shared):
    answer = shared.request("POST", "/topics/alpha/events", '{"data":1}', {
        "Origin": "https://a.example", "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "a.example"})
    assert answer.status == 403
    assert b"a page of https://a.example may not post to http://127.0.0.1:" in answer.body


def test_reading_is_not_posting(shared):
    """Who may read is for the web server to say; a stream is not refused for its Origin."""
    assert shared.request("HEAD", "/topics/alpha/events", headers=FOREIGN).status == 200


@pytest.mark.parametrize("key, value", [
    ("cors_origins", "*"), ("cors_origins", "example.org"), ("trusted_proxies", "10.0.0.0/99")])
def test_lists_that_cannot_be(key, value):
    status, _, complaint = program.run([program.PUBLISH, f"--{key.replace('_', '-')}={value}"])
    assert status == 78 and value in complaint and key in complaint
