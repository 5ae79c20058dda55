"""Stored subscriptions: subscribe, unsubscribe, and the list of a user's channels."""

import json

import pytest

from schema import column, install
from durable_api import assert_error, change, fixture_door, get  # noqa: F401


def subscribe(door, user, channel):
    return change(door, "subscribe", {"userId": user, "channel": channel})


def unsubscribe(door, user, channel):
    return change(door, "unsubscribe", {"userId": user, "channel": channel})


def channels(door, user):
    answer = get(door, f"channels?userId={user}")
    assert answer.status == 200, answer
    return json.loads(answer.body)["channels"]


def rows(door, user):
    return column(door.database, "SELECT channel FROM pgsse.subscriptions WHERE user_id = %s"
                                 " ORDER BY 1", (user,))


def test_there_and_back(door):
    answer = subscribe(door, 1, "c")
    assert answer.status == 201 and answer.header("Content-Type") == "application/json"
    assert answer.body == b'{"status":"subscribed","userId":1,"channel":"c"}'
    assert get(door, "channels?userId=1").body == b'{"userId":1,"channels":["c"]}'
    answer = unsubscribe(door, 1, "c")
    assert answer.status == 200
    assert answer.body == b'{"status":"unsubscribed","userId":1,"channel":"c"}'
    assert get(door, "channels?userId=1").body == b'{"userId":1,"channels":[]}'


def test_twice_is_once(door):
    for _ in range(2):
        assert subscribe(door, "twice", "c").status == 201
    assert rows(door, "twice") == ["c"]
    for _ in range(2):
        assert unsubscribe(door, "twice", "c").status == 200
    assert rows(door, "twice") == []


def test_a_number_and_its_text_are_one_user(door):
    assert subscribe(door, 17, "a").body == b'{"status":"subscribed","userId":17,"channel":"a"}'
    assert subscribe(door, "17", "b").body == b'{"status":"subscribed","userId":"17","channel":"b"}'
    assert get(door, "channels?userId=17").body == b'{"userId":17,"channels":["a","b"]}'
    assert unsubscribe(door, "17", "a").status == 200
    assert channels(door, 17) == ["b"]


def test_the_list_is_sorted_by_bytes(door):
    for channel in ("é", "b", "B", "a", "\U0001F600", "ab", "10", "9"):
        assert subscribe(door, "sorted", channel).status == 201
    wanted = sorted(("é", "b", "B", "a", "\U0001F600", "ab", "10", "9"), key=str.encode)
    assert channels(door, "sorted") == wanted
    assert get(door, "channels/list?userId=sorted").body == \
        get(door, "channels?userId=sorted").body


@pytest.mark.parametrize("query, echoed", [
    ("0", 0), ("-3", -3), ("12345678901234567890", 12345678901234567890), ("01", "01"), ("1.0", "1.0"),
    ("-0", "-0"), ("anna", "anna"), ("%C3%A9", "é"), ("a%22b", 'a"b'), ("a%2Cb", "a,b"),
    ("%27%20OR%201=1%20--", "' OR 1=1 --"), ("u" * 255, "u" * 255)])
def test_unknown_users_have_no_channels(door, query, echoed):
    answer = get(door, f"channels?userId={query}")
    assert answer.status == 200
    assert json.loads(answer.body) == {"userId": echoed, "channels": []}


@pytest.mark.parametrize("text", ["'; DROP TABLE pgsse.subscriptions; --", "$1", '"', "\\", "%s",
                                  "x' OR '1'='1", "{a}", "NULL"])
def test_sql_is_text(door, text):
    assert subscribe(door, text, text).status == 201
    assert rows(door, text) == [text]
    assert unsubscribe(door, text, text).status == 200
    assert rows(door, text) == []


@pytest.mark.parametrize("what", ["subscribe", "unsubscribe"])
@pytest.mark.parametrize("body, word", [
    ("", "empty"), ("{", "JSON"), ("[]", "object"), ("{}", '"userId"'),
    ('{"channel":"c"}', '"userId"'), ('{"userId":1}', '"channel"'),
    ('{"userId":1,"userid":2}', '"channel"'),
    *(('{"userId":%s,"channel":"c"}' % user, '"userId"')
      for user in ("null", "true", "1.5", "1e3", "-0", "[]", "{}", '""', '"a\\nb"', '"\\u0000"',
                   '"' + "u" * 256 + '"', "1" * 256)),
    *(('{"userId":1,"channel":%s}' % channel, '"channel"')
      for channel in ("null", "1", "[]", '""', '"a,b"', '"a\\tb"', '"\\u007f"', '"' + "c" * 256 + '"')),
    ('{"userId":1,"channel":"c","x":' + "[" * 128 + "]" * 128 + "}", "JSON"),
    (b'{"userId":"\xff","channel":"c"}', "JSON"),
    ('{"userId":1,"channel":"c"} x', "JSON"),
], ids=lambda body: ascii(body)[:40])
def test_bad_bodies(door, what, body, word):
    before = column(door.database, "SELECT count(*) FROM pgsse.subscriptions")
    assert_error(change(door, what, body), 400, word)
    assert column(door.database, "SELECT count(*) FROM pgsse.subscriptions") == before


