"""Publishing without pgsse: plain NOTIFY, from psql, a shell script or a program of one's own."""

import json
import re

import pytest

from cluster import Listener

SHARDS = [f"topic_broadcast_{shard}" for shard in range(8)]


def fnv1a_32(text):
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def test_fnv_is_the_one_of_its_authors():
    """Vectors published with the algorithm, so that the tests below stand on ground."""
    assert fnv1a_32("") == 0x811C9DC5
    assert fnv1a_32("a") == 0xE40C292C
    assert fnv1a_32("foobar") == 0xBF9CF968


def test_plain_notify(shared):
    stream = shared.stream()
    shared.database.execute("""NOTIFY topic_broadcast_0, '{"topic":"alpha","data":{"n":1}}'""")
    assert stream.next_event().data == '{"n":1}'
    stream.close()


def test_all_shards_are_heard_for_any_topic(shared):
    stream = shared.stream()
    for shard in range(8):
        shared.database.publish("alpha", shard, shard=shard)
    assert [stream.next_data() for _ in range(8)] == list(range(8))
    stream.close()


def test_shards_of_their_own(shared):
    """A program that shards by itself is heard."""
    topics = [f"own-{number}" for number in range(40)]
    assert {fnv1a_32(topic) % 8 for topic in topics} == set(range(8))
    streams = [shared.stream(topic) for topic in topics]
    for topic in topics:
        shared.database.publish(topic, topic, shard=fnv1a_32(topic) % 8)
    assert [stream.next_data() for stream in streams] == topics
    for stream in streams:
        stream.close()


def test_other_channels_are_not_heard(shared):
    stream = shared.stream()
    for channel in ("topic_broadcast_8", "topic_broadcast", "alpha", "TOPIC_BROADCAST_0"):
        shared.database.notify(channel, '{"topic":"alpha","data":"wrong"}')
    shared.database.publish("alpha", "right")
    assert stream.next_data() == "right"
    stream.close()


def test_a_transaction_publishes_on_commit_only(shared):
    stream = shared.stream()
    connection = shared.database.connect()
    connection.autocommit = False
    with connection.cursor() as cursor:
        for number in (1, 2):
            cursor.execute("SELECT pg_notify('topic_broadcast_0', %s)",
                           (json.dumps({"topic": "alpha", "data": number}),))
        stream.silence(0.15)
        connection.commit()
        assert [stream.next_data(), stream.next_data()] == [1, 2]
        cursor.execute("SELECT pg_notify('topic_broadcast_0', %s)",
                       ('{"topic":"alpha","data":"rolled back"}',))
        connection.rollback()
    connection.close()
    shared.database.publish("alpha", 3)
    assert stream.next_data() == 3
    stream.close()


def test_events_come_in_the_order_of_commits_over_all_shards(shared):
    stream = shared.stream()
    shared.database.execute(
        "SELECT pg_notify('topic_broadcast_' || n % 8, json_build_object('topic', 'alpha', 'data', n)::text)"
        " FROM generate_series(1, 2000) n ORDER BY n")
    assert [stream.next_data() for _ in range(2000)] == list(range(1, 2001))
    stream.close()


def test_names_are_taken_as_they_are(shared):
    """A URL is lower-cased, a name in NOTIFY is not: Alpha is another topic, and an oddity."""
    stream = shared.stream("ALPHA", greeted=False)
    assert stream.next_block().comments == ["listening alpha"]
    before = shared.totals()
    shared.database.publish("Alpha", "wrong")
    shared.database.publish("alpha", "right")
    assert stream.next_data() == "right"
    after = shared.totals()
    assert after["published"] == before["published"] + 2
    assert after["bad_notifications"] == before["bad_notifications"]
    assert shared.topic("Alpha")["published"] == 1
    stream.close()


def test_the_largest_payload_of_postgres(shared):
    stream = shared.stream()
    head = '{"topic":"alpha","data":"'
    text = "x" * (7999 - len(head) - 2)
    shared.database.notify(SHARDS[0], head + text + '"}')
    assert stream.next_data() == text
    stream.close()


def test_a_topic_nobody_reads_is_counted_and_sent_nowhere(shared):
    before = shared.totals()
    shared.database.publish("unread", 1)
    after = shared.wait_totals(published=before["published"] + 1)
    assert after["broadcast"] == before["broadcast"]
    assert shared.topic("unread")["published"] == 1


# --- what is no event ------------------------------------------------------------------------------

