"""pgsse.publish and its kin: ids in commit order, bytes kept, bad input refused, rows of tables."""

import contextlib
import json
import random
import threading
import time

import psycopg2
import pytest

from cluster import Listener
from schema import column, fixture_durable, installed, refusal, value
from test_notify import SHARDS, fnv1a_32

__all__ = ["fixture_durable"]

HINT = ("pgsse_hint", '{"hint":true}')


# ---- order ---------------------------------------------------------------------------------------

class Writer(threading.Thread):
    """Publishes in transactions of every kind until told to stop; .ids are what it committed."""

    def __init__(self, database, seed, is_over):
        super().__init__()
        self._connection = database.connect()
        self._connection.autocommit = False
        self._cursor = self._connection.cursor()
        self._random = random.Random(seed)
        self._is_over = is_over
        self.ids = []
        self.aborted = 0

    def _publish(self, count):
        topic = f"topic-{self._random.randrange(5)}"
        if count == 1:
            self._cursor.execute("SELECT pgsse.publish(%s, '{\"n\":1}')", (topic,))
        else:
            self._cursor.execute("SELECT pgsse.publish_many(array_fill(%s::text, ARRAY[%s]),"
                                 " array_fill('1'::json, ARRAY[%s]))", (topic, count, count))
        return [row for row, in self._cursor.fetchall()]

    def _pause(self):
        """With the lock, or before it."""
        self._cursor.execute("SELECT pg_sleep(%s)", (self._random.uniform(0, 0.01),))

    def _transaction(self):
        ids = []
        kind = self._random.randrange(10)
        if kind == 0:
            self._pause()
        if kind == 1:
            self._cursor.execute("SAVEPOINT a")
            self._publish(3)
            self._cursor.execute("ROLLBACK TO a")
        ids += self._publish(self._random.choice((1, 1, 1, 20, 100)))
        if kind == 2:
            self._pause()
        if kind == 3:
            ids += self._publish(1)
        return ids

    def run(self):
        while not self._is_over.is_set():
            ids = self._transaction()
            if self._random.randrange(5) == 0:
                self._connection.rollback()
                self.aborted += len(ids)
            else:
                self._connection.commit()
                self.ids += ids
        self._connection.close()


class Reader:
    """As the broker reads: pages behind the last id, each in a statement of its own."""

    def __init__(self, database):
        self._database = database
        self.ids = []
        self.pages = 0

    def read(self):
        """Whether there was anything."""
        after = self.ids[-1] if self.ids else 0
        page = column(self._database, "SELECT id FROM pgsse.events WHERE id > %s ORDER BY id"
                                      " LIMIT 1000", (after,))
        self.ids += page
        self.pages += bool(page)
        return bool(page)


def test_nothing_appears_behind_a_reader(durable):
    is_over = threading.Event()
    writers = [Writer(durable, seed, is_over) for seed in range(6)]
    reader = Reader(durable)
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + 20
    while len(reader.ids) < 20000 and time.monotonic() < deadline:
        reader.read()
    is_over.set()
    for writer in writers:
        writer.join()
    while reader.read():
        pass
    committed = sorted(number for writer in writers for number in writer.ids)
    assert len(committed) >= 20000 and sum(writer.aborted for writer in writers) > 1000
    assert reader.ids == committed, "in order, each once, none missed, none that was rolled back"
    assert reader.pages > 100


def test_the_second_waits_for_the_first(durable):
    """Its id is drawn when the first has committed, and so it is behind it."""
    with contextlib.closing(durable.connect()) as slow, slow.cursor() as cursor:
        cursor.execute("BEGIN; SELECT pgsse.publish('alpha', '1')")
        assert refusal(durable, "SET LOCAL lock_timeout = '50ms';"
                                " SELECT pgsse.publish('alpha', '2')")[0] == "55P03"
        assert durable.execute("SELECT publishing_pid, publishers_waiting FROM pgsse.status") == [
            (slow.info.backend_pid, 0)]
        cursor.execute("COMMIT")
    assert value(durable, "SELECT pgsse.publish('alpha', '2')") == 3


