"""The judge finds each violation of what durable events are promised, and lets pass what the rules
permit. Hand-made records: a row every second, id 10 + n committed at second n, and if need be an
ephemeral event n beside it."""

import pytest

from rows import Note, Row, Table
from judge import Judge, Seen, Settings, Window
from published import COMMITTED, REFUSED, UNKNOWN, Published
from record import Record

MARKER, OTHER = "aaaaaaaaaaaaa", "bbbbbbbbbbbbb"


def at(number, count=0, marker=MARKER):
    return f"{number}.{marker}.{count}"


def table(count=9, removed=(), topic="t00", at_time=5.0):
    """Ids 10, 11, ...; removed: those that were pruned at that time."""
    rows = [Row(10 + n, topic, n, 100, at_time if 10 + n in removed else None)
            for n in range(count)]
    return Table(rows, [Note(n, topic, float(n), n + 0.01, COMMITTED, 10 + n)
                        for n in range(count)])


def ephemeral(count=0):
    return {"t00": [Published(seq, seq + 0.5, seq + 0.51, 100) for seq in range(count)],
            "t01": []}


def record(*items, habit="steady", user="", topics=None):
    new = Record(1, topics or ["t00"], habit, user=user)
    new.items = [list(item) for item in items]
    return new


def rows(first, last, when=None, place=MARKER):
    when = last - 10 + 0.02 if when is None else when
    return ("durable", when, when, list(range(first, last + 1)), at(last, last, place))


def run(first, last, number):
    return ("run", first + 0.52, last + 0.52, first, last, at(number, 20 + last))


def fault(effect, start, end, machines="A"):
    return Window("fault", start, end, frozenset(machines), frozenset([effect]))


def kinds(known, *records, windows=(), published=None, unsubscribed=None, seen=None, **settings):
    judge = Judge(published or ephemeral(), list(records), list(windows), Settings(**settings),
                  seen, known, unsubscribed)
    return [violation.kind for violation in judge.judge()]


FRESH = (("open", -1.0, "A", None), ("first", -0.9, at(9)))
BROKE = fault("break", 4.1, 4.2)
ALL = ("open", 9.5, "A", "0")


def resumed(when, position, machine="A"):
    return ("end", when, "left"), ("open", when, machine, position)


# --- once, in the order of the table --------------------------------------------------------------

def test_all_in_order():
    assert kinds(table(), record(*FRESH, rows(10, 18))) == []


def test_a_row_that_is_missing():
    assert kinds(table(), record(*FRESH, rows(10, 12), rows(14, 18))) == ["lost"]
    assert kinds(table(), record(*FRESH, rows(11, 18))) == ["lost"]


def test_a_row_of_another_topic_is_none():
    assert kinds(table(topic="t01"), record(*FRESH)) == []
    assert kinds(table(topic="t01"), record(*FRESH, rows(10, 10))) == ["unpublished"]


def test_who_begins_gets_what_is_behind_its_greeting():
    late = (("open", 4.5, "A", None), ("first", 4.6, at(14)))
    assert kinds(table(), record(*late, rows(15, 18))) == []
    assert kinds(table(), record(*late, rows(16, 18))) == ["lost"]
    assert kinds(table(), record(*late, rows(14, 18))) == ["again"]


def test_behind_the_position_that_head_told():
    asked = (("asked", 4.5, at(14)), ("open", 6.5, "A", at(14)), ("first", 6.6, at(14)))
    assert kinds(table(), record(*asked, rows(15, 18))) == []
    assert kinds(table(), record(*asked, rows(17, 18))) == ["lost"]


def test_across_reconnects():
    assert kinds(table(), record(*FRESH, rows(10, 13), *resumed(5, at(13), "B"),
                                 ("first", 5.1, at(13)), rows(14, 18))) == []
    assert kinds(table(), record(*FRESH, rows(10, 13), *resumed(5, at(13), "B"),
                                 ("first", 5.1, at(13)), rows(15, 18))) == ["lost"]
    assert kinds(table(), record(*FRESH, rows(10, 13), *resumed(5, at(13), "B"),
                                 rows(13, 18))) == ["again"]


