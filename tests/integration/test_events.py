"""The events API: one stream of many topics and patterns, through lighttpd."""

import json
import urllib.parse

import pytest

import web
from durable import value
from schema import fixture_durable, installed  # noqa: F401
from waiting import wait_for



def open_stream(deployment, query="", headers=None):
    stream = deployment.keep(web.HttpStream(deployment.port, "/events" + query, headers))
    if stream.status == 200:
        stream.greeting = stream.next_block()
        assert "connected" in stream.greeting.comments, stream.greeting
    return stream


def notify(deployment, topic, data, **more):
    """As any publisher may, on whatever shard."""
    envelope = json.dumps({"topic": topic, "data": data, **more})
    deployment.database.execute("SELECT pg_notify('topic_broadcast_0', %s)", (envelope,))


def refused(deployment, query, headers=None):
    answer = deployment.request("GET", "/events" + query, headers=headers)
    assert answer.header("Content-Type") == "application/json"
    return answer.status, json.loads(answer.body)["error"]


# --- which topics ---------------------------------------------------------------------------------

@pytest.mark.parametrize("query, topics", [
    ("?topics=one,two", "one two"), ("?topic=one&topic=two", "one two"),
    ("?topics=one&topic=two", "one two"), ("?topic=one&topics=,two,", "one two"),
    ("?topics=one,one&topic=one", "one"), ("?topics=one%2Ctwo", "one two"),
    ("?topics=t.*", "t. t.x t.x.y t.*x"), ("?topics=t*", "t t. two t.x"),
    ("?topics=*", "one Alpha orders:42 größe"), ("", "one Alpha orders:42 größe"),
    ("?topics=&topic=", "one two"), ("?unknown=1", "one"),
    ("?topics=Alpha,orders:42,gr%C3%B6%C3%9Fe", "Alpha orders:42 größe"),
    ("?topics=a+b", "a|b"), ("?topics=" + "x" * 255, "x" * 255),
])
def test_every_spelling(shared, query, topics):
    stream = open_stream(shared, query)
    for topic in topics.split(" "):
        notify(shared, topic.replace("|", " "), topic)
        assert stream.next_data() == topic
    stream.close()


def test_only_what_was_named(shared):
    stream = open_stream(shared, "?topics=one,t.*")
    for topic in ("two", "One", "on", "onex", "t", "tx", "T.x", "x.t.", "user:t.x", "one*"):
        notify(shared, topic, topic)
    notify(shared, "one", "last")
    assert stream.next_data() == "last"
    stream.close()


def test_an_event_that_several_names_match_arrives_once(shared):
    stream = open_stream(shared, "?topics=orders.new,orders.*,o*,*,orders.new*")
    for number in range(3):
        notify(shared, "orders.new", number)
        assert stream.next_data() == number
    stream.close()


def test_streams_of_the_same_names_in_any_order_get_the_same(shared):
    streams = [open_stream(shared, "?topics=" + names) for names in ("b,a,c*", "c*,a,b", "a,b,c*,a")]
    for topic in ("a", "b", "cc", "d", "a"):
        notify(shared, topic, topic)
    blocks = [[stream.next_event().raw for _ in range(4)] for stream in streams]
    assert blocks[0] == blocks[1] == blocks[2]
    for stream in streams:
        stream.close()


def test_more_names_than_a_stream_may_have(shared):
    names = [f"n{number}" for number in range(65)]
    assert refused(shared, "?topics=" + ",".join(names))[0] == 400
    stream = open_stream(shared, "?topics=" + ",".join(names[:64] + names[:3]))
    notify(shared, "n63", 63)
    assert stream.next_data() == 63
    stream.close()


@pytest.mark.parametrize("query", ["?topics=a%0Ab", "?topics=%ff", "?topics=" + "x" * 256,
                                   "?topic=a%00", "?topics=%zz", "?topics=a,%C2%85"])
def test_names_that_are_none(shared, query):
    """Asked of the handler itself: lighttpd refuses some of them before."""
    connection = shared.keep(shared.streams[0].connect())
    connection.ask("GET", "/events" + query, QUERY_STRING=query[1:]).answer()
    assert connection.status == 400 and "topics" in json.loads(connection.raw)["error"]
    connection.close()


# --- users and everybody --------------------------------------------------------------------------

@pytest.mark.parametrize("query", ["?topics=user:anna", "?topics=a,user:anna", "?topic=user:*",
                                   "?topics=user:an*", "?topics=user%3Aanna", "?topics=user:"])
def test_nobody_reads_the_topic_of_a_user(shared, query):
    status, why = refused(shared, query, {"Remote-User": "anna", "REMOTE_USER": "anna",
                                          "Remote_User": "anna"})
    assert status == 403 and "user" in why