def test_what_was_rolled_back_leaves_a_gap_and_no_lock(durable):
    with contextlib.closing(durable.connect()) as other, other.cursor() as cursor:
        cursor.execute("BEGIN; SAVEPOINT a; SELECT pgsse.publish('alpha', '1'); ROLLBACK TO a")
        assert value(durable, "SELECT pgsse.publish('alpha', '2')") == 3
        cursor.execute("SELECT pgsse.publish('alpha', '3'); COMMIT")
    assert column(durable, "SELECT id FROM pgsse.events ORDER BY id") == [3, 4]


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_from_an_old_snapshot(durable, level):
    with contextlib.closing(durable.connect()) as other, other.cursor() as cursor:
        cursor.execute(f"BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pgsse.events")
        assert value(durable, "SELECT pgsse.publish('alpha', '1')") == 2
        cursor.execute("SELECT pgsse.publish('alpha', '2'); COMMIT")
    assert column(durable, "SELECT id FROM pgsse.events ORDER BY id") == [2, 3]


CLOCK = 1_700_000_000_000_000  # in us: ids of new tables, and after a leap, are above that


def test_another_timeline(durable):
    durable.execute("SELECT pgsse.publish('alpha', '1')")
    durable.execute("UPDATE pgsse.state SET timeline = '000000FF'")
    first = value(durable, "SELECT pgsse.publish('alpha', '2')")
    assert first > CLOCK
    assert value(durable, "SELECT pgsse.publish('alpha', '3')") == first + 1
    durable.execute("UPDATE pgsse.state SET timeline = NULL")
    assert column(durable, "SELECT pgsse.publish_many('[{\"topic\":\"a\",\"data\":1}]')") == [
        first + 2 + 10**9]


def test_a_crash_cannot_take_back_what_was_published(durable):
    with contextlib.closing(durable.connect()) as connection, connection.cursor() as cursor:
        for before, after in (("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")):
            for call in ("pgsse.publish('alpha', '1')",
                         "pgsse.publish_many('[{\"topic\":\"alpha\",\"data\":1}]')"):
                cursor.execute(f"SET synchronous_commit = {before}; BEGIN; SELECT {call}")
                cursor.execute("SHOW synchronous_commit")
                assert cursor.fetchone() == (after,)
                cursor.execute("COMMIT; SHOW synchronous_commit")
                assert cursor.fetchone() == (before,), "only in this transaction"


def test_one_hint_a_transaction(durable):
    listener = Listener(durable, ["pgsse_hint", *SHARDS])
    durable.execute("SELECT pgsse.publish('alpha', to_json(n)) FROM generate_series(1, 50) n")
    durable.execute("BEGIN; SELECT pgsse.publish('beta', '1'); ROLLBACK")
    durable.execute("SELECT pgsse.publish('beta', '1')")
    durable.execute("NOTIFY pgsse_hint, 'end'")
    assert listener.heard(3) == [HINT, HINT, ("pgsse_hint", "end")]
    listener.close()


# ---- what is kept --------------------------------------------------------------------------------

DATA = [
    "0", "-0", "1.0", "1e400", "123456789012345678901234567890", "null", "true", '""',
    '{"b":1,"a":2,"b":3}', ' { "a" :\t[1 ,\n2] } ',
    '"\\u0000 \\ud800 \\/ \u2028 \u00e9 \U0001f600"',
    "[]", "{}", "[" * 128 + "]" * 128, '"' + "[" * 500 + '\\""', json.dumps(["x" * 1000] * 1000),
    '"Robert\'); DROP TABLE pgsse.events; --"', '"$$ $1 %s \\\\ E\'\\\\n"',
]


@pytest.mark.parametrize("data", DATA, ids=range(len(DATA)))
def test_bytes_are_kept(schema, data):
    calls = ["pgsse.publish('alpha', %s)", "pgsse.publish('alpha', %s::json)",
             "pgsse.publish_many(ARRAY['alpha'], ARRAY[%s::json])",
             "pgsse.publish_many(('[{\"topic\":\"alpha\",\"data\":' || %s || '}]')::json)"]
    if "\\u0000" in data:
        assert refusal(schema, f"SELECT {calls.pop()}", (data,))[0] == "22P05"
    for call in calls:
        number = value(schema, f"SELECT {call}", (data,))
        stored = value(schema, "SELECT data::text FROM pgsse.events WHERE id = %s", (number,))
        assert stored == (data if "[{" not in call else data.strip())


