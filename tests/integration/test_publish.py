"""POST: what is answered, what reaches Postgres, and what reaches the streams."""

import concurrent.futures
import json
import os
import signal
import time

import pytest

from cluster import Listener
from test_notify import SHARDS, fnv1a_32
from waiting import wait_for
from web import Connection

PRECIOUS = '{"n":123456789012345678901234567890, "x":1.0, "s":"é\\u0000<", "k":1, "k":2}'
PRECIOUS_COMPACT = '{"n":123456789012345678901234567890,"x":1.0,"s":"é\\u0000<","k":1,"k":2}'


def test_a_post_is_answered_and_arrives(shared):
    stream = shared.stream()
    answer = shared.post("alpha", '{"data":{"n":1}}')
    assert answer.status == 200
    assert answer.header("Content-Type") == "application/json"
    assert answer.body == b'{"topic":"alpha","data":{"n":1}}'
    assert stream.next_event().raw.endswith(b'\nevent: message\ndata: {"n":1}\n\n')
    stream.close()


def test_data_comes_out_as_it_went_in(shared):
    stream = shared.stream()
    answer = shared.post("alpha", '{"data": ' + PRECIOUS + "}")
    assert answer.body == f'{{"topic":"alpha","data":{PRECIOUS_COMPACT}}}'.encode()
    assert stream.next_event().raw.endswith(f"\ndata: {PRECIOUS_COMPACT}\n\n".encode())
    stream.close()


def test_any_json_but_null_is_data(shared):
    stream = shared.stream()
    for text in ("0", "false", '""', "[]", "{}", "-0", "1e400", '"a\\nb"', '"\\ud800"', "[null]",
                 "[" * 126 + "]" * 126):
        answer = shared.post("alpha", '{"data":' + text + "}")
        assert answer.status == 200, text
        assert answer.body == f'{{"topic":"alpha","data":{text}}}'.encode()
        assert stream.next_event().data == text
    stream.close()


def test_the_type_and_unknown_keys(shared):
    stream = shared.stream()
    assert shared.post("alpha", '{"event":"created","data":1}').status == 200
    assert stream.next_event().event == "created"
    assert shared.post("alpha", '{"data":2,"event":""}').status == 200
    assert stream.next_event().event == "message"
    assert shared.post("alpha", '{"data":3,"event":"' + "t" * 255 + '"}').status == 200
    assert stream.next_event().event == "t" * 255
    body = '{"data":4,"topic":"beta","other":[]}'
    assert shared.post("alpha", body).body == b'{"topic":"alpha","data":4}'
    assert stream.next_event().data == "4"
    stream.close()


def test_what_the_envelope_of_notify_can(shared):
    stream = shared.stream()
    body = '{"data":"two\\nlines","id":"own","retry":1500,"comment":"a note","text":true}'
    assert shared.post("alpha", body).status == 200
    block = stream.next_event()
    assert block.data == "two\nlines" and block.id.endswith("~own")
    assert block.comments == ["a note"] and block.retry == "1500"
    assert shared.post("alpha", body.replace(',"text":true', "")).status == 200
    assert stream.next_event().data == '"two\\nlines"'
    stream.close()


@pytest.mark.parametrize("fields, names", [
    ('"retry":-1', '"retry"'), ('"retry":1.5', '"retry"'), ('"retry":"1"', '"retry"'),
    ('"retry":1e99', '"retry"'), ('"id":1', '"id"'), ('"id":"a\\nb"', '"id"'),
    ('"comment":[]', '"comment"'), ('"text":1', '"text"')])
def test_fields_that_cannot_be(shared, fields, names):
    answer = shared.post("alpha", '{"data":"x",' + fields + "}")
    assert answer.status == 400 and names in answer.body.decode(), answer


def test_the_last_of_duplicate_keys_wins(shared):
    stream = shared.stream()
    answer = shared.post("alpha", '{"data":1,"data":2}')
    assert answer.body == b'{"topic":"alpha","data":2}'
    assert stream.next_event().data == "2"
    stream.close()


