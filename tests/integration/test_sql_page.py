"""pgsse.page: how programs read the table. What is removed meanwhile is told, and the work of a
page is bounded."""

import contextlib
import random
import threading

import psycopg2
import pytest

from schema import column, fixture_durable, publish, refusal, value

__all__ = ["fixture_durable"]

END = 2**63 - 1
INJECTION = "'); DROP TABLE pgsse.events; --"


def page(database, after, up_to=None, topics=None, rows=1000, size=4194304, tenants=None):
    """[(id, topic)] of its floors, by id, [(id, topic)] of its events, and where it ends if there is
    more, else None."""
    answer = database.execute("SELECT id, topic, is_floor FROM pgsse.page(%s, %s, %s, %s, %s, %s)",
                              (after, up_to, topics, rows, size, tenants))
    floors = sorted(row[:2] for row in answer if row[2])
    events = [row[:2] for row in answer if row[2] is False]
    ends = [number for number, topic, is_floor in answer if is_floor is None and topic is None]
    assert [row[2] for row in answer] == (
        [True] * len(floors) + [False] * len(events) + [None] * len(ends))
    assert all(number > after for number, _ in floors + events)
    assert [number for number, _ in events] == sorted({number for number, _ in events})
    assert len(events) <= rows and len(ends) <= 1
    assert all(number > after and (not events or number >= events[-1][0]) for number in ends)
    return floors, events, ends[0] if ends else None


def read_all(database, after=0, **limits):
    """The events of all pages, and how many each page had; floors are where they have to be."""
    told, _, _ = page(database, after, **limits)
    events, sizes = [], []
    while after is not None:
        floors, found, end = page(database, after, **limits)
        assert floors == [floor for floor in told if floor[0] > after]
        events += found
        sizes.append(len(found))
        after = end
    return events, sizes


def ids(database, *arguments, **limits):
    """Of a page without floors."""
    floors, events, _ = page(database, *arguments, **limits)
    assert not floors
    return [number for number, _ in events]


def prune(database, arguments):
    return value(database, f"SELECT pgsse.prune({arguments})")


# ---- what is on a page ---------------------------------------------------------------------------

def test_what_an_event_and_a_floor_are(durable):
    durable.execute("""SELECT pgsse.publish('beta', '0'), pgsse.publish('beta', '1'),
        pgsse.publish('alpha', '{ "b":1,"a":\t1.0 }', 'paid', 'o.7', 5, E'two\nlines', true)""")
    prune(durable, "keep => 1")
    assert durable.execute("SELECT id, topic, is_floor, type, data::text, publisher_id, retry,"
                           " comment, is_text, tenant FROM pgsse.page(0, NULL, NULL)") == [
        (2, "beta", True, None, None, None, None, None, None, ""),
        (3, "beta", False, "message", "1", None, None, None, False, ""),
        (4, "alpha", False, "paid", '{ "b":1,"a":\t1.0 }', "o.7", 5, "two\nlines", True, "")]
    assert durable.execute("SELECT * FROM pgsse.page(2, NULL, NULL, 1)")[1:] == [(3, *[None] * 9)]


def test_pages_follow_each_other(durable):
    numbers = publish(durable, "alpha", 6) + publish(durable, "beta", 4)
    events, sizes = read_all(durable, rows=4)
    assert [number for number, _ in events] == numbers and sizes == [4, 4, 2]
    assert read_all(durable, rows=5)[1] == [5, 5], "nothing more is no more"
    assert read_all(durable, after=numbers[4], rows=1)[1] == [1] * 5
    assert read_all(durable, after=numbers[-1]) == ([], [0])
    assert ids(durable, 0, END) == numbers


def test_of_some_topics(durable):
    alpha, beta = publish(durable, "alpha", 3), publish(durable, "beta", 3)
    odd = publish(durable, INJECTION, 1)
    alpha += publish(durable, "alpha", 2)
    assert ids(durable, 0, topics=["alpha"]) == alpha
    assert ids(durable, 0, topics=["beta", "alpha", "gamma"]) == sorted(alpha + beta)
    assert ids(durable, 0, topics=["alpha", None, "alpha"]) == alpha, "once each"
    assert ids(durable, 0, topics=[INJECTION, "Alpha", "alph", "alphaa", ""]) == odd
    assert ids(durable, 0, topics=[]) == [] and ids(durable, 0, topics=[None]) == []
    assert ids(durable, alpha[1], alpha[3], ["alpha"]) == alpha[2:4]
    assert ids(durable, 0, topics=["alpha", "beta"], rows=4) == sorted(alpha + beta)[:4]
    assert page(durable, 0, topics=["alpha"], rows=5)[2] is None
    assert page(durable, 0, topics=["alpha"], rows=4)[2] == alpha[4] - 1


