"""Raw channels: what an existing trigger sends with NOTIFY is an event, unchanged."""

import json

import pytest

import program
from waiting import wait_for

CHANNELS = 'orders, cache_invalidate -> cache, "Weird.Name" -> weird, "say ""hi""" -> quoted'


@pytest.fixture(name="world")
def fixture_world(deploy, database):
    world = deploy(database.url, channels=CHANNELS)
    world.database = database
    return world.start()


@pytest.mark.parametrize("statement, topic, data", [
    ("NOTIFY orders, 'some text'", "orders", "some text"),
    ("NOTIFY Orders, '{\"a\": [1,  2.0]}'", "orders", '{"a": [1,  2.0]}'),
    ("NOTIFY orders", "orders", ""),
    ("NOTIFY orders, '{\"topic\":\"cache\",\"data\":1}'", "orders", '{"topic":"cache","data":1}'),
    ("NOTIFY cache_invalidate, '7'", "cache", "7"),
    ("NOTIFY \"Weird.Name\", 'größe'", "weird", "größe"),
    ("NOTIFY \"say \"\"hi\"\"\", 'hi'", "quoted", "hi"),
    ("SELECT pg_notify('orders', E'one\\ntwo\\r\\nthree')", "orders", "one\ntwo\nthree"),
    ("SELECT pg_notify('orders', E'x\\n\\nevent: close\\ndata: {}')", "orders",
     "x\n\nevent: close\ndata: {}"),
    ("SELECT pg_notify('orders', repeat('x', 7999))", "orders", "x" * 7999),
    ("NOTIFY orders, '{\"tenant\":\"acme\"}'", "orders", '{"tenant":"acme"}'),
])
def test_text_is_sent_as_it_is(world, statement, topic, data):
    stream = world.stream(topic)
    world.database.execute(statement)
    world.database.publish(topic, "last")
    event = stream.next_event()
    assert (event.data, event.event) == (data, "message")
    assert stream.next_event().data == '"last"'


def test_other_channels_are_not_heard(world):
    stream = world.stream("orders")
    before = world.totals()["bad_notifications"]
    for channel in ('"Orders"', "orders_", "orders2", "weird", "cache", '"weird.name"'):
        world.database.execute(f"NOTIFY {channel}, 'no'")
    world.database.publish("orders", "last")
    assert stream.next_event().data == '"last"'
    assert world.totals()["bad_notifications"] == before


def test_in_the_other_tenants_nothing_is_heard(world):
    handler = world.streams[0]
    stream = world.keep(handler.connect())
    stream.ask("GET", "/events", PGSSE_TENANT="acme").read_headers()
    stream.next_block()
    world.database.execute("NOTIFY orders, 'no'")
    world.database.publish("orders", "yes", tenant="acme")
    assert stream.next_event().data == '"yes"'


def test_they_are_replayed_and_counted(world):
    stream = world.stream("orders")
    world.database.execute("NOTIFY orders, '1'")
    first = stream.next_event()
    for number in (2, 3):
        world.database.execute(f"NOTIFY orders, '{number}'")
    back = world.stream("orders", {"Last-Event-ID": first.id})
    assert [back.next_event().data for _ in range(2)] == ["2", "3"]
    assert world.topic("orders")["published"] == 3


def test_a_trigger_of_before(world):
    world.database.execute(
        "CREATE TABLE stock (id integer);"
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        "    PERFORM pg_notify('orders', row_to_json(NEW)::text); RETURN NULL; END $$;"
        "CREATE TRIGGER tell AFTER INSERT ON stock FOR EACH ROW EXECUTE FUNCTION tell();")
    stream = world.stream("orders")
    world.database.execute("INSERT INTO stock VALUES (7)")
    assert json.loads(stream.next_event().data) == {"id": 7}


def test_bytes_that_are_no_utf8(deploy, cluster):
    """Only a database in SQL_ASCII takes them."""
    database = cluster.create_database(
        "ENCODING 'SQL_ASCII' LOCALE 'C'")
    world = deploy(database.url, channels="orders").start()
    stream = world.stream("orders")
    database.execute("SELECT pg_notify('orders', E'a\\377b\\303'), pg_notify('orders', 'sound')")
    assert [stream.next_event().data for _ in range(2)] == ["a\ufffdb\ufffd", "sound"]
    world.wait_totals(repaired_notifications=1, bad_notifications=0)


