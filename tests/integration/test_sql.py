"""The schema comes and goes: installed again and again, over what is there, and taken away."""

import contextlib
import json
import re
import shutil
import subprocess

import psycopg2
import pytest

import run_instance
from cluster import Cluster
from schema import (SQL, column, drop_schema, fixture_durable, install, installed, old_script,
                    refusal, run_script, uninstall, value)

__all__ = ["fixture_durable"]

OBJECTS = """
    SELECT relkind::text || ' ' || relname::text FROM pg_class
    WHERE relnamespace = to_regnamespace('pgsse')
    UNION ALL
    SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = to_regnamespace('pgsse')
    UNION ALL
    SELECT tgname::text || ' ' || tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal
    ORDER BY 1"""


def test_again_and_again(durable):
    objects = column(durable, OBJECTS)
    first = value(durable, "SELECT pgsse.publish('alpha', '1')")
    durable.execute("SELECT pgsse.subscribe('ann', 'alpha')")
    for _ in range(2):
        install(durable)
    assert column(durable, OBJECTS) == objects
    assert value(durable, "SELECT pgsse.version()") == 4
    assert column(durable, "SELECT id FROM pgsse.history('alpha')") == [first] == [2]
    assert column(durable, "SELECT pgsse.subscriptions('ann')") == ["alpha"]
    assert value(durable, "SELECT pgsse.publish('alpha', '2')") == 3


def test_what_is_missing_is_made(durable):
    """An older or damaged state of itself."""
    objects = column(durable, OBJECTS)
    durable.execute("SELECT pgsse.publish('alpha', '1'), pgsse.publish('alpha', '2')")
    durable.execute("""
        DROP VIEW pgsse.topics, pgsse.status; DROP TABLE pgsse.subscriptions, pgsse.seen;
        DROP INDEX pgsse.events_topic_id; DROP TRIGGER guard ON pgsse.events;
        DROP FUNCTION pgsse.prune, pgsse._is_path_name; DROP SEQUENCE pgsse.event_id;
        CREATE OR REPLACE FUNCTION pgsse.version() RETURNS integer LANGUAGE sql AS 'SELECT 0'""")
    install(durable)
    assert column(durable, OBJECTS) == objects
    assert value(durable, "SELECT pgsse.version()") == 4
    assert value(durable, "SELECT pgsse.publish('alpha', '3')") == 4, "no id is used twice"


def test_a_table_without_bytes(durable):
    """An older state of itself: the column comes, and with what belongs into it."""
    durable.execute("""SELECT pgsse.publish('alpha', '"\u20ac"', comment => '\u00e4'),
        pgsse.publish('alpha', '{}')""")
    objects = column(durable, OBJECTS)
    durable.execute("ALTER TABLE pgsse.events DROP COLUMN bytes CASCADE")
    install(durable)
    assert column(durable, OBJECTS) == objects
    assert column(durable, "SELECT bytes FROM pgsse.events ORDER BY id") == [7, 2]
    assert refusal(durable, "SELECT pgsse._open(true);"
                            " UPDATE pgsse.events SET bytes = NULL")[0] == "23502"
    assert refusal(durable, "DELETE FROM pgsse.events")[0] == "42501", "the guard is up again"


def test_beside_who_reads_before_he_publishes(durable):
    """It does not wait for him, so that he need not wait for it while it does."""
    with contextlib.closing(durable.connect()) as other, other.cursor() as cursor:
        cursor.execute("BEGIN; SELECT pgsse.subscribe('ann', 'a'), pgsse.unsubscribe('ann', 'a');"
                       " SELECT count(*) FROM pgsse.history('alpha'), pgsse.page(0);"
                       " SELECT pgsse.head()")
        assert run_script_impatiently(durable) == (0, "")
        cursor.execute("SELECT pgsse.publish('alpha', '1'); COMMIT")


def test_what_was_granted_stays(durable):
    durable.execute("REVOKE USAGE ON SCHEMA pgsse FROM PUBLIC;"
                    " REVOKE EXECUTE ON FUNCTION pgsse.notify(text, json, text, text, integer,"
                    " text, boolean, text) FROM PUBLIC")
    grants = ("SELECT nspacl::text FROM pg_namespace WHERE nspname = 'pgsse' UNION ALL"
              " SELECT proacl::text FROM pg_proc WHERE proname = 'notify'")
    before = column(durable, grants)
    install(durable)
    assert column(durable, grants) == before