@pytest.mark.parametrize("topics", [None, ["alpha", "beta"]])
def test_up_to(durable, topics):
    numbers = publish(durable, "alpha", 3) + publish(durable, "beta", 3)
    assert ids(durable, numbers[0], numbers[3], topics) == numbers[1:4]
    assert page(durable, numbers[0], numbers[3], topics)[2] is None, "what is behind is not asked"
    assert ids(durable, numbers[3], numbers[3], topics) == []
    assert ids(durable, numbers[4], numbers[3], topics) == []
    assert ids(durable, numbers[4], END, topics) == numbers[5:]


@pytest.mark.parametrize("topics", [None, ["alpha"]])
def test_a_page_ends_before_so_many_bytes(durable, topics):
    for size in (10, 20, 30, 1000, 1):
        durable.execute("SELECT pgsse.publish('alpha', to_json(repeat('x', %s)), comment => %s)",
                        (size - 5, "\u20ac"))
    for size, sizes in ((61, [3, 1, 1]), (60, [3, 1, 1]), (59, [2, 1, 1, 1]), (30, [2, 1, 1, 1]),
                        (29, [1] * 5), (1, [1] * 5), (1060, [4, 1]), (2000, [5])):
        assert read_all(durable, topics=topics, size=size)[1] == sizes, size


def test_the_bytes_are_data_and_comment(durable):
    durable.execute("""SELECT pgsse.publish('a', '"\u20ac"', 'e', comment => '\u00e4\u00e4'),
        pgsse.publish('a', ' 1 '::json); SELECT pgsse.publish_many(ARRAY['a', 'a'],
        ARRAY['"\u20ac"', '[]']::json[], comments => ARRAY['c', NULL]);
        SELECT pgsse.publish_many('[{"topic":"a","data":"\u00e4"}]')""")
    assert column(durable, "SELECT bytes FROM pgsse.events ORDER BY id") == [9, 3, 6, 2, 4]


def test_no_row_is_without_them(durable):
    """Whoever has the key to the table."""
    assert refusal(durable, "SELECT pgsse._open(true); INSERT INTO pgsse.events (id, topic, type,"
                            " data) VALUES (2, 'alpha', 'message', '1')")[0] == "23502"


@pytest.mark.parametrize("arguments", [
    "-1", "NULL", "0, -1", "0, NULL, NULL, 0", "0, NULL, NULL, -1", "0, NULL, NULL, NULL",
    "0, NULL, NULL, 1, 0", "0, NULL, NULL, 1, NULL"])
def test_pages_that_cannot_be(durable, arguments):
    assert refusal(durable, f"SELECT * FROM pgsse.page({arguments})")[0] == "22023"


def test_the_largest_numbers(durable):
    publish(durable, "alpha", 3)
    for topics in (None, ["alpha"]):
        assert ids(durable, 0, END, topics, 2**31 - 1, END) == [2, 3, 4]
        assert ids(durable, END, END, topics, 2**31 - 1, END) == []


def test_one_snapshot(durable):
    """A function that is not VOLATILE sees what the statement sees that calls it."""
    assert value(durable, "SELECT provolatile FROM pg_proc"
                          " WHERE oid = 'pgsse.page'::regproc") == "s"


def test_whoever_may_read_the_tables(durable):
    durable.execute("CREATE ROLE reader LOGIN; GRANT SELECT ON pgsse.events TO reader")
    try:
        publish(durable, "alpha", 1)
        with contextlib.closing(psycopg2.connect(f"{durable.url} user=reader")) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                    cursor.execute("SELECT id FROM pgsse.page(0)")
                durable.execute("GRANT SELECT ON pgsse.floors TO reader")
                cursor.execute("SELECT id FROM pgsse.page(0)")
                assert cursor.fetchall() == [(2,)]
    finally:
        durable.execute("DROP OWNED BY reader; DROP ROLE reader")


# ---- floors --------------------------------------------------------------------------------------

@pytest.fixture(name="pruned")
def fixture_pruned(durable):
    """2 to 4 are alpha's, 5 to 7 beta's, 8 is alpha's, 9 gamma's; of alpha 8 is left, of beta 7."""
    for topic, count in (("alpha", 3), ("beta", 3), ("alpha", 1), ("gamma", 1)):
        publish(durable, topic, count)
    prune(durable, "keep => 1")
    return durable


