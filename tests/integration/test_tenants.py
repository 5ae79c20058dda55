"""Tenants: the same name in two of them is never the same topic, user or channel, and only the web server
says of which tenant a request is. With real lighttpd, which has a virtual host for each tenant."""

import json

import pytest

import fastcgi
import web
from durable import is_refresh, publish as publish_row, sneak_in
from deployment import Deployment, ending
from schema import fixture_durable, installed, value  # noqa: F401
from waiting import wait_for

HOSTS = {"": "localhost", "acme": "acme.test", "other": "other.test"}
TENANTS = list(HOSTS)


@pytest.fixture(name="world")
def fixture_world(deploy, durable):
    world = deploy(durable.url, keep_alive="200ms")
    world.database = durable
    return world.start()


@pytest.fixture(scope="module", name="common")
def fixture_common(cluster):
    """For cases that leave nothing behind that matters to others."""
    database = cluster.create_database()
    with installed(database), ending(Deployment(database.url, keep_alive="200ms")) as deployment:
        deployment.database = database
        yield deployment.start()
    cluster.give_back(database)


def ask(world, tenant, method, path, body=None, **headers):
    body = body if body is None or isinstance(body, str) else json.dumps(body)
    if body is not None:
        headers = {"Content-Type": "application/json", **headers}
    return world.request(method, path, body, {"Host": HOSTS[tenant], **headers})


def get(world, tenant, path):
    answer = ask(world, tenant, "GET", path)
    assert answer.status == 200, answer
    return json.loads(answer.body)


def connect(world, tenant, path, position=None, **headers):
    if position is not None:
        headers["Last-Event-ID"] = position
    stream = world.keep(web.HttpStream(world.port, path, {"Host": HOSTS[tenant], **headers}))
    assert stream.status == 200, stream.status
    stream.greeting = stream.next_block()
    return stream


def notify(world, topic, data, **more):
    envelope = json.dumps({"topic": topic, "data": data, **more})
    world.database.execute("SELECT pg_notify('topic_broadcast_0', %s)", (envelope,))


def notify_all(world, topic):
    """An event of that name in each tenant, whose data is the tenant; the first one without a word."""
    notify(world, topic, "")
    for tenant in TENANTS[1:]:
        notify(world, topic, tenant, tenant=tenant)


def data_of(stream, count=1):
    return [json.loads(stream.next_event().data) for _ in range(count)]


# --- live -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", ["/topics/alpha/events", "/events?topics=alpha", "/events?topics=al*",
                                  "/events?topics=*", "/events"])
def test_live(world, path):
    streams = {tenant: connect(world, tenant, path) for tenant in TENANTS}
    notify_all(world, "alpha")
    world.database.execute("SELECT pgsse.publish('alpha', to_json(t || '!'), tenant => t)"
                           " FROM unnest(%s) t", (TENANTS,))
    notify_all(world, "alpha")
    for tenant, stream in streams.items():
        assert data_of(stream, 3) in ([tenant, tenant + "!", tenant], [tenant, tenant, tenant + "!"])
        assert stream.next_block().event is None  # a heartbeat, and nothing more


def test_published_over_http(world):
    """By each interface, and read by each."""
    topics = {tenant: connect(world, tenant, "/topics/alpha/events") for tenant in TENANTS}
    events = {tenant: connect(world, tenant, "/events?topics=a*") for tenant in TENANTS}
    for tenant in TENANTS:
        assert ask(world, tenant, "POST", "/topics/alpha/events", {"data": [1, tenant]}).status == 200
        assert ask(world, tenant, "POST", "/events/publish",
                   [{"topic": "alpha", "data": [2, tenant]}]).status == 200
        assert ask(world, tenant, "POST", "/api/sse/publish",
                   {"topic": "alpha", "event": "x", "data": [3, tenant]}).status == 201
        assert ask(world, tenant, "POST", "/api/events/publish",
                   {"channel": "alpha", "eventType": "x", "payload": [4, tenant]}).status == 202
        large = "x" * 9000  # becomes a durable event
        assert ask(world, tenant, "POST", "/topics/alpha/events",
                   {"data": [5, tenant, large]}).status == 200
        for stream in (topics[tenant], events[tenant]):
            got = data_of(stream, 5)
            assert sorted(one[0] for one in got) == [1, 2, 3, 4, 5]
            assert {one[1] for one in got} == {tenant}
    for stream in [*topics.values(), *events.values()]:
        assert stream.next_block().event is None