def test_while_events_are_published(durable):
    """It waits for the one who publishes, and publishers for it; nobody fails."""
    with contextlib.closing(durable.connect()) as busy, busy.cursor() as cursor:
        cursor.execute("BEGIN; SELECT pgsse.publish('alpha', '1')")
        status, said = run_script_impatiently(durable)
        assert status == 3 and "lock timeout" in said
        cursor.execute("COMMIT")
    install(durable)


def run_script_impatiently(database):
    class Impatient:
        url = f"{database.url} options='-c lock_timeout=100ms'"
    return run_script(Impatient)


def test_a_newer_one_is_left_alone(durable):
    durable.execute("CREATE OR REPLACE FUNCTION pgsse.version() RETURNS integer LANGUAGE sql"
                    " AS 'SELECT 5'")
    status, said = run_script(durable)
    assert status == 3 and "version 5 of the schema pgsse is installed" in said
    assert value(durable, "SELECT pgsse.version()") == 5


def test_all_or_nothing(database):
    """It fails in the middle, and nothing has happened."""
    database.execute("CREATE SCHEMA pgsse; CREATE VIEW pgsse.events AS SELECT 1 AS one")
    try:
        objects = column(database, OBJECTS)
        status, _ = run_script(database)
        assert status == 3
        assert column(database, OBJECTS) == objects
    finally:
        database.execute("DROP SCHEMA pgsse CASCADE")


def test_only_in_encodings_that_are_served(cluster):
    database = cluster.create_database("ENCODING 'LATIN1'")
    status, said = run_script(database)
    assert status == 3 and "needs a database in UTF8 or SQL_ASCII, this one is in LATIN1" in said
    database.close()


def test_bytes_are_checked_where_postgres_does_not(cluster):
    database = cluster.create_database("ENCODING 'SQL_ASCII'")
    install(database)
    assert value(database, "SELECT pgsse.publish(E'gr\\xc3\\xbcn', E'\"\\xc3\\x85\"')") == 2
    for topic, data in (("E'a\\xff'", "'1'"), ("E'a\\xc2\\x85'", "'1'"), ("'a'", "E'\"\\xff\"'")):
        code, _ = refusal(database, f"SELECT pgsse.publish({topic}, {data})")
        assert code in ("22021", "22023")
    database.close()


def test_uninstall(database):
    with installed(database):
        database.execute("""
            CREATE TABLE "Odd ""name" (a integer);
            CREATE TRIGGER "tell me" AFTER INSERT ON "Odd ""name"
                FOR EACH ROW EXECUTE FUNCTION pgsse.publish_row('odd');
            INSERT INTO "Odd ""name" VALUES (1)""")
        uninstall(database)
        assert value(database, "SELECT to_regnamespace('pgsse')") is None
        assert column(database, OBJECTS) == []
        database.execute('INSERT INTO "Odd ""name" VALUES (2)')
        uninstall(database)
        install(database)
        assert value(database, "SELECT pgsse.publish('alpha', '1')") == 2


def test_ids_of_a_schema_that_is_installed_again(database):
    """They are above all that the first one gave, and who comes with one of those is told."""
    for _ in range(2):
        install(database, first_id=None)
        clock = value(database, "SELECT extract(epoch FROM clock_timestamp()) * 1000000")
        start = value(database, "SELECT pgsse.head()")
        old = column(database, "SELECT pgsse.publish('alpha', '1') FROM generate_series(1, 5)")
        assert old == [start + n for n in range(1, 6)] and clock - 10**8 < start < clock < 2**53
        uninstall(database)
    install(database, first_id=None)
    start = value(database, "SELECT pgsse.head()")
    assert start > old[-1]
    new = column(database, "SELECT pgsse.publish('alpha', '1') FROM generate_series(1, 5)")
    for topics, gap in ((None, [(start, None, True)]), (["alpha"], [(start, None, True)]), ([], [])):
        rows = database.execute("SELECT id, topic, is_floor FROM pgsse.page(%s, NULL, %s)",
                                (old[0], topics))
        assert rows[:1] == gap
    for place in (0, 1, start, new[0]):
        assert True not in column(database, f"SELECT is_floor FROM pgsse.page({place})")
    uninstall(database)


VERSION_1 = """
    DROP TABLE pgsse.leaps;
    ALTER TABLE pgsse.state DROP COLUMN written_by;
    UPDATE pgsse.state SET timeline = left(pg_walfile_name(pg_current_wal_lsn()), 8);
    CREATE OR REPLACE FUNCTION pgsse.version() RETURNS integer LANGUAGE sql AS 'SELECT 1'"""


