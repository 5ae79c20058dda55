"""The judge finds each kind of violation, and lets pass what the rules permit. Hand-made records: a
topic with an event every second, number n committed at second n."""

import pytest

from judge import Judge, Seen, Settings, Window
from keys import is_covered
from published import COMMITTED, REFUSED, UNKNOWN, Published
from record import Record

MARKER, OTHER = "aaaaaaaaaaaaa", "bbbbbbbbbbbbb"


def at(count, marker=MARKER):
    return f"1.{marker}.{count}"


def published(count, size=100, **outcomes):
    """Events 0 to count - 1; e3=UNKNOWN changes one."""
    return {"t00": [Published(seq, seq, seq + 0.01, size, outcomes.get(f"e{seq}", COMMITTED))
                    for seq in range(count)]}


def record(*items, habit="steady"):
    new = Record(1, ["t00"], habit)
    new.items = [list(item) for item in items]
    return new


def run(first, last):
    return ("run", first + 0.02, last + 0.02, first, last)


def fault(effect, start, end, machines="A"):
    return Window("fault", start, end, frozenset(machines), frozenset([effect]))


def kinds(events, *records, windows=(), seen=None, **settings):
    judge = Judge(events, list(records), list(windows), Settings(**settings), seen)
    return [violation.kind for violation in judge.judge()]


FRESH = (("open", -1.0, "A", None), ("first", -0.9, at(0)))


def resumed(when, position, machine="A", left="left"):
    return ("end", when, left), ("open", when, machine, position)


# --- events ---------------------------------------------------------------------------------------

def test_all_in_order():
    assert kinds(published(9), record(*FRESH, run(0, 8))) == []


def test_a_resume_that_misses_nothing():
    assert kinds(published(9), record(*FRESH, run(0, 4), *resumed(6, at(5)), ("first", 6.1, at(5)),
                                      run(5, 8))) == []


def test_who_leaves_right_behind_a_floor_is_told_again():
    """Its position is still the one from before: the refresh has not moved it."""
    told = ("first", 8.05, at(2)), ("refresh", 8.1, "gap", None, at(2))
    again = ("first", 8.55, at(2)), ("refresh", 8.6, "gap", None, at(2))
    assert kinds(published(9), record(*FRESH, run(0, 1), *resumed(8.01, at(2)), *told,
                                      *resumed(8.5, at(2)), *again, run(5, 8)),
                 ring_capacity=4, history_bytes=1 << 20) == []


def test_a_first_stream_need_not_get_what_was_before():
    late = (("open", 3.5, "A", None), ("first", 3.6, at(4)))
    assert kinds(published(9), record(*late, run(4, 8))) == []
    assert kinds(published(9), record(*late, run(2, 8))) == []


def test_a_stream_behind_the_position_that_head_told():
    asked = (("asked", 3.5, at(4)), ("open", 5.5, "A", at(4)), ("first", 5.6, at(4)))
    assert kinds(published(9), record(*asked, run(4, 8))) == []
    assert kinds(published(9), record(*asked, run(5, 8))) == ["short"]


ALL = ("open", 4.7, "A", "0")
STARTED = fault("broker", 0.5, 1.5)


def kept(first, last):
    """A replay that comes at 4.7."""
    return ("run", 4.71, 4.71, first, last)


def test_all_that_is_kept_is_what_was_heard_since_the_start():
    assert kinds(published(9), record(ALL, kept(0, 4), run(5, 8))) == []
    assert kinds(published(9), record(ALL, kept(1, 4), run(5, 8))) == ["short"]
    for first in (0, 1, 2):  # it has heard 2, and perhaps what came while it started
        assert kinds(published(9), record(ALL, kept(first, 4), run(5, 8)), windows=[STARTED]) == []
    assert kinds(published(9), record(ALL, kept(3, 4), run(5, 8)), windows=[STARTED]) == ["short"]
    assert kinds(published(9), record(ALL, kept(2, 2), kept(4, 4), run(5, 8)),
                 windows=[STARTED]) == ["short"]


def test_all_that_is_kept_may_be_nothing():
    nothing = (ALL, ("first", 4.71, at(5)))
    assert kinds(published(9), record(*nothing, run(5, 8))) == ["short"]
    assert kinds(published(9), record(*nothing, run(5, 8)),
                 windows=[fault("broker", 4.1, 4.6)]) == []
    assert kinds(published(9), record(*nothing, run(6, 8)),
                 windows=[fault("broker", 4.1, 4.6)]) == ["short"]


