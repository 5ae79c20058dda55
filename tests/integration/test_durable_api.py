"""The durable API as its clients know it, over plain HTTP: subscribe, publish, stream, come back, look
into the past, leave."""

import json

import pytest

from sse import HEARTBEAT
from schema import fixture_durable  # noqa: F401
from waiting import wait_for
from web import HttpStream

JSON = {"Content-Type": "application/json"}


@pytest.fixture(name="world")
def fixture_world(deploy, durable):
    world = deploy(durable.url, keep_alive="200ms")
    world.database = durable
    return world.start()


def post(world, path, **body):
    return world.request("POST", f"/api/events/{path}", json.dumps(body), JSON)


def subscribe(world, user, *channels):
    for channel in channels:
        assert post(world, "channels/subscribe", userId=user, channel=channel).status == 201


def publish(world, channel, payload, event_type="message"):
    answer = post(world, "publish", channel=channel, eventType=event_type, payload=payload)
    assert (answer.status, answer.body) == (202, b"")


def connect(world, user, channels, position=None):
    headers = {"Accept": "text/event-stream"}
    if position is not None:
        headers["Last-Event-ID"] = position
    return world.keep(HttpStream(
        world.port, f"/api/events/stream?userId={user}&channels={channels}", headers))


def greeted(world, user, channels, position=None):
    stream = connect(world, user, channels, position)
    assert stream.status == 200
    greeting = stream.next_block()
    assert greeting.comments == ["connected"] and greeting.id is None
    return stream


def next_event(stream):
    return stream.next_event()


def connections(world):
    answer = world.request("GET", "/api/events/active-connections")
    assert answer.status == 200
    return json.loads(answer.body)


def test_no_subscription_to_a_pattern(world):
    answer = post(world, "channels/subscribe", userId=1, channel="a*")
    assert answer.status == 400 and b"must not end in *" in answer.body
    world.database.execute("INSERT INTO pgsse.subscriptions VALUES ('1', 'a*')")  # from before
    assert post(world, "channels/unsubscribe", userId=1, channel="a*").status == 200
    assert world.database.execute("SELECT pgsse.subscriptions('1')") == []


def test_subscriptions_and_events_of_another_tenant(world):
    subscribe(world, 1, "a")
    world.database.execute("SELECT pgsse.subscribe('1', 'b', 't')")
    stream = greeted(world, 1, "a,b")
    world.database.execute("SELECT pgsse.publish('a', '1', tenant => 't'), pgsse.publish('a', '2'),"
                           " pgsse.unsubscribe('1', 'b', 't'), pgsse.publish('a', '3')")
    assert [next_event(stream).data for _ in range(2)] == ["2", "3"]
    answer = world.request("GET", "/api/events/history?channel=a&afterId=0")
    assert [event["payload"] for event in json.loads(answer.body)["events"]] == [2, 3]
    answer = world.request("GET", "/api/events/channels?userId=1")
    assert json.loads(answer.body)["channels"] == ["a"]


def test_from_subscribing_to_leaving(world):
    assert connect(world, 1, "a,b").status == 403
    subscribe(world, 1, "a", "b")
    stream = greeted(world, 1, "a,b,c")  # c is filtered out
    publish(world, "a", {"n": 1.0}, "first")
    publish(world, "c", 0)
    world.database.publish("a", "ephemeral events are not for this API")
    publish(world, "b", [])
    first, second = next_event(stream), next_event(stream)
    assert (first.event, first.data, second.event, second.data) == \
        ("first", '{"n":1.0}', "message", "[]")
    assert int(first.id) < int(second.id)
    assert connections(world) == {"count": 1, "activeConnections": 1, "totalConnections": 1,
                                  "byChannel": {"a": 1, "b": 1}}

    publish(world, "a", 3)
    back = greeted(world, 1, "a,b", first.id)  # all since then, in order, once
    assert [next_event(back).data for _ in range(2)] == ["[]", "3"]
    history = json.loads(world.request(
        "GET", f"/api/events/history?channel=a&afterId={first.id}").body)["events"]
    assert [(event["channel"], event["payload"]) for event in history] == [("a", 3)]

    back.close()
    stream.close()
    wait_for(lambda: connections(world)["count"] == 0, lambda: connections(world))


