"""The table of durable events: what its transactions, hints and rows can be like, how often it is
asked, and the schema that comes, goes and changes while the broker runs."""

import contextlib
import re
import threading

import pytest

from durable import (Publisher, assert_both, bodies, come_back, events, fixture_topic,  # noqa: F401
                     head, is_refresh, publish, publish_numbers, read_both, refreshes, running, sneak_in,
                     start_streaming, wait_head)
from schema import (column, drop_schema, fixture_durable, install, uninstall,  # noqa: F401
                    value)
from source import Source, place_text
from waiting import wait_for


@pytest.fixture(scope="module", name="world")
def fixture_world(cluster):
    """It looks at the table often, so that nobody waits for that."""
    with running(cluster, cluster.create_database(), table_poll="200ms") as deployment:
        yield deployment


# --- transactions --------------------------------------------------------------------------------

@contextlib.contextmanager
def transaction(database):
    """execute() in it; committed at the end."""
    connection = database.connect()
    connection.autocommit = False
    with contextlib.closing(connection), connection.cursor() as cursor:
        yield cursor
        connection.commit()


PUBLISH = "SELECT pgsse.publish(%s, to_json(%s))"


def test_a_transaction_that_publishes_late(world, topic):
    """It began first, others were faster: it stands where it published."""
    source = Source(world, topic).greeted()
    with transaction(world.database) as cursor:
        cursor.execute("CREATE TEMP TABLE early (n integer); INSERT INTO early VALUES (1)")
        publish(world.database, topic, 1)
        source.read_to(1)
        cursor.execute(PUBLISH, (topic, 2))
    publish(world.database, topic, 3)
    assert source.read_to(3).data == [1, 2, 3]


def test_a_transaction_that_takes_long_after_it_published(world, topic):
    """The others wait for their turn, so nobody is overtaken; ephemeral events are not held up."""
    source = Source(world, topic).greeted()
    other = threading.Thread(target=publish_elsewhere, args=(world.database, topic, 2))
    with transaction(world.database) as cursor:
        cursor.execute(PUBLISH, (topic, 1))
        other.start()
        wait_for(lambda: value(world.database, "SELECT publishers_waiting FROM pgsse.status"),
                 "the other one waits")
        world.database.publish(topic, -1)
        assert source.next_data() == -1
    other.join()
    assert source.read_to(2).data == [-1, 1, 2]


def publish_elsewhere(database, topic, data):
    with transaction(database) as cursor:
        cursor.execute(PUBLISH, (topic, data))


def test_what_is_rolled_back_never_comes(world, topic):
    """Its ids are left out."""
    start = Source(world, topic).greeted()
    first = publish(world.database, topic, 1)
    with pytest.raises(ZeroDivisionError), transaction(world.database) as cursor:
        cursor.execute(PUBLISH, (topic, 98))
        cursor.execute("SAVEPOINT within")
        raise ZeroDivisionError
    with transaction(world.database) as cursor:
        cursor.execute("SAVEPOINT within")
        cursor.execute(PUBLISH, (topic, 99))
        cursor.execute("ROLLBACK TO within")
        cursor.execute(PUBLISH, (topic, 2))
    assert [start.next_data() for _ in range(2)] == [1, 2]
    assert start.events[1].place[0] == first + 3
    back = come_back(world, topic, start.events[0].id)
    assert back.read_to(2).data == [2]


def test_both_kinds_in_one_transaction(world, topic):
    """Each in its order."""
    source = Source(world, topic).greeted()
    start = source.position
    with transaction(world.database) as cursor:
        for number in range(1, 51):
            cursor.execute(PUBLISH, (topic, number))
            cursor.execute("SELECT pgsse.notify(%s, to_json(%s))", (topic, -number))
    assert_both(read_both(source, 100), 50)
    assert_both(read_both(come_back(world, topic, start), 100), 50)


def test_equal_events_are_as_many_as_were_published(world, topic):
    source = Source(world, topic).greeted()
    with transaction(world.database) as cursor:
        for _ in range(5):
            cursor.execute(PUBLISH, (topic, 1))
    publish(world.database, topic, 2)
    assert source.read_to(2).data == [1] * 5 + [2]


def test_a_transaction_that_is_larger_than_the_readings(world, topic):
    """In rows; live clients that read get it all."""
    source = Source(world, topic).greeted()
    publish_numbers(world.database, topic, 1, 2500)
    assert source.read_to(2500).data == list(range(1, 2501))


# --- hints ---------------------------------------------------------------------------------------

