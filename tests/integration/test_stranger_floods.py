"""What strangers may ask for as fast as they can: events go on to come."""

import contextlib
import json
import selectors
import socket
import threading
import time

import pytest

from schema import fixture_durable  # noqa: F401
from test_durable_api import greeted, next_event, publish, subscribe
from waiting import wait_for

TOPICS = 5000


@contextlib.contextmanager
def flooding(work):
    """work(is_over) runs in a thread of its own; its result is in the list that is given."""
    is_over, results = threading.Event(), []
    thread = threading.Thread(target=lambda: results.append(work(is_over)))
    thread.start()
    try:
        yield results
    finally:
        is_over.set()
        thread.join(30)
        assert not thread.is_alive()


def ask_again_and_again(port, path, connections, is_over):
    """So many connections, each of which asks anew when it was answered. {status: answers}"""
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    answers = {}
    with selectors.DefaultSelector() as selector:
        def ask():
            connection = socket.create_connection(("127.0.0.1", port), 5)
            connection.sendall(request)
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ, bytearray())

        for _ in range(connections):
            ask()
        while not is_over.is_set():
            for key, _ in selector.select(0.1):
                try:
                    got = key.fileobj.recv(1 << 20)
                except ConnectionResetError:
                    got = b""
                key.data[:] = (key.data + got)[:12] if len(key.data) < 12 else key.data
                if not got:
                    status = int(key.data[9:12] or 0)
                    answers[status] = answers.get(status, 0) + 1
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
                    ask()
        for key in list(selector.get_map().values()):
            key.fileobj.close()
    return answers


def publish_for(deployment, stream, seconds):
    """The longest time that an event took."""
    end, worst, number = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        number += 1
        started = time.monotonic()
        deployment.publish("alpha", number)
        assert stream.next_data(10) == number
        worst = max(worst, time.monotonic() - started)
        time.sleep(0.02)
    return worst


@pytest.mark.parametrize("connections", [8, 100])
def test_health(running, database, connections):
    """A document of 5,000 topics is made once a second, for all who wait; others are told so."""
    database.execute("SELECT pg_notify('topic_broadcast_0', json_build_object('topic', 't' || n, 'data', 1)::text)"
                     f" FROM generate_series(1, {TOPICS}) n")
    running.wait_totals(published=TOPICS)
    stream = running.stream()
    seconds, waiting = 4, min(connections, 64)
    with flooding(lambda is_over: ask_again_and_again(
            running.port, "/healthz?limit=65536", connections, is_over)) as answers:
        worst = publish_for(running, stream, seconds)
    assert worst < 2
    assert 0 < answers[0][200] <= waiting * (seconds + 3), answers
    assert set(answers[0]) == ({200, 503} if connections > waiting else {200}), answers
    wait_for(lambda: running.request("GET", "/healthz?limit=0").status == 200,
             "those who waited are answered or gone", 3)


def test_status_socket(running):
    """It asks the broker by itself, and gets the same document as all others."""
    with flooding(lambda is_over: ask_again_and_again(
            running.port, "/healthz?limit=65536", 100, is_over)):
        for _ in range(5):
            assert running.health()["status"] == "ok"


def hint_again_and_again(database, payload, is_over):
    connection = database.connect()
    count = 0
    with connection.cursor() as cursor:
        while not is_over.is_set():
            cursor.execute("SELECT pg_notify('pgsse_hint', json_build_object('recheck', %s::text, 'n', n)::text)"
                           " FROM generate_series(1, 500) n", (payload,))
            count += 500
    connection.close()
    return count


def test_rechecks(deploy, durable):
    """Whoever can NOTIFY can say that somebody's rights have changed, of one user or of all."""
    world = deploy(durable.url).start()
    subscribe(world, 1, "a")
    subscribe(world, 2, "b")
    streams = [greeted(world, user, channel) for user, channel in [(1, "a"), (2, "b")] * 10]
    for payload in ("", "1"):
        with flooding(lambda is_over, user=payload: hint_again_and_again(
                durable, user, is_over)) as hints:
            time.sleep(0.5)
            for number in range(10):
                publish(world, "a", number)
                publish(world, "b", number)
                for stream in streams:
                    assert json.loads(next_event(stream).data) == number
        assert hints[0] > 5000


def test_rights_are_taken_under_a_flood(deploy, durable):
    """A recheck that has to wait for others is made: what was taken away is gone soon."""
    world = deploy(durable.url).start()
    subscribe(world, 1, "a", "b")
    stream = greeted(world, 1, "a,b")
    with flooding(lambda is_over: hint_again_and_again(durable, "2", is_over)):
        time.sleep(0.3)
        durable.execute("SELECT pgsse.unsubscribe('1', 'a')")
        wait_for(lambda: "a" not in json.loads(world.request(
            "GET", "/api/events/active-connections").body)["byChannel"], "it is gone", 5)
    publish(world, "a", "secret")
    publish(world, "b", "open")
    assert json.loads(next_event(stream).data) == "open"
