"""Postgres goes away, freezes, loses a connection, and comes back."""

import concurrent.futures
import json
import os
import signal
import threading
import time

from waiting import wait_for
from web import Connection


def health(deployment):
    answer = deployment.request("GET", "/healthz")
    return answer.status, json.loads(answer.body)


def assert_gap(block):
    assert block.event == "refresh"
    assert block.json() == {"reason": "gap", "dropped": None, "topics": ["alpha"]}


def wait_degraded(deployment, seconds=5):
    """503 and a reason; returns the document."""
    wait_for(lambda: health(deployment)[0] == 503, lambda: f"503: {health(deployment)}", seconds)
    document = health(deployment)[1]
    assert document["status"] == "degraded" and document["reason"] and document["degraded_since"]
    assert document["totals"]["listen_connected"] is False
    assert document["totals"]["listen_connected_since"] is None
    return document


def wait_well(deployment, seconds=5):
    wait_for(lambda: health(deployment)[0] == 200 and health(deployment)[1]["status"] == "ok",
             lambda: f"healthy again: {health(deployment)}", seconds)
    document = health(deployment)[1]
    assert not document["reason"] and not document["degraded_since"]
    return document


def test_stop_and_start(deploy, fragile_cluster, fragile_database):
    deployment = deploy(fragile_database.url, keep_alive="200ms").start()
    stream = deployment.stream()
    deployment.publish("alpha", "before")
    before = stream.next_event()
    fragile_database.close()
    fragile_cluster.stop()

    wait_degraded(deployment)
    for _ in range(3):  # kept
        assert stream.next_block().comments == ["heartbeat"]
    late = deployment.stream(greeted=False)
    assert late.next_block().comments == ["waiting"]

    fragile_cluster.start()
    totals = wait_well(deployment)["totals"]
    assert totals["reconnects"] == 1 and totals["reconnect_attempts"] >= 1
    assert totals["errors"] >= 1 and totals["last_error_at"]
    refresh = stream.next_event()
    assert_gap(refresh)
    assert refresh.place[1] != before.place[1]
    first = late.next_event()
    assert_gap(first)
    deployment.publish("alpha", "after")
    for one in (stream, late):
        event = one.next_event()
        assert event.event == "message" and event.json() == "after"


def test_publishing_without_postgres(deploy, fragile_cluster, fragile_database):
    """An honest 503 in time, and 200 again when it is back: then the event has come."""
    deployment = deploy(fragile_database.url, publish_timeout="700ms").start()
    stream = deployment.stream()
    deployment.publish("alpha", 1)
    assert stream.next_data() == 1
    fragile_database.close()
    fragile_cluster.stop()
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda n: deployment.post("alpha", '{"data":"lost"}'), range(10)))
    assert time.monotonic() - started < 1.7
    for answer in answers:
        assert answer.status == 503
        assert int(answer.header("Retry-After")) > 0
        assert answer.header("X-Content-Type-Options") == "nosniff"
        assert answer.header("Content-Type").startswith("text/plain")
    fragile_cluster.start()
    wait_well(deployment)
    assert_gap(stream.next_event())
    wait_for(lambda: deployment.post("alpha", '{"data":2}').status == 200, "200 again")
    assert stream.next_data() == 2  # and none of those that were answered 503


def test_publishing_waits_for_a_short_absence(deploy, fragile_cluster, fragile_database):
    """Within publish_timeout it is tried again, and nobody hears of it."""
    deployment = deploy(fragile_database.url, publish_timeout="8s").start()
    deployment.publish("alpha", 1)
    fragile_database.close()
    fragile_cluster.stop()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(deployment.post, "alpha", '{"data":2}')
        time.sleep(0.2)
        assert not answer.done()
        fragile_cluster.start()
        assert answer.result().status == 200


def test_the_publishers_connection_is_cut_again_and_again(deploy, database):
    """What was answered 200 has come, whatever happened to the connection."""
    deployment = deploy(database.url)
    deployment.start_broker()
    deployment.start_stream()
    broker_backends = set(database.backends())
    deployment.start_publisher()
    deployment.start_lighttpd()
    stream = deployment.stream()
    has_been_cut = threading.Event()

    def publish(who):
        connection = Connection(deployment.port)
        answers = {}
        for number in range(6000):
            if number >= 60 and has_been_cut.is_set():
                break
            answer = connection.request("POST", "/topics/alpha/events",
                                        json.dumps({"data": f"{who}.{number}"}))
            answers[f"{who}.{number}"] = answer.status
        connection.close()
        return answers

    answers = {}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(publish, who) for who in range(8)]
        cuts = 0
        while not all(future.done() for future in futures):
            victims = set(database.backends()) - broker_backends
            database.terminate(victims)
            cuts += len(victims)
            if cuts > 2:
                has_been_cut.set()
            time.sleep(0.01)
        for future in futures:
            answers.update(future.result())
    assert cuts > 2
    assert set(answers.values()) <= {200, 503}
    database.publish("alpha", "end")
    arrived = []
    while not arrived or arrived[-1] != "end":
        arrived.append(stream.next_data())
    assert len(set(arrived)) == len(arrived), "an event came twice"
    assert {name for name, status in answers.items() if status == 200} <= set(arrived)