FLOORS = [(4, "alpha"), (6, "beta")]
EVENTS = [(7, "beta"), (8, "alpha"), (9, "gamma")]


def test_floors_come_first(pruned):
    assert page(pruned, 0) == (FLOORS, EVENTS, None)
    for topics in (["alpha"], ["beta", "alpha"], ["gamma", "nobody"], ["alpha", None, "alpha"], []):
        assert page(pruned, 0, topics=topics) == (
            [row for row in FLOORS if row[1] in topics],
            [row for row in EVENTS if row[1] in topics], None)


@pytest.mark.parametrize("topics", [None, ["alpha", "beta", "gamma"]])
def test_a_floor_is_told_to_whoever_stands_before_it(pruned, topics):
    for after, floors in ((0, FLOORS), (3, FLOORS), (4, FLOORS[1:]), (5, FLOORS[1:]), (6, []),
                          (9, [])):
        told, events, _ = page(pruned, after, topics=topics)
        assert told == floors
        assert events == [row for row in EVENTS if row[0] > after]


@pytest.mark.parametrize("topics", [None, ["alpha", "beta"]])
def test_a_floor_behind_up_to_is_told_as_well(durable, topics):
    """What it stands for may lie before up_to."""
    publish(durable, "alpha", 1)
    publish(durable, "beta", 1)
    publish(durable, "alpha", 3)
    publish(durable, "beta", 2)
    prune(durable, "keep => 1")
    floors = [(5, "alpha"), (7, "beta")]
    assert page(durable, 2, 4, topics) == (floors, [], None)
    assert page(durable, 2, 6, topics) == (floors, [(6, "alpha")], None)
    assert page(durable, 5, 5, topics) == (floors[1:], [], None)


@pytest.mark.parametrize("topics", [None, ["alpha", "beta", "gamma"]])
def test_a_floor_is_no_row_and_has_no_bytes(pruned, topics):
    """So a page with floors on it gets as far as one without."""
    assert page(pruned, 0, topics=topics, rows=2) == (FLOORS, EVENTS[:2], 8)
    assert page(pruned, 0, topics=topics, rows=3) == (FLOORS, EVENTS, None)
    assert read_all(pruned, topics=topics, size=1) == (EVENTS, [1, 1, 1])
    assert page(pruned, 0, topics=topics, rows=3, size=3) == (FLOORS, EVENTS, None)


def test_too_many_floors(durable):
    """One for all of them, when all topics are asked for; of those by name all come."""
    topics = [f"t{number}" for number in range(5)]
    for topic in topics:
        publish(durable, topic, 2)
    prune(durable, "keep => 1")
    floors = [(2 * number + 2, topic) for number, topic in enumerate(topics)]
    events = [(number + 1, topic) for number, topic in floors]
    assert page(durable, 0, rows=5) == (floors, events, None)
    assert page(durable, 0, rows=4) == ([(10, None)], events[:4], 10)
    assert page(durable, 0, rows=1) == ([(10, None)], events[:1], 4)
    assert page(durable, 0, 0, rows=1) == ([(10, None)], [], None)
    assert page(durable, 2, rows=4) == (floors[1:], events[:4], 10)
    assert page(durable, 8, rows=1) == (floors[4:], events[3:4], 10)
    assert page(durable, 10, rows=1) == ([], events[4:], None)
    assert page(durable, 0, topics=topics, rows=1) == (floors, events[:1], 4)


def test_a_prune_between_two_pages(durable):
    """Either the event comes or a floor that stands for it."""
    alpha, beta = publish(durable, "alpha", 6), publish(durable, "beta", 2)
    assert page(durable, 0, rows=3) == ([], [(number, "alpha") for number in alpha[:3]],
                                         alpha[2])
    prune(durable, "keep => 1")
    floors = [(alpha[4], "alpha"), (beta[0], "beta")]
    assert page(durable, alpha[2], rows=2) == (floors, [(alpha[5], "alpha"), (beta[1], "beta")],
                                               None)
    assert page(durable, alpha[5], rows=3) == (floors[1:], [(beta[1], "beta")], None)