@pytest.mark.parametrize("query", [
    "", "?", "?userid=1", "?userId", "?userId=", "?userId=%", "?userId=%zz", "?userId=%0A",
    "?userId=%7F", "?userId=%C2%85", "?userId=" + "u" * 256, "?x=userId=1", "?userId=%00",
    "?userId=%ff"])
@pytest.mark.parametrize("path", ["channels", "channels/list"])
def test_bad_questions(door, path, query):
    """Without lighttpd, which refuses some of these in its own words, and mends others."""
    connection = door.keep(door.publisher.connect())
    connection.ask("GET", f"/api/events/{path}{query}").answer()
    assert connection.status == 400 and connection.headers["content-type"] == "application/json"
    assert '"userId"' in json.loads(connection.raw)["error"]


def test_a_large_body(door):
    body = json.dumps({"userId": 1, "channel": "c", "x": "x" * 1024 * 1024})
    assert_error(change(door, "subscribe", body), 413, "max_durable_body")


def test_head(door):
    assert subscribe(door, "head", "c").status == 201
    answer = door.request("HEAD", "/api/events/channels?userId=head")
    assert answer.status == 200 and answer.body == b""
    assert answer.header("Content-Length") == str(len('{"userId":"head","channels":["c"]}'))
    answer = door.request("HEAD", "/api/events/channels")
    assert answer.status == 400 and answer.body == b""


def test_thousands_of_channels(door):
    door.database.execute("INSERT INTO pgsse.subscriptions SELECT 'many', 'channel-' || n"
                          " FROM generate_series(1, 5000) AS n")
    assert channels(door, "many") == sorted(f"channel-{n}" for n in range(1, 5001))


def ask_as(door, user, method, path, body=b"", **params):
    connection = door.keep(door.publisher.connect())
    return connection.ask(method, f"/api/events/{path}", body, REMOTE_USER=user, **params).answer()


def test_who_is_authenticated_has_only_himself(door):
    json_type = {"CONTENT_TYPE": "application/json"}
    for what, status in (("subscribe", 201), ("unsubscribe", 200)):
        path = f"channels/{what}"
        mine = b'{"userId":"7","channel":"c"}'
        assert ask_as(door, "7", "POST", path, mine, **json_type).status == status
        assert ask_as(door, "7", "POST", path, mine.replace(b'"7"', b"7"), **json_type).status == status
        for other in ("8", "07", "7 ", "root"):
            answer = ask_as(door, other, "POST", path, mine, **json_type)
            assert answer.status == 403 and b'"error"' in answer.raw
            assert answer.headers["content-type"] == "application/json"
        assert ask_as(door, "7", "POST", path, mine, CONTENT_TYPE="text/plain").status == 415
    assert ask_as(door, "7", "GET", "channels?userId=7").status == 200
    assert ask_as(door, "7", "GET", "channels?userId=8").status == 403
    assert ask_as(door, "7", "GET", "channels").status == 400
    assert rows(door, "7") == []


def test_a_users_own_topic_is_not_for_others(door):
    """Neither to subscribe to, nor in history; also for whoever is not authenticated at all."""
    json_type = {"CONTENT_TYPE": "application/json"}
    for user, status in (("7", 201), ("8", 403), ("", 403)):
        body = json.dumps({"userId": user or "7", "channel": "user:7"}).encode()
        assert ask_as(door, user, "POST", "channels/subscribe", body, **json_type).status == status
    for user, status in (("7", 200), ("8", 403), ("", 403)):
        assert ask_as(door, user, "GET", "history?channel=user:7").status == status
        assert ask_as(door, user, "GET", "history?channel=user%3A7").status == status
    assert ask_as(door, "8", "GET", "history?channel=User:7").status == 200  # another topic


def test_and_no_stream_of_another_user_has_it(deploy, database):
    """Not even if the table says so."""
    install(database)
    world = deploy(database.url).start()
    for user in ("7", "8"):
        database.execute("SELECT pgsse.subscribe(%s, 'user:7')", (user,))
    for user, status in (("7", 200), ("8", 403), ("", 403)):
        stream = world.keep(world.streams[0].connect())
        stream.ask("GET", f"/api/events/stream?userId={user or 7}&channels=user:7", REMOTE_USER=user)
        if status == 200:
            stream.read_headers()
        else:
            stream.answer()
        assert stream.status == status, user