def test_what_is_published_is_what_is_read(schema):
    number = value(schema, """
        SELECT pgsse.publish('Gr\u00fc\u00dfe', '"a"', 'paid', id => 'o.7_-A', retry => 5,
                             comment => E'two\nlines', is_text => true)""")
    assert schema.execute("""SELECT topic, type, data::text, publisher_id, retry, comment, is_text,
        created_at BETWEEN now() - '1 minute'::interval AND clock_timestamp()
        FROM pgsse.events WHERE id = %s""", (number,)) == [
            ("Gr\u00fc\u00dfe", "paid", '"a"', "o.7_-A", 5, "two\nlines", True, True)]


@pytest.mark.parametrize("event", ["DEFAULT", "NULL", "''", "'message'"])
def test_no_type_is_message(schema, event):
    argument = "" if event == "DEFAULT" else f", {event}"
    number = value(schema, f"SELECT pgsse.publish('alpha', '1'{argument})")
    assert value(schema, "SELECT type FROM pgsse.events WHERE id = %s", (number,)) == "message"


@pytest.mark.parametrize("data", ["'{\"a\":1}'", "'{\"a\":1}'::text", "'{\"a\":1}'::varchar",
                                  "'{\"a\":1}'::json", "'{\"a\":1}'::jsonb",
                                  "json_build_object('a', 1)", "jsonb_build_object('a', 1)",
                                  "row_to_json(r)", "to_jsonb(r)"])
def test_any_type_of_data(schema, data):
    for call in ("publish", "notify"):
        schema.execute(f"SELECT pgsse.{call}('alpha', {data}, 'tick') FROM (SELECT 1 AS a) AS r")
    assert value(schema, "SELECT data::jsonb FROM pgsse.recent LIMIT 1") == {"a": 1}


def test_many(durable):
    assert column(durable, "SELECT pgsse.publish_many(%s)", (json.dumps(
        [{"topic": f"t{n % 3}", "data": n, "event": "e" if n % 2 else None, "extra": [1]}
         for n in range(1000)]),)) == list(range(2, 1002))
    assert durable.execute("SELECT id, topic, data::text, type FROM pgsse.events ORDER BY id") == [
        (n + 2, f"t{n % 3}", str(n), "e" if n % 2 else "message") for n in range(1000)]
    assert column(durable, "SELECT pgsse.publish_many(ARRAY['a', 'b'], ARRAY['1', '2']::json[],"
                           " ARRAY['x', NULL], ids => ARRAY[NULL, 'i'], retries => ARRAY[1, NULL],"
                           " comments => ARRAY['c', NULL], are_texts => ARRAY[true, NULL])") == [
                               1002, 1003]
    assert durable.execute("SELECT type, publisher_id, retry, comment, is_text FROM pgsse.events"
                           " WHERE id > 1001 ORDER BY id") == [
                               ("x", None, 1, "c", True), ("message", "i", None, None, False)]


def test_none_of_many(durable):
    listener = Listener(durable, ["pgsse_hint"])
    assert column(durable, "SELECT pgsse.publish_many('[]')") == []
    assert column(durable, "SELECT pgsse.publish_many('{}', '{}')") == []
    for bad in ('{"topic":"a"}', '{"data":1}', '{"topic":1,"data":1}', "1", "null", "[]",
                '{"topic":"a","data":1,"event":1}', '{"topic":"a","data":1,"event":"close"}',
                '{"topic":"a","data":1,"event":"position"}', '{"topic":"a","data":1,"event":"end"}',
                '{"topic":"a","data":1,"event":"state"}',
                '{"topic":"a","data":1,"id":""}', '{"topic":"a","data":1,"id":7}',
                '{"topic":"a","data":1,"retry":-1}', '{"topic":"a","data":1,"retry":1.5}',
                '{"topic":"a","data":1,"retry":"1"}', '{"topic":"a","data":1,"retry":99999999999}',
                '{"topic":"a","data":1,"text":"true"}', '{"topic":"a","data":1,"comment":{}}',
                '{"topic":"a","data":1,"tenant":1}', '{"topic":"a","data":1,"tenant":"a b"}',
                '{"topic":"a*","data":1}', '{"topic":"*","data":1}'):
        events = f'[{{"topic":"good","data":1}},{bad}]'
        code, said = refusal(durable, "SELECT pgsse.publish_many(%s)", (events,))
        assert code == "22023" and said.startswith("pgsse: event 2: "), bad
    for call in ("'{}'", "NULL", "ARRAY['a'], ARRAY['1', '2']::json[]", "ARRAY['a'], NULL",
                 "ARRAY['a'], ARRAY['1'::json], ARRAY['x', 'y']",
                 "ARRAY['a'], ARRAY['1'::json], tenants => '{t,t}'",
                 "ARRAY['a'], ARRAY['1'::json], tenants => '{}'",
                 "ARRAY['a'], ARRAY['1'::json], tenants => '{NULL}'"):
        assert refusal(durable, f"SELECT pgsse.publish_many({call})")[0] == "22023"
    assert value(durable, "SELECT count(*) FROM pgsse.events") == 0
    durable.execute("NOTIFY pgsse_hint, 'end'")
    assert listener.heard(1) == [("pgsse_hint", "end")]
    listener.close()


