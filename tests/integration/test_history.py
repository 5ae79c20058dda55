"""Pages of a channel's history: what is in them, how large they get, and who reads them slowly."""

import json
import os
import re
import signal
import time

import pytest

import program
import durable_api
from schema import column, fixture_durable, value  # noqa: F401
from durable_api import assert_error, fixture_door, get, page, publish  # noqa: F401
from waiting import wait_for
from web import Connection

MIB = 1024 * 1024


def fill(database, sql):
    """Rows that no publisher wrote: id, topic, type, data from a query."""
    database.execute("BEGIN; SELECT set_config('pgsse.writer', 'on', true);"
                     " INSERT INTO pgsse.events (id, topic, type, data, bytes)"
                     " SELECT id, topic, type, data::json, pgsse._bytes(data::json, NULL)"
                     f" FROM ({sql}) AS q (id, topic, type, data);"
                     " SELECT setval('pgsse.event_id', max(id)) FROM pgsse.events; COMMIT")


@pytest.fixture(name="reading")
def _reading(deploy, durable):
    deployment = deploy(durable.url, publish_timeout="8s")
    deployment.database = durable
    deployment.start_publisher()
    deployment.start_lighttpd()
    return deployment


def test_an_event(door):
    publish(door, "one", {"n": 1.5}, "paid")
    (event,) = page(door, "channel=one")
    assert list(event) == ["id", "channel", "eventType", "payload", "createdAt"]
    (number,) = column(door.database, "SELECT id FROM pgsse.events WHERE topic = 'one'")
    assert event["id"] == number and event["channel"] == "one" and event["eventType"] == "paid"
    assert event["payload"] == {"n": 1.5}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["createdAt"])


@pytest.mark.parametrize("at, text", [
    ("2026-02-20 10:00:00+00", "2026-02-20T10:00:00.000Z"),
    ("2026-02-20 01:30:00.0019+03:30", "2026-02-19T22:00:00.001Z"),
    ("2026-12-31 23:59:59.999999+00", "2026-12-31T23:59:59.999Z")])
def test_the_time_is_utc_with_milliseconds(reading, durable, at, text):
    durable.execute(f"ALTER DATABASE {durable.name} SET timezone = 'Asia/Kolkata'")
    publish(reading, "c", 1)
    durable.execute("BEGIN; SELECT set_config('pgsse.writer', 'on', true);"
                    f" UPDATE pgsse.events SET created_at = '{at}'; COMMIT")
    assert page(reading, "channel=c")[0]["createdAt"] == text
    durable.execute(f"ALTER DATABASE {durable.name} RESET timezone")


@pytest.mark.parametrize("payload", [
    "0", "false", '""', '{"n":123456789012345678901234567890,"k":1,"k":2}', '"\\u0000<é"',
    '"\\ud800"', "1e400"])
def test_the_payload_is_what_is_stored_byte_for_byte(door, payload):
    assert durable_api.post(door, '{"channel":"bytes","eventType":"message","payload":' + payload
                           + "}").status == 202
    answer = get(door, "history?channel=bytes&limit=500")
    assert f'"eventType":"message","payload":{payload},"createdAt"'.encode() in answer.body


def test_white_space_in_the_table_stays(reading, durable):
    durable.execute("SELECT pgsse.publish('c', '{ \"a\" : 1 }'::json)")
    assert b'"payload":{ "a" : 1 },' in get(reading, "history?channel=c").body


def test_only_that_channel_behind_that_id_in_order(reading, durable):
    for number in range(10):
        publish(reading, "even" if number % 2 == 0 else "odd", number)
    ids = column(durable, "SELECT id FROM pgsse.events WHERE topic = 'odd' ORDER BY id")
    assert [event["payload"] for event in page(reading, "channel=odd")] == [1, 3, 5, 7, 9]
    assert [event["id"] for event in page(reading, "channel=odd")] == ids
    assert [event["id"] for event in page(reading, f"channel=odd&afterId={ids[1]}")] == ids[2:]
    assert [event["id"] for event in page(reading, f"channel=odd&afterId={ids[1]}&limit=2")] == \
        ids[2:4]
    for after in (ids[-1], ids[-1] + 1, 9223372036854775807, 9223372036854775808, "9" * 60):
        assert page(reading, f"channel=odd&afterId={after}") == []
    assert page(reading, "channel=nothing") == []
    assert page(reading, "channel=Odd") == []


def test_how_many(reading, durable):
    fill(durable, "SELECT n, 'c', 'message', '1' FROM generate_series(2, 700) AS n")
    assert len(page(reading, "channel=c")) == 50
    assert [event["id"] for event in page(reading, "channel=c&limit=1")] == [2]
    assert len(page(reading, "channel=c&limit=499")) == 499
    for limit in (500, 501, 100000, "9" * 60):
        assert len(page(reading, f"channel=c&limit={limit}")) == 500
    assert len(page(reading, "channel=c&limit=500&afterId=501")) == 199