def test_all_that_is_kept_may_be_lost_with_its_broker():
    """Accepted, and cut before anything came: what was kept then is not known to another broker."""
    lost = (ALL, ("greeted", 4.71), ("refresh", 5.2, "unknown_position", None, at(5, OTHER)))
    assert kinds(published(9), record(*lost, run(5, 8)),
                 windows=[STARTED, fault("broker", 4.8, 5.1)]) == []
    assert kinds(published(9), record(*lost, run(5, 8)), windows=[STARTED]) == ["needless"]


def test_all_that_is_kept_begins_a_new_record():
    again = record(*FRESH, run(0, 4), ("end", 4.6, "left"), ALL, kept(2, 4), run(5, 8))
    assert kinds(published(9), again, windows=[STARTED]) == []
    twice = record(*FRESH, run(0, 4), ("end", 4.6, "left"), ALL, kept(2, 4), kept(4, 4), run(5, 8))
    assert kinds(published(9), twice, windows=[STARTED]) == ["twice"]


def test_all_that_is_kept_is_what_has_not_left():
    gap = ("refresh", 4.71, "gap", None, None)
    assert kinds(published(9), record(ALL, gap, kept(2, 4), run(5, 8)), ring_capacity=3) == []
    assert kinds(published(9), record(ALL, gap, kept(3, 4), run(5, 8)),
                 ring_capacity=3) == ["short"]
    assert kinds(published(9), record(ALL, gap, kept(2, 4), run(5, 8)),
                 ring_capacity=5) == ["needless"]
    assert kinds(published(9), record(ALL, gap, kept(3, 4), run(5, 8)), ring_capacity=4,
                 windows=[STARTED]) == ["needless"]


def test_a_break_stands_where_it_was():
    gap = ("refresh", 4.71, "gap", None, at(0, OTHER))
    broke = fault("break", 3.1, 3.2)
    assert kinds(published(9), record(ALL, kept(0, 3), gap, kept(4, 4), run(5, 8)),
                 windows=[broke]) == []
    assert kinds(published(9), record(ALL, kept(0, 3), gap, kept(4, 4), run(5, 8))) == ["needless"]
    early = [fault("break", 0.1, 0.2), fault("broker", 2.1, 2.2)]  # of the broker before
    assert kinds(published(9), record(ALL, gap, kept(3, 4), run(5, 8)),
                 windows=early) == ["needless"]


@pytest.mark.parametrize("first, last", [((0, 3), (5, 8)), ((1, 3), (4, 8))])
def test_silently_short(first, last):
    assert kinds(published(9), record(*FRESH, run(*first), run(*last))) == ["short"]


def test_short_across_a_resume():
    assert kinds(published(9), record(*FRESH, run(0, 3), *resumed(4.5, at(5)),
                                      ("first", 4.6, at(5)), run(5, 8))) == ["short"]


def test_twice_and_disorder():
    assert kinds(published(9), record(*FRESH, run(0, 4), run(4, 8))) == ["twice"]
    assert kinds(published(9), record(*FRESH, run(0, 4), run(3, 3), run(5, 8))) == ["disorder"]


def test_nothing_older_behind_a_refresh():
    refresh = ("refresh", 4.5, "restart", None, at(0, OTHER))
    assert kinds(published(9), record(*FRESH, run(0, 4), refresh, run(3, 8)),
                 windows=[fault("broker", 4.1, 4.2)])[0] == "disorder"


def test_never_published():
    assert kinds(published(9, e4=REFUSED), record(*FRESH, run(0, 3), run(5, 8))) == []
    assert kinds(published(9, e4=REFUSED), record(*FRESH, run(0, 8))) == ["unpublished"]
    assert kinds(published(9), record(*FRESH, run(0, 9))) == ["unpublished"]


def test_deaf_at_the_end():
    assert kinds(published(9), record(*FRESH, run(0, 6))) == ["deaf"]
    assert kinds(published(9), record(*FRESH)) == ["deaf"]


# --- unknown outcomes -----------------------------------------------------------------------------