# ---- what is refused -----------------------------------------------------------------------------

@pytest.fixture(name="schema", scope="module")
def fixture_schema(cluster):
    """One for the tables of cases."""
    database = cluster.create_database()
    with installed(database):
        yield database
    cluster.give_back(database)


INJECTION = "'); DROP TABLE pgsse.events; --"
GOOD = {"topic": "alpha", "data": "1", "event": "tick", "id": "i", "retry": 1, "comment": "c"}
BAD = [("topic", bad, "topic") for bad in (
    None, "", "a" * 256, "\u00e9" * 128, "a\nb", "a\x01", "a\x7f", "a\u0085", "\u009f")]
BAD += [("data", None, "data is missing"), ("data", '"' + "x" * 1048576 + '"', "1048576"),
        ("data", "[" * 129 + "]" * 129, "128 deep"),
        ("data", '{"a":' * 129 + "1" + "}" * 129, "128 deep")]
BAD += [("event", bad, "event") for bad in (
    "refresh", "close", "error", "open", "a" * 256, "a\nb", "a\rb", "a\u0080")]
BAD += [("id", bad, "id") for bad in ("", "a" * 65, "a b", "a\n", "\u00e9", "~", INJECTION)]
BAD += [("retry", bad, "retry") for bad in (-1, 3600001)]
BAD += [("comment", "c" * 1048576, "1048576")]
BAD += [("topic", bad, "must not end in *") for bad in ("a*", "orders.*", "**", "a" * 254 + "*")]
BAD += [("tenant", bad, "tenant") for bad in (
    None, "a" * 65, "a b", "a/b", "a\n", "\n", "\u00e9", "*", "a*", "user:1", INJECTION)]


@pytest.mark.parametrize("name, bad, word", BAD, ids=range(len(BAD)))
@pytest.mark.parametrize("call", ["publish", "notify"])
def test_bad_input(schema, call, name, bad, word):
    before = value(schema, "SELECT last_value FROM pgsse.event_id")
    arguments = {**GOOD, name: bad}
    named = ", ".join(f"{key} => %({key})s" for key in arguments)
    code, said = refusal(schema, f"SELECT pgsse.{call}({named})", arguments)
    assert code == "22023" and said.startswith("pgsse: ")
    assert word.replace("128 deep", "deep") in said
    assert value(schema, "SELECT last_value FROM pgsse.event_id") == before


@pytest.mark.parametrize("name, good", [
    ("topic", "a" * 255), ("topic", "\u00e9" * 127), ("topic", "*a"), ("topic", "a,b"),
    ("topic", "a\u00a0b"), ("topic", INJECTION), ("topic", "$1 %s \\ \" ' ; --"),
    ("data", json.dumps(INJECTION)), ("data", json.dumps("$$ \\' $1 %s")),
    ("data", "[" * 127 + "]" * 127),
    ("event", INJECTION), ("event", "Refresh"), ("event", "e" * 255), ("id", "A" * 64),
    ("retry", 0), ("retry", 3600000), ("comment", ""), ("comment", INJECTION),
])
def test_odd_input(schema, name, good):
    arguments = {**GOOD, name: good}
    named = ", ".join(f"{key} => %({key})s" for key in arguments)
    number = value(schema, f"SELECT pgsse.publish({named})", arguments)
    stored, = schema.execute("SELECT topic, data::text, type, publisher_id, retry, comment"
                             " FROM pgsse.events WHERE id = %s", (number,))
    assert dict(zip(GOOD, stored)) == arguments
    listener = Listener(schema, SHARDS)
    schema.execute(f"SELECT pgsse.notify({named})", arguments)
    heard = json.loads(listener.heard(1)[0][1])
    listener.close()
    assert {key: heard[key] for key in GOOD} == {**arguments, "data": json.loads(arguments["data"])}
    assert schema.execute("SELECT pgsse.history(%s, %s)", (arguments["topic"], number - 1))


