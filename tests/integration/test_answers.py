"""Everything that is no stream and no publish: OPTIONS, 404, 405, paths, mounting elsewhere."""

import pytest


def assert_plain(answer, status):
    assert answer.status == status, answer
    assert answer.header("Content-Type").startswith("text/plain")
    assert answer.header("X-Content-Type-Options") == "nosniff"
    assert answer.header("Cache-Control") == "no-store"


def methods_of(answer):
    return {word.strip() for word in answer.header("Allow").split(",")}


def test_options(shared):
    answer = shared.request("OPTIONS", "/topics/alpha/events")
    assert answer.status == 204 and answer.body == b""
    assert not any(name.startswith("access-control") for name, _ in answer.headers)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/topics", "/nothing", "/topics/alpha/events/x"])
def test_404(shared, method, path):
    answer = shared.request(method, path)
    assert_plain(answer, 404)
    assert (answer.body == b"") == (method == "HEAD")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_405_on_a_topic(shared, method):
    answer = shared.request(method, "/topics/alpha/events", "x" if method != "DELETE" else None)
    assert_plain(answer, 405)
    assert methods_of(answer) == {"GET", "HEAD", "OPTIONS", "POST"}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "POST"])
def test_405_on_health(shared, method):
    answer = shared.request(method, "/healthz", "x" if method != "DELETE" else None)
    assert_plain(answer, 405)
    assert "GET" in methods_of(answer) and "POST" not in methods_of(answer)


def test_a_post_that_was_routed_wrongly_names_its_handler(shared):
    connection = shared.keep(shared.streams[0].connect())
    connection.ask("POST", "/topics/alpha/events", b'{"data":1}').answer()
    assert connection.status == 405
    assert b"pgsse-publish" in connection.raw
    assert connection.end_status == (0, 0)


def test_a_get_that_was_routed_wrongly_is_no_stream(shared):
    connection = shared.keep(shared.publisher.connect())
    connection.ask("GET", "/topics/alpha/events").answer()
    assert connection.status == 405
    assert "allow" in connection.headers


# --- paths: split, then decoded once, never normalised ---------------------------------------------

@pytest.mark.parametrize("path, status, topic", [
    ("/topics/alpha/events", 200, "alpha"),
    ("/topics/ALPHA/events", 200, "alpha"),
    ("/topics/%41lph%61/events", 200, "alpha"),
    ("/topics/alpha/%65vents", 200, "alpha"),
    ("/t%6fpics/alpha/events", 200, "alpha"),
    ("/topics/alpha/events?", 200, "alpha"),
    ("/topics/alpha/events?x=/y/../z", 200, "alpha"),
    ("/topics/a_B-9/events", 200, "a_b-9"),
    ("/topics/" + "t" * 128 + "/events", 200, "t" * 128),
    ("/topics/" + "%54" * 128 + "/events", 200, "t" * 128),
    ("/topics/" + "t" * 129 + "/events", 400, None),
    ("/topics/%2561/events", 400, None),   # decoded once
    ("/topics/a%2Fb/events", 400, None),   # a slash in a name, no separator
    ("/topics/a%2fevents", 404, None),
    ("/topics/a.b/events", 400, None),
    ("/topics/../events", 400, None),
    ("/topics/%C3%A9/events", 400, None),
    ("/topics/a+b/events", 400, None),
    ("/topics//events", 404, None),
    ("/topics//alpha/events", 404, None),
    ("//topics/alpha/events", 404, None),
    ("/topics/alpha//events", 404, None),
    ("/topics/alpha/events/", 404, None),
    ("/topics/alpha/events//", 404, None),
    ("/x/../topics/alpha/events", 404, None),
    ("/./topics/alpha/events", 404, None),
    ("/Topics/alpha/events", 404, None),
    ("/topics/alpha/Events", 404, None),
    ("/topics/alpha", 404, None),
])
def test_paths(shared, path, status, topic):
    answer = shared.request("HEAD", path)
    assert answer.status == status
    if status != 200:
        assert_plain(shared.request("GET", path), status)
        return
    connection = shared.keep(shared.streams[0].connect()).ask("GET", path).read_headers()
    assert connection.next_block().comments == [f"listening {topic}"]
    connection.close()


@pytest.mark.parametrize("script, uri, status", [
    ("/app", "/app/topics/alpha/events", 200),
    ("/app/x.fcgi", "/app/x.fcgi/topics/alpha/events", 200),
    ("/app", "/topics/alpha/events", 200),      # matches without taking anything off
    ("/topics", "/topics/alpha/events", 200),   # as lighttpd says for a prefix
    ("/topics", "/topics/topics/alpha/events", 200),
    ("", "/app/topics/alpha/events", 404),
    ("/other", "/app/topics/alpha/events", 404),
    ("/ap", "/app/topics/alpha/events", 404),
    ("/app/", "/app/topics/alpha/events", 404),
    ("/app", "/app", 404),
    ("/app", "/app/app/topics/alpha/events", 404),
    ("/app", "/app/topics/a.b/events", 400),
    ("/app", "/app/topics//events", 404),
    ("/app", "/app/healthz", 200),
    ("/app", "", 404),
    ("/app", "*", 404),
    ("/app", "topics/alpha/events", 404),
])
def test_mounted_elsewhere(shared, script, uri, status):
    connection = shared.keep(shared.streams[0].connect())
    connection.ask("HEAD", uri, SCRIPT_NAME=script).answer()
    assert connection.status == status
    assert connection.end_status == (0, 0)


@pytest.mark.parametrize("script, uri, status", [
    ("/app", "/app/topics/alpha/events", 200), ("/other", "/app/topics/alpha/events", 404)])
def test_publishing_mounted_elsewhere(shared, script, uri, status):
    connection = shared.keep(shared.publisher.connect())
    connection.ask("POST", uri, b'{"data":1}', SCRIPT_NAME=script).answer()
    assert connection.status == status
    assert connection.end_status == (0, 0)


def test_other_paths_by_configuration(deploy, database):
    deployment = deploy(database.url, base_path="/live/t", healthz_path="/live/up")
    deployment.spawn_broker()
    deployment.start_stream()
    deployment.start_publisher()
    deployment.start_lighttpd()
    assert deployment.request("HEAD", "/live/t/alpha/events").status == 200
    assert deployment.request("POST", "/live/t/alpha/events", '{"data":1}').status == 200
    assert deployment.request("GET", "/live/up").status == 200
    assert deployment.request("GET", "/topics/alpha/events").status == 404
    assert deployment.request("POST", "/topics/alpha/events", '{"data":1}').status == 404
    assert deployment.request("GET", "/healthz").status == 404


def test_many_requests_on_one_connection_to_the_web_server(shared):
    from web import Connection
    connection = Connection(shared.port)
    for _ in range(20):
        assert connection.request("HEAD", "/topics/alpha/events").status == 200
        assert connection.request("POST", "/topics/alpha/events", '{"data":1}').status == 200
        assert connection.request("GET", "/nothing").status == 404
        assert connection.request("GET", "/healthz?limit=1").status == 200
    connection.close()


def test_answers_leave_no_descriptor(shared):
    before = [one.settled_fd_count() for one in (shared.broker, shared.streams[0])]
    for _ in range(10):
        shared.request("HEAD", "/topics/alpha/events")
        shared.request("GET", "/nothing")
        shared.request("GET", "/healthz")
    assert [one.settled_fd_count() for one in (shared.broker, shared.streams[0])] == before