def test_version_1_is_raised_in_place(durable):
    ids = column(durable, "SELECT pgsse.publish('alpha', '1') FROM generate_series(1, 3)")
    objects = column(durable, OBJECTS)
    durable.execute(VERSION_1)
    install(durable)
    assert column(durable, OBJECTS) == objects
    assert value(durable, "SELECT pgsse.version()") == 4
    assert value(durable, "SELECT pgsse.publish('alpha', '2')") == ids[-1] + 1
    assert column(durable, "SELECT id FROM pgsse.page(2)") == [3, 4, 5]


OLD_STATE = """
    SELECT pgsse.publish('alpha', to_json(n)) FROM generate_series(1, 5) n;
    SELECT pgsse.publish('old*', '1'), pgsse.prune(keep => 3), pgsse.subscribe('ann', 'alpha');
    INSERT INTO pgsse.subscriptions VALUES ('ann', 'old*');
    CREATE TABLE t (a integer); CREATE TRIGGER tell AFTER INSERT ON t
        FOR EACH ROW EXECUTE FUNCTION pgsse.publish_row('rows', 'a')"""
FILES = """SELECT pg_relation_filenode(c) FROM unnest('{pgsse.events,pgsse.floors,
    pgsse.subscriptions}'::regclass[]) c"""


@pytest.fixture(name="older", params=[1, 2, 3])
def fixture_older(database, request):
    """A database with that version of the schema, and something in it."""
    script = old_script(request.param)
    if script is None:
        pytest.skip("no history of the repository is here")
    done = subprocess.run(["psql", "-Xq", "-d", database.url], input=script, capture_output=True,
                          text=True, check=True)
    assert done.stderr == ""
    assert value(database, "SELECT pgsse.version()") == request.param
    database.execute(OLD_STATE)
    yield database
    database.close()
    drop_schema(database, "DROP SCHEMA pgsse CASCADE; DROP TABLE t")


def test_older_versions_are_raised_in_place(older, cluster):
    """Rows stay where they are, and are of the tenant ''; it ends as a new one does."""
    events = older.execute("SELECT id, topic, data::text FROM pgsse.events ORDER BY id")
    head, files = value(older, "SELECT pgsse.head()"), column(older, FILES)
    for _ in range(2):
        install(older)
        assert column(older, FILES) == files
    assert older.execute("SELECT id, topic, data::text FROM pgsse.history('alpha')"
                         " UNION ALL SELECT id, topic, data::text FROM pgsse.history('old*')"
                         " ORDER BY id") == events
    assert older.execute("SELECT topic, id, tenant FROM pgsse.floors") == [
        ("alpha", events[0][0] - 1, "")]
    assert column(older, "SELECT pgsse.subscriptions('ann')") == ["alpha", "old*"]
    assert value(older, "SELECT pgsse.unsubscribe('ann', 'old*')") is True
    older.execute("INSERT INTO t VALUES (1); SELECT pgsse.notify('alpha', '1');"
                  " SELECT pgsse.publish_many('[{\"topic\":\"alpha\",\"data\":1}]')")
    assert value(older, "SELECT pgsse.head()") == head + 2
    new = cluster.create_database()
    with installed(new):
        new.execute("CREATE TABLE t (a integer); CREATE TRIGGER tell AFTER INSERT ON t"
                    " FOR EACH ROW EXECUTE FUNCTION pgsse.publish_row('rows', 'a')")
        assert column(older, OBJECTS) == column(new, OBJECTS)
        assert older.execute(SHAPES) == new.execute(SHAPES)
    cluster.give_back(new)


SHAPES = """
    SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
    WHERE indrelid::regclass::text LIKE 'pgsse.%' UNION ALL
    SELECT attrelid::regclass::text, attname || ' ' || atttypid::regtype || ' ' || attnotnull
    FROM pg_attribute WHERE attrelid::regclass::text LIKE 'pgsse.%' AND attnum > 0
    ORDER BY 1, 2"""