def test_broadcast(world):
    streams = {tenant: connect(world, tenant, "/events?topics=nothing") for tenant in TENANTS}
    for tenant in TENANTS:
        assert ask(world, tenant, "POST", "/api/sse/publish", {"event": "x", "data": tenant}).status == 201
    for tenant, stream in streams.items():
        assert stream.next_event().data == tenant
        assert stream.next_block().event is None


# --- replays ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", ["/topics/alpha/events", "/events?topics=al*"])
def test_replays(world, path):
    """A position means the same place for all: whose events come after it is another matter."""
    ids = {}
    for tenant in TENANTS:
        stream = connect(world, tenant, path)
        notify(world, "alpha", 0, tenant=tenant)
        ids[tenant] = stream.next_event().id
        stream.close()
    notify_all(world, "alpha")
    world.database.execute("SELECT pgsse.publish('alpha', to_json(t), tenant => t) FROM unnest(%s) t",
                           (TENANTS,))
    for tenant in TENANTS:
        for position in [*ids.values(), "0", "1"]:
            stream = connect(world, tenant, path, position)
            got = data_of(stream, 2 if position != "1" else 1)
            while got[0] == 0:  # of before: its own
                got = got[1:] + data_of(stream)
            assert set(got) == {tenant}, (tenant, position)
            stream.close()


def test_replays_from_the_table(world):
    world.database.execute("SELECT pgsse.publish('alpha', to_json(t || n), tenant => t)"
                           " FROM generate_series(1, 3) n, unnest(%s) t", (TENANTS,))
    world.broker.stop()
    world.start_broker()  # its log is empty
    for tenant in TENANTS:
        for path in ("/topics/alpha/events", "/events?topics=al*", "/events"):
            stream = connect(world, tenant, path, "1")
            assert data_of(stream, 3) == [f"{tenant}{n}" for n in (1, 2, 3)]
            stream.close()


def test_a_gap_is_told_to_its_tenant(world):
    first = publish_row(world.database, "alpha", 1, tenant="acme")
    world.database.execute("SELECT pgsse.publish('alpha', '2', tenant => 'acme'),"
                           " pgsse.publish('alpha', '3'), pgsse.prune(keep => 1)")
    world.broker.stop()
    world.start_broker()  # its log is empty
    world.wait_served()
    stream = connect(world, "acme", "/topics/alpha/events", str(first - 1))
    assert is_refresh(stream.next_event()) and data_of(stream) == [2]
    stream = connect(world, "", "/topics/alpha/events", str(first - 1))
    assert data_of(stream) == [3]


def test_a_row_of_what_is_no_tenant(world):
    """Put there by its owner. Nobody can have it, so nobody is told; nor does it stop others."""
    world.database.execute("ALTER TABLE pgsse.events DROP CONSTRAINT IF EXISTS events_tenant_check")
    streams = [connect(world, tenant, "/events") for tenant in TENANTS]
    sneak_in(world.database, "alpha", 1, tenant="acme\nalpha")
    sneak_in(world.database, "alpha", 2, tenant="x" * 65)
    world.database.execute("SELECT pgsse.publish('alpha', '3', tenant => t) FROM unnest(%s) t", (TENANTS,))
    for stream in streams:
        assert data_of(stream) == [3]
    for tenant in TENANTS:
        assert data_of(connect(world, tenant, "/topics/alpha/events", "1")) == [3]


# --- the durable API --------------------------------------------------------------------------------

def test_history(world):
    for tenant in TENANTS:
        assert ask(world, tenant, "POST", "/api/events/publish",
                   {"channel": "alpha", "eventType": "x", "payload": tenant}).status == 202
    for tenant in TENANTS:
        found = get(world, tenant, "/api/events/history?channel=alpha&tenant=acme&afterId=0")
        assert [event["payload"] for event in found["events"]] == [tenant]


