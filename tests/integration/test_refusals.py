"""What POST refuses, with which status, and that the message says what was wrong."""

import pytest


def assert_refused(answer, status, word=None):
    assert answer.status == status, answer
    assert answer.header("Content-Type").startswith("text/plain")
    assert answer.header("X-Content-Type-Options") == "nosniff"
    assert answer.header("Cache-Control") == "no-store"
    assert answer.body.endswith(b"\n") and len(answer.body) > 3
    if word:
        assert word in answer.body.decode().lower(), answer.body


def case(text):
    return text[:40].encode("unicode_escape").decode() if isinstance(text, str) else repr(text[:40])


@pytest.mark.parametrize("body", [
    "", " ", "not JSON", "data=1", "{", "}", '{"data":1', '{"data":}', '{"data"}', '{data:1}',
    '{"data":1,}', '{"data":[1,]}', '{"data":[,]}', "{'data':1}", '{"data":\'a\'}',
    '{"data":1} x', '{"data":1}{"data":2}', '{"data":1}]', '{"data":1}\x00',
    '{"data":NaN}', '{"data":Infinity}', '{"data":-Infinity}', '{"data":1.}', '{"data":.5}',
    '{"data":01}', '{"data":+1}', '{"data":1e}', '{"data":0x1}', '{"data":-}', '{"data":True}',
    '{"data":nul}', '{"data":undefined}', '{"data":1 /* no */}', "// no\n" + '{"data":1}',
    '{"data":"a\nb"}', '{"data":"a\tb"}', '{"data":"a\rb"}', '{"data":"a\x00b"}',
    '{"data":"a\x01b"}', '{"data":"a\x1fb"}', '{"da\nta":1}', '{"other":"a\nb","data":1}',
    '{"data":"\\x"}', '{"data":"\\u12"}', '{"data":"\\u12g4"}', '{"data":"\\"}', '{"data":"a',
    '{"data":"\\U0001"}', '{"data":1,"data":}',
    '\ufeff{"data":1}', '\u00a0{"data":1}', '{"data":1}\x0b',
], ids=case)
def test_what_is_not_json(shared, body):
    assert_refused(shared.post("alpha", body), 400)


@pytest.mark.parametrize("text", [
    b"\xff", b"\x80", b"\xc3", b"\xc3(", b"\xc0\xaf", b"\xc1\xbf", b"\xe0\x80\xaf", b"\xe0\x9f\xbf",
    b"\xf0\x80\x80\xaf", b"\xf0\x8f\xbf\xbf", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80", b"\xe2\x82", b"\xf0\x9f\x98", b"\xfe",
], ids=lambda text: text.hex())
@pytest.mark.parametrize("body", [b'{"data":"%s"}', b'{"data":1,"x":{"%s":0}}', b'{"data":1}%s'],
                         ids=["data", "key", "behind"])
def test_what_is_not_utf8(shared, body, text):
    assert_refused(shared.post("alpha", body.replace(b"%s", text)), 400)


@pytest.mark.parametrize("body, word", [
    ("{}", "data"), ('{"data":null}', "data"), ('{"event":"x"}', "data"),
    ('{"data":1,"data":null}', "data"), ('{"Data":1}', "data"),
    ("[]", "object"), ('["data"]', "object"), ('"data"', "object"), ("1", "object"),
    ("null", "object"),
    ('{"data":1,"event":1}', "event"), ('{"data":1,"event":true}', "event"),
    ('{"data":1,"event":["a"]}', "event"), ('{"data":1,"event":{}}', "event"),
    ('{"data":1,"event":"a\\nb"}', "event"), ('{"data":1,"event":"a\\rb"}', "event"),
    ('{"data":1,"event":"a\\u0000b"}', "event"), ('{"data":1,"event":"\\u0001"}', "event"),
    ('{"data":1,"event":"a\\tb"}', "event"), ('{"data":1,"event":"\\u007f"}', "event"),
    ('{"data":1,"event":"' + "e" * 256 + '"}', "event"),
    ('{"data":1,"event":"' + "é" * 128 + '"}', "event"),
    ('{"data":1,"event":"refresh"}', "event"), ('{"data":1,"event":"close"}', "event"),
    ('{"data":1,"event":"error"}', "event"), ('{"data":1,"event":"open"}', "event"),
    ('{"data":1,"event":"\\u006fpen"}', "event"),
], ids=lambda text: text[:40])
def test_what_lacks_a_field_or_has_a_wrong_one(shared, body, word):
    assert_refused(shared.post("alpha", body), 400, word)