def test_all_that_is_kept():
    assert kinds(table(), record(ALL, rows(10, 18))) == []
    assert kinds(table(), record(ALL, rows(12, 18))) == ["lost"]


@pytest.mark.parametrize("item", [
    ("first", 5.0, at(14)), ("id", 5.0, at(14)), ("refresh", 5.0, "gap", None, at(14, 0, OTHER)),
    ("run", 5.0, 5.0, 0, 0, at(14, 30)),
])
def test_an_id_speaks_for_all_before_it(item):
    """Whoever came back from there would miss row 14."""
    got = record(*FRESH, rows(10, 13), item, rows(14, 18))
    published = ephemeral(1 if item[0] == "run" else 0)
    lost = "hidden" if item[0] == "refresh" else "lost"
    assert kinds(table(), got, published=published, windows=[BROKE]) == [lost, "again"]


def test_a_position_does_not_move_back():
    assert kinds(table(), record(*FRESH, rows(10, 13), ("id", 5.0, at(12)),
                                 rows(14, 18))) == ["back"]


def test_again():
    assert kinds(table(), record(*FRESH, rows(10, 14), rows(14, 18))) == ["again"]


def test_deaf_at_the_end():
    assert kinds(table(), record(*FRESH, rows(10, 16))) == ["deaf"]


def test_late():
    late = ("late_durable", 8.0, 14)
    got = record(*FRESH, rows(10, 13), rows(14, 18, 8.1), late)
    assert kinds(table(), got) == ["late"]
    for effect in ("stall", "table"):
        assert kinds(table(), got, windows=[fault(effect, 4, 7.5)]) == []


def test_who_cannot_read_the_table_is_no_excuse_for_ephemeral_events():
    late = record(*FRESH, rows(10, 18), ("run", 8, 8, 4, 8), ("late", 8, 4, "t00"))
    events = ephemeral(9)
    got = record(*FRESH, ("run", 0.6, 3.6, 0, 3), *late.items[2:])
    assert kinds(table(), got, published=events, windows=[fault("table", 4, 7)]) == ["late"]
    assert kinds(table(), got, published=events, windows=[fault("stall", 4, 7)]) == []


# --- refreshes ------------------------------------------------------------------------------------

def refreshed(reason, number, *behind, dropped=None, habit="steady"):
    """It has 10 to 13; the refresh comes at 6."""
    return record(*FRESH, rows(10, 13), ("refresh", 6.0, reason, dropped, at(number, 0, OTHER)),
                  *behind, habit=habit)


@pytest.mark.parametrize("reason, effect", [
    ("gap", "break"), ("restart", "broker"), ("unknown_position", "broker"),
])
def test_a_refresh_for_ephemeral_events_excuses_no_durable_one(reason, effect):
    windows = [fault(effect, 4.1, 4.2)]
    assert kinds(table(), refreshed(reason, 13, rows(14, 18)), windows=windows) == []
    assert kinds(table(), refreshed(reason, 15, rows(16, 18)), windows=windows) == ["hidden"]
    assert kinds(table(), refreshed(reason, 13, rows(16, 18)), windows=windows) == ["lost"]


def test_what_was_pruned_unread():
    pruned = range(10, 16)
    assert kinds(table(removed=pruned), refreshed("gap", 15, rows(16, 18))) == []
    assert kinds(table(removed=pruned), refreshed("gap", 16, rows(17, 18))) == ["hidden"]
    assert kinds(table(removed=pruned), record(*FRESH, rows(10, 13), rows(16, 18))) == ["lost"]
    assert kinds(table(removed=pruned), record(*FRESH, rows(10, 13), rows(16, 16),
                                               ("refresh", 7.0, "gap", None, at(16)),
                                               rows(17, 18))) == ["lost", "needless"]


