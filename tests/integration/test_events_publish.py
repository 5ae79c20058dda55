"""POST of the events API: many events in one body, all or none of them, and one for everybody, for a
topic or for a user."""

import concurrent.futures
import contextlib
import json
import signal

import pytest

import fastcgi
from cluster import Listener
from durable_api import INSTALL, assert_error
from schema import column, fixture_durable, install, uninstall  # noqa: F401
from test_notify import SHARDS, fnv1a_32
from test_publish_limits import FOREIGN
from waiting import wait_for
from web import Connection

MANY = "/events/publish"
ONE = "/api/sse/publish"
LARGE = "x" * 9000
MIB = 1024 * 1024


def lines(events):
    return "".join(json.dumps(event) + "\n" for event in events)


def event(data, topic="alpha", **more):
    return {"topic": topic, "data": data, **more}


def many(deployment, events, **how):
    body = events if isinstance(events, (str, bytes)) else lines(events)
    return deployment.request("POST", MANY, body, **how)


def one(deployment, **members):
    return deployment.request("POST", ONE, json.dumps(members))


def assert_published(answer, count, status=200):
    assert answer.status == status, answer
    assert answer.header("Content-Type") == "application/json"
    assert answer.header("Cache-Control") == "no-store"
    assert answer.body == b'{"published":%d}' % count


def assert_nothing_came(deployment, stream):
    """What comes next is what is published next."""
    deployment.publish("alpha", "next")
    assert stream.next_data() == "next"


@contextlib.contextmanager
def listening(deployment):
    """What Postgres delivers: for topics that the topics API cannot name."""
    listener = Listener(deployment.database, SHARDS)
    yield listener
    listener.close()


# --- spellings -------------------------------------------------------------------------------

@pytest.mark.parametrize("body", [
    '{"topic":"alpha","data":1}\n{"topic":"alpha","data":2}\n',
    '{"topic":"alpha","data":1}\n{"topic":"alpha","data":2}',
    '{"topic":"alpha","data":1}\r\n\r\n{"topic":"alpha","data":2}\r\n',
    '\n\n {"topic" : "alpha", "data" : 1} \n \t\n{"data":2,"topic":"alpha"}\n\n',
    '[{"topic":"alpha","data":1},{"topic":"alpha","data":2}]',
    ' [\n  {"topic": "alpha", "data": 1},\n  {\n"topic": "alpha", "data": 2}\n]\n'],
    ids=["lines", "no last end", "CRLF", "blank lines", "array", "array of many lines"])
def test_spellings_of_many(shared, body):
    stream = shared.stream()
    assert_published(many(shared, body), 2)
    assert [stream.next_data(), stream.next_data()] == [1, 2]
    stream.close()


def test_one_event_by_itself(shared):
    stream = shared.stream()
    assert_published(many(shared, '{"topic":"alpha","data":{"n":1}}'), 1)
    assert_published(one(shared, topic="alpha", data={"n": 2}), 1, 201)
    assert [stream.next_data(), stream.next_data()] == [{"n": 1}, {"n": 2}]
    stream.close()


def test_each_topic_gets_its_own(shared):
    streams = {topic: shared.stream(topic) for topic in ("alpha", "beta", "gamma")}
    events = [event(number, ["alpha", "beta", "gamma"][number % 3]) for number in range(30)]
    assert_published(many(shared, json.dumps(events)), 30)
    for start, topic in enumerate(streams):
        assert [streams[topic].next_data() for _ in range(10)] == list(range(start, 30, 3))
        streams[topic].close()


def test_what_the_envelope_can(shared):
    stream = shared.stream()
    fields = {"event": "note", "id": "own", "retry": 1500, "comment": "a\nnote", "text": True}
    assert_published(many(shared, [event("two\nlines", **fields)]), 1)
    assert_published(one(shared, **event("two\nlines", **fields)), 1, 201)
    for _ in range(2):
        block = stream.next_event()
        assert block.event == "note" and block.id.endswith("~own") and block.retry == "1500"
        assert block.comments == ["a", "note"] and block.data == "two\nlines"
    stream.close()


@pytest.mark.parametrize("data, text, got_of_many, got_of_one", [
    ("x\ny", None, '"x\\ny"', "x\ny"), ("x\ny", False, '"x\\ny"', '"x\\ny"'),
    ("x\ny", True, "x\ny", "x\ny"), ("", None, '""', ""), (["x"], None, '["x"]', '["x"]'),
    (7, True, "7", "7")])