def test_unsubscribing_narrows_open_streams(world):
    subscribe(world, "x", "a", "b")
    subscribe(world, "y", "b")
    stream, other = greeted(world, "x", "a,b"), greeted(world, "y", "b")
    assert post(world, "channels/unsubscribe", userId="x", channel="b").status == 200
    wait_for(lambda: connections(world)["byChannel"] == {"a": 1, "b": 1},
             lambda: connections(world))
    publish(world, "b", 1)
    publish(world, "a", 2)
    assert next_event(stream).data == "2" and next_event(other).data == "1"
    assert post(world, "channels/unsubscribe", userId="x", channel="a").status == 200
    wait_for(lambda: connections(world)["count"] == 1, lambda: connections(world))
    publish(world, "a", 3)
    for _ in range(2):  # open, and quiet
        assert stream.next_block().raw == HEARTBEAT
    assert connect(world, "x", "a,b").status == 403


def test_a_row_deleted_by_hand_does_the_same(world):
    subscribe(world, 1, "a")
    greeted(world, 1, "a")
    world.database.execute("DELETE FROM pgsse.subscriptions")
    wait_for(lambda: connections(world)["count"] == 0, lambda: connections(world))


def test_what_comes_while_everything_restarts(world):
    """No gap, no refresh, nothing twice."""
    subscribe(world, 1, "a")
    stream = greeted(world, 1, "a")
    publish(world, "a", 1)
    world.broker.kill()
    publish(world, "a", 2)
    world.start_broker()
    publish(world, "a", 3)
    world.database.terminate(world.database.listen_backends())
    world.wait_totals(reconnects=1)
    publish(world, "a", 4)
    assert [next_event(stream).data for _ in range(4)] == ["1", "2", "3", "4"]


def test_rights_that_went_while_the_broker_was_away(world):
    subscribe(world, 1, "a", "b")
    stream = greeted(world, 1, "a,b")
    world.broker.kill()
    assert post(world, "channels/unsubscribe", userId=1, channel="b").status == 200
    publish(world, "b", "not any more")
    publish(world, "a", "still")
    world.start_broker()
    assert next_event(stream).data == '"still"'


def test_positions(world):
    """Garbage, and one beyond the end: live, and told so. Of the topics API's its first part."""
    subscribe(world, 1, "a")
    for number in range(3):
        publish(world, "a", number)
    first = greeted(world, 1, "a", "0")
    ids = [next_event(first).id for _ in range(3)]
    for position in ("garbage", str(10 ** 15), "-1"):
        stream = connect(world, 1, "a", position)
        block = next_event(stream)
        assert (block.event, block.json()["reason"], block.id) == \
            ("refresh", "unknown_position", ids[-1])
        stream.close()
    for position in (ids[0], f"{ids[0]}.abcdefghijklm.7", f"{ids[0]}~own"):
        stream = greeted(world, 1, "a", position)
        assert [next_event(stream).id for _ in range(2)] == ids[1:]
        stream.close()


def test_short_health(world):
    answer = world.request("GET", "/health")
    assert answer.status == 200 and answer.header("Content-Type") == "application/json"
    document = json.loads(answer.body)
    assert document["status"] == "ok" and document["message"] and document["timestamp"]
    world.broker.stop()
    wait_for(lambda: world.request("GET", "/health").status == 503, "the broker is missed")
    answer = world.request("GET", "/health")
    assert answer.header("Content-Type") == "application/json" and answer.header("Retry-After")
    document = json.loads(answer.body)
    assert document["status"] == "degraded" and document["message"] and document["timestamp"]


def test_no_schema(deploy, database):
    world = deploy(database.url).start()
    for answer in (connect(world, 1, "a"), post(world, "publish", channel="a", eventType="m",
                                                payload=1)):
        assert answer.status == 501
    assert b"psql -f sql/pgsse.sql" in post(world, "publish", channel="a", eventType="m",
                                            payload=1).body