def test_what_was_pruned_and_read():
    """Who has read it is told nothing; who had to be told is told once."""
    assert kinds(table(removed=range(10, 14)), refreshed("gap", 13, rows(14, 18))) == ["needless"]
    twice = refreshed("gap", 15, ("refresh", 6.1, "gap", None, at(15)), rows(16, 18))
    assert kinds(table(removed=range(10, 16)), twice) == ["needless"]


def test_what_is_pruned_later_is_no_reason():
    later = table(removed=range(10, 16), at_time=7.0)
    assert kinds(later, refreshed("gap", 15, rows(16, 18))) == ["needless", "hidden"]


def test_a_prune_excuses_no_ephemeral_event():
    known = table(removed=range(10, 16))
    told = ("refresh", 6.0, "gap", None, at(15, 24))
    events = ephemeral(9)
    first = (*FRESH, run(0, 3, 13), rows(10, 13, 3.9))
    assert kinds(known, record(*first[:2], rows(10, 13), run(0, 3, 13), told, run(4, 8, 15),
                               rows(16, 18)), published=events) == []
    assert kinds(known, record(*first[:2], rows(10, 13), run(0, 3, 13), told, run(5, 8, 15),
                               rows(16, 18)), published=events) == ["short"]


def test_an_overflow_drops_what_it_says():
    def slow(dropped, number, *behind):
        return refreshed("overflow", number, *behind, dropped=dropped, habit="slow")
    assert kinds(table(), slow(2, 15, rows(16, 18))) == []
    assert kinds(table(), slow(2, 15, rows(17, 18))) == ["lost"]
    assert kinds(table(), slow(1, 15, rows(16, 18))) == ["count"]
    assert kinds(table(), refreshed("overflow", 15, rows(16, 18), dropped=2)) \
        == ["needless"]  # and it may have dropped, since it says so


def test_an_overflow_counts_both_kinds():
    def slow(dropped):
        return record(*FRESH, rows(10, 13), run(0, 3, 13),
                      ("refresh", 6.0, "overflow", dropped, at(15, 25)), run(6, 8, 15),
                      rows(16, 18), habit="slow")
    assert kinds(table(), slow(4), published=ephemeral(9)) == []
    assert kinds(table(), slow(3), published=ephemeral(9)) == ["short"]
    assert kinds(table(), slow(5), published=ephemeral(9)) == ["twice"]


def test_an_overflow_of_those_that_are_to_be_disconnected():
    got = refreshed("overflow", 15, rows(16, 18), dropped=2, habit="slow")
    assert kinds(table(), got, slow_client="disconnect") == ["needless", "hidden"]


def test_durable_events_stand_in_the_same_ring():
    """With nine durable ones among twelve, three ephemeral ones are held, also of fewer than
    twelve in all."""
    seen = Seen(places={(MARKER, 20 + seq): ("t00", seq) for seq in range(9)})

    def away(first):
        return record(*FRESH, rows(10, 10), run(0, 0, 10), *resumed(1.6, at(10, 20)),
                      ("refresh", 9.0, "gap", None, at(10, 20)),
                      ("durable", 9.0, 9.0, list(range(11, 19)), at(18, 20)),
                      ("run", 9.0, 9.0, first, 8, at(18, 28)))

    def found(first):
        return kinds(table(), away(first), published=ephemeral(9), seen=seen, ring_capacity=12)
    assert found(1) == found(6) == []
    assert found(7) == ["short"]


def test_a_position_without_a_place():
    """Ephemeral events go on from the head, and what it tells of the table is held to."""
    def came(*items):
        return record(*FRESH, rows(10, 13), *resumed(4.1, "13"), *items)
    told = ("refresh", 4.2, "unknown_position", None, at(13, 24))
    events = ephemeral(9)
    assert kinds(table(), came(rows(14, 18), ("run", 4.6, 8.6, 4, 8)), published=events) == []
    assert kinds(table(), came(rows(14, 18, 4.2), ("run", 8.6, 8.6, 8, 8)),
                 published=events) == ["short"]
    assert kinds(table(), came(rows(15, 18), ("run", 4.6, 8.6, 4, 8)), published=events) == ["lost"]
    assert kinds(table(), came(told, rows(14, 18), ("run", 4.6, 8.6, 4, 8)),
                 published=events) == ["needless"]