def test_subscriptions(world):
    def change(tenant, what, channel):
        return ask(world, tenant, "POST", f"/api/events/channels/{what}", {"userId": 1, "channel": channel})

    def channels(tenant):
        lists = [get(world, tenant, path)["channels"] for path in
                 ("/api/events/channels?userId=1", "/api/events/channels/list?userId=1")]
        assert lists[0] == lists[1]
        return lists[0]

    def stream_status(tenant):
        stream = web.HttpStream(world.port, "/api/events/stream?userId=1&channels=a,b",
                                {"Host": HOSTS[tenant]})
        stream.close()
        return stream.status

    assert change("acme", "subscribe", "a").status == 201
    assert [channels(tenant) for tenant in TENANTS] == [[], ["a"], []]
    assert [stream_status(tenant) for tenant in TENANTS] == [403, 200, 403]
    assert change("other", "unsubscribe", "a").status == 200
    assert change("", "subscribe", "b").status == 201
    assert [channels(tenant) for tenant in TENANTS] == [["b"], ["a"], []]
    assert change("acme", "unsubscribe", "a").status == 200
    assert [stream_status(tenant) for tenant in TENANTS] == [200, 403, 403]


def user_stream(world, tenant, position=None):
    return connect(world, tenant, "/api/events/stream?userId=1&channels=a", position)


def test_user_streams(world):
    """The same user, of the same channel, in each tenant; who loses his right is one of them."""
    for tenant in TENANTS:
        world.database.execute("SELECT pgsse.subscribe('1', 'a', %s)", (tenant,))
    streams = {tenant: user_stream(world, tenant) for tenant in TENANTS}

    def publish():
        world.database.execute("SELECT pgsse.publish('a', to_json(t), tenant => t) FROM unnest(%s) t",
                               (TENANTS,))

    publish()
    ids = []
    for tenant, stream in streams.items():
        event = stream.next_event()
        assert json.loads(event.data) == tenant
        ids.append(event.id)
    counts = {tenant: get(world, tenant, "/api/events/active-connections") for tenant in TENANTS}
    assert counts == {tenant: {"count": 1, "activeConnections": 1, "totalConnections": 1,
                               "byChannel": {"a": 1}} for tenant in TENANTS}
    world.database.execute("SELECT pgsse.unsubscribe('1', 'a', 'acme')")
    wait_for(lambda: get(world, "acme", "/api/events/active-connections")["count"] == 0, "it has lost it")
    publish()
    for tenant, stream in streams.items():
        if tenant != "acme":
            assert data_of(stream) == [tenant]
            assert get(world, tenant, "/api/events/active-connections")["count"] == 1
    assert streams["acme"].next_block().comments == ["heartbeat"]
    for position in ids:  # a position of another tenant opens nothing
        assert set(data_of(user_stream(world, "other", position))) == {"other"}


def test_users_own_topics(world):
    """user:anna of one tenant is not the other's; lighttpd does not authenticate here."""
    handler = world.streams[0]
    streams = {}
    for tenant in TENANTS:
        stream = world.keep(handler.connect())
        stream.ask("GET", "/events?topics=x", REMOTE_USER="anna", PGSSE_TENANT=tenant).read_headers()
        assert stream.status == 200 and "connected" in stream.next_block().comments
        streams[tenant] = stream
    for tenant in TENANTS:
        assert ask(world, tenant, "POST", "/api/sse/publish",
                   {"user": "anna", "event": "x", "data": tenant}).status == 201
    for tenant, stream in streams.items():
        assert stream.next_event().data == tenant
        assert stream.next_block().event is None


# --- health -----------------------------------------------------------------------------------------

def names(document):
    return sorted((topic.get("tenant", ""), topic["topic"]) for topic in document["topics"])