def test_an_upgrade_keeps_what_was_granted(older):
    """Though a function with one more parameter is a new one."""
    publish = "pgsse.publish(text, json, text, text, integer, text, boolean{})"
    older.execute(f"""
        CREATE ROLE app; CREATE ROLE "App's";
        REVOKE EXECUTE ON FUNCTION {publish.format('')} FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION {publish.format('')} TO app WITH GRANT OPTION;
        GRANT EXECUTE ON FUNCTION pgsse.subscribe(text, text) TO "App's" """)
    try:
        install(older)
        for role, call, option, may in (
                ("app", publish.format(", text"), " WITH GRANT OPTION", True),
                ("App's", publish.format(", text"), "", False),
                ("App's", "pgsse.subscribe(text, text, text)", "", True),
                ("App's", "pgsse.subscribe(text, text, text)", " WITH GRANT OPTION", False)):
            assert value(older, "SELECT has_function_privilege(%s, %s, %s)",
                         (role, call, f"EXECUTE{option}")) is may, (role, call, option)
        assert value(older, "SELECT proacl FROM pg_proc WHERE oid = 'pgsse.history'::regproc") is None
    finally:
        older.execute("DROP OWNED BY app, \"App's\"; DROP ROLE app, \"App's\"")


def test_an_upgrade_takes_nothing_of_others(older):
    """A view that calls a function which gets another parameter: nothing happens."""
    older.execute("CREATE VIEW mine AS SELECT * FROM pgsse.history('alpha')")
    version, objects = value(older, "SELECT pgsse.version()"), column(older, OBJECTS)
    status, said = run_script(older)
    assert status == 3 and "mine" in said
    assert value(older, "SELECT pgsse.version()") == version
    assert column(older, OBJECTS) == objects
    older.execute("DROP VIEW mine")


def test_uninstall_of_older_versions(older):
    older.execute("DROP TABLE t")
    uninstall(older)
    assert column(older, OBJECTS) == []
    older.execute("CREATE SCHEMA pgsse; CREATE TABLE t ()")


def test_uninstall_takes_nothing_of_others(durable):
    durable.execute("CREATE VIEW mine AS SELECT * FROM pgsse.events;"
                    "SELECT pgsse.publish('alpha', '1')")
    status, said = run_script(durable, "uninstall.sql")
    assert status == 3 and "view public.mine depends on" in said
    assert len(durable.execute("SELECT * FROM mine")) == 1
    assert value(durable, "SELECT pgsse.publish('alpha', '1')") == 3


@pytest.fixture
def stranger(durable):
    """A role that may connect, and its connection."""
    durable.execute("CREATE ROLE stranger LOGIN")
    connection = psycopg2.connect(f"{durable.url} user=stranger")
    connection.autocommit = True
    yield connection
    connection.close()
    durable.execute("DROP OWNED BY stranger CASCADE; DROP ROLE stranger")


ALLOWED = [
    "SELECT pgsse.publish('alpha', '1')",
    "SELECT pgsse.publish('alpha', '1'::jsonb)",
    "SELECT pgsse.publish_many('[{\"topic\":\"alpha\",\"data\":1}]')",
    "SELECT pgsse.publish_many(ARRAY['alpha'], ARRAY['1'::json])",
    "SELECT pgsse.notify('alpha', '1')",
    "SELECT pgsse.version()",
    "SELECT pgsse.channel('alpha')",
]
FORBIDDEN = [
    "INSERT INTO pgsse.events (id, topic, type, data, bytes) VALUES (9, 'a', 'message', '1', 1)",
    "UPDATE pgsse.events SET id = id + 1",
    "DELETE FROM pgsse.events",
    "TRUNCATE pgsse.events",
    "TABLE pgsse.events",
    "SELECT nextval('pgsse.event_id')",
    "SELECT setval('pgsse.event_id', 100)",
    "DO 'BEGIN LOCK TABLE pgsse.publishing IN EXCLUSIVE MODE; END'",
    "UPDATE pgsse.state SET timeline = ''",
    "SELECT pgsse._begin()",
    "SELECT pgsse.prune(keep => 0)",
    "SELECT pgsse.history('alpha')",
    "SELECT pgsse.page(0)",
    "SELECT pgsse.subscribe('ann', 'alpha')",
    "SELECT pgsse.subscriptions('ann')",
    "SELECT pgsse.subscribed('{}', '{}', '{}')",
    "SELECT pgsse.head()",
    "TABLE pgsse.status",
    "TABLE pgsse.topics",
    "TABLE pgsse.recent",
    "CREATE FUNCTION pgsse.publish(integer) RETURNS void LANGUAGE sql AS ''",
]


