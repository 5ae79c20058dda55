"""The broker dies and comes back: streams stay, and say once what may be missing."""

import json
import time

from waiting import wait_for


def reason_of(block, topic="alpha"):
    document = json.loads(block.data)
    assert document["topics"] == [topic] and document["dropped"] is None
    return document["reason"]


def test_kill_9_and_back(deploy, database):
    deployment = deploy(database.url, keep_alive="200ms").start(handlers=2)
    streams = [deployment.stream() for _ in range(6)]
    database.publish("alpha", "before")
    events = [stream.next_event() for stream in streams]
    assert [event.json() for event in events] == ["before"] * 6

    deployment.broker.kill()
    for stream in streams:
        for _ in range(3):  # kept
            assert stream.next_block().comments == ["heartbeat"]
    database.publish("alpha", "missed")

    deployment.start_broker()
    for stream in streams:
        refresh = stream.next_refresh()
        assert reason_of(refresh) == "restart"
        assert refresh.place[1] != events[0].place[1]
    database.publish("alpha", "after")
    for stream in streams:
        event = stream.next_event()  # one refresh, and nothing else before
        assert event.event == "message" and event.json() == "after"
    deployment.wait_totals(subscribers=6)


def test_it_can_die_again_and_again(deploy, database):
    deployment = deploy(database.url).start(publisher=False)
    stream = deployment.stream()
    descriptors = deployment.streams[0].settled_fd_count()
    for number in range(4):
        deployment.broker.kill()
        deployment.start_broker()
        assert reason_of(stream.next_refresh()) == "restart"
        database.publish("alpha", number)
        assert stream.next_data() == number
    assert deployment.streams[0].settled_fd_count() == descriptors


def test_an_orderly_stop_of_the_broker_keeps_the_streams(deploy, database):
    deployment = deploy(database.url, keep_alive="200ms").start(publisher=False)
    stream = deployment.stream()
    deployment.broker.stop()
    assert not deployment.broker_socket.exists() and not deployment.status_socket.exists()
    assert stream.next_block().comments == ["heartbeat"]
    deployment.start_broker()
    assert reason_of(stream.next_refresh()) == "restart"
    database.publish("alpha", 1)
    assert stream.next_data() == 1


def test_who_comes_meanwhile_waits(deploy, database):
    deployment = deploy(database.url, keep_alive="300ms").start(publisher=False)
    deployment.broker.kill()
    started = time.monotonic()
    stream = deployment.stream(greeted=False)
    waiting = stream.next_block()
    assert 0.1 < time.monotonic() - started < 1
    assert waiting.raw == f"retry: {waiting.retry}\n: waiting\n".encode()
    assert stream.next_block().raw == b": heartbeat\n"
    deployment.start_broker()
    greeting = stream.next_block()
    while greeting.comments == ["heartbeat"]:
        greeting = stream.next_block()
    assert greeting.raw == b": listening alpha\n"  # retry: is not repeated
    refresh = stream.next_block()  # which carries the position
    assert refresh.raw == (
        f"id: {refresh.id}\nevent: refresh\n"
        'data: {"reason":"gap","dropped":null,"topics":["alpha"]}\n\n').encode()
    database.publish("alpha", 1)
    event = stream.next_event()
    assert event.json() == 1 and event.place[2] == refresh.place[2] + 1


def test_who_comes_meanwhile_with_a_position(deploy, database):
    deployment = deploy(database.url).start(publisher=False)
    deployment.broker.kill()
    stream = deployment.stream(headers={"Last-Event-ID": "0.abcdefghijklm.7"}, greeted=False)
    waiting = stream.next_block()
    assert waiting.raw == f"retry: {waiting.retry}\n: waiting\n".encode()
    deployment.start_broker()
    greeting = stream.next_block()
    assert greeting.raw == b": listening alpha\n"
    assert reason_of(stream.next_refresh()) == "unknown_position"
    database.publish("alpha", 1)
    assert stream.next_event().event == "message"


def test_a_short_absence_is_not_seen_by_who_comes(deploy, database):
    """A broker that accepts within 200 ms: an ordinary greeting."""
    deployment = deploy(database.url).start(publisher=False)
    for _ in range(5):
        assert deployment.stream().greeting.retry
    assert deployment.totals()["subscribers"] == 5


def test_head_with_the_broker_away(deploy, database):
    deployment = deploy(database.url).start(publisher=False)
    deployment.broker.kill()
    started = time.monotonic()
    answer = deployment.request("HEAD", "/topics/alpha/events")
    assert answer.status == 503 and answer.header("Retry-After") and answer.body == b""
    assert 1.5 < time.monotonic() - started < 3.5


def test_what_needs_no_broker_is_answered_without(deploy, database):
    deployment = deploy(database.url).start()
    deployment.broker.kill()
    assert deployment.request("OPTIONS", "/topics/alpha/events").status == 204
    assert deployment.request("GET", "/nothing").status == 404
    assert deployment.request("GET", "/topics/a.b/events").status == 400
    assert deployment.post("alpha", '{"data":1}').status == 200  # publishing does not need it


def test_who_goes_meanwhile_is_forgotten(deploy, database):
    deployment = deploy(database.url).start(publisher=False)
    streams = [deployment.stream() for _ in range(5)]
    deployment.broker.kill()
    waiting = deployment.stream(greeted=False)
    waiting.next_block()
    for stream in streams[1:] + [waiting]:
        stream.close()
    wait_for(lambda: deployment.streams[0].fd_count() < 20, "descriptors are freed")
    deployment.start_broker()
    streams[0].next_refresh()
    deployment.wait_totals(subscribers=1)


def test_a_handler_does_not_spin_without_broker(deploy, database):
    deployment = deploy(database.url).start(publisher=False)
    streams = [deployment.stream() for _ in range(20)]
    deployment.broker.kill()
    before = deployment.streams[0].cpu_seconds()
    time.sleep(0.7)
    assert deployment.streams[0].cpu_seconds() - before < 0.15
    assert len(streams) == 20
