"""POST of durable events: what is accepted is committed, what is refused is not there."""

import concurrent.futures
import json
import os
import signal
import time

import psycopg2
import pytest

import fastcgi
import durable_api
from schema import (column, fixture_durable, install, installed,  # noqa: F401
                    uninstall, value)
from durable_api import (INSTALL, assert_error, fixture_door, payloads, post,  # noqa: F401
                        publish, stored)
from waiting import wait_for
from web import Connection

MIB = 1024 * 1024


@pytest.fixture
def publishing(deploy, durable):
    """The schema is in, nothing has been published yet."""
    deployment = deploy(durable.url)
    deployment.database = durable
    deployment.start_publisher()
    deployment.start_lighttpd()
    return deployment


def body_of(**members):
    return json.dumps({"channel": "c", "eventType": "t", "payload": 1, **members})


# --- accepted --------------------------------------------------------------------------------

def test_accepted_is_committed(door):
    answer = publish(door, "orders", {"n": 1}, "paid")
    assert answer.body == b"" and answer.header("Content-Length") == "0"
    assert answer.header("Content-Type") is None
    assert stored(door.database, "orders") == [("paid", '{"n":1}')]


@pytest.mark.parametrize("payload", [
    "0", "false", '""', "[]", "{}", "-0", "1.0", "1e400",
    "123456789012345678901234567890", '{"k":1,"k":2}', '"\\u0000"', '"\\ud800"', '"é\\n"',
    "[" * 127 + "]" * 127, '"\'; DROP TABLE pgsse.events; --"', '"{\\"a\\",NULL}\\\\"'])
def test_any_json_is_a_payload_and_stays_what_it_is(door, payload):
    assert post(door, '{"payload": ' + payload + ', "channel":"any","eventType":"t"}').status == 202
    assert stored(door.database, "any")[-1] == ("t", payload)


def test_white_space_goes(door):
    assert post(door, ' {"payload" : [ 1 , {"a" : " b "} ],"channel":"w","eventType":"t"} ').status == 202
    assert stored(door.database, "w") == [("t", '[1,{"a":" b "}]')]


@pytest.mark.parametrize("channel", [
    "Alpha", "a b", "*a", "é" * 127, "c" * 255, "'; DROP TABLE pgsse.events; --", '"', "\\", "{}",
    "NULL", "user:7", "$1", "%s"])
def test_channels(door, channel):
    publish(door, channel, "x")
    assert stored(door.database, channel) == [("note", '"x"')]


@pytest.mark.parametrize("event_type, kept", [
    ("message", "message"), ("t" * 255, "t" * 255), ("é ,'\"\\{}", "é ,'\"\\{}"),
    ("NULL", "NULL"), ("'); DROP TABLE pgsse.events; --", "'); DROP TABLE pgsse.events; --")])
def test_types(door, event_type, kept):
    publish(door, "types", 1, event_type)
    assert stored(door.database, "types")[-1] == (kept, "1")


def padded(length):
    frame = body_of(payload="")
    return body_of(payload="x" * (length - len(frame)))


def test_a_body_of_a_mebibyte_and_one_more(door):
    assert len(padded(MIB)) == MIB
    assert post(door, padded(MIB)).status == 202
    assert len(stored(door.database, "c")[-1][1]) > MIB - 100
    count = len(payloads(door.database))
    assert_error(post(door, padded(MIB + 1)), 413, "max_durable_body")
    assert_error(post(door, padded(2 * MIB - 1)), 413, "max_durable_body")
    assert len(payloads(door.database)) == count


def test_the_limit_is_configured(deploy, durable):
    deployment = deploy(durable.url, max_durable_body="100", max_body="1000")
    deployment.start_publisher()
    deployment.start_lighttpd()
    assert post(deployment, padded(100)).status == 202
    assert_error(post(deployment, padded(101)), 413, "max_durable_body")
    assert deployment.post("alpha", '{"data":"' + "x" * 500 + '"}').status == 200


# --- refused ---------------------------------------------------------------------------------

