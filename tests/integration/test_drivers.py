"""The table of drivers in docs/sql.md: each line of code in it is taken from there and run, and what arrives
in the table of events is the value that was passed."""

import json
import pathlib
import re
import subprocess
import textwrap

import pytest

import npm
from schema import column, installed

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = ["/usr/bin/python3", "-c"]

VALUES = [
    [], {}, [1, 2], [[], {}], ["a", "b"], {"n": 1, "list": [], "of": [{"k": None}]},
    "hello", "", "1", "null", "{a,b}", "größe € \U0001f600", "\" \\ ' %s $1 ? :a \n\t",
    {"größe": "€", "'": '"', "\\": "{}"}, 0, -7, 1.5, True, False, None, [True, None, ""],
]


def rows():
    """{driver: [code, ...]} of the table."""
    text = (ROOT / "docs/sql.md").read_text(encoding="utf-8")
    table, = re.findall(r"\| driver \| data \|\n *\|[-| ]*\|\n((?: *\|.*\|\n)+)", text)
    cells = [line.strip().strip("|").split(" | ") for line in table.splitlines()]
    return {driver.strip(): re.findall("`([^`]+)`", data) for driver, data in cells}


TABLE = rows()

# Each program reads the values from its standard input, as an array, and publishes one after the
# other to "alpha". (directory, database) of the server are its arguments.
NODE_PG = """
    import pg from "pg";
    import { readFileSync } from "node:fs";
    const client = new pg.Client({ host: process.argv[1], database: process.argv[2],
                                   user: "postgres" });
    await client.connect();
    for (const value of JSON.parse(readFileSync(0, "utf8"))) {
        await client.query("SELECT pgsse.publish($1, $2)", ["alpha", CODE]);
    }
    await client.end();
"""
POSTGRES_JS = """
    import postgres from "postgres";
    import { readFileSync } from "node:fs";
    const sql = postgres({ host: process.argv[1], database: process.argv[2], user: "postgres" });
    for (const value of JSON.parse(readFileSync(0, "utf8"))) {
        await sql`SELECT pgsse.publish(${"alpha"}, ${CODE})`;
    }
    await sql.end();
"""
PSYCOPG = """
    import json, sys
    import PACKAGE
    from MODULE import *
    connection = PACKAGE.connect(host=sys.argv[1], dbname=sys.argv[2], user="postgres")
    for value in json.load(sys.stdin):
        connection.cursor().execute("SELECT pgsse.publish(%s, %s)", ["alpha", CODE])
    connection.commit()
"""
PDO = """
    $pdo = new PDO("pgsql:host=$argv[1];dbname=$argv[2]", "postgres", null,
                   [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION EMULATED]);
    foreach (json_decode(stream_get_contents(STDIN)) as $value) {
        $pdo->prepare("SELECT pgsse.publish(?, ?)")->execute(["alpha", CODE]);
    }
"""
DBD_PG = """
    use strict;
    use DBI;
    use JSON;
    my $database = DBI->connect("dbi:Pg:host=$ARGV[0];dbname=$ARGV[1]", "postgres", "",
                                {RaiseError => 1, SETTING});
    for my $value (@{decode_json(join "", <STDIN>)}) {
        $database->do("SELECT pgsse.publish(?, ?)", {}, "alpha", CODE);
    }
    $database->disconnect;
"""
SQLALCHEMY = """
    import json, sys
    from sqlalchemy import cast, create_engine, func, select
    from MODULE import JSON
    engine = create_engine("postgresql+psycopg2://postgres@/" + sys.argv[2] + "?host=" + sys.argv[1])
    with engine.begin() as connection:
        for value in json.load(sys.stdin):
            connection.execute(select(func.pgsse.publish("alpha", CODE)))
"""
DJANGO = """
    import json, sys
    from django.conf import settings
    settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.postgresql",
        "HOST": sys.argv[1], "NAME": sys.argv[2], "USER": "postgres"}})
    from django.db import connection
    with connection.cursor() as cursor:
        for value in json.load(sys.stdin):
            EXECUTE("SELECT pgsse.publish(%s, PLACE)", ["alpha", CODE])
"""


