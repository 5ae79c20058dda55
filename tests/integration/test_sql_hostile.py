"""Roles that may make objects in the database do not become the role of the broker, of the publish
handler or of whoever calls a function of the schema; and rows of any size end nothing."""

import contextlib
import json

import psycopg2
import pytest

from durable import publish, start_streaming, wait_head
from proxy import Proxy
from schema import column, fixture_durable, refusal, value  # noqa: F401
from source import Source
from waiting import wait_for

OPERATORS = [("text", "int4", "||", "text"), ("text", "text", "||", "text"),
             ("text", "text", "=", "bool"), ("text", "text", "<>", "bool"),
             ("text", "text", "~", "bool"), ("text", "text", "!~", "bool"),
             ("int4", "int4", "+", "int4"), ("int4", "int4", "*", "int4"),
             ("int4", "int4", ">", "bool"), ("int4", "int4", "<=", "bool"),
             ("int4", "int4", ">=", "bool"), ("int8", "int4", "+", "int8"),
             ("int8", "int4", "=", "bool"), ("int8", "int8", ">", "bool"),
             ("int8", "int8", "<=", "bool"), ("int8", "int8", "=", "bool"),
             ("oid", "oid", "=", "bool"), ("name", "name", "=", "bool")]
FUNCTIONS = ["length(text)", "octet_length(text)", "convert_to(text, text)", "encode(bytea, text)",
             "pg_notify(text, text)", "pg_backend_pid()", "concat(text, text, text, text)",
             "nextval(text)", "left(text, integer)", "to_json(text)", "unnest(text[])",
             "set_config(text, text, boolean)", "current_setting(text, boolean)",
             "pg_listening_channels()", "pg_notification_queue_usage()", "count(bigint)"]


SETTING = b"SET search_path = pg_catalog, pg_temp"


class Forgetful(Proxy):
    """In its sessions search_path is whatever it was: what should set it sets another name."""

    forgotten = 0

    def _pass_on(self, link, end):
        if end is not link.program:
            super()._pass_on(link, end)
            return
        piece = end.recv(65536) if end not in link.silent else b""
        if not piece:
            self._close(link, reset=False)
            return
        self.forgotten += piece.count(SETTING)
        piece = piece.replace(SETTING, b"SET pgsse.lost = 'pg_catalog,pg_temp'")
        link.ends[end].sendall(piece)
        link.said = (link.said + piece)[:65536]