class Judge:
    """Reads pages as a program does, and holds them against what was published."""

    def __init__(self, published, topics, after, tenants=None):
        self._published = published
        self._topics = topics
        self._tenants = tenants
        self._told = {}
        self._seen = set()
        self._start = after
        self.after = after
        self.missed = 0

    def read(self, database, up_to, **limits):
        """One page; whether there is more up to there."""
        floors, events, end = page(database, self.after, up_to, self._topics,
                                   tenants=self._tenants, **limits)
        for number, topic in floors:
            assert number >= self._told.get(topic, 0)
            self._told[topic] = number
        for number, topic in events:
            assert self._told.get(topic, 0) < number <= up_to, "what is left is behind its floor"
            self._seen.add(number)
        self.after = end or max(self.after, up_to)
        return end is not None

    def told(self, topic):
        """Up to where it knows that it may have missed some: also by the floor of all topics."""
        return max(self._told.get(topic, 0), self._told.get(None, 0))

    def check(self):
        """For each event up to where it stands: it was seen, or a floor told."""
        for topic, numbers in self._published.items():
            if self._topics is None or self._tenants or topic in self._topics:
                gone = [number for number in numbers
                        if self._start < number <= self.after and number not in self._seen]
                assert max(gone, default=0) <= self.told(topic), (topic, gone)
                self.missed += len(gone)


@pytest.mark.parametrize("seed", range(6))
def test_events_come_or_floors_stand_for_them(durable, seed):
    """Prunes of all kinds at random between pages: what is removed of a topic is its oldest."""
    chance = random.Random(seed)
    published = {f"t{number}": [] for number in range(5)}
    topics = [None, ["t0", "t3"], sorted(published)][seed % 3]
    judges = []
    for _ in range(120):
        topic = chance.choice(sorted(published))
        published[topic] += publish(durable, topic, chance.randrange(6))
        if chance.randrange(4) == 0:
            prune(durable, chance.choice(["keep => 3", "keep => 2, most => 4", "'1 h', most => 3",
                                          "'1 h', 4, 5", "'1 h'", "keep => 0, most => 1"]))
            durable.execute("UPDATE pgsse.seen SET at = at - '20 minutes'::interval")
        head = value(durable, "SELECT pgsse.head()")
        if chance.randrange(10) == 0:
            judges.append(Judge(published, topics, max(head - 5, 0)))
        for judge in judges:
            if chance.randrange(3) == 0:
                judge.read(durable, min(head, judge.after + chance.choice([3, head])),
                           rows=chance.randrange(1, 5), size=chance.choice([1, 5, 99]))
        floors = dict(durable.execute("SELECT topic, id FROM pgsse.floors"))
        kept = column(durable, "SELECT id FROM pgsse.events")
        assert all((number in kept) == (number > floors.get(topic, 0))
                   for topic, numbers in published.items() for number in numbers)
    for judge in judges:
        while judge.read(durable, value(durable, "SELECT pgsse.head()")):
            pass
        judge.check()
    assert sum(judge.missed for judge in judges) > 10, "or nothing was tested"


def test_while_others_publish_prune_and_read(durable):
    """Nobody fails, and nothing is lost without a word."""
    is_over = threading.Event()
    failures, published, removed = [], {"t1": [], "t2": []}, []

    def work(step, results):
        connection = durable.connect()
        try:
            with contextlib.closing(connection), connection.cursor() as cursor:
                while not is_over.is_set():
                    cursor.execute(step)
                    results += [row for row, in cursor.fetchall()]
        except Exception as failure:  # pylint: disable=broad-except
            failures.append(failure)

    steps = [(f"SELECT pgsse.publish_many(array_fill('{topic}'::text, ARRAY[5]),"
              " array_fill('1'::json, ARRAY[5]))", published[topic]) for topic in published]
    steps += [("SELECT pgsse.prune('1 ms', 40, 60)", removed)] * 2
    threads = [threading.Thread(target=work, args=step) for step in steps]
    for thread in threads:
        thread.start()
    judges = [Judge(published, None, 0), Judge(published, ["t2", "t1"], 0)]
    while not failures and sum(map(len, published.values())) < 3000:
        # They lag, so that there is something for the prunes to remove before them.
        head = value(durable, "SELECT pgsse.head()")
        for judge in judges:
            if head > judge.after + 300:
                judge.read(durable, head, rows=50)
    is_over.set()
    for thread in threads:
        thread.join()
    assert not failures
    for judge in judges:
        while judge.read(durable, value(durable, "SELECT pgsse.head()")):
            pass
        judge.check()
        assert judge.missed > 0, "or nothing was tested"
    assert sum(removed) + value(durable, "SELECT count(*) FROM pgsse.events") == sum(
        map(len, published.values()))


# ---- what it costs -------------------------------------------------------------------------------