def test_health(world):
    """A tenant, '' too, sees its own only; the status socket sees all."""
    streams = [connect(world, tenant, f"/topics/of-{tenant or 'none'}/events") for tenant in TENANTS]
    notify_all(world, "shared")
    for stream, tenant in zip(streams, TENANTS):
        notify(world, f"of-{tenant or 'none'}", 0, tenant=tenant)
        data_of(stream)
    everything = [("", "of-none"), ("", "shared"), ("acme", "of-acme"), ("acme", "shared"),
                  ("other", "of-other"), ("other", "shared")]
    assert set(everything) <= set(names(world.health()))
    of_none = get(world, "", "/healthz")
    assert {("", "of-none"), ("", "shared")} <= set(names(of_none))
    assert not any("tenant" in topic for topic in of_none["topics"])
    for tenant in TENANTS[1:]:
        for query in ("", "?limit=2", "?limit=65536"):
            document = get(world, tenant, "/healthz" + query)
            assert names(document) == [(tenant, f"of-{tenant}"), (tenant, "shared")]
            assert [topic["subscribers"] for topic in document["topics"]] == [1, 0]
        assert names(get(world, tenant, "/healthz?limit=1")) == [(tenant, f"of-{tenant}")]
        assert names(get(world, tenant, "/healthz?limit=0")) == []
        others = {"acme", "other"} - {tenant}
        body = ask(world, tenant, "GET", "/healthz").body.decode()
        assert not any(other in body for other in others) and "of-none" not in body
        assert get(world, tenant, "/health")["status"] == "ok"


def test_stats(world):
    first = connect(world, "acme", "/events?topics=a,b,c")
    connect(world, "acme", "/topics/a/events")
    connect(world, "other", "/topics/a/events")

    def stats(tenant):
        found = get(world, tenant, "/api/sse/stats")
        return found["connected_clients"], found["active_topics"], found["dropped_messages"]

    # a, b, c and the broadcast
    wait_for(lambda: (stats("acme"), stats("other")) == ((2, 4, 0), (1, 1, 0)),
             lambda: (stats("acme"), stats("other")))
    assert stats("") == (3, 5, 0)  # of the machine
    world.broker.stop()
    world.start_broker()
    world.wait_served()
    wait_for(lambda: (stats("acme"), stats("other")) == ((2, 4, 0), (1, 1, 0)),
             lambda: (stats("acme"), stats("other")))
    first.close()
    wait_for(lambda: (stats("acme"), stats("other")) == ((1, 1, 0), (1, 1, 0)),
             lambda: (stats("acme"), stats("other")))


# --- attacks ----------------------------------------------------------------------------------------

HEADERS = [{"PGSSE_TENANT": "acme"}, {"Pgsse-Tenant": "acme"}, {"PGSSE-TENANT": "acme"},
           {"Tenant": "acme"}, {"X-Pgsse-Tenant": "acme"}, {"HTTP_PGSSE_TENANT": "acme"},
           {"Remote_User": "anna"}, {"Remote-User": "anna"}, {"REDIRECT_PGSSE_TENANT": "acme"},
           {"Proxy": "acme"}, {"Pgsse_Tenant": "acme\tx"}, {"X-Forwarded-Host": "acme.test"},
           {"Forwarded": "host=acme.test"}, {"X-Original-URL": "//acme.test/topics/alpha/events"}]


@pytest.mark.parametrize("headers", HEADERS, ids=[next(iter(one)) for one in HEADERS])
@pytest.mark.parametrize("tenant", ["", "other"])
def test_tenant_by_header(common, tenant, headers):
    stream = connect(common, tenant, "/topics/alpha/events", **headers)
    events = connect(common, tenant, "/events?topics=al*", **headers)
    answer = ask(common, tenant, "POST", "/topics/alpha/events", {"data": "posted"}, **headers)
    assert answer.status == 200
    notify(common, "alpha", "evil", tenant="acme")
    notify(common, "alpha", "own", tenant=tenant)
    assert data_of(stream, 2) == ["posted", "own"] and data_of(events, 2) == ["posted", "own"]


@pytest.mark.parametrize("query", ["tenant=acme", "PGSSE_TENANT=acme", "tenant[]=acme",
                                   "topics=alpha&tenant=acme"])