@pytest.mark.parametrize("body, word", [
    ("", "empty"), (" ", "JSON"), ("not JSON", "JSON"), ("{", "JSON"), (body_of() + "x", "JSON"),
    (body_of() + body_of(), "JSON"), ('{"channel":"c",}', "JSON"), ("\ufeff" + body_of(), "JSON"),
    ("[]", "object"), ("1", "object"), ("null", "object"), ('"x"', "object"), ("{}", "channel"),
    ('{"eventType":"t","payload":1}', '"channel"'), ('{"channel":"c","payload":1}', '"eventType"'),
    ('{"channel":"c","eventType":"t"}', '"payload"'),
    ('{"channel":"c","eventType":"t","Payload":1}', '"payload"'),
    (body_of(channel=None), '"channel"'), (body_of(channel=1), '"channel"'),
    (body_of(channel=["c"]), '"channel"'), (body_of(channel=""), '"channel"'),
    (body_of(channel="a,b"), '"channel"'), (body_of(channel="c" * 256), '"channel"'),
    (body_of(channel="é" * 128), '"channel"'), (body_of(channel="a\nb"), '"channel"'),
    (body_of(channel="a\0b"), '"channel"'), (body_of(channel="a\x7fb"), '"channel"'),
    (body_of(channel="a\x85b"), '"channel"'),
    (body_of(channel="*"), '"channel" must not end in *'), (body_of(channel="a.*"), "not end in *"),
    (body_of(eventType=None), '"eventType"'), (body_of(eventType=""), '"eventType"'),
    (body_of(payload=None), '"payload"'), (body_of(eventType=1), '"eventType"'),
    (body_of(eventType={}), '"eventType"'), (body_of(eventType="t" * 256), '"eventType"'),
    (body_of(eventType="a\rb"), '"eventType"'), (body_of(eventType="refresh"), '"eventType"'),
    (body_of(eventType="close"), '"eventType"'), (body_of(eventType="error"), '"eventType"'),
    (body_of(eventType="open"), '"eventType"'),
    ('{"channel":"c","eventType":"t","payload":' + "[" * 128 + "]" * 128 + "}", "JSON"),
    ('{"channel":"c","eventType":"t","payload":' + "[" * 100000 + "}", "JSON"),
    ('{"channel":"c","eventType":"t","payload":NaN}', "JSON"),
    ('{"channel":"c","eventType":"t","payload":}', "JSON"),
    (b'{"channel":"c\xff","eventType":"t","payload":1}', "JSON"),
    (b'{"channel":"c","eventType":"t","payload":"\xed\xa0\x80"}', "JSON"),
    (b'{"channel":"c","eventType":"t","payload":"\xc0\xaf"}', "JSON"),
], ids=lambda body: ascii(body)[:40])
def test_bad_bodies(door, body, word):
    before = payloads(door.database)
    assert_error(post(door, body), 400, word)
    assert payloads(door.database) == before


@pytest.mark.parametrize("method, path, status, allow", [
    ("POST", "history", 405, "GET, HEAD, OPTIONS"), ("POST", "channels", 405, "GET, HEAD, OPTIONS"),
    ("POST", "channels/list", 405, "GET, HEAD, OPTIONS"),
    ("POST", "stream", 405, "GET, HEAD, OPTIONS"),
    ("POST", "active-connections", 405, "GET, HEAD, OPTIONS"),
    ("GET", "channels/subscribe", 405, "POST, OPTIONS"),
    ("DELETE", "channels/unsubscribe", 405, "POST, OPTIONS"),
    ("PUT", "history", 405, "GET, HEAD, OPTIONS"),
    ("POST", "", 404, None), ("POST", "publish/", 404, None), ("POST", "Publish", 404, None),
    ("POST", "publish/x", 404, None), ("GET", "channels/", 404, None),
    ("GET", "channels/none", 404, None), ("GET", "history/x", 404, None)])
def test_other_methods_and_paths(door, method, path, status, allow):
    answer = door.request(method, f"/api/events/{path}", "{" if method == "POST" else None)
    assert_error(answer, status)
    assert answer.header("Allow") == allow