@pytest.mark.parametrize("data", ["", "hello", "{", "01", "'a'", "NaN", "1 2", '"a\nb"', '"\\x"'])
def test_text_that_is_no_json(schema, data):
    for call in ("publish", "notify"):
        assert refusal(schema, f"SELECT pgsse.{call}('alpha', %s::text)", (data,))[0] == "22P02"


def test_columns_of_any_collation(schema):
    schema.execute("CREATE COLLATION loose (provider = icu, locale = 'und', deterministic = false);"
                   "CREATE TABLE names (a text COLLATE \"POSIX\", b text COLLATE loose);"
                   "INSERT INTO names VALUES ('alpha', 'tick')")
    for a, b in ("ab", "ba", "aa", "bb"):
        schema.execute(f"SELECT pgsse.publish({a}, '1', {b}, {a}, comment => {b}),"
                       f" pgsse.notify({a}, '1', {b}, {a}), pgsse.subscribe({a}, {b}),"
                       f" pgsse.unsubscribe({a}, {b}), pgsse.subscriptions({b}) FROM names")
    assert schema.execute("SELECT h.* FROM names, pgsse.history(b) h")


# ---- ephemeral -----------------------------------------------------------------------------------

def test_notify_takes_the_topics_shard(schema):
    """The same as the C programs and the publishers that shard by themselves."""
    topics = [f"own-{n}" for n in range(40)] + ["A", "ALPHA", "Gr\u00dcn \u20ac", "x" * 255]
    lowered = ["".join(c.lower() if c.isascii() else c for c in topic) for topic in topics]
    shards = [f"topic_broadcast_{fnv1a_32(topic) % 8}" for topic in lowered]
    assert set(shards) == set(SHARDS)
    assert column(schema, "SELECT pgsse.channel(t) FROM unnest(%s) t", (topics,)) == shards
    listener = Listener(schema, SHARDS)
    schema.execute("SELECT pgsse.notify(t, '1') FROM unnest(%s) t", (topics,))
    heard = listener.heard(len(topics))
    listener.close()
    assert [(channel, json.loads(payload)["topic"]) for channel, payload in heard] == list(
        zip(shards, topics))


def test_equal_notifications_do_not_fold(schema):
    listener = Listener(schema, SHARDS)
    schema.execute("SELECT pgsse.notify('alpha', '{\"n\": 1}') FROM generate_series(1, 100)")
    heard = [json.loads(payload) for _, payload in listener.heard(100)]
    listener.close()
    assert len({event.pop("nonce") for event in heard}) == 100
    assert all(event == {"topic": "alpha", "data": {"n": 1}} for event in heard)


def test_the_largest_notification(schema):
    base = "SELECT pgsse.notify('alpha', to_json(repeat('x', %s)))"
    listener = Listener(schema, SHARDS)
    schema.execute(base, (1,))
    overhead = len(listener.heard(1)[0][1]) - 1
    schema.execute(base, (7999 - overhead,))
    assert len(listener.heard(2)[1][1]) == 7999
    before = value(schema, "SELECT pgsse.head()")
    schema.execute(base, (8000 - overhead,))  # too large by one: then it is durable
    assert schema.execute("SELECT topic, length(data #>> '{}') FROM pgsse.events WHERE id > %s",
                          (before,)) == [("alpha", 8000 - overhead)]
    listener.close()


def test_a_stream_gets_it(shared):
    """The whole way, beside what is notified by hand."""
    with installed(shared.database) as database:
        stream = shared.stream()
        database.execute("SELECT pgsse.notify('alpha', '{\"n\": 12345678901234567890}', 'tick')")
        event = stream.next_event()
        assert (event.event, event.data) == ("tick", '{"n":12345678901234567890}')
        stream.close()


# ---- rows of any table ---------------------------------------------------------------------------

def published(database):
    return [json.loads(data) for data in column(
        database, "SELECT data::text FROM pgsse.events ORDER BY id")]


