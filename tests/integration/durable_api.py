"""The durable API: durable events, their history, and who is subscribed to what."""

import json

import pytest

from deployment import Deployment, ending
from schema import column, installed

EVENTS = "/api/events"
INSTALL = 'psql -f sql/pgsse.sql "$DATABASE_URL"'


@pytest.fixture(scope="module", name="door")
def fixture_door(cluster):
    """One deployment for all cases that leave it as they found it: the schema is in, no broker."""
    database = cluster.create_database()
    with installed(database), ending(Deployment(database.url)) as deployment:
        deployment.database = database
        deployment.start_stream()
        deployment.start_publisher()
        deployment.start_lighttpd()
        yield deployment
    cluster.give_back(database)


def publish(deployment, channel, payload, event_type="note"):
    """Accepted."""
    body = {"channel": channel, "eventType": event_type, "payload": payload}
    answer = post(deployment, json.dumps(body))
    assert answer.status == 202, answer
    return answer


def post(deployment, body, **how):
    return deployment.request("POST", f"{EVENTS}/publish", body, **how)


def change(deployment, what, body):
    """what is subscribe or unsubscribe."""
    body = body if isinstance(body, (str, bytes)) else json.dumps(body)
    return deployment.request("POST", f"{EVENTS}/channels/{what}", body)


def get(deployment, path):
    return deployment.request("GET", f"{EVENTS}/{path}")


def page(deployment, query):
    """The events of an answer that has to be 200."""
    answer = get(deployment, f"history?{query}")
    assert answer.status == 200, answer
    assert answer.header("Content-Type") == "application/json"
    document = json.loads(answer.body)
    assert list(document) == ["events"]
    return document["events"]


def stored(database, channel):
    """[(type, the text of data)] in order."""
    return database.execute("SELECT type, data::text FROM pgsse.events WHERE topic = %s ORDER BY id",
                            (channel,))


def payloads(database):
    """The text of all data there is, in order."""
    return column(database, "SELECT data::text FROM pgsse.events ORDER BY id")


def assert_error(answer, status, *words):
    """A refusal in this API's form; returns its document."""
    assert answer.status == status, answer
    assert answer.header("Content-Type") == "application/json"
    assert answer.header("X-Content-Type-Options") == "nosniff"
    assert answer.header("Cache-Control") == "no-store"
    assert (answer.header("Retry-After") is not None) == (status == 503)
    document = json.loads(answer.body)
    for word in words:
        assert word in document["error"], document
    return document