def test_the_topic_of_the_user_who_was_authenticated(shared):
    handler = shared.streams[0]
    anna = shared.keep(handler.connect())
    anna.ask("GET", "/events", QUERY_STRING="topics=news", REMOTE_USER="anna").read_headers()
    assert "connected" in anna.next_block().comments
    other = shared.keep(handler.connect())
    other.ask("GET", "/events", QUERY_STRING="topics=*", REMOTE_USER="an").read_headers()
    assert "connected" in other.next_block().comments
    notify(shared, "user:anna", "for anna")
    notify(shared, "news", "for all")
    assert anna.next_event().json() == "for anna"
    assert anna.next_event().json() == "for all"
    assert other.next_event().json() == "for all"
    own = shared.keep(handler.connect())
    own.ask("GET", "/events", QUERY_STRING="topics=user:anna", REMOTE_USER="anna").read_headers()
    assert own.status == 200
    bad = shared.keep(handler.connect())
    bad.ask("GET", "/events", QUERY_STRING="topics=user:anna", REMOTE_USER="ann").answer()
    assert bad.status == 403
    for connection in (anna, other, own):
        connection.close()


def test_a_broadcast_reaches_every_stream_of_this_api(shared):
    streams = [open_stream(shared, query) for query in ("", "?topics=a", "?topics=a,*", "?topic=x*")]
    other = shared.stream("a")
    notify(shared, "*", "all")
    notify(shared, "a", "a")
    assert [stream.next_data() for stream in streams] == ["all"] * 4
    assert other.next_data() == "a"
    for stream in [*streams, other]:
        stream.close()


# --- what an event looks like ---------------------------------------------------------------------

def test_types_ids_and_comments(shared):
    stream = open_stream(shared, "?topics=a")
    notify(shared, "a", {"n": 1}, event="created", id="own.1", retry=2500, comment="two\nlines")
    block = stream.next_event()
    assert block.event == "created" and block.retry == "2500" and block.json() == {"n": 1}
    assert block.comments == ["two", "lines"] and block.id.endswith("~own.1")
    stream.close()


@pytest.mark.parametrize("data, more, wanted", [
    ({"n": [1, "x"]}, {}, '{"n":[1,"x"]}'), ("text", {}, '"text"'), ("text", {"text": True}, '"text"'),
    ("two\nlines\n", {"text": True}, '"two\\u000alines\\u000a"'), ("", {"text": True}, '""'),
    (7, {"text": True}, "7"), (None, {}, "null"), ('"\\', {"text": True}, '"\\"\\\\"')])
def test_data_that_says_which_topic_it_was(shared, data, more, wanted):
    stream = open_stream(shared, "?topics=t.*&with_topic=1")
    plain = open_stream(shared, "?topics=t.*&with_topic=0")
    notify(shared, 't."x"', data, event="created", id="own", **more)
    block = stream.next_event()
    assert json.loads(block.data) == {"topic": 't."x"', "data": data}
    assert block.data == '{"topic":"t.\\"x\\"","data":' + wanted + "}", block.data
    assert block.event == "created" and block.id == plain.next_event().id
    stream.close()
    plain.close()


# --- positions ------------------------------------------------------------------------------------

def test_who_comes_back_gets_what_was_missed(shared):
    stream = open_stream(shared, "?topics=a,b.*")
    notify(shared, "a", "first")
    position = stream.next_event().id
    stream.close()
    for topic in ("b.x", "c", "a", "b.y", "user:b"):
        notify(shared, topic, topic)
    for query in ("?topics=a,b.*", "?topics=a,b.*&with_topic=1"):
        back = open_stream(shared, query, {"Last-Event-ID": position})
        got = [back.next_event().json() for _ in range(3)]
        assert [one["data"] if isinstance(one, dict) else one for one in got] == ["b.x", "a", "b.y"]
        back.close()


def test_all_that_is_kept(running, database):
    running.database = database
    for number in range(50):
        notify(running, f"t.{number % 5}", number)
    running.wait_totals(published=50)
    stream = open_stream(running, "?topics=t.3,t.4*", {"Last-Event-ID": "0"})
    assert [stream.next_data() for _ in range(20)] == [n for n in range(50) if n % 5 in (3, 4)]
    stream.close()


def test_head_tells_the_position(shared):
    answer = shared.request("HEAD", "/events?topics=a,b")
    assert answer.status == 200 and answer.body == b""
    assert answer.header("Content-Type") == "text/event-stream; charset=utf-8"
    notify(shared, "b", "after")
    stream = open_stream(shared, "?topics=a,b", {"Last-Event-ID": answer.header("Pgsse-Position")})
    assert stream.next_data() == "after"
    stream.close()
    assert shared.request("HEAD", "/events?topics=user:x").status == 403
    assert shared.request("HEAD", "/events?topics=" + "x" * 256).status == 400