def test_rows(durable):
    durable.execute("""
        CREATE TABLE t (a integer, b text, c numeric, d json);
        CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON t
            FOR EACH ROW EXECUTE FUNCTION pgsse.publish_row('rows');
        CREATE TRIGGER tell_all AFTER TRUNCATE ON t EXECUTE FUNCTION pgsse.publish_row('rows');
        INSERT INTO t VALUES (1, 'x', 1.50, '{"k":1,"k":2}'), (1, 'x', 1.50, '{"k":1,"k":2}');
        UPDATE t SET b = NULL; DELETE FROM t; TRUNCATE t""")
    full = {"a": 1, "b": "x", "c": 1.5, "d": {"k": 2}}
    empty = {**full, "b": None}
    table = {"schema": "public", "table": "t"}
    assert published(durable) == (
        [{"operation": "INSERT", **table, "old": None, "new": full}] * 2
        + [{"operation": "UPDATE", **table, "old": full, "new": empty}] * 2
        + [{"operation": "DELETE", **table, "old": empty, "new": None}] * 2
        + [{"operation": "TRUNCATE", **table, "old": None, "new": None}])
    assert value(durable, "SELECT data::text FROM pgsse.events WHERE id = 2") == (
        '{"operation":"INSERT","schema":"public","table":"t","old":null,'
        '"new":{"a":1,"b":"x","c":1.50,"d":{"k":1,"k":2}}}')
    assert column(durable, "SELECT DISTINCT topic || '/' || type FROM pgsse.events") == [
        "rows/message"]


def test_chosen_columns(durable):
    durable.execute("""
        CREATE TABLE t (a integer, secret text, "B ""b'; --" numeric);
        CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON t
            FOR EACH ROW EXECUTE FUNCTION pgsse.publish_row('rows', 'B "b''; --', 'a');
        INSERT INTO t VALUES (1, E'\x01', 1.0); UPDATE t SET a = NULL; DELETE FROM t""")
    rows = column(durable, "SELECT data::text FROM pgsse.events ORDER BY id")
    old, new = '{"B \\"b\'; --":1.0,"a":1}', '{"B \\"b\'; --":1.0,"a":null}'
    assert [row.split('"table":"t",')[1] for row in rows] == [
        f'"old":null,"new":{old}}}', f'"old":{old},"new":{new}}}', f'"old":{new},"new":null}}']


def test_json_that_postgres_cannot_take_apart(durable):
    durable.execute("""
        CREATE TABLE t (a integer, b json);
        CREATE TRIGGER tell AFTER INSERT ON t
            FOR EACH ROW EXECUTE FUNCTION pgsse.publish_row('rows', 'b', 'a');
        INSERT INTO t VALUES (1, E'"\\\\u0000 \\\\ud800"')""")
    assert value(durable, "SELECT data::text FROM pgsse.events").endswith(
        '"new":{"b":"\\u0000 \\ud800","a":1}}')


def test_odd_names(durable):
    durable.execute("""
        CREATE SCHEMA "S'; --"; CREATE TABLE "S'; --"."T ""\\t" ("select" integer, "a,b" text);
        CREATE TRIGGER tell AFTER INSERT ON "S'; --"."T ""\\t"
            FOR EACH ROW EXECUTE FUNCTION pgsse.publish_row('it''s; --');
        INSERT INTO "S'; --"."T ""\\t" VALUES (1, $$'); DROP TABLE pgsse.events; --$$)""")
    assert published(durable) == [{
        "operation": "INSERT", "schema": "S'; --", "table": 'T "\\t', "old": None,
        "new": {"select": 1, "a,b": "'); DROP TABLE pgsse.events; --"}}]
    assert column(durable, "SELECT topic FROM pgsse.events") == ["it's; --"]
    durable.execute("DROP SCHEMA \"S'; --\" CASCADE")


def test_triggers_that_cannot_be(durable):
    durable.execute("CREATE TABLE t (a integer)")
    for sort in ("BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION pgsse.publish_row('r')",
                 "AFTER INSERT ON t EXECUTE FUNCTION pgsse.publish_row('r')",
                 "AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION pgsse.publish_row()",
                 "AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION pgsse.publish_row('')"):
        durable.execute(f"CREATE TRIGGER tell {sort}")
        assert refusal(durable, "INSERT INTO t VALUES (1)")[0] == "22023"
        durable.execute("DROP TRIGGER tell ON t")
    durable.execute("CREATE TRIGGER tell AFTER INSERT ON t"
                    " FOR EACH ROW EXECUTE FUNCTION pgsse.publish_row('r', 'a', 'b')")
    assert refusal(durable, "INSERT INTO t VALUES (1)") == (
        "42703", 'pgsse: the trigger tell on public.t chooses a column that is not there:'
        ' column "b" not found in data type public.t')
    assert published(durable) == []