def test_an_unknown_outcome_may_be_either():
    events = published(9, e4=UNKNOWN)
    assert kinds(events, record(*FRESH, run(0, 8))) == []
    assert kinds(events, record(*FRESH, run(0, 3), run(5, 8))) == []


def test_an_unknown_outcome_may_come_late():
    late = record(*FRESH, run(0, 3), run(5, 6), run(4, 4), run(7, 8))
    assert kinds(published(9, e4=UNKNOWN), late, late) == []


def test_all_agree_on_an_unknown_outcome():
    events = published(9, e4=UNKNOWN)
    got = record(*FRESH, run(0, 8))
    assert kinds(events, got, got, record(*FRESH, run(0, 3), run(5, 8))) == ["short"]
    moved = record(*FRESH, run(0, 3), run(5, 5), ("run", 5.5, 5.5, 4, 4), run(6, 8))
    assert kinds(events, got, got, moved) == ["short", "disorder"]


# --- behind a refresh -----------------------------------------------------------------------------

BROKE = fault("break", 4.1, 4.2)


def test_a_refresh_excuses_what_was_before_it():
    gap = ("refresh", 4.5, "gap", None, at(9))
    assert kinds(published(9), record(*FRESH, run(0, 2), gap, run(5, 8)), windows=[BROKE]) == []


def test_and_nothing_behind_it():
    gap = ("refresh", 4.5, "gap", None, at(9))
    got = record(*FRESH, run(0, 2), gap, run(6, 8))
    assert kinds(published(9), got, windows=[BROKE]) == ["short"]


def test_its_place_counts_where_it_is_known():
    """Event 4 was published before the refresh was read, but others saw it behind its place."""
    gap = ("refresh", 4.5, "gap", None, at(9))
    seen = Seen(places={(MARKER, 10): ("t00", 4)})
    assert kinds(published(9), record(*FRESH, run(0, 2), gap, run(5, 8)), windows=[BROKE],
                 seen=seen) == ["short"]


def test_a_refresh_does_not_excuse_the_end():
    gap = ("refresh", 7.5, "gap", None, at(9))
    assert kinds(published(9), record(*FRESH, run(0, 2), gap),
                 windows=[fault("break", 7.1, 7.2)]) == ["deaf"]


def test_dropped_is_exact():
    def slow(dropped):
        return record(*FRESH, run(0, 2), ("refresh", 6, "overflow", dropped, at(7)), run(6, 8),
                      habit="slow")
    assert kinds(published(9), slow(3)) == []
    assert kinds(published(9), slow(2)) == ["short"]
    assert kinds(published(9), slow(4)) == ["twice"]
    assert kinds(published(9), slow(90)) == ["count", "short"]
    assert kinds(published(9), slow(None)) == ["count"]


# --- needless refreshes ---------------------------------------------------------------------------

def refreshed(reason, **how):
    """Live on A until 4; a refresh at 6."""
    return record(*FRESH, run(0, 4), ("refresh", 6.0, reason, how.get("dropped"), at(9, OTHER)),
                  run(6, 8), habit=how.get("habit", "steady"))


@pytest.mark.parametrize("reason", ["gap", "restart", "unknown_position", "tired"])
def test_without_any_fault(reason):
    assert kinds(published(9), refreshed(reason)) == ["needless"]


def test_a_break_is_told_of_once():
    gap = ("refresh", 4.5, "gap", None, at(0, OTHER))
    once = record(*FRESH, run(0, 4), gap, *resumed(4.6, at(0, OTHER)), ("first", 4.7, at(1)),
                  run(5, 8))
    assert kinds(published(9), once, windows=[BROKE]) == []
    twice = record(*FRESH, run(0, 4), gap, *resumed(4.6, at(0, OTHER)), gap, run(5, 8))
    assert kinds(published(9), twice, windows=[BROKE]) == ["again"]


def test_restart_is_for_who_was_live():
    restart = ("refresh", 5.1, "restart", None, at(9, OTHER))
    got = record(*FRESH, run(0, 2), *resumed(2.5, at(3)), ("first", 2.6, at(3)), restart, run(6, 8))
    assert kinds(published(9), got, windows=[fault("broker", 4, 4.5)]) == []
    got = record(*FRESH, run(0, 2), *resumed(2.5, at(3)), *resumed(4.9, at(3)),
                 ("first", 5.1, at(3)), restart, run(6, 8))
    assert kinds(published(9), got, windows=[fault("broker", 3, 3.5)]) == ["needless"]