def test_the_content_type_is_not_checked(shared):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json"):
        answer = shared.request("POST", "/topics/alpha/events", '{"data":1}',
                                {"Content-Type": kind})
        assert answer.status == 200, kind


def test_topics_are_lower_cased_and_sharded_by_fnv(shared):
    topics = [f"Sharded-{number}_" for number in range(24)] + ["a", "z" * 128]
    assert {fnv1a_32(topic.lower()) % 8 for topic in topics} == set(range(8))
    listener = Listener(shared.database, SHARDS)
    for topic in topics:
        assert shared.publish(topic, topic).body == \
            json.dumps({"topic": topic.lower(), "data": topic}, separators=(",", ":")).encode()
    heard = listener.heard(len(topics))
    envelopes = [json.loads(payload) for _, payload in heard]
    assert [envelope["topic"] for envelope in envelopes] == [topic.lower() for topic in topics]
    assert [channel for channel, _ in heard] == \
        [SHARDS[fnv1a_32(topic.lower()) % 8] for topic in topics]
    nonces = [envelope["nonce"] for envelope in envelopes]
    assert len(set(nonces)) == len(topics)
    listener.close()


def test_32_publishers_at_once(running):
    """Everything that was answered 200 arrives once, each publisher's own in its order."""
    stream = running.stream()
    publishers, each = 32, 25

    def publish(who):
        connection = Connection(running.port)
        statuses = [connection.request("POST", "/topics/alpha/events",
                                       json.dumps({"data": [who, number]})).status
                    for number in range(each)]
        connection.close()
        return statuses

    with concurrent.futures.ThreadPoolExecutor(publishers) as pool:
        statuses = sum(pool.map(publish, range(publishers)), [])
    assert statuses == [200] * (publishers * each)
    got = [stream.next_data() for _ in range(publishers * each)]
    for who in range(publishers):
        assert [number for one, number in got if one == who] == list(range(each))
    stream.silence(0.1)
    assert running.totals()["published"] == publishers * each


def test_equal_events_of_one_batch_all_arrive(deploy, database):
    """They pile up behind a commit that takes its time, and go into one transaction; Postgres folds
    equal notifications of a transaction."""
    deployment = deploy(database.url)
    deployment.start_broker()
    deployment.start_stream()
    backends = deployment.start_publisher_and_find(database)
    deployment.start_lighttpd()
    stream = deployment.stream()
    listener = Listener(database, SHARDS)
    for pid in backends:
        os.kill(pid, signal.SIGSTOP)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(deployment.publish, "alpha", "same") for _ in range(20)]
        time.sleep(0.3)  # nothing tells when they are in the handler's queue
        assert not any(answer.done() for answer in answers)
        for pid in backends:
            os.kill(pid, signal.SIGCONT)
        for answer in answers:
            answer.result()
    assert [stream.next_data() for _ in range(20)] == ["same"] * 20
    assert len(set(listener.heard(20))) == 20
    listener.close()


def test_a_commit_is_shared_by_who_waits_together(deploy, database):
    """A hundred publishers must not wait for each other's commits in a row."""
    def commits():
        return database.execute("SELECT xact_commit FROM pg_stat_database"
                                " WHERE datname = current_database()")[0][0]

    def burst(number):
        connection = Connection(deployment.port)
        for _ in range(20):
            assert connection.request("POST", "/topics/alpha/events", '{"data":1}').status == 200
        connection.close()

    before = commits()
    deployment = deploy(database.url).start()
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        list(pool.map(burst, range(32)))
    pids = database.backends()
    deployment.publisher.stop()  # its backend reports its counts when it ends
    wait_for(lambda: len(database.backends()) < len(pids), "the backend has ended")
    counted = wait_for(lambda: commits() - before > 30 and commits() - before, "statistics")
    assert counted < 640 * 0.9, "640 publishes by 32 clients took a commit each"
