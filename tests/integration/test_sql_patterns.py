"""Pages of patterns: what they match, where they end, which floors they have, what they cost."""

import random

import pytest

from schema import column, fixture_durable, publish, refusal, value
from test_sql_page import FILL, Judge, buffers, page, prune, read_all

__all__ = ["fixture_durable"]


def publish_as(database, tenant, topic, count=1):
    return column(database, "SELECT pgsse.publish(%s, to_json(n), tenant => %s)"
                            " FROM generate_series(1, %s) n", (topic, tenant, count))


def topics_of(database, *patterns, tenants=None):
    _, events, end = page(database, 0, topics=list(patterns), tenants=tenants)
    assert end is None
    return [topic for _, topic in events]


# ---- what they match -----------------------------------------------------------------------------

NAMES = ["orders.new", "orders.", "orders", "Orders.new", "orders_new", "ordersXnew", "a", "user:1",
         "user:", "user", "users", "User:1", "\u00e4b", "\u00e4c", "50%", "50%x", "50x", "a\\b",
         "a\\c", "(x", "[x]"]


@pytest.mark.parametrize("pattern, matched", [
    ("orders.*", ["orders.new", "orders."]),
    ("orders*", ["orders.new", "orders.", "orders", "orders_new", "ordersXnew"]),
    ("orders_*", ["orders_new"]),
    ("*", [name for name in NAMES if not name.startswith("user:")]),
    ("user*", ["user", "users"]), ("use*", ["user", "users"]), ("user:*", []), ("user:1*", []),
    ("\u00e4*", ["\u00e4b", "\u00e4c"]), ("50%*", ["50%", "50%x"]), ("50*", ["50%", "50%x", "50x"]),
    ("a\\*", ["a\\b", "a\\c"]), ("(*", ["(x"]), ("[*", ["[x]"]), ("**", []), ("nobody*", []),
    ("'); DROP TABLE pgsse.events; --*", []), ("x" * 300 + "*", [])])
def test_what_a_pattern_matches(durable, pattern, matched):
    for name in NAMES:
        publish(durable, name, 1)
    assert topics_of(durable, pattern) == matched
    assert topics_of(durable, pattern, "user:1") == [
        name for name in NAMES if name in matched or name == "user:1"], "beside a name"


def test_each_event_once(durable):
    numbers = publish(durable, "orders.new", 3)
    _, events, _ = page(durable, 0, topics=["orders.*", "*", "orders.new", "o*", "*", None])
    assert [number for number, _ in events] == numbers