@pytest.mark.parametrize("reason, effect", [("gap", "break"), ("restart", "broker"),
                                            ("unknown_position", "broker")])
def test_with_its_fault(reason, effect):
    assert kinds(published(9), refreshed(reason), windows=[fault(effect, 5, 5.5)]) == []


@pytest.mark.parametrize("reason, effect, start, machines", [
    ("gap", "broker", 5, "A"), ("gap", "handler", 5, "A"), ("gap", "stall", 5, "A"),
    ("gap", "break", 5, "B"), ("restart", "break", 5, "A"), ("restart", "broker", 5, "B"),
    ("restart", "handler", 5, "A"), ("gap", "break", 0.1, "A"), ("gap", "break", 7, "A"),
    ("unknown_position", "stall", 5, "A"),
])
def test_with_another_fault(reason, effect, start, machines):
    assert kinds(published(9), refreshed(reason),
                 windows=[fault(effect, start, start + 0.2, machines)]) == ["needless"]


def test_a_fault_while_it_was_away():
    """The position is older than the fault, the resume comes long after it."""
    gap = ("refresh", 7.2, "gap", None, at(9, OTHER))
    away = record(*FRESH, run(0, 2), *resumed(2.5, at(3)), ("first", 7.1, at(3)), gap, run(8, 8))
    assert kinds(published(9), away, windows=[fault("break", 3.5, 3.6)]) == []
    assert kinds(published(9), away, windows=[fault("break", 0.1, 0.2)]) == ["needless"]


def test_who_had_to_wait_without_a_position():
    fresh = (("open", 3.5, "A", None), ("waiting", 3.7), ("refresh", 4.5, "gap", None, at(5)))
    assert kinds(published(9), record(*fresh, run(5, 8)), windows=[fault("broker", 3, 4)]) == []
    assert kinds(published(9), record(*fresh, run(5, 8))) == []


def test_who_has_to_wait_for_long():
    fresh = (("open", 0.5, "A", None), ("waiting", 0.7), ("refresh", 5.5, "gap", None, at(5)))
    assert kinds(published(9), record(*fresh, run(6, 8))) == ["waiting"]
    assert kinds(published(9), record(*fresh, run(6, 8)), windows=[fault("broker", 1, 4)]) == []


def test_what_the_log_cannot_hold():
    assert kinds(published(9), refreshed("gap"), history_bytes=1000) == []


def away(first, *refresh):
    """Resumes at 7.1 behind 1; comes first what is kept from this event on."""
    return record(*FRESH, run(0, 1), *resumed(1.5, at(2)), ("first", 7.1, at(2)),
                  *refresh, ("run", 7.2, 7.2, first, 7), run(8, 8))


def test_what_left_the_log():
    gap = ("refresh", 7.2, "gap", None, at(2))
    seen = Seen(places={(MARKER, seq + 1): ("t00", seq) for seq in range(9)})
    assert kinds(published(9), away(5, gap), ring_capacity=3, seen=seen) == []
    assert kinds(published(9), away(5), ring_capacity=3, seen=seen) == ["short"]
    assert kinds(published(9), away(6, gap), ring_capacity=3, seen=seen) == ["short"]
    assert kinds(published(9), away(2, gap), ring_capacity=7, seen=seen) == ["needless"]
    assert kinds(published(9), away(3, gap), ring_capacity=6, seen=seen)[-1] == "short"


def test_a_break_may_look_like_what_left_the_log():
    """The other machine still holds what came before the place that it tells."""
    broke = ("refresh", 5.5, "gap", None, at(0, OTHER))
    got = record(*FRESH, run(0, 1), broke, *resumed(5.6, at(0, OTHER), "B"),
                 ("first", 5.7, at(6)), run(6, 8))
    assert kinds(published(9), got, windows=[fault("break", 5.3, 5.4)], ring_capacity=4) == []