@pytest.mark.parametrize("query, word", [
    ("", "channel"), ("channel", "channel"), ("channel=", "channel"), ("Channel=c", "channel"),
    ("channel=a,b", "channel"), ("channel=a%2Cb", "channel"), ("channel=a%0Ab", "channel"),
    ("channel=%7F", "channel"), ("channel=%zz", "channel"), ("channel=" + "c" * 256, "channel"),
    *(("channel=c&limit=" + limit, "limit")
      for limit in ("", "abc", "-1", "0", "00", "1.5", "1e3", "%2B1", "5x", "0x5", "%zz", "1;DROP",
                    "1%20OR%201=1")),
    *(("channel=c&afterId=" + after, "afterId")
      for after in ("", "abc", "-1", "1.5", "%2B1", "5x", "%zz", "1;DROP", "9" * 65)),
    ("channel=%00", "channel"), ("channel=%ff", "channel")])
def test_bad_questions(door, query, word):
    """Without lighttpd, which refuses some of these in its own words, and mends others."""
    connection = door.keep(door.publisher.connect())
    connection.ask("GET", f"/api/events/history?{query}").answer()
    assert connection.status == 400 and connection.headers["content-type"] == "application/json"
    assert f'"{word}"' in json.loads(connection.raw)["error"]


@pytest.mark.parametrize("channel", [
    "'; DROP TABLE pgsse.events; --", "x' OR '1'='1", "$1", "%", "\\", '"', "c" * 255, "é" * 127])
def test_sql_is_text(door, channel):
    quoted = "".join(f"%{byte:02x}" for byte in channel.encode())
    assert page(door, f"channel={quoted}") == []
    publish(door, channel, "found")
    (event,) = page(door, f"channel={quoted}")
    assert event["payload"] == "found" and event["channel"] == channel


def test_head(reading):
    publish(reading, "c", "x" * 100000)
    length = reading.request("GET", "/api/events/history?channel=c").header("Content-Length")
    answer = reading.request("HEAD", "/api/events/history?channel=c")
    assert answer.status == 200 and answer.body == b"" and answer.header("Content-Length") == length
    answer = reading.request("HEAD", "/api/events/history?channel=c&limit=0")
    assert answer.status == 400 and answer.body == b""


# --- large pages -----------------------------------------------------------------------------

def test_a_page_ends_at_four_mebibytes(reading, durable):
    fill(durable, "SELECT n, 'c', 't', to_json(repeat('x', 300000 + n)) FROM"
                  " generate_series(2, 31) AS n")
    after, pages, ids = 0, [], []
    while True:
        answer = get(reading, f"history?channel=c&afterId={after}&limit=500")
        assert len(answer.body) < 4 * MIB + 100000
        events = json.loads(answer.body)["events"]
        if not events:
            break
        assert all(event["payload"] == "x" * (300000 + event["id"]) for event in events)
        pages.append(len(events))
        ids += [event["id"] for event in events]
        after = ids[-1]
    assert ids == list(range(2, 32)) and pages == [13, 13, 4]


def test_a_page_holds_an_event_however_large(reading, durable):
    """Larger ones than any publisher may send."""
    fill(durable, "SELECT n, 'c', 't', to_json(repeat('x', 5000000)) FROM generate_series(2, 3) AS n")
    for after, found in ((0, 2), (2, 3)):
        (event,) = page(reading, f"channel=c&afterId={after}")
        assert event["id"] == found and len(event["payload"]) == 5000000


def test_what_can_be_compressed_is_bounded_as_well(reading, durable):
    fill(durable, "SELECT n, 'c', 't', to_json(repeat('x', 1000000)) FROM generate_series(2, 501) AS n")
    before = reading.publisher.memory_kib()
    assert len(page(reading, "channel=c&limit=500")) == 4
    if not program.is_sanitized():
        assert reading.publisher.memory_kib() - before < 24 * 1024


def test_records_are_small(reading, durable):
    fill(durable, "SELECT n, 'c', 't', to_json(repeat('x', 1000000)) FROM generate_series(2, 4) AS n")
    connection = reading.keep(reading.publisher.connect())
    connection.ask("GET", "/api/events/history?channel=c").answer()
    assert connection.status == 200 and len(json.loads(connection.raw)["events"]) == 3
    assert max(len(record.content) for record in connection.records) == 16384
    assert connection.end_status == (0, 0)
    connection.wait_closed()


def ask_and_read_nothing(deployment):
    connection = deployment.keep(deployment.publisher.connect())
    return connection.ask("GET", "/api/events/history?channel=c&limit=500")


def test_who_reads_slowly_delays_nobody(reading, durable):
    fill(durable, "SELECT n, 'c', 't', to_json(repeat('x', 1000000)) FROM generate_series(2, 5) AS n")
    slow = [ask_and_read_nothing(reading) for _ in range(10)]
    started = time.monotonic()
    assert len(page(reading, "channel=c")) == 4
    publish(reading, "other", 1)
    assert time.monotonic() - started < 2
    for connection in slow:
        assert len(json.loads(connection.answer().raw)["events"]) == 4