def test_the_publisher_by_itself(door):
    """What the web server's routes should have sent to pgsse-stream."""
    def ask(method, path):
        return door.keep(door.publisher.connect()).ask(method, path).answer()
    assert ask("GET", "/api/events/publish").status == 405
    assert ask("GET", "/api/events/stream?userId=1&channels=c").status == 405
    assert ask("GET", "/health").status == 405
    assert ask("GET", "/api/events/x").status == 404
    assert ask("OPTIONS", "/api/events/publish").status == 204


def test_options(door):
    for path, methods in (("channels/subscribe", "POST, OPTIONS"), ("channels", "GET, HEAD, OPTIONS"),
                          ("history", "GET, HEAD, OPTIONS")):
        answer = door.request("OPTIONS", f"/api/events/{path}")
        assert answer.status == 204 and answer.header("Allow") == methods and answer.body == b""


def test_who_is_authenticated_posts_json(door):
    def ask(**params):
        connection = door.keep(door.publisher.connect())
        connection.ask("POST", "/api/events/publish", body_of().encode(), REMOTE_USER="eve", **params)
        return connection.answer()
    assert ask(CONTENT_TYPE="application/json").status == 202
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        refused = ask(CONTENT_TYPE=kind)
        assert refused.status == 415 and refused.headers["content-type"] == "application/json"


# --- many at once ----------------------------------------------------------------------------

def held(deployment, database):
    """Publishers wait behind a lock of ours; returns what lets them go on."""
    publish(deployment, "first", 0)
    connection = database.connect()
    connection.autocommit = False
    cursor = connection.cursor()
    cursor.execute("LOCK TABLE pgsse.publishing IN EXCLUSIVE MODE")

    def release():
        connection.rollback()
        connection.close()
    return release


def waiting_publishers(database):
    return value(database, "SELECT count(*) FROM pg_locks WHERE relation = 'pgsse.publishing'::regclass"
                           " AND NOT granted")


def post_behind(deployment, database, pool, bodies):
    """They come while a first one holds the connection; their answers, in order."""
    release = held(deployment, database)
    try:
        answers = [pool.submit(post, deployment, bodies[0])]
        wait_for(lambda: waiting_publishers(database) == 1, "the first waits for its turn")
        answers += [pool.submit(post, deployment, body) for body in bodies[1:]]
        time.sleep(0.4)  # nothing tells when they are in the handler's queue
    finally:
        release()
    return [answer.result() for answer in answers]


def transactions(database):
    """How many rows each transaction brought, in the order of ids."""
    return column(database, "SELECT count(*) FROM pgsse.events WHERE topic = 'c'"
                            " GROUP BY xmin ORDER BY min(id)")


def test_who_comes_together_shares_a_commit(publishing, durable):
    bodies = [body_of(payload=number) for number in range(21)]
    with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
        answers = post_behind(publishing, durable, pool, bodies)
    assert [answer.status for answer in answers] == [202] * 21
    assert transactions(durable) == [1, 20]


def test_a_group_is_bounded_in_bytes(publishing, durable):
    bodies = [body_of(payload="x" * 400000) for _ in range(7)]
    with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
        answers = post_behind(publishing, durable, pool, bodies)
    assert [answer.status for answer in answers] == [202] * 7
    assert transactions(durable) == [1, 2, 2, 2]


def test_one_bad_payload_harms_no_other(publishing, durable):
    """Postgres refuses one of a group: they are run one by one."""
    durable.execute("ALTER TABLE pgsse.events ADD CHECK (topic <> 'bad')")
    bodies = [body_of(payload=number) for number in range(9)]
    bodies.insert(5, body_of(channel="bad", payload="bad"))
    with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
        answers = post_behind(publishing, durable, pool, bodies)
    assert [answer.status for answer in answers] == [202] * 5 + [503] + [202] * 4
    assert "outcome" not in json.loads(answers[5].body)
    assert sorted(payloads(durable)) == sorted(["0"] + [str(number) for number in range(9)])