def test_what_a_transaction_of_many_pushed_out():
    """It begins with the event that the client has, and is too much for the log."""
    events = {"t00": [Published(seq, *((0.0, 0.1) if seq < 4 else (1.0, 1.1)), 100) for seq in range(9)]}
    gap = ("refresh", 2.0, "gap", None, at(6))
    got = record(*FRESH, run(0, 3), ("run", 1.1, 1.1, 4, 4), *resumed(1.2, at(6)),
                 ("first", 2.0, at(6)), gap, ("run", 2.0, 2.0, 7, 8))
    assert kinds(events, got, history_bytes=3000) == []
    assert kinds(events, got, history_bytes=4000) == ["needless"]


def test_what_was_begun_before_and_committed_later():
    """It comes into the log behind the position."""
    events = {**published(9), "t01": [Published(0, 0.2, 6.0, 3000)]}
    seen = Seen(places={(MARKER, seq + 1): ("t00", seq) for seq in range(9)})
    gap = ("refresh", 7.2, "gap", None, at(2))
    assert kinds(events, away(5, gap), history_bytes=5000, seen=seen) == []
    events["t01"] = [Published(0, 0.2, 0.5, 3000)]
    assert kinds(events, away(5, gap), history_bytes=5000, seen=seen) == ["needless", "short"]


# --- positions of the other machine ---------------------------------------------------------------

def hopped(position):
    """From A to B at 5, and unknown there."""
    return record(*FRESH, run(0, 4), *resumed(5, position, "B"), ("first", 5.1, position),
                  ("refresh", 5.2, "unknown_position", None, at(5, OTHER)), run(6, 8))


SEEN = Seen(markers={MARKER: (2.5, "A")})


def test_a_marker_that_the_other_has_heard():
    assert kinds(published(9), hopped(at(5)), seen=SEEN) == ["needless"]
    other_faults = [fault("broker", 0.1, 0.4, "B"), fault("stall", 4, 5, "AB")]
    assert kinds(published(9), hopped(at(5)), seen=SEEN, windows=other_faults) == ["needless"]


@pytest.mark.parametrize("window", [
    fault("broker", 2, 2.8, "B"),       # it has started after the marker
    fault("broker", 4.8, 5, "B"),
    fault("break", 2.4, 2.9, "B"),      # it did not hear the marker
    fault("break", 3, 3.5, "B"),        # its count ends there
    fault("broker", 2.1, 2.4, "A"),     # a name of A alone
])
def test_a_marker_that_the_other_has_not(window):
    assert kinds(published(9), hopped(at(5)), seen=SEEN, windows=[window]) == []


# --- an id of the table alone ---------------------------------------------------------------------

def alone(*rest, first=at(0, OTHER), machine="B"):
    """From A at 5, with the D of its position, to this machine."""
    return record(*FRESH, run(0, 4), *resumed(5, "1", machine), ("first", 5.1, first), *rest)


def test_an_id_alone_begins_at_the_head():
    assert kinds(published(9), alone(run(6, 8))) == []
    assert kinds(published(9), alone(run(5, 8))) == []
    assert kinds(published(9), alone(run(7, 8))) == ["short"]


def test_that_head_may_be_older_than_what_it_had():
    """B is late, and A has all that came since."""
    late = alone(*resumed(5.5, at(0, OTHER)), ("first", 5.6, at(0, OTHER)),
                 ("run", 5.7, 5.7, 2, 5), run(6, 8))
    assert kinds(published(9), late) == []


def test_an_id_alone_costs_no_refresh():
    refresh = ("refresh", 5.2, "unknown_position", None, at(0, OTHER))
    assert kinds(published(9), alone(refresh, run(6, 8))) == ["needless"]


# --- slow clients, streams that end ---------------------------------------------------------------

def test_overflow_needs_a_slow_client_or_a_burst():
    assert kinds(published(9), refreshed("overflow", dropped=1, habit="slow")) == []
    assert kinds(published(9), refreshed("overflow", dropped=1)) == ["needless"]
    assert kinds(published(9), refreshed("overflow", dropped=1), client_queue_bytes=200) == []
    assert kinds(published(9), refreshed("overflow", dropped=1, habit="slow"),
                 slow_client="disconnect") == ["needless"]


def ended(how, habit="steady"):
    return record(*FRESH, run(0, 4), *resumed(4.5, at(5), left=how), ("first", 4.6, at(5)),
                  run(5, 8), habit=habit)


