"""The durable API, and how the events API publishes, with the web servers' configurations as they are
shipped: who answers what."""

import json
import shutil
import types

import pytest

import apache
import run_instance
import web
from apache import Apache
from deployment import Deployment, ending
from schema import installed
from durable_api import assert_error, change, get, page, post, publish

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def under_apache(cluster):
    database = cluster.create_database()
    with installed(database), ending(Deployment(database.url, **apache.settings())) as deployment:
        deployment.start_broker()
        Apache(deployment)
        yield deployment
    cluster.give_back(database)


@pytest.fixture(scope="module")
def under_lighttpd():
    """As `make run` starts it: its private database has the schema."""
    directory = run_instance.new_run()
    instance = run_instance.start(directory)
    try:
        instance.await_ready()

        def request(method, path, body=None, headers=None):
            return web.request(instance.port, method, path, body, headers)
        yield types.SimpleNamespace(request=request)
    finally:
        instance.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=["apache", "lighttpd"])
def serving(request):
    return request.getfixturevalue(f"under_{request.param}")


def test_all_of_it(serving):
    publish(serving, "c", {"n": 1.5})
    assert page(serving, "channel=c")[-1]["payload"] == {"n": 1.5}
    assert change(serving, "subscribe", {"userId": 1, "channel": "c"}).status == 201
    assert json.loads(get(serving, "channels?userId=1").body)["channels"] == ["c"]
    assert json.loads(get(serving, "channels/list?userId=1").body)["channels"] == ["c"]
    assert change(serving, "unsubscribe", {"userId": 1, "channel": "c"}).status == 200


@pytest.mark.parametrize("method, path, status, allow", [
    ("HEAD", "/api/events/history?channel=c", 200, None),
    ("HEAD", "/api/events/channels?userId=1", 200, None),
    ("OPTIONS", "/api/events/history", 204, "GET, HEAD, OPTIONS"),
    ("OPTIONS", "/api/events/channels/subscribe", 204, "POST, OPTIONS"),
    ("PUT", "/api/events/history", 405, "GET, HEAD, OPTIONS"),
    ("POST", "/api/events/channels", 405, "GET, HEAD, OPTIONS"),
    ("POST", "/api/events/stream", 405, "GET, HEAD, OPTIONS"),
    ("GET", "/api/events/channels/subscribe", 405, "POST, OPTIONS"),
    ("POST", "/api/events/other", 404, None),
    ("GET", "/api/events/channels/other", 404, None),
])
def test_who_answers(serving, method, path, status, allow):
    answer = serving.request(method, path, "{}" if method in ("POST", "PUT") else None)
    assert answer.status == status, answer
    assert answer.header("Allow") == allow
    assert answer.header("X-Content-Type-Options") == "nosniff"
    assert status == 204 or answer.header("Content-Type") == "application/json"


def test_the_events_api_publishes(serving):
    event = '{"topic":"alpha","data":1}'
    assert serving.request("POST", "/events/publish", f"{event}\n{event}\n").body == b'{"published":2}'
    assert serving.request("POST", "/api/sse/publish", event).status == 201
    for path in ("/events/publish", "/api/sse/publish"):
        assert_error(serving.request("GET", path), 405)
        assert_error(serving.request("POST", path, "{"), 400, "JSON")


def test_a_mebibyte_and_one_more(serving):
    frame = '{"channel":"large","eventType":"t","payload":""}'
    body = frame[:-2] + "x" * (MIB - len(frame)) + frame[-2:]
    assert post(serving, body).status == 202
    assert_error(post(serving, body + " "), 413, "max_durable_body")


def test_a_large_page(serving):
    for number in range(4):
        publish(serving, "pages", str(number) * 700000)
    events = page(serving, "channel=pages")
    assert [event["payload"][0] for event in events] == ["0", "1", "2", "3"]
    assert all(len(event["payload"]) == 700000 for event in events)

