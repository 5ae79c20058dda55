"""Programs that have few descriptors: what is refused, what goes on, and what is said."""

import json
import resource
import subprocess

import pytest

from waiting import wait_for

FEW = 128
RESERVE = FEW // 4


@pytest.fixture
def few(monkeypatch):
    """Programs that are started with it have no more."""
    plain = subprocess.Popen

    def with_limit(argv, **how):
        return plain(["prlimit", f"--nofile={FEW}:{FEW}", *argv], **how)

    def limited(start):
        with monkeypatch.context() as patch:
            patch.setattr("program.subprocess.Popen", with_limit)
            return start()

    return limited


def open_streams(deployment, handler, most):
    """Until one is refused: (those that were taken, the refused one)."""
    taken = []
    for number in range(most):
        stream = deployment.keep(handler.connect())
        stream.ask("GET", f"/topics/t{number}/events").read_headers()
        if stream.status != 200:
            return taken, stream
        taken.append(stream)
    raise AssertionError("none was refused")


def test_a_stream_handler_refuses_streams_and_answers_the_rest(deploy, database, few):
    deployment = deploy(database.url)
    deployment.start_broker()
    handler = few(deployment.start_stream)
    deployment.wait_served()
    taken, refused = open_streams(deployment, handler, FEW)
    assert "max_connections = 5000" in handler.log() and f"the limit is {FEW}" in handler.log()
    assert FEW - RESERVE - 20 < len(taken) <= FEW - RESERVE
    assert refused.status == 503 and dict(refused.headers)["retry-after"]
    browser = deployment.keep(handler.connect())
    browser.ask("GET", "/topics/alpha/events", HTTP_ACCEPT="text/event-stream").answer()
    assert browser.status == 200 and b"event: close\ndata: {}\n\n" in browser.raw
    for _ in range(3 * RESERVE):
        health = handler.connect()
        health.ask("GET", "/healthz").answer()
        assert health.status == 200
        health.close()
    before = handler.cpu_seconds()
    database.publish("t0", "still here")
    assert taken[0].next_event().json() == "still here"
    assert handler.cpu_seconds() - before < 0.2
    taken.pop().close()
    wait_for(lambda: deployment.totals()["subscribers"] == len(taken), "it has gone")
    again = deployment.keep(handler.connect())
    again.ask("GET", "/topics/alpha/events").read_headers()
    assert again.status == 200


def test_a_publisher_keeps_some_for_postgres(deploy, fragile_cluster, fragile_database, few):
    """However many wait: it could not connect again, and would answer 503 for ever."""
    deployment = deploy(fragile_database.url, publish_timeout="1s")
    publisher = few(deployment.start_publisher)
    wait_for(lambda: post(deployment, publisher).answer().status == 200, "it publishes")
    fragile_cluster.pause()
    try:
        waiting = [post(deployment, publisher) for _ in range(2 * FEW)]
        wait_for(lambda: publisher.fd_count() > FEW // 2, "they have come in")
        assert publisher.settled_fd_count() <= FEW - RESERVE + 20
    finally:
        fragile_cluster.resume()
    for one in waiting:
        assert one.answer().status in (200, 503)
    wait_for(lambda: post(deployment, publisher).answer().status == 200, "it publishes again", 10)


def post(deployment, publisher):
    return deployment.keep(publisher.connect()).ask(
        "POST", "/topics/alpha/events", json.dumps({"data": 1}).encode())


def test_a_broker_keeps_some_for_postgres(deploy, fragile_database, few):
    """However many handlers there are: LISTEN comes back."""
    deployment = deploy(fragile_database.url)
    few(deployment.start_broker)
    assert "1000 handler processes" in deployment.broker.log()
    hands = [deployment.handler_by_hand(greet=False) for _ in range(FEW)]
    wait_for(lambda: "a handler is refused" in deployment.broker.log(), "some are refused")
    assert deployment.broker.settled_fd_count() <= FEW - RESERVE + 5
    fragile_database.terminate(fragile_database.backends())
    deployment.wait_ready()
    wait_for(lambda: deployment.totals()["listen_connected"], "it listens again")
    for hand in hands:
        hand.close()


def test_the_soft_limit_is_raised(deploy, database):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 5000 + 96
    if hard < wanted:
        pytest.skip(f"the hard limit is {hard}")
    deployment = deploy(database.url)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        handler = deployment.start_stream()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_for(lambda: resource.prlimit(handler.pid, resource.RLIMIT_NOFILE) == (wanted, hard),
             "it has as many as it may need")
    assert "descriptors" not in handler.log()