def test_a_stream_that_the_server_ends():
    assert kinds(published(9), ended("end of stream")) == ["cut"]
    assert kinds(published(9), ended("end of stream"), windows=[fault("handler", 4.4, 4.6)]) == []
    assert kinds(published(9), ended("end of stream", "slow")) == []
    assert kinds(published(9), ended("reset")) == []


def test_refused_and_close():
    refused = (("open", -2.0, "A", None), ("status", -1.9, 503), ("end", -1.9, "left"))
    assert kinds(published(9), record(*refused, *FRESH, run(0, 8))) == ["refused"]
    assert kinds(published(9), record(*refused, *FRESH, run(0, 8)),
                 windows=[fault("handler", -3, -1)]) == []
    closed = record(*FRESH, run(0, 4), ("close", 4.5), *resumed(4.6, at(5)), ("first", 4.7, at(5)),
                    run(5, 8))
    assert kinds(published(9), closed) == ["cut"]
    assert kinds(published(9), closed, windows=[fault("handler", 4.4, 4.8)]) == []


def test_an_event_that_took_seconds():
    late = record(*FRESH, run(0, 3), ("run", 8, 8, 4, 8), ("late", 8, 4, "t00"))
    assert kinds(published(9), late) == ["late"]
    assert kinds(published(9), late, windows=[fault("stall", 4, 7)]) == []
    replayed = record(*FRESH, run(0, 3), *resumed(4, at(4)), ("end", 4.1, "left"),
                      ("open", 7.9, "A", at(4)), ("first", 8, at(4)), ("run", 8, 8, 4, 8),
                      ("late", 8, 4, "t00"))
    assert kinds(published(9), replayed) == []


def test_what_comes_while_a_stream_is_replayed_may_take_as_long():
    def late(opened, *some):
        return record(*FRESH, run(0, 1), *resumed(opened, at(2)), *some,
                      ("run", 8, 8, 3 if some else 2, 4), ("late", 8, 4, "t00"), run(5, 8))
    assert kinds(published(9), late(3)) == []
    assert kinds(published(9), late(3, run(2, 2))) == ["late"], "it had come to the head"
    assert kinds(published(9), late(-3)) == ["late"], "that is no replay any more"


def test_what_a_client_could_not_read():
    assert kinds(published(9), record(*FRESH, run(0, 8), ("bad", 8.5, "line 'junk'"))) == ["bad"]


# --- several topics -------------------------------------------------------------------------------

TWO = {"t00": published(9)["t00"], "o.00": published(9)["t00"], "*": [], "t09": published(9)["t00"]}


def listener(*items, names=("t00", "o.*"), habit="steady"):
    """Of t00 and o.00. There is also t09, which is none of its topics."""
    new = Record(1, ["t00", "o.00", "*"], habit, list(names))
    new.items = [list(item) for item in items]
    return new


def runs(when=8.02, position=None, **ranges):
    ranges = {{"t": "t00", "o": "o.00"}[topic]: list(both) for topic, both in ranges.items()}
    return ("runs", when, when, ranges, position)


def test_each_of_several_topics_is_held_to_the_rules():
    assert kinds(TWO, listener(*FRESH, runs(t=(0, 4), o=(0, 3)), runs(o=(4, 8), t=(5, 8)))) == []
    assert kinds(TWO, listener(*FRESH, runs(t=(0, 4), o=(0, 3)), runs(o=(5, 8), t=(5, 8)))) == ["short"]
    assert kinds(TWO, listener(*FRESH, runs(t=(0, 4), o=(0, 8)), runs(t=(4, 8)))) == ["twice"]
    assert kinds(TWO, listener(*FRESH, runs(t=(0, 4), o=(0, 8)), runs(t=(3, 3)), runs(t=(5, 8)))) == [
        "disorder"]
    assert kinds(TWO, listener(*FRESH, runs(t=(0, 8), o=(0, 6)))) == ["deaf"]
    assert kinds(TWO, listener(*FRESH, runs(t=(0, 8)))) == ["deaf"]