def test_what_postgres_refuses_is_400(publishing, durable):
    durable.execute("ALTER TABLE pgsse.events ADD CHECK (topic <> 'bad' OR 1 / (id - id) = 0)")
    assert_error(post(publishing, body_of(channel="bad")), 400, "Postgres does not take this")
    publish(publishing, "good", 1)


def test_durable_and_ephemeral_share_nothing(publishing, durable):
    """While durable events wait for their turn, notifications go out."""
    release = held(publishing, durable)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waits = pool.submit(post, publishing, body_of())
        wait_for(lambda: waiting_publishers(durable) == 1, "it waits for its turn")
        assert publishing.post("alpha", '{"data":1}').status == 200
        assert not waits.done()
        release()
        assert waits.result().status == 202


def test_the_connection_is_opened_when_it_is_needed(publishing, durable):
    def sessions():
        return len(durable.backends())
    assert publishing.post("alpha", '{"data":1}').status == 200
    assert sessions() == 1
    publish(publishing, "c", 1)
    assert sessions() == 2
    assert durable_api.page(publishing, "channel=c") != []
    assert sessions() == 3


# --- larger than a notification --------------------------------------------------------------

def test_what_is_too_large_for_a_notification_becomes_durable(publishing, durable):
    data = '{"x":"' + "y" * 20000 + '","n":1.0}'
    answer = publishing.post("Alpha", '{"data": ' + data + ', "event": "big"}')
    assert answer.status == 200
    assert answer.body == b'{"topic":"alpha","data":' + data.encode() + b"}"
    assert stored(durable, "alpha") == [("big", data)]
    assert publishing.post("alpha", '{"data":"small"}').status == 200
    assert publishing.post("alpha", '{"data":"' + "z" * 8000 + '"}').status == 200
    assert stored(durable, "alpha")[1:] == [("message", '"' + "z" * 8000 + '"')]


def test_the_largest_body_of_the_topics_API(publishing, durable):
    body = '{"data":"' + "x" * (256 * 1024 - 11) + '"}'
    answer = publishing.post("alpha", body)
    assert answer.status == 200 and len(answer.body) == len(body) + len('"topic":"alpha",')
    assert len(payloads(durable)[0]) == len(body) - 9
    assert publishing.post("alpha", " " + body).status == 413


# --- the schema ------------------------------------------------------------------------------

@pytest.fixture(name="bare")
def _bare(deploy, database):
    """No schema."""
    deployment = deploy(database.url)
    deployment.database = database
    deployment.start_publisher()
    deployment.start_lighttpd()
    return deployment


def requests(deployment):
    """One of every kind."""
    return [post(deployment, body_of()),
            durable_api.change(deployment, "subscribe", {"userId": 1, "channel": "c"}),
            durable_api.change(deployment, "unsubscribe", {"userId": 1, "channel": "c"}),
            durable_api.get(deployment, "channels?userId=1"),
            durable_api.get(deployment, "history?channel=c")]


LARGE = '{"data":"' + "x" * 9000 + '"}'


def test_no_schema(bare, database):
    for answer in requests(bare):
        assert_error(answer, 501, "not installed", INSTALL)
    answer = bare.post("alpha", LARGE)
    assert answer.status == 413 and answer.header("Content-Type").startswith("text/plain")
    assert b"max_notify_bytes" in answer.body and INSTALL.encode() in answer.body
    assert bare.post("alpha", '{"data":1}').status == 200
    with installed(database):
        assert [answer.status for answer in requests(bare)] == [202, 201, 200, 200, 200]
        assert bare.post("alpha", LARGE).status == 200


def test_the_schema_goes_and_comes(bare, database):
    install(database)
    assert [answer.status for answer in requests(bare)] == [202, 201, 200, 200, 200]
    for _ in range(2):
        uninstall(database)
        for answer in requests(bare):
            assert_error(answer, 501, "not installed", INSTALL)
        with installed(database):
            assert [answer.status for answer in requests(bare)] == [202, 201, 200, 200, 200]
        install(database)
        assert [answer.status for answer in requests(bare)] == [202, 201, 200, 200, 200]
    uninstall(database)