def lay_traps(database, schema="public"):
    """In a schema that stands first on everybody's search_path: whatever runs there says as whom."""
    database.execute(f"""
        CREATE ROLE sly LOGIN; GRANT CREATE, USAGE ON SCHEMA {schema} TO sly;
        CREATE TABLE {schema}.ran_as (who name); GRANT ALL ON {schema}.ran_as TO PUBLIC;
        ALTER DATABASE "{database.name}" SET search_path = {schema}, pg_catalog;""")
    database.close()
    with contextlib.closing(psycopg2.connect(f"{database.url} user=sly")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for number, (left, right, name, result) in enumerate(OPERATORS):
                cursor.execute(f"""
                    CREATE FUNCTION {schema}.trap_{number}(pg_catalog.{left}, pg_catalog.{right})
                        RETURNS pg_catalog.{result} LANGUAGE plpgsql AS
                        'BEGIN INSERT INTO {schema}.ran_as VALUES (current_user); RETURN NULL; END';
                    CREATE OPERATOR {schema}.{name} (FUNCTION = {schema}.trap_{number},
                        LEFTARG = pg_catalog.{left}, RIGHTARG = pg_catalog.{right})""")
            for function in FUNCTIONS:
                cursor.execute(f"""
                    CREATE FUNCTION {schema}.{function} RETURNS pg_catalog.text LANGUAGE plpgsql AS
                    'BEGIN INSERT INTO {schema}.ran_as VALUES (current_user); RETURN NULL; END'""")
            for kind in ("text", "json", "interval"):
                cursor.execute(f"CREATE DOMAIN {schema}.{kind} AS pg_catalog.{kind}")


@pytest.fixture(name="trapped")
def fixture_trapped(durable):
    lay_traps(durable)
    yield durable
    durable.close()
    connection = durable.cluster.connect("postgres")
    with connection.cursor() as cursor:
        cursor.execute(f'ALTER DATABASE "{durable.name}" RESET search_path')
    connection.close()
    durable.execute("DROP OWNED BY sly CASCADE; DROP TABLE public.ran_as; DROP ROLE sly")


def ran_as(database):
    return database.execute("SELECT who FROM public.ran_as GROUP BY who ORDER BY who")


def test_a_collation_that_ignores_control_characters(durable):
    """Any role can make one; what it finds equal to '' is not empty for us."""
    durable.execute("CREATE COLLATION pg_temp.nd (provider = icu, locale = 'und',"
                    " deterministic = false)")
    state, message = refusal(durable, "SELECT pgsse.publish('a', '1',"
                                      " E'\\x01' COLLATE pg_temp.nd)")
    assert state == "22023" and "control characters" in message


def test_the_traps_work(trapped):
    with contextlib.suppress(psycopg2.Error):
        trapped.execute("SELECT 'a'::pg_catalog.text || 1")
    assert ran_as(trapped) == [("postgres",)]


CALLS = [
    "SELECT pgsse.publish('alpha', '1')", "SELECT pgsse.publish('alpha', '{}'::pg_catalog.jsonb)",
    "SELECT pgsse.publish('Alpha', '[[[]]]'::pg_catalog.json, 'e', 'id', 1, 'c')",
    "SELECT * FROM pgsse.publish_many('[{\"topic\":\"a\",\"data\":1,\"retry\":1}]')",
    "SELECT pgsse.notify('alpha', '1')", "SELECT pgsse.channel('alpha')",
    "SELECT * FROM pgsse.history('alpha')", "SELECT * FROM pgsse.page(2)",
    "SELECT * FROM pgsse.page(2, NULL, '{alpha}')", "SELECT pgsse.prune(keep => 1)",
    "SELECT pgsse.subscribe('ann', 'alpha')", "SELECT pgsse.subscriptions('ann')",
    "SELECT pgsse.subscribed('{1}', '{ann}', '{alpha}')", "SELECT pgsse.unsubscribe('ann', 'alpha')",
    "SELECT pgsse.head(), pgsse.version()", "TABLE pgsse.status", "TABLE pgsse.topics",
    "TABLE pgsse.recent", "SELECT pgsse._is_name('alpha')", "SELECT pgsse._bytes('1', 'c')",
    "SELECT pgsse._is_path_name('alpha')",
    "SELECT pgsse._is_deeper('[[[[[[[[]]]]]]]]', 2)",
    "SELECT pgsse._problem('alpha', '1', NULL, NULL, NULL, NULL, 1, 't')",
    "SELECT pgsse._is_tenant('t'), pgsse._is_pattern('a*')",
    "SELECT pgsse.publish('alpha', '1', tenant => 't'), pgsse.notify('*', '1', tenant => 't')",
    "SELECT * FROM pgsse.page(2, NULL, '{al*,beta}', tenants => '{t,\"\"}')",
    "UPDATE pgsse.state SET timeline = NULL", "SELECT pgsse.publish('alpha', '2')",
    "CREATE TABLE public.t (a integer); CREATE TRIGGER tell AFTER INSERT ON public.t FOR EACH ROW"
    " EXECUTE FUNCTION pgsse.publish_row('rows', 'a'); INSERT INTO public.t VALUES (1)",
]


@pytest.mark.parametrize("call", CALLS, ids=range(len(CALLS)))
def test_functions_find_nothing_on_the_callers_path(trapped, call):
    trapped.execute("SELECT pgsse.publish('alpha', '1')")
    trapped.execute(call)
    assert ran_as(trapped) == []


def use_programs(deployment, database):
    """Everything that they ask Postgres."""
    deployment.start()
    source = Source(deployment).greeted()
    for number in range(3):
        publish(database, "alpha", number)
        assert source.next_data() == number
    assert deployment.post("alpha", b'{"data":7}').status == 200
    assert source.next_data() == 7
    assert deployment.post("alpha", LARGE).status == 200
    assert source.next_data() == "x" * 9000
    assert Source(deployment, "alpha", "0").greeted().next_data() == 0
    markers = deployment.totals()["notifications"]
    wait_for(lambda: deployment.totals()["notifications"] > markers + 2, "markers")


LARGE = json.dumps({"data": "x" * 9000}).encode()


@pytest.mark.parametrize("is_lost", [False, True], ids=["set", "lost"])
def test_the_programs_find_nothing_on_their_path(deploy, trapped, is_lost):
    """With the search_path that they set, and without it, as after a pooler has given them another
    session: here one that is the same but for it."""
    proxy = None
    url = trapped.url
    if is_lost:
        proxy = Forgetful(trapped.cluster.socket_path)
        url = proxy.url(trapped.name)
    try:
        use_programs(deploy(url, table_poll="200ms", canary_interval="200ms", retain_count="500"),
                     trapped)
        assert ran_as(trapped) == []
        assert not proxy or proxy.forgotten >= 4
    finally:
        if proxy:
            proxy.close()


# --- a schema of somebody else's ------------------------------------------------------------------

STRANGE = """
    CREATE TABLE public.ran_as (who name); GRANT ALL ON public.ran_as TO PUBLIC;
    CREATE SCHEMA pgsse; GRANT USAGE ON SCHEMA pgsse TO PUBLIC;
    CREATE FUNCTION pgsse.version() RETURNS integer LANGUAGE plpgsql AS
        'BEGIN INSERT INTO public.ran_as VALUES (current_user); RETURN 2; END';
    {owner}"""
OWNERS = ["ALTER SCHEMA pgsse OWNER TO sly; ALTER FUNCTION pgsse.version() OWNER TO sly",
          "ALTER SCHEMA pgsse OWNER TO sly", "ALTER FUNCTION pgsse.version() OWNER TO sly"]


@pytest.mark.parametrize("owner", OWNERS, ids=range(len(OWNERS)))
def test_a_schema_of_a_stranger_is_not_called(deploy, database, owner):
    database.execute("CREATE ROLE sly; " + STRANGE.format(owner=owner))
    try:
        deployment = deploy(database.url, table_poll="100ms")
        deployment.start()
        said = wait_for(lambda: deployment.totals()["durable_absent"], "it is looked at")
        assert "neither this one nor a superuser: sly" in said
        answer = deployment.post("alpha", b'{"data":"%s"}' % (b"x" * 9000))
        assert answer.status == 413 and b"neither this one nor a superuser" in answer.body
        assert value(database, "SELECT count(*) FROM public.ran_as") == 0
        deployment.close()
    finally:
        database.execute("DROP SCHEMA pgsse CASCADE; DROP TABLE public.ran_as; DROP ROLE sly")


# --- rows that are too large ----------------------------------------------------------------------

def store(database, topic, size, claimed=1):
    """Around the functions; bytes says what it likes."""
    return value(database, f"""
        BEGIN; SELECT pgsse._open(true);
        INSERT INTO pgsse.events (id, topic, type, data, bytes)
        VALUES (nextval('pgsse.event_id'), '{topic}', 'message',
                to_json(repeat('x', {size} - 2)), {claimed}) RETURNING id""")


def commit(database, *call):
    number = store(database, *call)
    database.execute("COMMIT; SELECT pg_notify('pgsse_hint', '{}')")
    return number


MIB = 1048576


@pytest.mark.parametrize("size", [MIB + 1, 17 * MIB], ids=["over the limit", "over a frame"])
def test_a_row_that_is_too_large_is_a_gap(deploy, durable, size):
    """For its topic's clients alone, live ones and those that come back; the rest goes on."""
    deployment = start_streaming(deploy(durable.url, table_poll="200ms", ring_capacity="2"))
    source, other = (Source(deployment, topic).greeted() for topic in ("alpha", "beta"))
    start, other_start = source.position, other.position
    publish(durable, "alpha", 1)
    assert source.next_data() == 1
    bad = deployment.totals()["bad_notifications"]
    number = commit(durable, "alpha", size)
    refresh = source.next_event()
    assert (refresh.event, refresh.json()["reason"]) == ("refresh", "gap")
    assert refresh.json()["topics"] in (["alpha"], None) and refresh.place[0] >= number
    for data in range(2, 6):
        publish(durable, "alpha", data)
        publish(durable, "beta", data)
        assert source.next_data() == other.next_data() == data
    assert deployment.totals()["bad_notifications"] > bad
    back = Source(deployment, "alpha", start).greeted()
    seen = [back.next_event() for _ in range(6)]
    assert sorted(block.data for block in seen if block.event != "refresh") == list("12345")
    assert [block.json()["reason"] for block in seen if block.event == "refresh"] == ["gap"]
    calm = Source(deployment, "beta", other_start).greeted()
    assert [calm.next_data() for _ in range(4)] == [2, 3, 4, 5]
    wait_head(deployment, value(durable, "SELECT pgsse.head()"))


def test_a_page_fetches_no_more_than_its_limit(durable):
    """Whatever the column bytes says."""
    small = [commit(durable, "alpha", 1000) for _ in range(3)]
    large = commit(durable, "alpha", MIB + 1)
    exact = commit(durable, "alpha", MIB)
    page = "SELECT id, octet_length(data::text), is_floor FROM pgsse.page({}, max_bytes => {})"
    assert durable.execute(page.format(1, 2000)) == [
        (small[0], 1000, False), (small[1], 1000, False), (small[1], None, None)]
    assert durable.execute(page.format(small[1], 2000)) == [
        (small[2], 1000, False), (large, None, False), (large, None, None)]
    assert durable.execute(page.format(small[2], 100)) == [(large, None, False), (large, None, None)]
    assert durable.execute(page.format(large, 100)) == [(exact, MIB, False)]
    assert sum(1 for _ in durable.execute(page.format(1, 3 * MIB))) == 5


def test_names_of_a_page_are_cut(durable):
    """One that is too long stays too long, and costs nothing."""
    durable.execute("""
        BEGIN; SELECT pgsse._open(true);
        INSERT INTO pgsse.events (id, topic, type, data, publisher_id, bytes)
        VALUES (nextval('pgsse.event_id'), repeat('t', 9000), repeat('y', 99999), '1',
                repeat('p', 99999), 1); COMMIT""")
    assert durable.execute("SELECT octet_length(topic), octet_length(type),"
                           " octet_length(publisher_id) FROM pgsse.page(1)") == [(256, 256, 65)]