def test_a_frozen_publisher_connection(deploy, database):
    """A commit whose outcome nobody knows is 503, in time; the next ones get through."""
    deployment = deploy(database.url, publish_timeout="500ms")
    deployment.start_broker()
    deployment.start_stream()
    backends = deployment.start_publisher_and_find(database)
    deployment.start_lighttpd()
    for pid in backends:
        os.kill(pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        answer = deployment.post("alpha", '{"data":1}')
        assert answer.status == 503 and answer.header("Retry-After")
        assert 0.3 < time.monotonic() - started < 1.5
        wait_for(lambda: deployment.post("alpha", '{"data":2}').status == 200,
                 "publishing on a new connection", 4)
    finally:
        for pid in backends:
            os.kill(pid, signal.SIGCONT)
    deployment.publish("alpha", 3)


def listen_backend(deployment, database):
    """The one of the broker's two whose last word was not about a marker."""
    found = database.listen_backends()
    assert len(found) == 1, database.backends()
    return found[0]


def test_the_listen_connection_is_terminated(deploy, database):
    deployment = deploy(database.url).start()
    stream = deployment.stream()
    # Where LISTEN cannot be told from the other, cut both: the outcome is the same.
    victims = database.listen_backends() or list(database.backends())
    database.terminate(victims)
    assert_gap(stream.next_event())
    document = wait_well(deployment)
    assert document["totals"]["reconnects"] == 1
    deployment.publish("alpha", 1)
    assert stream.next_data() == 1


def test_the_query_connection_is_terminated(deploy, database):
    """No event was missed, so nobody is told so."""
    deployment = deploy(database.url, canary_interval="100ms").start(publisher=False)
    stream = deployment.stream()
    listening = listen_backend(deployment, database)
    for number in range(3):
        victims = wait_for(database.query_backends, "it has sent a marker")
        assert len(victims) == 1
        database.terminate(victims)
        database.publish("alpha", number)
        assert stream.next_data() == number
        wait_for(lambda: set(database.query_backends()) - set(victims), "it came back")
    assert health(deployment)[0] == 200
    assert listen_backend(deployment, database) == listening
    stream.silence(0.2)


def test_listen_is_never_in_a_transaction(deploy, database):
    deployment = deploy(database.url).start()
    deployment.publish("alpha", 1)
    states = [state for state, in database.execute(
        "SELECT state FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid()")]
    assert len(states) >= 3 and set(states) == {"idle"}


def test_a_deaf_listen_connection_is_noticed(deploy, database):
    """Its server process hangs; the markers that others commit do not come."""
    deployment = deploy(database.url, canary_interval="300ms", canary_timeout="500ms").start()
    stream = deployment.stream()
    pid = listen_backend(deployment, database)
    os.kill(pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        assert_gap(stream.next_event(3))
        assert time.monotonic() - started < 0.3 + 0.5 + 0.7
        wait_well(deployment)
        deployment.publish("alpha", 1)
        assert stream.next_data() == 1
    finally:
        os.kill(pid, signal.SIGCONT)
    assert deployment.totals()["reconnects"] == 1
    stream.silence(0.2)


def test_a_frozen_server_is_noticed_and_comes_back(deploy, fragile_cluster, fragile_database):
    deployment = deploy(fragile_database.url, canary_interval="300ms", canary_timeout="500ms",
                        keep_alive="300ms", publish_timeout="500ms").start()
    stream = deployment.stream()
    fragile_cluster.pause()
    try:
        started = time.monotonic()
        wait_for(lambda: deployment.health()["status"] == "degraded", "degraded", 3)
        assert time.monotonic() - started < 0.3 + 0.5 + 0.5
        assert deployment.health()["reason"]
        assert deployment.post("alpha", '{"data":0}').status == 503
        assert stream.next_block().comments == ["heartbeat"]
    finally:
        fragile_cluster.resume()
    wait_for(lambda: deployment.health()["status"] == "ok", lambda: f"ok: {deployment.health()}", 8)
    wait_for(lambda: deployment.post("alpha", '{"data":"after"}').status == 200, "200 again", 5)
    # Whether LISTEN had been given up decides whether there is a refresh, and whether the event
    # of unknown outcome comes: what counts is that this one does.
    while stream.next_event().data != '"after"':
        pass


def test_the_broker_does_not_spin_without_postgres(deploy, fragile_cluster, fragile_database):
    deployment = deploy(fragile_database.url).start()
    fragile_database.close()
    fragile_cluster.stop()
    wait_degraded(deployment)
    programs = (deployment.broker, deployment.publisher, deployment.streams[0])
    before = [one.cpu_seconds() for one in programs]
    time.sleep(0.7)
    assert all(one.cpu_seconds() - cpu < 0.2 for one, cpu in zip(programs, before))
    log = deployment.broker.log()
    assert len(log.splitlines()) < 60, "the log is flooded"


def test_a_database_that_is_not_there_yet(deploy, cluster):
    """Like a server that is down: it may come."""
    deployment = deploy(cluster.url("later"))
    deployment.spawn_broker()
    deployment.start_stream()
    deployment.start_lighttpd()
    wait_for(deployment.broker_socket.exists, "the broker is up")
    wait_for(lambda: "degraded_since" in health(deployment)[1], "the broker is asked")
    wait_degraded(deployment)
    connection = cluster.connect("postgres")
    with connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE later TEMPLATE template0")
    connection.close()
    wait_well(deployment)