def test_a_schema_of_another_version(bare, durable):
    durable.execute("CREATE OR REPLACE FUNCTION pgsse.version() RETURNS integer"
                    " LANGUAGE sql IMMUTABLE AS 'SELECT 7'")
    for answer in requests(bare):
        assert_error(answer, 501, "another version, 7,", "needs 4", INSTALL)
    answer = bare.post("alpha", LARGE)
    assert answer.status == 413 and b"another version, 7," in answer.body
    assert payloads(durable) == []
    durable.execute("CREATE OR REPLACE FUNCTION pgsse.version() RETURNS integer"
                    " LANGUAGE sql IMMUTABLE AS 'SELECT 4'")
    assert [answer.status for answer in requests(bare)] == [202, 201, 200, 200, 200]


@pytest.fixture(name="stranger")
def _stranger(deploy, durable):
    """It connects as a role that owns nothing and was granted nothing."""
    durable.execute("DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN")
    deployment = deploy(f"{durable.url} user=stranger")
    deployment.start_publisher()
    deployment.start_lighttpd()
    yield deployment
    deployment.publisher.stop()
    durable.execute("DROP OWNED BY stranger; DROP ROLE stranger")


def test_a_role_without_rights(stranger, durable):
    published, *others = requests(stranger)
    assert published.status == 202  # everybody may, as with NOTIFY
    for answer in others:
        assert_error(answer, 503, "GRANT SELECT ON pgsse.events")
    durable.execute("GRANT SELECT ON pgsse.events TO stranger;"
                    "GRANT SELECT, INSERT, DELETE ON pgsse.subscriptions TO stranger")
    assert [answer.status for answer in requests(stranger)] == [202, 201, 200, 200, 200]
    durable.execute("REVOKE USAGE ON SCHEMA pgsse FROM PUBLIC")
    for answer in requests(stranger):
        assert_error(answer, 503, "GRANT USAGE ON SCHEMA pgsse")
    assert stranger.post("alpha", LARGE).status == 413
    durable.execute("GRANT USAGE ON SCHEMA pgsse TO stranger")
    assert [answer.status for answer in requests(stranger)] == [202, 201, 200, 200, 200]


# --- Postgres goes ---------------------------------------------------------------------------

def test_postgres_is_away(deploy, fragile_cluster, fragile_database):
    install(fragile_database)
    deployment = deploy(fragile_database.url, publish_timeout="400ms")
    deployment.start_publisher()
    deployment.start_lighttpd()
    assert [answer.status for answer in requests(deployment)] == [202, 201, 200, 200, 200]
    fragile_cluster.stop()
    for answer in requests(deployment):
        document = assert_error(answer, 503)
        assert "outcome" not in document, document
    fragile_cluster.start()
    wait_for(lambda: post(deployment, body_of()).status == 202, "publishing works again")
    wait_for(lambda: durable_api.get(deployment, "history?channel=c").status == 200, "so does reading")
    uninstall(fragile_database)


def test_killed_in_mid_publish(deploy, fragile_database):
    """It was sent, and nobody can say what became of it: so it is not sent again."""
    durable = fragile_database
    install(durable)
    publishing = deploy(durable.url)
    publishing.start_publisher()
    publishing.start_lighttpd()
    release = held(publishing, durable)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        sent = pool.submit(post, publishing, body_of(payload="sent"))
        wait_for(lambda: waiting_publishers(durable) == 1, "it waits for its turn")
        (pid,) = column(durable, "SELECT pid FROM pg_locks WHERE NOT granted"
                                 " AND relation = 'pgsse.publishing'::regclass")
        waiting = [pool.submit(post, publishing, body_of(payload=number)) for number in range(3)]
        time.sleep(0.3)  # nothing tells when they are in the handler's queue
        os.kill(pid, signal.SIGKILL)  # and the server takes all sessions down
        document = assert_error(sent.result(), 503)
        assert document["outcome"] == "unknown"
        assert [answer.result().status for answer in waiting] == [202] * 3
    with pytest.raises(psycopg2.Error):
        release()
    durable.close()  # this session has gone down with the others
    assert sorted(payloads(durable)) == ["0", "0", "1", "2"]
    uninstall(durable)