def test_tenants(durable):
    for tenant in ("", "a", "b"):
        for topic in ("x", "y", "user:1"):
            publish_as(durable, tenant, topic)
    answer = durable.execute("SELECT tenant, topic FROM pgsse.page(0, NULL, '{x*,*,y,user:1}',"
                             " tenants => '{a,b,a,\"\"}')")
    assert answer == [("", "user:1"), ("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]
    assert topics_of(durable, "*", tenants=["c"]) == []


def test_rows_from_before_there_were_patterns(durable):
    """Their names end in *: they stay, are read by history, and by patterns."""
    for topic in ("old*", "*", "old"):
        durable.execute("BEGIN; SELECT pgsse._open(true); INSERT INTO pgsse.events (id, topic, type,"
                        " data, bytes) VALUES (nextval('pgsse.event_id'), %s, 'message', '1', 1);"
                        " COMMIT", (topic,))
    assert topics_of(durable, "old*") == ["old*", "old"]
    assert topics_of(durable, "*") == ["old*", "*", "old"]
    assert column(durable, "SELECT id FROM pgsse.history('old*')") == [2]
    assert column(durable, "SELECT id FROM pgsse.history('*')") == [3]
    assert refusal(durable, "SELECT pgsse.publish('old*', '2')")[0] == "22023"
    assert prune(durable, "keep => 0") == 3


# ---- where they end ------------------------------------------------------------------------------

def test_a_page_ends_after_so_many_rows(durable):
    """Ten times as many as it may have, whether they match or not."""
    others = publish(durable, "b", 25)
    mine = publish(durable, "a", 3)
    for patterns in (["a*"], ["a*", "c*", "nobody"], ["a", "c*"]):
        assert page(durable, 0, topics=patterns, rows=1) == ([], [], others[9])
        assert page(durable, others[9], topics=patterns, rows=1) == ([], [], others[19])
        assert page(durable, others[19], topics=patterns, rows=1) == (
            [], [(mine[0], "a")], mine[0])
        assert read_all(durable, topics=patterns, rows=1) == (
            [(number, "a") for number in mine], [0, 0, 1, 1, 1])
    assert page(durable, 0, topics=["c*"], rows=2) == ([], [], others[19])
    assert page(durable, 0, topics=["c*"], rows=3) == ([], [], None), "28 rows, and no more"
    assert page(durable, 0, others[9], topics=["c*"], rows=1) == ([], [], None)
    assert page(durable, 0, others[10], topics=["c*"], rows=1) == ([], [], others[9])


def test_limits_of_matching_rows(durable):
    for _ in range(6):
        publish(durable, "a", 1)
        publish(durable, "b", 2)
    events, sizes = read_all(durable, topics=["a*"], rows=4)
    assert [number for number, _ in events] == list(range(2, 20, 3)) and sizes == [4, 2]
    assert read_all(durable, topics=["a*"], size=2) == (events, [2, 2, 2])
    assert page(durable, 0, topics=["*"], rows=5)[2] == 6
    assert read_all(durable, topics=["*"], rows=5) == read_all(durable, rows=5)


# ---- floors --------------------------------------------------------------------------------------

def test_floors(durable):
    for topic in ("a1", "b1", "user:a", "a2"):
        publish(durable, topic, 2)
    publish_as(durable, "t", "a1", 2)
    prune(durable, "keep => 1")
    floors = [(2, "a1"), (4, "b1"), (8, "a2")]
    assert page(durable, 0, topics=["*"])[0] == floors
    assert page(durable, 0, topics=["a*"])[0] == [floors[0], floors[2]]
    assert page(durable, 2, topics=["a*"])[0] == floors[2:]
    assert page(durable, 8, topics=["*"])[0] == []
    assert page(durable, 0, 1, topics=["a*"])[0] == [floors[0], floors[2]]
    assert page(durable, 0, topics=["user*"])[0] == []
    assert page(durable, 0, topics=["b*", "user:a"])[0] == [(4, "b1"), (6, "user:a")]
    assert page(durable, 0, topics=["*"], tenants=["t"])[0] == [(10, "a1")]


def test_too_many_floors(durable):
    """One for all: if more match than the page may have, and if more are there than it looks at."""
    for number in range(25):
        publish(durable, f"b{number}", 2)
    for number in range(3):
        publish(durable, f"a{number}", 2)
    prune(durable, "keep => 1")
    highest = value(durable, "SELECT max(id) FROM pgsse.floors")
    told = [(52 + 2 * number, f"a{number}") for number in range(3)]
    assert page(durable, 0, topics=["a*"], rows=3)[0] == told
    assert page(durable, 0, topics=["a*"], rows=2)[0] == [(highest, None)], "28 are more than 20"
    assert page(durable, 49, topics=["a*"], rows=2)[0] == [(highest, None)]
    assert page(durable, 52, topics=["a*"], rows=2)[0] == told[1:]
    assert page(durable, 30, topics=["b*"], rows=2)[0] == [(highest, None)]
    assert page(durable, 30, topics=["c*"], rows=2)[0] == []
    assert durable.execute("SELECT id, topic, is_floor, tenant FROM pgsse.page(0, NULL, '{*}', 1)"
                           " WHERE is_floor") == [(highest, None, True, None)]


def test_a_leap(durable):
    publish(durable, "a", 1)
    durable.execute("INSERT INTO pgsse.leaps VALUES (3, 50); SELECT setval('pgsse.event_id', 50)")
    publish(durable, "b", 3)
    assert page(durable, 10, topics=["a*"]) == ([(50, None)], [], None)
    assert page(durable, 2, topics=["a*"], rows=1) == ([], [], None)


@pytest.mark.parametrize("seed", range(4))
def test_events_come_or_floors_stand_for_them(durable, seed):
    """Prunes at random between pages of patterns, in two tenants, as test_sql_page does for names."""
    chance = random.Random(seed)
    names = ["a1", "a2", "b1", "user:a"]
    published = {tenant: {name: [] for name in names} for tenant in ("", "t")}
    patterns, matched = [(["a*"], ["a1", "a2"]), (["*"], names[:3]), (["a*", "user:a"],
                         ["a1", "a2", "user:a"]), (["b1", "a2*"], ["b1", "a2"])][seed]
    judges = []
    for _ in range(120):
        tenant, name = chance.choice(["", "t"]), chance.choice(names)
        published[tenant][name] += publish_as(durable, tenant, name, chance.randrange(6))
        if chance.randrange(4) == 0:
            prune(durable, chance.choice(["keep => 3", "keep => 2, most => 4",
                                          "keep => 0, most => 1"]))
        head = value(durable, "SELECT pgsse.head()")
        if chance.randrange(10) == 0:
            whose = chance.choice(["", "t"])
            judges.append(Judge({name: published[whose][name] for name in matched}, patterns,
                                max(head - 5, 0), [whose] * len(patterns)))
        for judge in judges:
            if chance.randrange(3) == 0:
                judge.read(durable, min(head, judge.after + chance.choice([3, head])),
                           rows=chance.randrange(1, 5), size=chance.choice([1, 5, 99]))
    for judge in judges:
        while judge.read(durable, value(durable, "SELECT pgsse.head()")):
            pass
        judge.check()
    assert sum(judge.missed for judge in judges) > 5, "or nothing was tested"


# ---- what they cost ------------------------------------------------------------------------------

@pytest.mark.parametrize("is_analyzed", [False, True])
def test_the_work_is_bounded(durable, is_analyzed):
    """That of the rows that it looks at: 10,000, or 100 and more for a page of ten."""
    durable.execute(FILL, (2, 200000))
    if is_analyzed:
        durable.execute("ANALYZE pgsse.events, pgsse.floors")
    for topics, tenants in (("{nobody*}", "NULL"), ("{*}", "'{t}'"),
                            ("{" + ",".join(f"x{number}*" for number in range(64)) + "}", "NULL")):
        for rows, most in ((1000, 1000), (10, 60)):
            for after in (0, 9000, 100000, 190000):
                call = f"FROM pgsse.page({after}, NULL, '{topics}', {rows}, tenants => {tenants})"
                buffers(durable, call)
                touched, returned = buffers(durable, call)
                assert touched < most and returned <= 2, (call, touched)