FILL = """
    BEGIN;
    SELECT pgsse._open(true);
    INSERT INTO pgsse.events (id, topic, type, data, bytes)
    SELECT n, CASE WHEN n %% 2 = 0 THEN 'hot' WHEN n %% 4 = 1 THEN 'mid-' || n / 4 %% 64
              ELSE 'rare-' || n / 4 %% 5000 END, 'message', to_json(repeat('x', 100)), 102
    FROM generate_series(%s, %s) AS n;
    INSERT INTO pgsse.floors SELECT 'rare-' || n, 10000 + n FROM generate_series(0, 49999) AS n;
    COMMIT"""
MANY = 200000
MIDS = [f"mid-{number}" for number in range(64)]


def buffers(database, call):
    """How many the call touches, and how many rows it returns."""
    plan = value(database, "EXPLAIN (ANALYZE, BUFFERS, FORMAT json)"
                           f" SELECT octet_length(data::text) {call}")[0]["Plan"]
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], plan["Actual Rows"]


CALLS = [
    ("FROM pgsse.page(100000)", 1001),
    ("FROM pgsse.page(9000)", 1002),
    ("FROM pgsse.page(59100)", 1900),
    (f"FROM pgsse.page({MANY - 5})", 5),
    ("FROM pgsse.page(100000, 150000, '{hot}')", 1001),
    ("FROM pgsse.page(100000, NULL, '{rare-7}')", 5),
    ("FROM pgsse.page(9000, NULL, '{rare-7}')", 10),
    ("FROM pgsse.page(100000, NULL, '{nobody}')", 0),
    ("FROM pgsse.page(100000, NULL, '{}')", 0),
    (f"FROM pgsse.page({MANY}, NULL, '{{hot,rare-7,mid-1}}')", 0),
    (f"FROM pgsse.page(100000, NULL, '{{{','.join(MIDS)}}}')", 1001),
    ("FROM pgsse.page(100000, NULL, '{ho*}')", 1001),
    ("FROM pgsse.history('rare-7', 100000)", 5),
    ("FROM pgsse.history('hot', 100000, 500)", 500),
]


@pytest.fixture(name="grown", params=["from nothing", "under a kept plan", "analyzed",
                                      "analyzed when there was one topic"])
def fixture_grown(durable, request):
    """Many rows, in one session that has made its plans already, when there were two, or not."""
    first = 2
    if request.param == "under a kept plan":
        publish(durable, "hot", 3)
        prune(durable, "keep => 1")
        durable.execute("VACUUM ANALYZE pgsse.events, pgsse.floors")
        for call, _ in CALLS * 6:
            durable.execute(f"SELECT count(*) {call}")
        first = 5
    if "one topic" in request.param:
        publish(durable, "hot", 5000)
        durable.execute("ANALYZE pgsse.events")
        first = 5002
    durable.execute(FILL, (first, MANY))
    if request.param == "analyzed":
        durable.execute("ANALYZE pgsse.events, pgsse.floors")
    return durable


def test_the_work_of_a_page_is_bounded(grown):
    """It is that of its rows, floors among them, whatever is known about the tables: 3,000 pages the
    table has, and as many the indexes of it."""
    for call, rows in CALLS:
        for _ in range(2):
            touched, returned = buffers(grown, call)
            most = 12 * returned + (64 * 120 if "mid-0" in call else 100)
            assert returned == rows and touched < most, (call, touched)


def test_many_full_topics(durable):
    """Of each only some rows are looked at: more pages, all of them complete."""
    durable.execute(FILL, (2, 60000))
    wanted = MIDS[:40] + ["hot"]
    expected = column(durable, "SELECT id FROM pgsse.events WHERE topic = ANY(%s) AND id > 100"
                               " ORDER BY id", (wanted,))
    events, sizes = read_all(durable, after=100, topics=wanted)
    assert [number for number, _ in events] == expected
    assert all(100 <= size <= 1000 for size in sizes[:-1])
    assert read_all(durable, after=59000, topics=wanted, rows=7)[0] == [
        row for row in events if row[0] > 59000]


def test_data_is_fetched_for_what_is_returned_only(durable):
    durable.execute("""SELECT pgsse.publish('alpha', to_json(big)) FROM (
        SELECT string_agg(md5(n::text), '') AS big FROM generate_series(1, 3000) n) AS b,
        generate_series(1, 20)""")
    publish(durable, "alpha", 1)
    for topics in ("NULL", "'{alpha}'"):
        buffers(durable, f"FROM pgsse.page(21, NULL, {topics})")
        touched, returned = buffers(durable, f"FROM pgsse.page(0, NULL, {topics}, 1000, 100)")
        assert returned == 2
        everything, returned = buffers(durable, f"FROM pgsse.page(0, NULL, {topics})")
        assert returned == 21 and everything > 200
        assert touched < everything / 5