def program(argv, text, **holes):
    for name, code in holes.items():
        assert name in text
        text = text.replace(name, code)
    return argv + [textwrap.dedent(text)]


def programs():
    """{name: argv} from the code of the table's rows, in its order."""
    node = ["node", "--input-type=module", "-e"]
    stringify, = TABLE["node-pg"]
    sql_json, null_text, null = TABLE["postgres.js"]
    sql_json = f"value === {null} ? {null_text} : {sql_json}"
    jsonb, json3, module3, module2, class2 = TABLE["psycopg"]
    assert json3.startswith(f"{class2}(")
    php, = TABLE["PDO"]
    bytes_, setting, characters = TABLE["DBD::Pg"]
    cast, dialect = TABLE["SQLAlchemy"]
    dumps, place, execute = TABLE["Django"]
    emulated = ", PDO::ATTR_EMULATE_PREPARES => true"
    return {
        "node-pg": program(node, NODE_PG, CODE=stringify),
        "postgres.js": program(node, POSTGRES_JS, CODE=sql_json),
        "psycopg Jsonb": program(PYTHON, PSYCOPG, PACKAGE="psycopg", MODULE=module3, CODE=jsonb),
        "psycopg Json": program(PYTHON, PSYCOPG, PACKAGE="psycopg", MODULE=module3, CODE=json3),
        "psycopg2": program(PYTHON, PSYCOPG, PACKAGE="psycopg2", MODULE=module2, CODE=json3),
        "PDO": program(["php", "-r"], PDO, CODE=php, EMULATED=""),
        "PDO emulated": program(["php", "-r"], PDO, CODE=php, EMULATED=emulated),
        "DBD::Pg bytes": program(["perl", "-e"], DBD_PG, CODE=bytes_, SETTING=setting),
        "DBD::Pg characters": program(["perl", "-e"], DBD_PG, CODE=characters, SETTING=""),
        "SQLAlchemy": program(PYTHON, SQLALCHEMY, CODE=cast, MODULE=dialect),
        "Django": program(PYTHON, DJANGO, CODE=dumps, PLACE=place, EXECUTE=execute),
    }


PROGRAMS = programs()
UNTRIED = {"JDBC"}  # Java is 100 MB more than all the others


@pytest.fixture(name="modules", scope="module")
def fixture_modules():
    with npm.installed(ROOT / "tests/integration/drivers", ROOT / "build/drivers") as directory:
        yield directory


@pytest.fixture(name="schema", scope="module")
def fixture_schema(cluster):
    database = cluster.create_database()
    with installed(database):
        yield database
    cluster.give_back(database)


def publish(database, modules, argv, values):
    """As text, what has come of each of them."""
    last = column(database, "SELECT coalesce(max(id), 0) FROM pgsse.events")[0]
    if argv[0] in ("php", "node"):
        argv = argv + ["--"]
    done = subprocess.run(argv + [database.cluster.directory, database.name], cwd=modules,
                          input=json.dumps(values), capture_output=True, text=True, check=False,
                          timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return column(database, "SELECT data::text FROM pgsse.events WHERE id > %s ORDER BY id", (last,))


def test_every_row_is_tried():
    assert {name.split()[0] for name in PROGRAMS} - {"psycopg2"} == set(TABLE) - UNTRIED


def spelled(value):
    """In Python 1 == True == 1.0."""
    return json.dumps(value, sort_keys=True)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_value_arrives_as_it_is(schema, modules, name):
    data = publish(schema, modules, PROGRAMS[name], VALUES)
    assert [spelled(json.loads(text)) for text in data] == [spelled(value) for value in VALUES]


def test_an_array_that_is_passed_as_an_array(schema, modules):
    """Why there is that table."""
    naive = program(["node", "--input-type=module", "-e"], NODE_PG, CODE="value")
    assert publish(schema, modules, naive, [[]]) == ["{}"]