@pytest.mark.parametrize("data, status", [
    ("[" * 127 + "]" * 127, 200), ("[" * 128 + "]" * 128, 400),
    ('{"a":' * 127 + "1" + "}" * 127, 200), ('{"a":' * 128 + "1" + "}" * 128, 400),
    ("[" * 100000, 400),
], ids=["127 arrays", "128 arrays", "127 objects", "128 objects", "very many"])
def test_nesting_ends_at_128_with_the_body_itself(shared, data, status):
    assert shared.post("alpha", '{"data":' + data + "}").status == status


def test_other_keys_are_checked_as_deeply(shared):
    assert_refused(shared.post("alpha", '{"data":1,"x":' + "[" * 128 + "]" * 128 + "}"), 400)


def padded(length):
    return '{"data":1' + " " * (length - 10) + "}"


def test_a_body_over_the_limit(shared):
    limit = 256 * 1024
    assert shared.post("alpha", padded(limit)).status == 200
    assert_refused(shared.post("alpha", padded(limit + 1)), 413)
    assert_refused(shared.post("alpha", padded(2 * 1024 * 1024 - 1)), 413)
    assert shared.post("alpha", '{"data":1}').status == 200


def test_the_limit_is_configured(deploy, database):
    deployment = deploy(database.url, max_body="100").start()
    assert deployment.post("alpha", padded(100)).status == 200
    assert_refused(deployment.post("alpha", padded(101)), 413)


def test_what_does_not_fit_into_a_notification(shared):
    stream = shared.stream()
    answer = shared.publish("alpha", "x" * 7700)
    assert len(answer.body) > 7700
    assert stream.next_data() == "x" * 7700
    assert_refused(shared.post("alpha", '{"data":"' + "x" * 7900 + '"}'), 413)
    assert_refused(shared.post("alpha", '{"data":"' + "x" * 8000 + '"}'), 413)
    shared.publish("alpha", "small")
    assert stream.next_data() == "small"
    stream.close()


def test_white_space_does_not_count_there(shared):
    assert shared.post("alpha", '{"data":[' + " " * 20000 + "1]}").status == 200


@pytest.mark.parametrize("topic, status", [
    ("", 404), ("a.b", 400), ("a b".replace(" ", "%20"), 400), ("a,b", 400), ("*", 400),
    ("a:b", 400), ("%C3%A9", 400), ("a%2Fb", 400), ("a%0Ab", 400), ("%2E%2E", 400), ("..", 400),
    ("%2561", 400), ("t" * 129, 400), ("%74" * 129, 400), ("t" * 3000, 400),
    ("t" * 128, 200), ("%74" * 128, 200), ("%61lpha", 200), ("A_b-9", 200), ("-", 200),
])
def test_topics(shared, topic, status):
    answer = shared.post(topic, '{"data":1}')
    if status == 200:
        assert answer.status == 200
    elif topic == "a%0Ab" and b"<html" in answer.body:
        assert answer.status == 400  # lighttpd refuses control characters itself
    else:
        assert_refused(answer, status, "topic" if status == 400 else None)


@pytest.mark.parametrize("path", [
    "/", "/topics", "/topics/", "/topics/alpha", "/topics/alpha/", "/topics/alpha/event",
    "/topics/alpha/events/", "/topics/alpha/events/x", "/topics//alpha/events", "//topics/alpha/events",
    "/TOPICS/alpha/events", "/topics/alpha/EVENTS", "/topicsalpha/events",
])
def test_post_elsewhere_is_404(shared, path):
    assert_refused(shared.request("POST", path, '{"data":1}'), 404)


def test_a_wrong_route_is_told_before_a_wrong_body(shared):
    assert_refused(shared.request("POST", "/topics/alpha", "not JSON"), 404)
    assert_refused(shared.post("a.b", "not JSON"), 400, "topic")


def test_what_was_refused_is_not_published(shared):
    stream = shared.stream()
    shared.publish("alpha", "first")
    assert stream.next_data() == "first"  # what tests before this one published was heard, too
    before = shared.totals()["notifications"]
    for body in ("", "{}", '{"data":null}', '{"data":1} x', '{"data":"' + "x" * 7900 + '"}'):
        shared.post("alpha", body)
    shared.publish("alpha", "good")
    assert stream.next_data() == "good"
    assert shared.totals()["notifications"] == before + 1
    stream.close()


def test_who_is_authenticated_posts_json(shared):
    """With REMOTE_USER a form of another site could post in the user's name."""
    def post(**params):
        connection = shared.keep(shared.publisher.connect())
        return connection.ask("POST", "/topics/alpha/events", b'{"data":1}', REMOTE_USER="eve",
                              **params).answer().status
    assert post(CONTENT_TYPE="application/json") == 200
    assert post(CONTENT_TYPE="application/json; charset=utf-8") == 200
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""):
        assert 400 <= post(CONTENT_TYPE=kind) < 500, kind
    assert 400 <= post() < 500