# --- the table itself -----------------------------------------------------------------------------

def faults(known, places=()):
    return [kind for kind, _, _ in known.faults(places)]


def test_what_publishers_were_told():
    row = Row(10, "t00", 0)
    assert faults(Table([row], [Note(0, "t00", 0, 1, COMMITTED, 10)])) == []
    assert faults(Table([], [Note(0, "t00", 0, 1, COMMITTED, 10)])) == ["undone"]
    assert faults(Table([row], [Note(0, "t00", 0, 1, REFUSED)])) == ["rolled back"]
    for rest in ([], [row]):
        assert faults(Table(rest, [Note(0, "t00", 0, 1, UNKNOWN)])) == []


def test_ids_are_used_once():
    note = Note(0, "t00", 0, 1, COMMITTED, 10)
    assert faults(Table([Row(11, "t00", 0)], [note])) == ["reused"]
    assert faults(Table([Row(10, "t00", 0), Row(10, "t00", 1)], [])) == ["reused"]
    assert faults(Table([Row(10, "t00", 0), Row(11, "t00", 0)], [])) == ["doubled"]
    assert faults(Table([Row(10, "t00", 0)], []), [(10, ("t00", 0))]) == []
    assert faults(Table([Row(10, "t00", 0)], []), [(10, ("t00", 1))]) == ["reused"]


# --- the durable API -------------------------------------------------------------------------------

def connection(*items, topics=("t00",), user="u1", habit="steady"):
    return record(*items, user=user, topics=list(topics), habit=habit)


def ids(first, last, when=None):
    when = last - 10 + 0.02 if when is None else when
    return ("durable", when, when, list(range(first, last + 1)), str(last))


OPEN = (("open", -1.0, "A", None), ("status", -0.9, 200), ("first", -0.9, "9"))


def test_connections_get_all_once_and_in_order():
    assert kinds(table(), connection(*OPEN, ids(10, 18))) == []
    assert kinds(table(), connection(*OPEN, ids(10, 13), ids(15, 18))) == ["lost"]
    assert kinds(table(), connection(*OPEN, ids(10, 13), ids(13, 18))) == ["again"]
    assert kinds(table(), connection(*OPEN, ids(10, 13), ("id", 5.0, "14"),
                                     ids(14, 18))) == ["lost", "again"]
    assert kinds(table(), connection(*OPEN, ids(10, 16))) == ["deaf"]


@pytest.mark.parametrize("reason, effect", [
    ("gap", "break"), ("restart", "broker"), ("unknown_position", "broker"), ("overflow", "stall"),
])
def test_connections_are_told_of_nothing_ephemeral(reason, effect):
    got = connection(*OPEN, ids(10, 13), ("refresh", 5.0, reason, 1, "13"), ids(14, 18),
                     habit="slow")
    assert kinds(table(), got, windows=[fault(effect, 4.1, 4.8)]) == ["needless"]


def test_connections_are_told_of_what_was_pruned():
    known = table(removed=range(10, 16))
    told = ("refresh", 6.0, "gap", None, "15")
    assert kinds(known, connection(*OPEN, ids(10, 13), told, ids(16, 18))) == []
    assert kinds(known, connection(*OPEN, ids(10, 13), ids(16, 18))) == ["lost"]


def two_topics(removed):
    known = [Row(10 + n, f"t0{n % 2}", n, 100, 5.0 if 10 + n in removed else None)
             for n in range(9)]
    return Table(known, [Note(n, f"t0{n % 2}", float(n), n + 0.01, COMMITTED, 10 + n)
                         for n in range(9)])