BAD_PAYLOADS = [
    "", "not JSON", "[]", '"alpha"', "1", "null", "{", '{"topic":"alpha","data":1}}',
    '{"topic":"alpha","data":1} x', "{'topic':'alpha','data':1}", '{"topic":"alpha","data":NaN}',
    '{"topic":"alpha","data":01}', '{"topic":"alpha","data":"a\tb"}', '{"topic":"alpha","data":1,}',
    '{"topic":"alpha","data":' + "[" * 129 + "]" * 129 + "}",
    '{"data":1}', '{"topic":null,"data":1}', '{"topic":1,"data":1}', '{"topic":["alpha"],"data":1}',
    '{"topic":"","data":1}', '{"topic":"a\\nb","data":1}', '{"topic":"a\\u0000b","data":1}',
    '{"topic":"' + "t" * 256 + '","data":1}', '{"topic":"' + "é" * 128 + '","data":1}',
    '{"topic":"alpha"}',
    '{"topic":"alpha","data":1,"event":1}', '{"topic":"alpha","data":1,"event":"a\\nb"}',
    '{"topic":"alpha","data":1,"event":"a\\rid: 1"}', '{"topic":"alpha","data":1,"event":"\\u0000"}',
    '{"topic":"alpha","data":1,"event":"' + "e" * 256 + '"}',
    '{"topic":"alpha","data":1,"id":"a b"}', '{"topic":"alpha","data":1,"id":"a\\nb"}',
    '{"topic":"alpha","data":1,"id":"' + "i" * 65 + '"}', '{"topic":"alpha","data":1,"id":7}',
    '{"topic":"alpha","data":1,"retry":-1}', '{"topic":"alpha","data":1,"retry":3600001}',
    '{"topic":"alpha","data":1,"retry":1.5}', '{"topic":"alpha","data":1,"retry":"1"}',
    '{"topic":"alpha","data":1,"comment":1}',
    *(f'{{"topic":"alpha","data":1,"event":"{name}"}}'
      for name in ("refresh", "close", "error", "open", "position", "end", "state", "\\u0063lose")),
]


@pytest.mark.parametrize("payload", BAD_PAYLOADS,
                         ids=lambda text: text[:60].encode("unicode_escape").decode())
def test_a_bad_payload_is_counted_and_ignored(shared, payload):
    stream = shared.stream()
    before = shared.totals()
    shared.database.notify(SHARDS[1], payload)
    shared.database.publish("alpha", "good")
    event = stream.next_event()
    assert event.json() == "good"
    assert event.place[2] == stream.greeting.place[2] + 2  # it counts as a notification
    after = shared.totals()
    assert after["bad_notifications"] == before["bad_notifications"] + 1
    assert after["published"] == before["published"] + 1
    stream.close()


def test_bytes_that_are_no_utf8_are_refused(deploy, cluster):
    """Where the database does not check them (SQL_ASCII), the broker does."""
    database = cluster.create_database("ENCODING 'SQL_ASCII' LOCALE 'C'")
    deployment = deploy(database.url).start(publisher=False)
    stream = deployment.stream()
    before = deployment.totals()["bad_notifications"]
    for text in ("ff", "c0af", "eda080", "f4908080", "c3"):
        database.execute("SELECT pg_notify('topic_broadcast_0', convert_from(%s, 'SQL_ASCII'))",
                         (b'{"topic":"alpha","data":"' + bytes.fromhex(text) + b'"}',))
    database.execute("SELECT pg_notify('topic_broadcast_0', convert_from(%s, 'SQL_ASCII'))",
                     ('{"topic":"alpha","data":"é€😀"}'.encode(),))
    assert stream.next_event().data == '"é€😀"'
    assert deployment.totals()["bad_notifications"] == before + 5
    database.close()


def test_a_flood_of_bad_payloads_does_not_flood_the_log(deploy, database):
    deployment = deploy(database.url).start(publisher=False)
    lines_before = len(deployment.broker.log().splitlines())
    for _ in range(2):
        database.execute("SELECT pg_notify('topic_broadcast_0', 'bad ' || n)"
                         " FROM generate_series(1, 2500) n")
    deployment.wait_totals(bad_notifications=5000)
    lines = deployment.broker.log().splitlines()[lines_before:]
    assert 1 <= len(lines) <= 4, lines
    assert "topic_broadcast_0" in lines[0] or "JSON" in lines[0], lines


def test_the_log_of_a_bad_payload_is_one_line(deploy, database):
    deployment = deploy(database.url).start(publisher=False)
    lines_before = len(deployment.broker.log().splitlines())
    database.notify("topic_broadcast_0", "bad\nforged line\r\x1b[31m")
    deployment.wait_totals(bad_notifications=1)
    lines = deployment.broker.log().split("\n")[lines_before:]
    assert not any(re.match(r"forged", line) for line in lines)
    assert "\x1b" not in "".join(lines) and "\r" not in "".join(lines)


def test_markers_can_be_forged_without_harm(shared):
    """Every role can send them: they count as notifications, and are of no use."""
    stream = shared.stream()
    _, marker, since = stream.greeting.place
    listener = Listener(shared.database, ["pgsse_marker"])
    for payload in (f'{{"marker":"{marker}","set":"0000000000000000","pid":1}}',
                    '{"marker":"../../../etc/","set":"0000000000000000","pid":1}',
                    '{"marker":"aaaaaaaaaaaaa"}', "{}", "[" * 5000):
        shared.database.notify("pgsse_marker", payload)
    shared.database.publish("alpha", 1)
    assert stream.next_event().place[1:] == (marker, since + 6)
    listener.heard(5)
    listener.close()
    stream.close()