def test_a_record_of_several_topics():
    new = Record(1, ["t00", "o.00"], "steady", ["*"])
    new.add("open", 0.0, "A", None)
    for now, topic, seq in ((1, "t00", 0), (1.1, "o.00", 7), (1.2, "t00", 1), (1.6, "t00", 2),
                            (1.7, "t00", 4), (1.8, "o.00", 8), (1.9, "t00", 4)):
        new.add_event(now, topic, seq, at(seq))
    assert [item[3:] for item in new.items[1:]] == [
        [{"o.00": [7, 7], "t00": [0, 1]}, at(1)], [{"t00": [2, 2]}, at(2)],
        [{"t00": [4, 4], "o.00": [8, 8]}, at(8)], [{"t00": [4, 4]}, at(4)]]
    assert [item[1:3] for item in new.items[1:3]] == [[1, 1.2], [1.6, 1.6]]


def test_a_broadcast_is_due_to_everybody_who_listens():
    known = {**TWO, "*": published(9)["t00"]}
    got = listener(*FRESH, runs(t=(0, 8), o=(0, 8)))
    assert kinds(known, got) == ["deaf"]
    got.items.append(["runs", 8.1, 8.1, {"*": [0, 8]}, None])
    assert kinds(known, got) == []


def test_dropped_is_the_sum_of_all_topics():
    def slow(*dropped, between=()):
        told = [("refresh", 5 + n / 10, "overflow", count, at(7)) for n, count in enumerate(dropped)]
        return listener(*FRESH, runs(2.02, t=(0, 2), o=(0, 3)), *told, *between,
                        runs(t=(6, 8)), runs(o=(5, 8)), habit="slow")
    assert kinds(TWO, slow(4)) == []
    assert kinds(TWO, slow(1, 3)) == []
    for wrong in ((3,), (5,), (1, 2)):
        assert kinds(TWO, slow(*wrong)) == ["count"]
    assert kinds(TWO, slow(5, between=[("refresh", 5.5, "gap", None, at(0, OTHER))]),
                 windows=[BROKE]) == [], "who was not told a number says nothing"


def test_what_is_behind_a_refresh_is_due_in_each_topic():
    gap = ("refresh", 4.5, "gap", None, at(9))
    some = runs(2.02, t=(0, 2), o=(0, 3))
    assert kinds(TWO, listener(*FRESH, some, gap, runs(t=(5, 8), o=(5, 8))), windows=[BROKE]) == []
    assert kinds(TWO, listener(*FRESH, some, gap, runs(t=(5, 8), o=(6, 8))), windows=[BROKE]) == [
        "short"]
    seen = Seen(places={(MARKER, 10): ("o.00", 4)})
    assert kinds(TWO, listener(*FRESH, some, gap, runs(t=(5, 8), o=(5, 8))), windows=[BROKE],
                 seen=seen) == ["short"]


def test_what_left_the_log_of_another_topic_counts_for_a_pattern():
    known = {**TWO, "t00": [], "o.00": TWO["o.00"][:3], "t09": TWO["t09"]}
    told = [("refresh", 7.2, "gap", None, at(2))]

    def back(*names):
        return listener(*FRESH, runs(1.02, at(2), o=(0, 1)), *resumed(1.5, at(2)), *told,
                        runs(7.2, o=(2, 2)), names=names)
    assert kinds(known, back("t00", "o.*"), ring_capacity=3) == []
    assert kinds(known, back(), ring_capacity=3) == []
    assert kinds(known, back("t00", "o.00"), ring_capacity=3) == ["needless"]
    assert kinds(known, back("t00", "o.*"), ring_capacity=9) == ["needless"]


def test_an_event_of_several_topics_of_which_the_outcome_is_unknown():
    known = {**TWO, "o.00": published(9, e4=UNKNOWN)["t00"]}
    with_it = listener(*FRESH, runs(t=(0, 8), o=(0, 8)))
    without = listener(*FRESH, runs(t=(0, 8), o=(0, 3)), runs(o=(5, 8)))
    assert kinds(known, with_it) == kinds(known, without) == []
    assert kinds(known, with_it, with_it, without) == ["short"]


@pytest.mark.parametrize("names, covered", [
    (["o.*"], ["o.00", "o.1"]), (["*"], ["o.00", "o.1", "t00"]), (["o.00", "o.*"], ["o.00", "o.1"]),
    (["o*0", "o."], [])])
def test_what_names_cover(names, covered):
    assert [name for name in ("o.00", "o.1", "t00", "*") if is_covered(name, names)] == covered