def test_a_hundred_who_read_nothing_cost_no_more_than_some(reading, durable):
    """Who has waited for the longest time is given up; who comes then is served."""
    fill(durable, "SELECT n, 'c', 't', to_json(repeat('x', 1000000)) FROM generate_series(2, 5) AS n")
    lost = [ask_and_read_nothing(reading) for _ in range(60)]
    assert len(page(reading, "channel=c")) == 4
    if not program.is_sanitized():
        assert reading.publisher.memory_kib() < 110 * 1024
    lost[0].read_headers()
    lost[0].wait_closed()
    assert lost[0].end_status is None
    for connection in lost:
        connection.close()
    reading.publisher.stop()


def test_who_reads_nothing_is_given_up(deploy, durable):
    deployment = deploy(durable.url, stall_timeout="1s")
    deployment.start_publisher()
    fill(durable, "SELECT n, 'c', 't', to_json(repeat('x', 1000000)) FROM generate_series(2, 5) AS n")
    idle = deployment.publisher.settled_fd_count()
    connection = ask_and_read_nothing(deployment)
    wait_for(lambda: deployment.publisher.fd_count() > idle + 1, "its answer waits")
    wait_for(lambda: "stall_timeout" in deployment.publisher.log(), "it is given up")
    connection.read_headers()
    connection.wait_closed()
    assert connection.end_status is None


def test_who_leaves_early(reading, durable):
    fill(durable, "SELECT n, 'c', 't', to_json(repeat('x', 1000000)) FROM generate_series(2, 5) AS n")
    assert len(page(reading, "channel=c")) == 4
    idle = reading.publisher.settled_fd_count()
    for _ in range(20):
        connection = ask_and_read_nothing(reading).read_headers()
        connection.close()
    assert len(page(reading, "channel=c")) == 4
    wait_for(lambda: reading.publisher.fd_count() == idle, "their connections are closed")


def test_an_answer_under_way_is_finished_at_a_stop(reading, durable):
    fill(durable, "SELECT n, 'c', 't', to_json(repeat('x', 1000000)) FROM generate_series(2, 5) AS n")
    connection = ask_and_read_nothing(reading).read_headers()
    reading.publisher.send_signal(signal.SIGTERM)
    wait_for(lambda: "told to stop" in reading.publisher.log(), "it is told to stop")
    assert len(json.loads(connection.answer().raw)["events"]) == 4
    reading.publisher.wait(0, 3)


# --- a slow Postgres -------------------------------------------------------------------------

def test_a_slow_page_delays_no_publish(deploy, durable):
    deployment = deploy(durable.url, publish_timeout="1s")
    deployment.start_publisher()
    deployment.start_lighttpd()
    publish(deployment, "c", 1)
    assert deployment.post("alpha", '{"data":1}').status == 200
    before = set(durable.backends())
    assert len(page(deployment, "channel=c")) == 1
    (reader,) = set(durable.backends()) - before
    os.kill(reader, signal.SIGSTOP)
    try:
        connection = deployment.keep(deployment.publisher.connect())
        connection.ask("GET", "/api/events/history?channel=c")
        for number in range(5):
            publish(deployment, "c", number)
            assert deployment.post("alpha", '{"data":1}').status == 200
        connection.answer()
        assert connection.status == 503 and "retry-after" in connection.headers
        assert json.loads(connection.raw) == {"error": "Postgres is away: nothing was done"}
    finally:
        os.kill(reader, signal.SIGCONT)
    wait_for(lambda: get(deployment, "history?channel=c").status == 200, "reading works again")


def test_a_long_way_to_the_next_event_is_no_way(reading, durable):
    """A channel that most events were of, and no new one is: its index has to be used, whatever the
    planner thinks of it."""
    fill(durable, "SELECT n, CASE WHEN n < 200000 THEN 'c' ELSE 'other' END, 't', '1'"
                  " FROM generate_series(2, 500000) AS n")
    durable.execute("ANALYZE pgsse.events")
    connection = Connection(reading.port)
    started = time.monotonic()
    for _ in range(50):
        assert connection.request("GET", "/api/events/history?channel=c&afterId=199999").status == 200
    assert time.monotonic() - started < 0.5 * (10 if program.is_sanitized() else 1)
    connection.close()


# --- a long history ----------------------------------------------------------------------

def test_a_long_history(reading, durable):
    """The handler's memory does not know how long a history is."""
    fill(durable, "SELECT n, 'c' || n % 10, 'message', ('{\"n\":' || n || '}')::json"
                  " FROM generate_series(2, 400001) AS n")
    connection = Connection(reading.port)
    count, after, settled = 0, 0, None
    for number in range(1000):
        answer = connection.request(
            "GET", f"/api/events/history?channel=c7&afterId={after}&limit=500")
        assert answer.status == 200
        events = json.loads(answer.body)["events"]
        if not events:
            break
        assert events[0]["id"] == (7 if number == 0 else after + 10)
        assert events[-1]["payload"]["n"] == events[-1]["id"] == events[0]["id"] + 4990
        count += len(events)
        after = events[-1]["id"]
        if number == 20:
            settled = reading.publisher.memory_kib()
    connection.close()
    assert count == 40000
    if not program.is_sanitized():
        assert reading.publisher.memory_kib() - settled < 1024
    assert value(durable, "SELECT count(*) FROM pgsse.events WHERE topic = 'c7'") == count