def test_a_deferred_trigger_takes_its_turn_at_commit(durable):
    durable.execute("""
        CREATE TABLE t (a integer); CREATE CONSTRAINT TRIGGER tell AFTER INSERT ON t
            DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION pgsse.publish_row('rows', 'a')""")
    with contextlib.closing(durable.connect()) as slow, slow.cursor() as cursor:
        cursor.execute("BEGIN; INSERT INTO t VALUES (1), (1)")
        assert value(durable, "SELECT pgsse.publish('alpha', '1')") == 2, "nobody holds the lock"
        cursor.execute("COMMIT")
    assert column(durable, "SELECT id FROM pgsse.history('rows')") == [3, 4]


def test_two_that_wait_for_each_other(durable):
    """One of the two is ended by Postgres, and the other goes on: nothing stays locked."""
    durable.execute("CREATE TABLE t (a integer); INSERT INTO t VALUES (1); "
                    f"ALTER DATABASE {durable.name} SET deadlock_timeout = '50ms'")
    outcomes = []

    def run(first, second, meet):
        connection = durable.connect()
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute("BEGIN; " + first)
            meet.wait(5)
            try:
                cursor.execute(second + "; COMMIT")
                outcomes.append("committed")
            except psycopg2.errors.DeadlockDetected:
                outcomes.append("ended")

    publish, update = "SELECT pgsse.publish('alpha', '1')", "UPDATE t SET a = 2"
    meet = threading.Barrier(2)
    threads = [threading.Thread(target=run, args=(*order, meet))
               for order in ((publish, update), (update, publish))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    durable.execute(f"ALTER DATABASE {durable.name} RESET ALL")
    assert sorted(outcomes) == ["committed", "ended"]
    assert value(durable, "SELECT count(*) FROM pgsse.events") == 1


def test_a_partition_names_its_root(durable):
    durable.execute("""
        CREATE TABLE whole (a integer) PARTITION BY LIST (a);
        CREATE TABLE middle PARTITION OF whole FOR VALUES IN (1) PARTITION BY LIST (a);
        CREATE TABLE leaf PARTITION OF middle FOR VALUES IN (1);
        CREATE TABLE plain (a integer);
        CREATE TRIGGER tell AFTER INSERT ON whole
            FOR EACH ROW EXECUTE FUNCTION pgsse.publish_row('r');
        CREATE TRIGGER tell AFTER INSERT ON plain
            FOR EACH ROW EXECUTE FUNCTION pgsse.publish_row('r');
        INSERT INTO whole VALUES (1); INSERT INTO plain VALUES (1)""")
    events = column(durable, "SELECT data FROM pgsse.events ORDER BY id")
    assert [(event["table"], event.get("parent")) for event in events] == [
        ("leaf", {"schema": "public", "table": "whole"}), ("plain", None)]


def test_a_topic_that_cannot_be_named_is_said_once(durable):
    calls = ["pgsse.publish('{}', '1')", "pgsse.notify('{}', '1')",
             "pgsse.publish_many(ARRAY['alpha', '{}'], ARRAY['1', '1']::json[])"]
    for call in calls:
        for topic, is_said in (("alpha", False), ("a_b-9", False), ("x" * 128, False),
                               ("x" * 129, True), ("Alpha", True), ("orders:42", True),
                               ("gr\u00f6\u00dfe", True)):
            with contextlib.closing(durable.connect()) as connection:
                with connection.cursor() as cursor:
                    for _ in range(2):
                        cursor.execute(f"SELECT {call.format(topic)}")
                assert len(connection.notices) == is_said, (call, topic)
                assert not is_said or f'"{topic}"' in connection.notices[0]


def test_the_guard_says_how_data_are_restored(durable):
    with pytest.raises(psycopg2.Error) as caught:
        durable.execute("DELETE FROM pgsse.events")
    assert "--disable-triggers" in caught.value.diag.message_hint