def test_a_lost_hint_costs_a_poll(world, topic):
    source = Source(world, topic).greeted()
    number = sneak_in(world.database, topic, 1)
    block = source.next_event()
    assert block.data == "1" and block.place[0] == number


HINTS = ["", "garbage", "{}", '{"hint":true}', '{"hint":true,"id":999999999}', "[" * 7000,
         '{"recheck":1}', '{"recheck":"nobody"}', '{"recheck":""}', "x" * 7999, "ü" * 3000]


@pytest.mark.parametrize("channel", ["pgsse_hint", "forge_events"])  # and version 2's
@pytest.mark.parametrize("payload", HINTS, ids=range(len(HINTS)))
def test_a_forged_hint_does_no_harm(world, topic, payload, channel):
    source = Source(world, topic).greeted()
    before = head(world)
    world.database.notify(channel, payload)
    number = publish(world.database, topic, 1)
    assert source.next_block().place[0] == number > before
    assert world.totals()["notifications"] >= 2


def test_thousands_of_forged_hints(deploy, database):
    """Many are answered by one reading."""
    with counting(deploy, database) as count:
        source = Source(count.deployment).greeted()
        heard = count.deployment.totals()["notifications"]
        database.execute("SELECT pg_notify('pgsse_hint', n::text) FROM generate_series(1, 5000) n")
        publish(database, "alpha", 1)
        assert source.next_data() == 1
        wait_for(lambda: count.deployment.totals()["notifications"] >= heard + 5001, "all heard")
        publish(database, "alpha", 2)
        assert source.next_data() == 2
        assert 0 < len(count.readings()) < 500


# --- rows that the functions would not have written -----------------------------------------------

BAD_ROWS = [{"topic": ""}, {"topic": "a\nb"}, {"topic": "x" * 256}, {"topic": "\u0085"},
            {"type": ""}, {"type": "a\nid: 7"}, {"type": "x" * 256}, {"type": "a\rb"},
            {"publisher_id": "a b"}, {"publisher_id": "x\n"}, {"publisher_id": "y" * 65},
            {"publisher_id": ""}, {"retry": -1}, {"retry": 3600001},
            {"comment": "a\rb\n\ndata: 7"}, {"data": "[" * 3000 + "]" * 3000},
            {"data": r'"\ud800"'}, {"is_text": True, "data": r'"\udc00x"'}]


@pytest.mark.parametrize("row", BAD_ROWS, ids=range(len(BAD_ROWS)))
def test_a_row_that_is_no_event(world, topic, row):
    """Live and for those who come back: it is counted, or harmless, and the next one comes."""
    source = Source(world, topic).greeted()
    start = source.position
    published, bad = (world.totals()[key] for key in ("published", "bad_notifications"))
    sneak_in(world.database, **{"topic": topic, "data": '"odd"', **row})
    publish(world.database, topic, 1)
    while source.next_event().data != "1":
        pass
    totals = world.totals()
    assert totals["published"] + totals["bad_notifications"] == published + bad + 2
    assert [block.data for block in source.events].count("1") == 1
    back = come_back(world, topic, start)
    while back.next_event().data != "1":
        pass
    assert bodies(back.events) == bodies(source.events)


@pytest.mark.parametrize("row", BAD_ROWS, ids=range(len(BAD_ROWS)))
def test_such_a_row_in_a_page(paging, topic, row):
    start = Source(paging, topic).greeted().cut()
    sneak_in(paging.database, **{"topic": topic, "data": '"odd"', **row})
    publish_numbers(paging.database, topic, 1, 5)
    wait_head(paging, value(paging.database, "SELECT pgsse.head()"))
    back = start.connect().greeted()
    while back.next_event().data != "5":
        pass
    assert [block.data for block in back.events][-5:] == ["1", "2", "3", "4", "5"]
    assert len(back.events) in (5, 6) and refreshes(back) in ([], ["gap"])
    is_sent = '"odd"' in [block.data for block in back.events] or len(back.events) == 6
    assert is_sent or "topic" in row, "what its topic's clients miss, they are told"


@pytest.fixture(scope="module", name="paging")
def fixture_paging(cluster):
    """Its log has room for nothing."""
    with running(cluster, cluster.create_database(), ring_capacity="1",
                 table_poll="200ms") as deployment:
        yield deployment


# --- how often it is asked ------------------------------------------------------------------------