def test_tenant_by_query(common, query):
    streams = [connect(common, "", f"/topics/alpha/events?{query}"),
               connect(common, "", f"/events?topic=alpha&{query}")]
    notify(common, "alpha", "evil", tenant="acme")
    notify(common, "alpha", "own")
    assert [data_of(stream) for stream in streams] == [["own"], ["own"]]


@pytest.mark.parametrize("path", [
    "/topics/acme%0aalpha/events", "/topics/acme%0Aalpha/events", "/topics/acme%2falpha/events",
    "/topics/acme/alpha/events", "/topics/%2e%2e/acme/alpha/events", "/acme/topics/alpha/events",
    "/topics/acme//alpha/events", "/topics/*acme%0aalpha/events", "/topics/acme%c0%8aalpha/events",
    "/topics/acme%e0%80%8aalpha/events", "/topics/acme%00alpha/events", "/topics/acme%250aalpha/events",
    "/topics//acme.test/alpha/events", "/events?topics=acme%0aalpha", "/events?topics=*acme%0aal*",
    "/events?topics=acme%0a*", "/events?topics=acme%c0%8aalpha", "/events?topics=*%0aalpha",
    "/events?topics=%0aalpha", "/api/events/history?channel=acme%0aalpha",
    "/api/events/stream?userId=acme%0a1&channels=alpha",
])
def test_no_path_leads_to_another_tenant(common, path):
    """The separator of keys is a control character: no name holds it, however it is written."""
    last = value(common.database, "SELECT pgsse.publish('alpha', '1', tenant => 'acme')")
    common.database.execute("SELECT pgsse.subscribe('1', 'alpha', 'acme')")
    wait_for(lambda: common.totals()["durable_head"] >= last, "no later test meets it")
    answer = ask(common, "other", "GET", path, **{"Last-Event-ID": "0"})
    assert answer.status in (400, 403, 404), answer


@pytest.mark.parametrize("path, body", [
    ("/topics/body/events", {"data": 1}), ("/events/publish", {"topic": "body", "data": 1}),
    ("/api/sse/publish", {"topic": "body", "event": "x", "data": 1}),
    ("/api/events/publish", {"channel": "body", "eventType": "x", "payload": 1}),
    ("/api/events/channels/subscribe", {"userId": 1, "channel": "body"}),
    ("/api/events/channels/unsubscribe", {"userId": 1, "channel": "body"}),
])
@pytest.mark.parametrize("tenant", ["", "other"])
@pytest.mark.parametrize("word", ["acme", "", 5, ["acme"]], ids=str)
def test_tenant_by_body(common, path, body, tenant, word):
    answer = ask(common, tenant, "POST", path, {**body, "tenant": word})
    assert answer.status == 400 and b"tenant" in answer.body and b"must not be given" in answer.body
    assert value(common.database, "SELECT count(*) FROM pgsse.events WHERE topic = 'body'") == 0
    assert value(common.database, "SELECT count(*) FROM pgsse.subscriptions WHERE channel = 'body'") == 0


def test_tenant_by_envelope(common):
    """In NOTIFY it is the publisher's word: any role may publish for any tenant. What is no tenant makes a
    bad event."""
    streams = [connect(common, tenant, "/events") for tenant in TENANTS]
    before = common.totals()["bad_notifications"]
    bad = ["acme/", "acme\n", " acme", "x" * 65, "é", "*", 5, True, ["acme"], {}, "acme\x00", "\x00"]
    for tenant in bad:
        notify(common, "alpha", "evil", tenant=tenant)
    common.wait_totals(bad_notifications=before + len(bad))
    for tenant in TENANTS:
        notify(common, "alpha", "own", tenant=tenant)
    notify(common, "beta", "own", tenant=None)
    for stream, count in zip(streams, (2, 1, 1)):
        assert data_of(stream, count) == ["own"] * count
        assert stream.next_block().event is None
    log = wait_for(lambda: '"tenant" must be' in common.broker.log() and common.broker.log(), "it is logged")
    assert "topic_broadcast_0" in log