def test_a_dropped_event_of_any_topic_counts_for_a_pattern(deploy, database):
    deployment = deploy(database.url, ring_capacity=4).start()
    deployment.database = database
    stream = open_stream(deployment, "?topics=a*")
    notify(deployment, "a1", "first")
    position = stream.next_event().id
    stream.close()
    for number in range(6):
        notify(deployment, "a2", number)
    deployment.wait_totals(published=7)
    back = open_stream(deployment, "?topics=a*", {"Last-Event-ID": position})
    refresh = back.next_event()
    assert refresh.event == "refresh" and refresh.json() == {
        "reason": "gap", "dropped": None, "topics": ["a*"]}
    assert [back.next_data() for _ in range(4)] == [2, 3, 4, 5]
    back.close()


# --- methods and numbers --------------------------------------------------------------------------

def test_methods(shared):
    answer = shared.request("OPTIONS", "/events")
    assert answer.status == 204 and answer.header("Allow") == "GET, HEAD, OPTIONS"
    answer = shared.request("POST", "/events", "{}")
    assert answer.status == 405 and "error" in json.loads(answer.body)
    assert shared.request("DELETE", "/events").status == 405
    for path in ("/events/", "/events/nothing", "/api/sse", "/api/sse/nothing"):
        answer = shared.request("GET", path)
        assert (answer.status, json.loads(answer.body)) == (
            404, {"error": "nothing is served under this path"}), path


def test_stats(running):
    def stats():
        answer = running.request("GET", "/api/sse/stats")
        assert answer.status == 200 and answer.header("Content-Type") == "application/json"
        return json.loads(answer.body)
    assert set(stats()) == {"connected_clients", "active_topics", "dropped_messages", "timestamp"}
    streams = [open_stream(running, query) for query in ("?topics=a,b", "?topics=b,c*")]
    streams.append(running.stream("d"))
    wait_for(lambda: stats()["connected_clients"] == 3, "three streams are counted")
    assert stats()["active_topics"] == 5  # a, b, c*, d and what is for everybody
    for stream in streams:
        stream.close()
    wait_for(lambda: stats()["connected_clients"] == stats()["active_topics"] == 0, "all have gone")


def test_health_shows_patterns(running):
    stream = open_stream(running, "?" + urllib.parse.urlencode({"topics": "größe.*"}))
    wait_for(lambda: running.topic("größe.*")["subscribers"] == 1, "the pattern has a subscriber")
    stream.close()


# --- durable events -------------------------------------------------------------------------------

def publish_durable(database, *topics):
    return [value(database, "SELECT pgsse.publish(%s, to_json(%s::text))", (topic, topic))
            for topic in topics]


def test_durable_events_of_a_pattern_come_from_the_table(deploy, durable):
    """The log has none of them any more."""
    deployment = deploy(durable.url, history_bytes=0).start()
    deployment.database = durable
    first, *_ = publish_durable(durable, "t.a", "x", "t.b", "user:t", "tt", "t.a")
    deployment.wait_totals(published=6)
    stream = open_stream(deployment, f"?topics=t.*&last_event_id={first - 1}")
    assert [stream.next_data() for _ in range(3)] == ["t.a", "t.b", "t.a"]
    publish_durable(durable, "tt", "t.c")
    assert stream.next_data() == "t.c"
    stream.close()


def test_a_rare_pattern_among_many_durable_events(deploy, durable):
    deployment = deploy(durable.url, history_bytes=0).start()
    deployment.database = durable
    first, = publish_durable(durable, "rare.1")
    durable.execute("SELECT count(*) FROM (SELECT pgsse.publish('common', '1'::json)"
                    " FROM generate_series(1, 25000)) AS p")
    last, = publish_durable(durable, "rare.2")
    wait_for(lambda: deployment.totals()["durable_head"] == last, "the broker has read all")
    stream = open_stream(deployment, f"?topics=rare*&last_event_id={first - 1}")
    assert [stream.next_data() for _ in range(2)] == ["rare.1", "rare.2"]
    stream.close()


def test_pruned_events_of_a_pattern_are_told(deploy, durable):
    deployment = deploy(durable.url, history_bytes=0).start()
    deployment.database = durable
    first, *_ = publish_durable(durable, "t.a", "t.b", "t.b", "other")
    deployment.wait_totals(published=4)
    value(durable, "SELECT pgsse.prune(keep => 1)")
    stream = open_stream(deployment, f"?topics=t.*&last_event_id={first}")
    refresh = stream.next_event()
    assert refresh.event == "refresh" and refresh.json()["reason"] == "gap"
    assert stream.next_data() == "t.b"
    stream.close()