class Count:
    """The statements about pages in the server's log; [(after, up to)]."""

    def __init__(self, deployment, log):
        self.deployment = deployment
        self._log = log
        self._start = log.stat().st_size

    def _statements(self):
        with self._log.open("rb") as file:
            file.seek(self._start)
            text = file.read().decode(errors="replace")
        return re.findall(r"pgsse\.page\(\$2.*\n.*DETAIL:  parameters: \$1 = '\d+', \$2 = '(\d+)', "
                          r"\$3 = ('\d+'|NULL), \$4 = ('.*?'|NULL), \$5", text)

    def readings(self):
        return [after for after, end, _ in self._statements() if end == "NULL"]

    def pages(self):
        return [(int(after), topics) for after, end, topics in self._statements() if end != "NULL"]


@contextlib.contextmanager
def counting(deploy, database, **settings):
    """A deployment whose every statement the server logs."""
    install(database)
    database.execute(f"ALTER DATABASE {database.name} SET log_statement = 'all'")
    try:
        deployment = deploy(database.url, ring_capacity="1", **settings)
        yield Count(start_streaming(deployment), database.cluster.directory / "log")
    finally:
        database.execute(f"ALTER DATABASE {database.name} RESET log_statement;"
                         " DROP SCHEMA IF EXISTS pgsse CASCADE")


def test_many_who_come_back_cost_as_much_as_one(deploy, database):
    """40 clients at the same place: each page is read once."""
    with counting(deploy, database) as count:
        source = Source(count.deployment).greeted().cut()
        publish_numbers(database, "alpha", 1, 1500)
        wait_head(count.deployment, 1501)
        sources = [Source(count.deployment, position=source.position) for _ in range(40)]
        for one in sources:
            assert one.greeted().read_to(1500).data == list(range(1, 1501))
        pages = count.pages()
    assert 2 <= len(pages) <= 3 and len(set(pages)) == len(pages), pages


def test_who_comes_back_to_the_log_asks_nothing(deploy, database):
    with counting(deploy, database) as count:
        first = Source(count.deployment).greeted()
        publish(database, "alpha", 1)
        first.read_to(1).cut()
        publish(database, "alpha", 2)
        wait_head(count.deployment, 3)
        for _ in range(20):
            assert come_back(count.deployment, "alpha", first.position).next_data() == 2
        assert count.pages() == []


def test_it_is_read_once_for_an_event(deploy, database):
    """And not at all without one, but by the poll."""
    with counting(deploy, database, table_poll="600s") as count:
        source = Source(count.deployment).greeted()
        for number in range(1, 11):
            publish(database, "alpha", number)
            source.read_to(number)
        assert len(count.readings()) <= 11


# --- the schema comes and goes ---------------------------------------------------------------------

@pytest.fixture(name="bare")
def fixture_bare(deploy, database):
    """Without schema at first; it is looked for often."""
    deployment = start_streaming(deploy(database.url, table_poll="100ms"))
    deployment.database = database
    yield deployment
    drop_schema(database)


def test_without_schema(bare, database):
    """Ephemeral events as ever; health says what is not there."""
    totals = bare.totals()
    assert totals["durable_head"] == 0 and totals["table_connected"] is True
    assert "pgsse.sql" in totals["durable_absent"]
    assert bare.health()["status"] == "ok"
    source = Source(bare).greeted()
    database.publish("alpha", 1)
    assert source.next_block().place[0] == 0
    back = come_back(bare, "alpha", source.greeting.id)
    assert back.read_to(1).data == [1]


def test_without_schema_the_connection_may_come_and_go(bare, database):
    """Which nobody needs: all is well."""
    database.terminate(table_backends(database))
    wait_for(lambda: bare.totals()["errors"] == 1 and bare.totals()["table_connected"], "it is back")
    wait_for(lambda: bare.health()["status"] == "ok", lambda: bare.health()["reason"], 3)


def table_backends(database):
    return [pid for pid, query in database.backends().items() if "pgsse." in query or "nspowner" in query]


def wait_present(deployment):
    return wait_for(lambda: head(deployment), lambda: f"the schema: {deployment.totals()}")


def wait_absent(deployment):
    return wait_for(lambda: deployment.totals()["durable_absent"],
                    lambda: f"no schema: {deployment.totals()}")


def test_it_is_installed_under_open_streams(bare, database):
    sources = [Source(bare, topic).greeted() for topic in ("alpha", "beta")]
    install(database)
    wait_present(bare)
    assert bare.totals()["durable_absent"] is None and bare.health()["status"] == "ok"
    publish(database, "alpha", 1)
    publish(database, "beta", 1)
    for source in sources:
        source.read_to(1)
        assert source.data == ["gap", 1]
        assert source.events[0].json()["topics"] == [source.topic]
        assert source.events[1].place[0] > source.events[0].place[0] == 1