def test_a_string_is_sent_as_text_or_as_json(shared, data, text, got_of_many, got_of_one):
    stream = shared.stream()
    assert_published(many(shared, [event(data, text=text)]), 1)
    assert_published(one(shared, **event(data, text=text)), 1, 201)
    assert [stream.next_event().data, stream.next_event().data] == [got_of_many, got_of_one]
    stream.close()


def test_topics_and_users_that_the_topics_api_cannot_name(shared):
    topics = ["Alpha", "orders:42", "größe", "a b", "user:7", "a*b", "*", "t" * 255]
    with listening(shared) as listener:
        assert_published(many(shared, [event(topic, topic) for topic in topics]), len(topics))
        for topic in topics:
            assert_published(one(shared, topic=topic, data=topic), 1, 201)
        for members in ({}, {"user": 7}, {"user": "7"}, {"user": "Doe, Jo"}, {"topic": None}):
            assert_published(one(shared, data=1, **members), 1, 201)
        heard = [(channel, json.loads(text)) for channel, text in listener.heard(2 * len(topics) + 5)]
    assert [said["topic"] for _, said in heard] == topics + topics + [
        "*", "user:7", "user:7", "user:Doe, Jo", "*"]
    assert len({said["nonce"] for _, said in heard}) == len(heard)
    for channel, said in heard:
        ascii_lower = "".join(c.lower() if c.isascii() else c for c in said["topic"])
        assert channel == SHARDS[fnv1a_32(ascii_lower) % 8]


# --- all or nothing --------------------------------------------------------------------------

