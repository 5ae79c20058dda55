"""Types that are the stream's own: C, SQL and docs name the same ones, and no way of publishing
takes them. One that only one of them knew would be stored and then dropped by the broker, or sent."""

import pathlib
import re

import pytest

from cluster import Listener
from schema import column, refusal, value
from test_notify import SHARDS
from durable_api import assert_error, fixture_door, post  # noqa: F401

ROOT = pathlib.Path(__file__).resolve().parents[2]


def found(path, pattern):
    """What stands in the one place of a file that is like this."""
    inside, = re.findall(pattern, (ROOT / path).read_text(encoding="utf-8"), re.DOTALL)
    return inside


def words(text):
    return re.findall("[a-z]+", text)


RESERVED = words(found("common/topic.c", r"reserved\[\] = \{(.*?)\}"))


@pytest.mark.parametrize("path, pattern", [
    ("sql/pgsse.sql", r"ANY \('\{([a-z,]*)\}'::pg_catalog\.text\[\]\)"),
    ("sql/pgsse.sql", r"'event: ([a-z, ]*) are the stream''s own'"),
    ("common/topic.h", r'#define EVENT_TYPES_RESERVED_TEXT "([a-z, ]*)"'),
    ("docs/sql.md", r"bytes; not ([`a-z, ]*), which are the stream's own"),
    ("docs/http.md", r"The types ([`a-z, ]*) belong to the stream"),
], ids=["SQL", "what SQL says", "what the programs say", "docs/sql.md", "docs/http.md"])
def test_all_name_the_same(path, pattern):
    assert [word for word in words(found(path, pattern)) if word != "and"] == RESERVED
    assert len(RESERVED) > 5


@pytest.mark.parametrize("event", RESERVED)
def test_sql_refuses_what_the_programs_refuse(door, event):
    database = door.database
    before = value(database, "SELECT last_value FROM pgsse.event_id")
    listener = Listener(database, SHARDS)
    for call in ("publish('alpha', '1', %s)", "publish('alpha', '1'::json, %s)",
                 "publish('alpha', '1'::jsonb, %s)", "notify('alpha', '1', %s)",
                 "notify('alpha', '1'::json, %s)", "notify('alpha', '1'::jsonb, %s)",
                 "publish_many('{alpha}', '{1}', ARRAY[%s])",
                 """publish_many(('[{"topic":"a","data":1,"event":"' || %s || '"}]')::json)"""):
        code, said = refusal(database, f"SELECT pgsse.{call}", (event,))
        assert code == "22023" and said.endswith("are the stream's own"), (call, said)
    database.notify("topic_broadcast_0", "end")
    assert listener.heard(1) == [("topic_broadcast_0", "end")]
    listener.close()
    assert value(database, "SELECT last_value FROM pgsse.event_id") == before


def types_that_sql_refuses(database):
    """Of all words that its function has in it."""
    known = words(value(database, "SELECT prosrc FROM pg_proc WHERE proname = '_problem'"))
    return column(database, "SELECT w FROM unnest(%s) w"
                            " WHERE pgsse._problem('a', '1', w, 'i', 0, '', 128, '') IS NOT NULL",
                  (sorted(set(known)),))


def test_the_programs_refuse_what_sql_refuses(door):
    refused = types_that_sql_refuses(door.database)
    assert sorted(refused) == sorted(RESERVED)
    for event in refused:
        answer = door.post("alpha", f'{{"data":1,"event":"{event}"}}')
        assert answer.status == 400 and b"the stream's own" in answer.body, answer
        body = f'{{"channel":"c","eventType":"{event}","payload":1}}'
        assert_error(post(door, body), 400, "the stream's own")