def test_what_was_pruned_is_told_before_the_stream_goes_on():
    """t00 has the even ids; 10, 12 and 14 are gone, t01 has all of its own."""
    known = two_topics({10, 12, 14})
    begun = ("open", 6.0, "A", "0"), ("status", 6.0, 200)

    def came(*items):
        return connection(*begun, *items, ("durable", 8.1, 8.1, [15, 16, 17, 18], "18"),
                          topics=("t00", "t01"))
    early = ("durable", 6.1, 6.1, [11, 13], "13")
    told = ("refresh", 6.1, "gap", None, "9", ["t00", "t01"])
    late = ("refresh", 6.1, "gap", None, "14", ["t00", "t01"])
    assert kinds(known, came(told, early)) == []
    assert "lost" in kinds(known, came(early, late))
    assert "lost" in kinds(known, came(early))
    assert "hidden" in kinds(known, came(late))


GONE = {("u1", "t00"): (4.5, 4.6)}


def test_a_channel_that_was_unsubscribed():
    def until(last):
        return connection(*OPEN, ids(10, last), ("id", 9.0, "18"))
    for last in (13, 14, 15):
        assert kinds(table(), until(last), unsubscribed=GONE) == []
    assert kinds(table(), until(17), unsubscribed=GONE) == ["leak", "leak"]
    assert kinds(table(), until(17), unsubscribed=GONE, windows=[fault("break", 4.0, 6.5)]) == []
    assert kinds(table(), until(12), unsubscribed=GONE) == []
    early = connection(*OPEN, ids(10, 12), ("id", 4.0, "13"), ("id", 9.0, "18"))
    assert kinds(table(), early, unsubscribed=GONE) == ["lost"]


def test_another_user_keeps_the_channel():
    got = connection(*OPEN, ids(10, 18), user="u2")
    assert kinds(table(), got, unsubscribed=GONE) == []


def test_who_may_have_nothing():
    refused = connection(("open", 7.0, "A", None), ("status", 7.1, 403), ("end", 7.1, "refused"))
    assert kinds(table(), refused) == ["refused"]
    assert kinds(table(), refused, unsubscribed=GONE) == []
    let_in = connection(("open", 7.0, "A", None), ("status", 7.1, 200))
    assert kinds(table(), let_in, unsubscribed=GONE) == ["leak"]


def test_connections_that_are_refused_or_closed():
    for items in ((("status", 4.1, 503), ("end", 4.1, "refused")),
                  (("status", 4.1, 200), ("close", 4.2)),
                  (("status", 4.1, 200), ("end", 4.2, "end of stream"))):
        again = ("open", 4.5, "A", "13"), ("first", 4.6, "13")
        got = connection(*OPEN, ids(10, 13), ("end", 4.0, "left"), ("open", 4.0, "A", "13"),
                         *items, *again, ids(14, 18))
        assert len(kinds(table(), got)) == 1
        assert kinds(table(), got, windows=[fault("broker", 3.5, 4.4)]) == []


def test_connections_do_not_wait():
    assert kinds(table(), connection(("open", -1, "A", None), ("waiting", -0.9), *OPEN[1:],
                                     ids(10, 18))) == ["waiting"]


# --- where a broker began -------------------------------------------------------------------------

def test_who_asked_for_all_is_at_the_origin_until_ephemeral_events_come():
    """The break at 4 stands in the log behind all rows that came before."""
    gap = ("refresh", 9.5, "gap", None, at(13, 0, OTHER))
    events = ephemeral(9)
    before = ("durable", 9.5, 9.5, [10, 11, 12, 13], at(13, 0))

    def came(*items):
        return record(ALL, before, *items, ("durable", 9.6, 9.6, [14, 15, 16, 17, 18], at(18, 0)))
    last = ("run", 9.6, 9.6, 4, 8)
    assert kinds(table(), came(("run", 9.5, 9.5, 0, 3), gap, last), published=events,
                 windows=[BROKE]) == []
    assert kinds(table(), came(gap, last), published=events, windows=[BROKE]) == []
    assert kinds(table(), came(gap, last), published=events) == ["needless"]
    assert kinds(table(), came(("run", 9.5, 9.5, 1, 3), gap, last), published=events,
                 windows=[BROKE]) == ["short"]