def test_one_body_is_in_order_and_equal_events_all_arrive(shared):
    """Postgres merges equal notifications of a transaction."""
    stream = shared.stream()
    numbers = [number // 2 for number in range(1000)]
    assert_published(many(shared, [event(number) for number in numbers]), 1000)
    assert [stream.next_data() for _ in numbers] == numbers
    stream.close()


@pytest.mark.parametrize("bad, words", [
    ("x", ["line 3 is not JSON"]), ('{"topic":"alpha"}', ["line 3", '"data"']),
    ('{"data":1}', ["line 3", '"topic"']), ("[]", ["line 3", "object"]), ("null", ["line 3"]),
    ('{"topic":"alpha","data":1}{}', ["line 3 is not JSON"]),
    ('{"topic":"a,b","data":1}', ["line 3", '"topic"']),
    ('{"topic":"a*","data":1}', ["line 3", '"topic"']),
    ('{"topic":"a\\nb","data":1}', ["line 3", '"topic"']),
    ('{"topic":"alpha","data":1,"event":"close"}', ["line 3", '"event"', "close"]),
    ('{"topic":"alpha","data":1,"tenant":"t"}', ["line 3", '"tenant"']),
    ('{"topic":"alpha","data":1,"retry":-1}', ["line 3", '"retry"']),
    ('{"topic":"alpha","data":' + "[" * 128 + "]" * 128 + "}", ["line 3 is not JSON"])],
    ids=lambda value: str(value)[:40])
def test_a_bad_line_and_nothing_arrives(shared, bad, words):
    stream = shared.stream()
    good = json.dumps(event("good"))
    assert_error(many(shared, f"{good}\n\n{bad}\n{good}\n"), 400, *words)
    if "is not JSON" not in words[0]:
        place = words[0].replace("line", "event")
        assert_error(many(shared, f"[{good},{good},{bad},{good}]"), 400, place, *words[1:])
    else:
        assert_error(many(shared, f"[{good},{good},{bad},{good}]"), 400, "the body is not JSON")
    assert_nothing_came(shared, stream)
    stream.close()


@pytest.mark.parametrize("body", ["", " ", "\r\n\n", "[]", "[\n]"])
def test_no_event_at_all(shared, body):
    assert_error(many(shared, body), 400, "there is no event in the body")


@pytest.mark.parametrize("body, words", [
    ("", ["empty"]), ("{", ["JSON"]), ("[]", ["object"]), ("{}", ['"data"']),
    ('{"data":null}', ['"data"']), ('{"data":1,"topic":1}', ['"topic"']),
    ('{"data":1,"topic":""}', ['"topic"']), ('{"data":1,"topic":"a*"}', ['"topic"']),
    ('{"data":1,"topic":"a","user":"b"}', ['"user"', '"topic"']), ('{"data":1,"user":1.5}', ['"user"']),
    ('{"data":1,"user":""}', ['"user"']), ('{"data":1,"user":"a*"}', ['"user"']),
    ('{"data":1,"tenant":"t"}', ['"tenant"']), ('{"data":1,"event":"state"}', ['"event"']),
    ('{"data":1}{"data":2}', ["JSON"])])
def test_one_that_is_bad(shared, body, words):
    assert_error(shared.request("POST", ONE, body), 400, *words)


def test_a_thousand_and_one_more(shared):
    stream = shared.stream()
    assert_published(many(shared, json.dumps([event(0)] * 1000)), 1000)
    assert [stream.next_data() for _ in range(1000)] == [0] * 1000
    assert_error(many(shared, [event(1)] * 1001), 413, "line 1001", "1000 events")
    assert_error(many(shared, json.dumps([event(1)] * 1001)), 413, "event 1001", "1000 events")
    assert_nothing_came(shared, stream)
    stream.close()


def test_bodies_of_the_largest_size(shared):
    good = json.dumps(event("good"))
    assert_published(many(shared, good + " " * (MIB - len(good))), 1)
    assert_error(many(shared, good + " " * (MIB + 1 - len(good))), 413, "max_durable_body")
    assert shared.request("POST", ONE, good + " " * (256 * 1024 - len(good))).status == 201
    assert_error(shared.request("POST", ONE, good + " " * (256 * 1024 + 1 - len(good))), 413,
                 "max_body")


# --- too large for a notification ------------------------------------------------------------

@pytest.fixture(name="both")
def fixture_both(deploy, durable):
    """With the schema."""
    deployment = deploy(durable.url)
    deployment.database = durable
    return deployment.start()


def test_one_that_is_too_large_makes_all_of_them_durable(both):
    """In one commit, and in order."""
    stream = both.stream()
    data = [1, LARGE, 3, "two\nlines"]
    events = [event(data[0]), event(data[1], event="big"), event(data[2], "beta"),
              event(data[3], text=True, id="own", retry=5, comment="c")]
    assert_published(many(both, events), 4)
    rows = both.database.execute(
        "SELECT topic, type, data #>> '{}', publisher_id, retry, comment, is_text"
        " FROM pgsse.events ORDER BY id")
    assert rows == [("alpha", "message", "1", None, None, None, False),
                    ("alpha", "big", LARGE, None, None, None, False),
                    ("beta", "message", "3", None, None, None, False),
                    ("alpha", "message", "two\nlines", "own", 5, "c", True)]
    assert column(both.database, "SELECT count(DISTINCT xmin::text) FROM pgsse.events") == [1]
    assert [stream.next_data(), stream.next_data()] == [1, LARGE]
    assert stream.next_event().data == "two\nlines"
    assert_published(many(both, [event("small")]), 1)
    assert stream.next_data() == "small"
    assert column(both.database, "SELECT count(*) FROM pgsse.events") == [4]


def test_a_large_one_by_itself(both):
    stream = both.stream()
    assert_published(one(both, topic="alpha", data=LARGE), 1, 201)
    assert_published(one(both, user=7, data=LARGE, text=False), 1, 201)
    assert stream.next_event().data == LARGE
    assert both.database.execute("SELECT topic, is_text FROM pgsse.events ORDER BY id") == [
        ("alpha", True), ("user:7", False)]


def test_a_large_broadcast_is_refused(both):
    stream = both.stream()
    for answer, where in ((one(both, data=LARGE), "the event"),
                          (one(both, topic="*", data=LARGE), "the event"),
                          (many(both, [event(LARGE, "*")]), "line 1: "),
                          (many(both, [event(LARGE), event(1, "*")]), "line 1: "),
                          (many(both, [event(1, "*"), event(LARGE)]), "line 2: ")):
        assert_error(answer, 413, "max_notify_bytes", "broadcast", where)
    assert column(both.database, "SELECT count(*) FROM pgsse.events") == [0]
    assert_nothing_came(both, stream)


def test_a_row_that_postgres_refuses(both):
    """None of that body is there; what others publish meanwhile is."""
    both.database.execute("""
        CREATE FUNCTION pgsse.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE data_exception; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON pgsse.events FOR EACH ROW
        WHEN (NEW.topic = 'bad') EXECUTE FUNCTION pgsse.refuse()""")
    stream = both.stream()
    bodies = [[event(LARGE), event(number), event(number, "bad" if number % 2 else "good")]
              for number in range(10)]
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda body: many(both, body), bodies))
    for number, answer in enumerate(answers):
        if number % 2:
            assert_error(answer, 400, "Postgres does not take this")
        else:
            assert_published(answer, 3)
    got = [stream.next_data() for _ in range(10)]
    assert sorted(number for number in got if number != LARGE) == [0, 2, 4, 6, 8]
    both.database.execute("DROP TRIGGER refuse ON pgsse.events; DROP FUNCTION pgsse.refuse()")