def test_a_dump_can_be_restored(durable, cluster):
    ids = column(durable, "SELECT pgsse.publish('alpha', '1') FROM generate_series(1, 3)")
    durable.execute("SELECT pgsse.prune(keep => 2), pgsse.subscribe('ann', 'alpha')")
    dump = subprocess.run(["pg_dump", "-d", durable.url], capture_output=True, check=True).stdout
    other = cluster.create_database("ENCODING 'UTF8'")
    subprocess.run(["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d", other.url], input=dump,
                   check=True, stdout=subprocess.DEVNULL)
    install(other)
    assert column(other, OBJECTS) == column(durable, OBJECTS)
    assert value(other, "SELECT pgsse.head()") == ids[-1]
    first = value(other, "SELECT pgsse.publish('alpha', '1')")
    assert first > 10**15, "what was given after the dump is left out"
    other.execute("VACUUM (FULL, FREEZE) pgsse.state")
    assert value(other, "SELECT pgsse.publish('alpha', '1')") == first + 1
    told = "SELECT id, topic FROM pgsse.page(%s, NULL, '{alpha}') WHERE is_floor"
    assert other.execute(told, (ids[-1],)) == []
    assert other.execute(told, (ids[-1] + 1,)) == [(first - 1, None)]
    assert other.execute(told, (first,)) == []
    assert column(other, "SELECT id FROM pgsse.floors") == ids[:1]
    other.close()


def test_who_may_what(durable, stranger):
    with stranger.cursor() as cursor:
        for sql in ALLOWED:
            cursor.execute(sql)
        for sql in FORBIDDEN:
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(sql)
        cursor.execute("""
            CREATE TEMP TABLE t (a integer); CREATE TRIGGER tell AFTER INSERT ON t
                FOR EACH ROW EXECUTE FUNCTION pgsse.publish_row('alpha');
            INSERT INTO t VALUES (1)""")
    assert value(durable, "SELECT count(*) FROM pgsse.events") == 5


def statement(name):
    """What the broker runs, from its source."""
    source = "".join((SQL.parent / "broker" / file).read_text()
                     for file in ("table.c", "table_result.h")).replace("\\\n", " ")
    text = re.search(rf"^#define {name} (.*)$|\b{name}\[\] =([^;]*);", source, re.M)
    words = re.findall(r'[A-Z_]{4,}|"(?:[^"\\]|\\.)*"', text[1] or text[2])
    return "".join(json.loads(word) if word[0] == '"' else statement(word) for word in words)


def test_what_the_broker_needs(durable, stranger):
    """SELECT on these tables; its first statement finds out when one is missing."""
    durable.execute("SELECT pgsse.publish('alpha', '1') FROM generate_series(1, 3);"
                    " SELECT pgsse.prune(keep => 1), pgsse.subscribe('ann', 'alpha')")
    with stranger.cursor() as cursor:
        for name in ("look_statement", "page_statement", "check_statement"):
            cursor.execute(f"PREPARE {name} AS {statement(name)}")
        tables = ["events", "floors", "subscriptions"]
        for missing in tables:
            durable.execute(f"GRANT SELECT ON pgsse.{', pgsse.'.join(tables)} TO stranger;"
                            f" REVOKE SELECT ON pgsse.{missing} FROM stranger")
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute("EXECUTE look_statement ('9000')")
        durable.execute("GRANT SELECT ON pgsse.subscriptions TO stranger")
        cursor.execute("EXECUTE look_statement ('9000')")
        assert cursor.fetchall()[0][:2] == (4, 4)
        for topics, tenants in (("NULL", "NULL"), ("'{alpha}'", "NULL"), ("'{alpha}'", "'{\"\"}'")):
            cursor.execute(f"EXECUTE page_statement ('9000', 2, 4, {topics}, 10, 1000, {tenants})")
            assert [row[:3] for row in cursor.fetchall()] == [
                (3, "alpha", True), (4, "alpha", False)]
        cursor.execute("EXECUTE check_statement ('9000', '{1,2}', '{ann,bob}', '{alpha,alpha}',"
                       " '{\"\",\"\"}')")
        assert cursor.fetchall() == [(1,)]