@pytest.mark.parametrize("channels, names", [
    ("orders,", "''"), ("a, Orders, orders -> x", "'orders -> x'"), ("pgsse_marker", "'pgsse_marker'"),
    ("topic_broadcast_3 -> x", "'topic_broadcast_3 -> x'"), ("forge_events", "'forge_events'"),
    ("Weird.Name", "'Weird.Name'"), ("x" * 64, "63 bytes"), ("a -> b*", "'a -> b*'"),
    ('"a', "not closed"), ("a\x01b", "a"),
])
def test_an_error_at_start_names_the_entry(deploy, database, channels, names):
    world = deploy(database.url)
    broker = world.spawn_broker(channels=channels)
    broker.expected = {78}
    wait_for(lambda: not broker.is_running(), "it has ended")
    assert "channels" in broker.log() and names in broker.log()


def test_print_config():
    status, out, _ = program.run([program.BROKER, "--print-config"],
                                 env=program.environment(PGSSE_CHANNELS=CHANNELS))
    assert status == 0 and f"channels = {CHANNELS}\n" in out


TENANT = "8b5f2c1e-8a4e-4a53-9a1b-0f6f3d2c1b0a"


def open_as(world, tenant, path="/topics/alpha/events"):
    stream = world.keep(world.streams[0].connect())
    stream.ask("GET", path, PGSSE_TENANT=tenant).read_headers()
    assert stream.status == 200
    stream.next_block()
    return stream


def forge(world, **members):
    world.database.execute("SELECT pg_notify('forge_events', %s)", (json.dumps(members),))


def test_forge_events(deploy, database):
    world = deploy(database.url, forge_events="on")
    world.database = database
    world.start()
    streams = [open_as(world, tenant) for tenant in (TENANT, "", "other")]
    bad = [{"channel": "alpha", "payload": 1}, {"channel": "alpha", "tenant_id": "", "payload": 1},
           {"channel": "alpha", "tenant_id": "a b", "payload": 1}, {"tenant_id": TENANT, "payload": 1},
           {"channel": "alpha", "tenant_id": TENANT}, {"channel": "alpha*", "tenant_id": TENANT, "payload": 1},
           {"channel": "alpha", "tenant_id": TENANT, "payload": {}, "type": "close"},
           {"channel": "alpha", "tenant_id": TENANT, "payload": {}, "type": "refresh"}]
    for members in bad:
        forge(world, **members)
    world.wait_totals(bad_notifications=len(bad))
    forge(world, channel="alpha", tenant_id=TENANT, payload={"n": 1}, type="paid")
    event = streams[0].next_event()
    assert (event.event, event.data) == ("paid", '{"n":1}')
    for stream, tenant in zip(streams[1:], ("", "other")):
        database.publish("alpha", "own", tenant=tenant)
        assert stream.next_event().data == '"own"'


def test_forge_control(deploy, database):
    """This publisher's own sentinels: to streams of that channel and tenant only. A refresh is kept
    for clients that come back, and a close is not: it would send them away again."""
    world = deploy(database.url, forge_events="on", forge_control="on")
    world.database = database
    world.start()
    stream, others = open_as(world, TENANT), open_as(world, "")
    other = open_as(world, TENANT, "/topics/beta/events")
    database.publish("alpha", "first", tenant=TENANT)
    start = stream.next_event().id
    forge(world, channel="alpha", tenant_id=TENANT, type="close")
    forge(world, channel="alpha", tenant_id=TENANT, type="refresh", payload={"why": "new"})
    forge(world, channel="alpha", tenant_id=TENANT, type="open", payload=1)
    world.wait_totals(bad_notifications=1)
    close, refresh = stream.next_event(), stream.next_event()
    assert (close.event, close.data) == ("close", "{}")
    assert (refresh.event, refresh.data) == ("refresh", '{"why":"new"}')
    database.publish("alpha", "last", tenant=TENANT)
    assert stream.next_event().data == '"last"'  # the stream goes on
    again = world.keep(world.streams[0].connect())
    again.ask("GET", f"/topics/alpha/events?last_event_id={start}", PGSSE_TENANT=TENANT).read_headers()
    assert [(event.event, event.data) for event in (again.next_event(), again.next_event())] == [
        ("refresh", '{"why":"new"}'), ("message", '"last"')]
    for bystander, topic, tenant in ((other, "beta", TENANT), (others, "alpha", "")):
        database.publish(topic, "own", tenant=tenant)
        assert bystander.next_event().data == '"own"'


def test_forge_events_are_off(world):
    stream = open_as(world, TENANT)
    forge(world, channel="alpha", tenant_id=TENANT, payload=1)
    world.database.publish("alpha", "last", tenant=TENANT)
    assert stream.next_event().data == '"last"'
    assert world.totals()["bad_notifications"] == 0