def test_it_is_installed_while_somebody_is_away(bare, database):
    """Who comes back may have missed durable events: one refresh."""
    source = Source(bare).greeted().cut()
    install(database)
    publish(database, "alpha", 1)
    wait_present(bare)
    publish(database, "alpha", 2)
    wait_head(bare, 3)
    source.connect()
    assert is_refresh(source.next_event())
    publish(database, "alpha", 3)
    source.read_to(3)
    assert len(refreshes(source)) == 1 and 1 not in source.data


def test_it_is_installed_while_there_is_no_broker(bare, database):
    """Streams that stayed have two reasons to be told, and are told once."""
    source = Source(bare).greeted()
    bare.broker.kill()
    install(database)
    publish(database, "alpha", 1)
    bare.start_broker()
    assert is_refresh(source.next_event())
    publish(database, "alpha", 2)
    source.read_to(2)
    assert source.data[1:] == [2]


def test_it_is_installed_and_used_at_once(deploy, database):
    """However often there is a hint, the table is looked for."""
    deployment = start_streaming(deploy(database.url, table_poll="500ms"))
    source = Source(deployment).greeted()
    install(database)
    try:
        with Publisher(database, "alpha", pause=0.02) as publisher:
            wait_for(lambda: head(deployment), lambda: f"the schema: {deployment.totals()}", 2)
            publisher.wait_more(5)
        source.read_to(publisher.count)
        durable = [number for number in events(source) if number > 0]
        assert durable == list(range(durable[0], publisher.count + 1))
        assert refreshes(source) == ["gap"]
    finally:
        drop(database)


def drop(database):
    drop_schema(database, "DROP SCHEMA pgsse CASCADE")


def test_it_is_dropped(bare, database):
    """Streams are told, and go on without it."""
    install(database)
    wait_present(bare)
    source = Source(bare).greeted()
    publish(database, "alpha", 1)
    source.read_to(1)
    drop(database)
    assert "not installed" in wait_absent(bare)
    database.publish("alpha", -1)
    source.read_to(-1)
    assert source.data == [1, "gap", -1] and source.events[-1].place[0] == 0
    wait_for(lambda: bare.health()["status"] == "ok", lambda: bare.health()["reason"], 3)
    back = come_back(bare, "alpha", source.events[0].id)
    database.publish("alpha", -2)
    assert back.read_to(-2).data[0] in ("unknown_position", "gap")
    assert len(refreshes(back)) == 1


def replace(database):
    drop(database)
    install(database)


def test_it_is_replaced(bare, database):
    """Ids start anew. Nobody takes them for the old ones."""
    install(database)
    wait_present(bare)
    source = Source(bare).greeted()
    publish_numbers(database, "alpha", 1, 20)
    source.read_to(20)
    replace(database)
    wait_for(lambda: head(bare) == 1, lambda: f"the new table: {bare.totals()}")
    publish(database, "alpha", 21)
    source.read_to(21)
    assert source.data == [*range(1, 21), *["gap"] * len(refreshes(source)), 21]
    assert 1 <= len(refreshes(source)) <= 2  # absent for a moment, or not
    assert source.events[-1].place[0] == 2


def test_it_is_replaced_and_used_at_once(deploy, database):
    """Events of the new one, whose ids the old one had, come or are told of: also if somebody
    publishes more often than the table is looked at without a hint."""
    install(database)
    try:
        deployment = start_streaming(deploy(database.url, table_poll="500ms"))
        source = Source(deployment).greeted()
        publish_numbers(database, "alpha", 1, 500)
        source.read_to(500)
        replace(database)  # takes less than a poll
        with Publisher(database, "alpha", pause=0.02) as publisher:
            wait_for(lambda: head(deployment) < 500, lambda: f"{deployment.totals()}", 2)
            publisher.wait_more(5)
        wait_head(deployment, value(database, "SELECT pgsse.head()"))  # perhaps told of, all of them
        last = publisher.count + 1
        publish(database, "alpha", last)
        source.events.clear()
        source.read_to(last, 2)
        durable = [number for number in events(source) if number > 0]
        assert refreshes(source)
        assert durable == list(range(durable[0], last + 1))
    finally:
        drop(database)


def test_an_id_of_a_schema_that_was_dropped(deploy, database):
    """Its ids are no place in the new one: who comes with one is told, whatever is there by then."""
    install(database, first_id=None)
    deployment = start_streaming(deploy(database.url, table_poll="100ms"))
    source = Source(deployment).greeted()
    for number in range(1, 4):
        publish(database, "alpha", number)
    old = source.read_to(3).cut().events[0].place[0]
    uninstall(database)
    install(database, first_id=None)
    first = publish(database, "alpha", 4)
    assert first > old + 3
    wait_head(deployment, first)
    place = Source(deployment).greeted().position.split(".", 1)[1]  # a M.S of now
    assert come_back(deployment, "alpha", f"{old}.{place}").read_to(4).data == ["gap", 4]
    publish(database, "alpha", 5)
    assert come_back(deployment, "alpha", f"{first}.{place}").read_to(5).data == [5]