def test_no_function_of_a_stranger_runs_with_the_owners_rights(durable, stranger):
    """Neither by search_path, nor by a cast that turning a row into JSON calls."""
    durable.execute("GRANT CREATE ON SCHEMA public TO stranger")
    with stranger.cursor() as cursor:
        cursor.execute("""
            CREATE TABLE ran_as (who name);
            CREATE FUNCTION public.spy() RETURNS void LANGUAGE sql
                AS 'INSERT INTO public.ran_as VALUES (current_user)';
            CREATE FUNCTION public.nextval(text) RETURNS bigint LANGUAGE sql
                AS 'SELECT public.spy(); SELECT 7::bigint';
            CREATE FUNCTION public.pg_notify(text, text) RETURNS void LANGUAGE sql
                AS 'SELECT public.spy()';
            CREATE TYPE sly AS ENUM ('a');
            CREATE FUNCTION public.sly_json(sly) RETURNS json LANGUAGE sql
                AS 'SELECT public.spy(); SELECT ''1''::json';
            CREATE CAST (sly AS json) WITH FUNCTION public.sly_json(sly);
            CREATE TABLE t (a sly);
            CREATE TRIGGER tell AFTER INSERT ON t
                FOR EACH ROW EXECUTE FUNCTION pgsse.publish_row('alpha');
            SET search_path = public, pg_catalog, pg_temp;
            SELECT pgsse.publish('alpha', '1'), pgsse.notify('alpha', '1');
            SELECT pgsse.publish_many('[{"topic":"alpha","data":1}]');
            INSERT INTO t VALUES ('a')""")
    assert set(column(durable, "SELECT who FROM public.ran_as")) == {"stranger"}


def test_the_owner_himself_is_kept_from_the_table(durable):
    durable.execute("SELECT pgsse.publish('alpha', '1')")
    for sql in FORBIDDEN[:4]:
        for before in ("", "SELECT pgsse.publish('alpha', '2');",
                       "SELECT pgsse.publish_many('[{\"topic\":\"a\",\"data\":1}]');",
                       "SELECT pgsse.prune(keep => 5);"):
            code, said = refusal(durable, before + sql)
            assert code == "42501" and said.startswith("pgsse: no ") and "pgsse.events" in said
    assert column(durable, "SELECT id FROM pgsse.events") == [2]


def test_an_owner_who_is_no_superuser(database):
    """Who owns a database can install, and publish in it."""
    database.execute("CREATE ROLE plain LOGIN; GRANT CREATE ON DATABASE "
                     f"{database.name} TO plain")
    try:
        assert run_script(database, user="plain") == (0, "")
        assert run_script(database, user="plain") == (0, "")
        status, said = run_script(database)
        assert status == 3 and "belongs to the role plain" in said
        for sql in ALLOWED + ["SELECT pgsse.prune(keep => 0)", "TABLE pgsse.status"]:
            database.execute(f"SET ROLE plain; {sql}; RESET ROLE")
        assert run_script(database, "uninstall.sql", user="plain") == (0, "")
    finally:
        database.execute("DROP OWNED BY plain; DROP ROLE plain")


def test_a_server_that_takes_over():
    """A promoted standby is on another timeline: ids leap over what its predecessor gave out."""
    cluster = Cluster(wal_level="replica")
    try:
        database = cluster.create_database()
        install(database)
        assert value(database, "SELECT pgsse.publish('alpha', '1')") == 2
        database.close()
        cluster.stop()
        cluster.start_in_recovery()
        cluster.promote()
        assert value(database, "SELECT pgsse.publish('alpha', '1')") >= 10**9
        ids = column(database, "SELECT id FROM pgsse.history('alpha')")
        assert ids == sorted(ids) and len(ids) == 2
        database.close()
    finally:
        cluster.destroy()


def test_make_run_installs_it_in_its_own_database_only(database):
    run = run_instance.new_run()
    try:
        instance = run_instance.start(run)
        instance.await_ready()
        with contextlib.closing(psycopg2.connect(instance.env()["DATABASE_URL"])) as connection:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pgsse.version()")
                assert cursor.fetchone() == (4,)
        assert instance.stop()[0] == 0
        instance = run_instance.start(run, DATABASE_URL=database.url)
        instance.await_ready()
        assert value(database, "SELECT to_regnamespace('pgsse')") is None
        assert instance.stop()[0] == 0
    finally:
        shutil.rmtree(run, ignore_errors=True)


def test_what_the_scripts_say(database):
    """One line, and nothing with -q."""
    for name, said in (("pgsse.sql", "pgsse: version 4 of the schema is installed\n"),
                       ("uninstall.sql", "pgsse: the schema is gone\n")):
        done = subprocess.run(["psql", "-X", "-f", SQL / name, database.url], capture_output=True,
                              check=True, text=True)
        assert (done.stdout, done.stderr) == (said, "")