# --- what the web server says -----------------------------------------------------------------------

NO_TENANTS = ["x" * 65, "a b", "a/b", "a,b", "é", b"\xff", "acme\n", "*", "%{TENANT}e", "x" * 5000]


@pytest.mark.parametrize("tenant", NO_TENANTS, ids=range(len(NO_TENANTS)))
@pytest.mark.parametrize("method, path", [
    ("GET", "/topics/alpha/events"), ("HEAD", "/topics/alpha/events"), ("GET", "/events"),
    ("GET", "/healthz"), ("GET", "/api/sse/stats"), ("OPTIONS", "/topics/alpha/events"),
    ("GET", "/api/events/stream?userId=1&channels=a"), ("GET", "/nowhere"),
])
def test_no_tenant_in_the_stream_handler(common, tenant, method, path):
    connection = common.keep(common.streams[0].connect())
    connection.ask(method, path, PGSSE_TENANT=tenant, HTTP_ACCEPT="text/event-stream").answer()
    assert connection.status == 500
    wait_for(lambda: "PGSSE_TENANT has" in common.streams[0].log(), "it is logged")


@pytest.mark.parametrize("tenant", NO_TENANTS, ids=range(len(NO_TENANTS)))
@pytest.mark.parametrize("method, path", [
    ("POST", "/topics/alpha/events"), ("POST", "/events/publish"), ("POST", "/api/sse/publish"),
    ("POST", "/api/events/publish"), ("POST", "/api/events/channels/subscribe"),
    ("GET", "/api/events/history?channel=a"), ("GET", "/api/events/channels?userId=1"),
])
def test_no_tenant_in_the_publish_handler(common, tenant, method, path):
    before = common.totals()["published"]
    connection = common.keep(common.publisher.connect())
    connection.ask(method, path, b'{"data":1}', PGSSE_TENANT=tenant).answer()
    assert connection.status == 500
    assert common.totals()["published"] == before
    wait_for(lambda: "PGSSE_TENANT has" in common.publisher.log(), "it is logged")


def test_the_longest_tenant(common):
    tenant = "x" * 64
    stream = common.keep(common.streams[0].connect())
    stream.ask("GET", "/topics/alpha/events", PGSSE_TENANT=tenant).read_headers()
    assert stream.status == 200
    stream.next_block()
    connection = common.keep(common.publisher.connect())
    connection.ask("POST", "/topics/alpha/events", b'{"data":1}', PGSSE_TENANT=tenant).answer()
    assert connection.status == 200
    assert stream.next_event().data == "1"


def test_a_virtual_host_that_is_wrong(common):
    for method, path, body in (("GET", "/topics/alpha/events", None), ("GET", "/events", None),
                               ("POST", "/topics/alpha/events", '{"data":1}')):
        assert common.request(method, path, body, {"Host": "wrong.test"}).status == 500


def test_parameters_twice(common):
    """Headers are parameters with HTTP_ before them, so none of them is ever PGSSE_TENANT; and a request
    whose parameters come in several records is still one request."""
    stream = common.keep(common.streams[0].connect())
    stream.send(fastcgi.begin()
                + fastcgi.record(fastcgi.PARAMS, fastcgi.pairs(
                    {"REQUEST_METHOD": "GET", "REQUEST_URI": "/topics/alpha/events",
                     "HTTP_PGSSE_TENANT": "acme", "QUERY_STRING": "PGSSE_TENANT=acme"}))
                + fastcgi.record(fastcgi.PARAMS, fastcgi.pairs({"PGSSE_TENANT": "other"}))
                + fastcgi.record(fastcgi.PARAMS) + fastcgi.record(fastcgi.STDIN))
    stream.read_headers()
    stream.next_block()
    for tenant in ("acme", "", "other"):
        envelope = json.dumps({"topic": "alpha", "data": tenant, "tenant": tenant})
        common.database.execute("SELECT pg_notify('topic_broadcast_0', %s)", (envelope,))
    assert stream.next_event().data == '"other"'