def test_terminated_in_mid_publish(publishing, durable):
    """It was reported as rolled back: so it is sent again."""
    release = held(publishing, durable)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        sent = pool.submit(post, publishing, body_of(payload="again"))
        wait_for(lambda: waiting_publishers(durable) == 1, "it waits for its turn")
        durable.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted"
                        " AND relation = 'pgsse.publishing'::regclass")
        wait_for(lambda: waiting_publishers(durable) == 1, "it waits again")
        release()
        assert sent.result().status == 202
    assert payloads(durable) == ["0", '"again"']


def test_too_slow(deploy, durable):
    deployment = deploy(durable.url, publish_timeout="400ms")
    deployment.start_publisher()
    deployment.start_lighttpd()
    release = held(deployment, durable)
    document = assert_error(post(deployment, body_of()), 503)
    assert document["outcome"] == "unknown"
    release()
    wait_for(lambda: post(deployment, body_of()).status == 202, "publishing works again")


def test_what_was_accepted_is_finished(publishing, durable):
    release = held(publishing, durable)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        early = pool.submit(post, publishing, body_of(payload="early"))
        wait_for(lambda: waiting_publishers(durable) == 1, "it waits for its turn")
        whole = fastcgi.request_bytes("POST", "/api/events/publish", body_of().encode())
        late = publishing.keep(publishing.publisher.connect())  # it comes before the stop ...
        late.send(whole[:2])
        publishing.publisher.send_signal(signal.SIGTERM)
        wait_for(lambda: "told to stop" in publishing.publisher.log(), "it is told to stop")
        late.send(whole[2:])  # ... and asks behind it
        late.answer()
        assert late.status == 503 and json.loads(late.raw) == {"error": "server draining"}
        release()
        assert early.result().status == 202
    publishing.publisher.wait(0, 3)
    assert payloads(durable) == ["0", '"early"']


def settled_fd_count(program):
    """Nothing tells when all have come that are let in: none has come for two seconds."""
    counts = [program.fd_count()]
    while len(counts) < 300 and (len(counts) < 20 or len(set(counts[-20:])) > 1):
        time.sleep(0.1)
        counts.append(program.fd_count())
    return counts[-1]


def test_more_than_the_handler_holds(deploy, durable):
    """It closes its door at 64 MiB of events that wait, and opens it again: nobody is lost."""
    deployment = deploy(durable.url, publish_timeout="30s")
    deployment.start_publisher()
    deployment.start_lighttpd()
    release = held(deployment, durable)
    with concurrent.futures.ThreadPoolExecutor(80) as pool:
        answers = [pool.submit(post, deployment, padded(MIB), seconds=60) for _ in range(70)]
        try:
            wait_for(lambda: waiting_publishers(durable) == 1, "the first waits for its turn")
            connections = settled_fd_count(deployment.publisher)
            answers += [pool.submit(post, deployment, body_of(), seconds=60) for _ in range(10)]
            time.sleep(0.3)
            assert deployment.publisher.fd_count() == connections  # they stay outside
        finally:
            release()
        assert [answer.result().status for answer in answers] == [202] * 80
    assert len(payloads(durable)) == 81


def test_32_publishers_at_once(publishing, durable):
    """Each one's own come in its order; all of it in fewer commits than events."""
    publishers, each = 32, 10

    def run(who):
        connection = Connection(publishing.port)
        statuses = [connection.request("POST", "/api/events/publish",
                                       body_of(payload=[who, number])).status
                    for number in range(each)]
        connection.close()
        return statuses

    with concurrent.futures.ThreadPoolExecutor(publishers) as pool:
        statuses = sum(pool.map(run, range(publishers)), [])
    assert statuses == [202] * (publishers * each)
    got = [json.loads(text) for text in payloads(durable)]
    for who in range(publishers):
        assert [number for one, number in got if one == who] == list(range(each))
    assert len(transactions(durable)) < publishers * each * 0.9