def test_it_has_another_version(bare, database):
    install(database)
    wait_present(bare)
    database.execute("CREATE OR REPLACE FUNCTION pgsse.version() RETURNS integer LANGUAGE sql"
                     " IMMUTABLE AS 'SELECT 5'")
    said = wait_for(lambda: bare.totals()["durable_absent"], "it is looked at")
    assert "version 5" in said and "wanted is 4" in said
    assert bare.health()["status"] == "ok" and head(bare) == 0
    source = Source(bare).greeted()
    publish(database, "alpha", 1)
    database.publish("alpha", -1)
    assert source.next_data() == -1


def test_a_role_without_rights(deploy, database):
    """It cannot read the table: no durable events, and the reason; then it may."""
    database.execute("CREATE ROLE app LOGIN")
    try:
        install(database)
        deployment = start_streaming(
            deploy(database.url.replace("user=postgres", "user=app"), table_poll="100ms"))
        assert "permission denied" in deployment.totals()["durable_absent"]
        assert deployment.health()["status"] == "ok"
        source = Source(deployment).greeted()
        publish(database, "alpha", 1)
        database.publish("alpha", -1)
        assert source.next_data() == -1
        database.execute("GRANT SELECT ON ALL TABLES IN SCHEMA pgsse TO app")
        wait_present(deployment)
        publish(database, "alpha", 2)
        source.read_to(2)
        assert source.data == [-1, "gap", 2]
        deployment.broker.stop()
    finally:
        database.execute("DROP OWNED BY app; DROP ROLE app; DROP SCHEMA pgsse CASCADE")


def test_health_tells_of_the_table(world, topic):
    number = publish(world.database, topic, 1)
    wait_head(world, number)
    totals = world.totals()
    assert totals["table_connected"] is True and totals["durable_absent"] is None
    assert totals["durable_head"] == value(world.database, "SELECT pgsse.head()") == number


def test_a_server_that_has_lost_the_last_commits(deploy, durable):
    """Ids leap, so those who have seen the lost ones mistake nothing for them."""
    deployment = start_streaming(deploy(durable.url))
    source = Source(deployment).greeted()
    for number in range(1, 6):
        publish(durable, "alpha", number)
    source.read_to(5).cut()
    kept = source.events[2].place[0]
    deployment.broker.stop()
    durable.execute(f"BEGIN; SELECT pgsse._open(true); DELETE FROM pgsse.events WHERE id > {kept};"
                    f" SELECT setval('pgsse.event_id', {kept});"
                    " UPDATE pgsse.state SET timeline = '000000FF'; COMMIT")
    deployment.start_broker()
    ahead = come_back(deployment, "alpha", source.position)
    behind = come_back(deployment, "alpha", source.events[1].id)
    new = publish(durable, "alpha", 6)
    assert new >= 10**9
    assert ahead.read_to(6).data == ["unknown_position", 6]
    assert behind.read_to(6).data == ["unknown_position", 3, 6]  # its M.S is from another broker
    assert come_back(deployment, "alpha", place_text(
        source.events[4].place[0], *ahead.events[-1].place[1:])).read_to(6).data == [6]


def test_such_a_server_under_a_running_broker(deploy, durable):
    """Live streams get what is new, with an id that nobody had; nothing twice."""
    deployment = start_streaming(deploy(durable.url))
    source = Source(deployment).greeted()
    for number in range(1, 6):
        publish(durable, "alpha", number)
    source.read_to(5)
    kept = source.events[2].place[0]
    durable.execute(f"BEGIN; SELECT pgsse._open(true); DELETE FROM pgsse.events WHERE id > {kept};"
                    f" SELECT setval('pgsse.event_id', {kept});"
                    " UPDATE pgsse.state SET timeline = '000000FF'; COMMIT")
    durable.terminate(durable.backends())
    deployment.wait_totals(reconnects=1)
    publish(durable, "alpha", 6)
    # The broker, too, stood where the lost ones were: there may have been more of them.
    assert source.read_to(6).data == [1, 2, 3, 4, 5, "gap", "gap", 6]
    back = come_back(deployment, "alpha", source.events[4].id)
    assert back.read_to(6).data == ["gap", 6]
    assert column(durable, "SELECT count(*) FROM pgsse.events") == [4]