def test_without_the_schema(shared):
    stream = shared.stream()
    events = [event(1), event(LARGE), event(LARGE)]
    apart = "\n\n".join(json.dumps(each) for each in events)
    for answer, where in ((many(shared, json.dumps(events)), "event 2: the event"),
                          (many(shared, apart), "line 3: the event"),
                          (one(shared, topic="alpha", data=LARGE), "the event")):
        assert_error(answer, 413, "max_notify_bytes", "not installed", INSTALL, where)
    assert_nothing_came(shared, stream)
    stream.close()


# --- who, and how ----------------------------------------------------------------------------

@pytest.mark.parametrize("path", [MANY, ONE])
def test_a_page_of_another_site(shared, path):
    stream = shared.stream()
    body = json.dumps(event("foreign"))
    for headers in (FOREIGN, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        assert_error(shared.request("POST", path, body, headers), 403, "cors_origins")
    assert_nothing_came(shared, stream)
    own = {"Origin": f"http://127.0.0.1:{shared.port}"}
    assert shared.request("POST", path, body, own).status in (200, 201)
    assert stream.next_data() == "foreign" if path == MANY else stream.next_event().data == "foreign"
    stream.close()


@pytest.mark.parametrize("path", [MANY, ONE])
def test_the_content_type(shared, path):
    """It counts only where the web server has authenticated somebody."""
    body = json.dumps(event(1)).encode()
    for kind in ("text/plain", "application/x-ndjson", "application/x-www-form-urlencoded"):
        answer = shared.request("POST", path, body, {"Content-Type": kind})
        assert answer.status in (200, 201), kind

    def ask(**params):
        return shared.keep(shared.publisher.connect()).ask("POST", path, body, REMOTE_USER="eve",
                                                           **params).answer()
    assert ask(CONTENT_TYPE="application/json").status in (200, 201)
    refused = ask(CONTENT_TYPE="text/plain")
    assert refused.status == 415 and refused.headers["content-type"] == "application/json"


@pytest.mark.parametrize("method, path, status, allow", [
    ("GET", MANY, 405, "POST, OPTIONS"), ("HEAD", MANY, 405, "POST, OPTIONS"),
    ("PUT", MANY, 405, "POST, OPTIONS"), ("DELETE", ONE, 405, "POST, OPTIONS"),
    ("GET", ONE, 405, "POST, OPTIONS"), ("HEAD", ONE, 405, "POST, OPTIONS"),
    ("POST", "/events", 405, "GET, HEAD, OPTIONS"),
    ("POST", "/api/sse/stats", 405, "GET, HEAD, OPTIONS"),
    ("POST", "/events/", 404, None), ("POST", "/events/publish/", 404, None),
    ("POST", "/events/alpha/events", 404, None), ("POST", "/api/sse", 404, None),
    ("POST", "/api/sse/publish/x", 404, None), ("POST", "/EVENTS/publish", 404, None)])
def test_other_methods_and_paths(shared, method, path, status, allow):
    answer = shared.request(method, path, "{" if method == "POST" else None)
    if method == "HEAD":
        assert answer.status == status and answer.body == b""
    elif path.startswith("/EVENTS"):
        assert answer.status == status  # of no API: a line of text
    else:
        assert_error(answer, status)
    assert answer.header("Allow") == allow


@pytest.mark.parametrize("path", [MANY, ONE])
def test_options(shared, path):
    for answer in (shared.request("OPTIONS", path),
                   shared.keep(shared.publisher.connect()).ask("OPTIONS", path).answer()):
        assert answer.status == 204


@pytest.mark.parametrize("script, uri, status", [
    ("/app", "/app/events/publish", 200), ("/app", "/app/api/sse/publish", 201),
    ("/other", "/app/events/publish", 404)])
def test_mounted_elsewhere(shared, script, uri, status):
    connection = shared.keep(shared.publisher.connect())
    connection.ask("POST", uri, json.dumps(event(1)).encode(), SCRIPT_NAME=script).answer()
    assert connection.status == status


def test_other_paths_by_configuration(deploy, database):
    deployment = deploy(database.url, events_path="/live", sse_path="/push")
    deployment.start_publisher()
    deployment.start_lighttpd()
    body = json.dumps(event(1))
    for path, status in (("/live/publish", 200), ("/push/publish", 201), (MANY, 404), (ONE, 404)):
        assert deployment.request("POST", path, body).status == status, path


def test_while_the_handler_stops(shared, deploy):
    """A request that comes before the stop, and is whole after it."""
    deployment = deploy(shared.database.url)
    publisher = deployment.start_publisher()
    assert deployment.keep(publisher.connect()).ask("OPTIONS", MANY).answer().status == 204
    before = publisher.settled_fd_count()
    late = {path: deployment.keep(publisher.connect()) for path in (MANY, ONE)}
    whole = {path: fastcgi.request_bytes("POST", path, json.dumps(event(1)).encode()) for path in late}
    for path in late:
        late[path].send(whole[path][:2])
    wait_for(lambda: publisher.fd_count() == before + 2, "they are let in")
    publisher.send_signal(signal.SIGTERM)
    wait_for(lambda: "told to stop" in publisher.log(), "it is told to stop")
    for path, connection in late.items():
        connection.send(whole[path][2:])
        connection.answer()
        assert connection.status == 503 and json.loads(connection.raw) == {"error": "server draining"}
    publisher.wait(0, 3)


def test_postgres_is_away(deploy, fragile_cluster, fragile_database):
    install(fragile_database)
    deployment = deploy(fragile_database.url, publish_timeout="400ms")
    deployment.start_publisher()
    deployment.start_lighttpd()

    def answers():
        return [many(deployment, [event(1)] * 3), one(deployment, data=1, topic="alpha"),
                many(deployment, [event(1), event(LARGE)])]
    assert [answer.status for answer in answers()] == [200, 201, 200]
    fragile_cluster.stop()
    for answer in answers():
        assert "outcome" not in assert_error(answer, 503, "nothing was done")
    fragile_cluster.start()
    wait_for(lambda: [answer.status for answer in answers()] == [200, 201, 200],
             "publishing works again", 15)
    uninstall(fragile_database)


# --- many at once ----------------------------------------------------------------------------

def test_100_publishers_at_once(running):
    """Each body is whole and in order, whoever publishes meanwhile; so is each publisher."""
    stream = running.stream()
    publishers, bodies, events = 100, 3, 7

    def publish(who):
        connection = Connection(running.port)
        statuses = []
        for body in range(bodies):
            text = lines(event([who, body, number]) for number in range(events))
            statuses.append(connection.request("POST", MANY, text).status)
            statuses.append(connection.request("POST", ONE, json.dumps(
                event([who, body, events]))).status)
        connection.close()
        return statuses

    with concurrent.futures.ThreadPoolExecutor(publishers) as pool:
        statuses = sum(pool.map(publish, range(publishers)), [])
    assert statuses == [200, 201] * (publishers * bodies)
    got = [stream.next_data() for _ in range(publishers * bodies * (events + 1))]
    for who in range(publishers):
        assert [rest for one_of_them, *rest in got if one_of_them == who] == [
            [body, number] for body in range(bodies) for number in range(events + 1)]
    for at in range(len(got)):
        who, body, number = got[at]
        if number == 0:  # its body follows without a gap: it is one commit
            assert got[at:at + events] == [[who, body, n] for n in range(events)]
    stream.silence(0.1)


def test_bodies_of_a_thousand_events(running):
    """As fast as they are taken, by four publishers: all arrive, and small ones go between."""
    stream = running.stream()

    def publish(who):
        connection = Connection(running.port)
        for body in range(5):
            text = lines(event([who, body * 1000 + number]) for number in range(1000))
            assert_published(connection.request("POST", MANY, text), 1000)
        connection.close()

    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        publishing = [pool.submit(publish, who) for who in range(4)]
        small = 0
        while not all(done.done() for done in publishing):
            assert_published(one(running, **event(["small", small])), 1, 201)
            small += 1
        for done in publishing:
            done.result()
    got = [stream.next_data(20) for _ in range(4 * 5000 + small)]
    for who in range(4):
        assert [number for one_of_them, number in got if one_of_them == who] == list(range(5000))
    assert [number for one_of_them, number in got if one_of_them == "small"] == list(range(small))
