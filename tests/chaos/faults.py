"""What goes wrong, and when: a schedule drawn from the seed. A round is one fault, or two that do
not touch the same thing, at nearly the same time; each heals by itself; then a while of quiet.

A fault is a generator: it strikes, yields the seconds that it wants to wait, and heals. So all of
them run in one thread, which is also the parent of what they restart (children die with it)."""

import contextlib
import dataclasses
import json
import os
import signal
import time

import psycopg2

from judge import Window
from keys import name_of, tenant_of
from world import CANARY_TIMEOUT, STREAMS, wait_well

STOP_SECONDS = 10
CLOSE_TO_TIMEOUT = 0.5 * CANARY_TIMEOUT  # a shorter silence cannot break LISTEN


@dataclasses.dataclass
class Fault:
    kind: str
    strike: object            # strike(world, fault): the generator
    targets: frozenset        # what it touches; "postgres" goes with nothing else of that name
    machines: str             # whose clients may notice
    effects: frozenset        # see judge.Window
    where: str = ""           # machine
    number: int = 0           # of a stream handler
    seconds: float = 0.0
    how: str = ""

    def describe(self):
        words = [self.kind, self.where, f"{self.seconds:.2f} s" if self.seconds else "", self.how,
                 str(self.number) if self.kind == "prune" else ""]
        return " ".join(word for word in words if word)


# --- programs -------------------------------------------------------------------------------------

def stop_program(one, problems):
    """An orderly stop: status 0, in time."""
    one.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while one.is_running() and time.monotonic() < deadline:
        yield 0.02
    if one.is_running():
        problems.append(f"{one.name} did not stop within {STOP_SECONDS} s")
        one.kill()


def end_program(one, how, problems):
    if how == "kill":
        one.kill()
    else:
        yield from stop_program(one, problems)


def strike_broker(world, fault):
    machine = world.machines[fault.where]
    yield from end_program(machine.broker, fault.how, world.problems)
    yield fault.seconds
    machine.spawn_broker()


def strike_stream(world, fault):
    machine = world.machines[fault.where]
    yield from end_program(machine.streams[fault.number], fault.how, world.problems)
    yield fault.seconds
    machine.restart_stream(fault.number)


def strike_publish(world, fault):
    machine = world.machines[fault.where]
    yield from end_program(machine.publisher, fault.how, world.problems)
    yield fault.seconds
    machine.start_publisher()


def strike_freeze(world, fault):
    """One of our programs does not run for a while."""
    machine = world.machines[fault.where]
    one = machine.broker if fault.kind == "broker freeze" else machine.streams[fault.number]
    world.freeze([one.pid])
    yield fault.seconds
    world.thaw([one.pid])


# --- Postgres -------------------------------------------------------------------------------------

def strike_postgres_stop(world, fault):
    world.database.close()
    server = world.cluster.server
    server.stop(signal.SIGINT if fault.how == "fast" else signal.SIGQUIT, 20)
    yield fault.seconds
    world.cluster.start()


def strike_postgres_crash(world, fault):
    """One of its processes dies, and the server throws everybody out and recovers."""
    victims = world.backends(fault.where, "LISTEN")
    if victims:
        os.kill(victims[0], signal.SIGKILL)
    yield 0.2


def strike_postgres_freeze(world, fault):
    pids = world.cluster.pids()
    world.freeze(pids)
    yield fault.seconds
    world.thaw(pids)


def strike_terminate(world, fault):
    for pid in world.backends(fault.where, fault.how):
        world.execute("SELECT pg_terminate_backend(%s)", (pid,))
    yield 0.1


def strike_listen_freeze(world, fault):
    pids = world.backends(fault.where, "LISTEN")
    world.freeze(pids)
    yield fault.seconds
    world.thaw(pids)


# --- the table ------------------------------------------------------------------------------------

def strike_lock(world, fault):
    """Nobody reads or writes the table for a while."""
    with contextlib.suppress(psycopg2.Error):
        connection = world.database.connect()
        try:
            connection.autocommit = False
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '1s'")
                cursor.execute(f"LOCK TABLE pgsse.{fault.how} IN ACCESS EXCLUSIVE MODE")
                yield fault.seconds
        finally:
            connection.close()


def strike_prune(world, fault):
    """All but the newest of each topic, or by age, which needs an earlier prune to have seen
    them."""
    how = {"keep": "keep => %s", "batches": "keep => %s, most => 300", "age": "age => '%s s'"}
    statement = f"SELECT pgsse.prune({how[fault.how]})" % fault.number
    for _ in range(20 if fault.how == "batches" else 2):
        removed = world.execute(statement)
        world.prunes += 1
        world.pruned += removed[0][0] if removed else 0
        yield 0.05


def strike_unsubscribe(world, fault):
    """No fault: somebody loses a channel, over HTTP or in SQL. It takes as long as it takes."""
    if not world.volatile:
        return
    user, channel = world.volatile.pop()
    begun = time.monotonic()
    if fault.how == "SQL" or not world.unsubscribe(fault.where, user, channel):
        while not world.execute("SELECT pgsse.unsubscribe(%s, %s, %s)",
                                (user, name_of(channel), tenant_of(channel))):
            yield 0.05
    world.unsubscribed[user, channel] = (begun, time.monotonic())


# --- forgeries ------------------------------------------------------------------------------------

NONSENSE = [
    "", "{", "null", "\x7f\x01", "x" * 7900, '{"topic":"t01"}', '{"topic":"t01","data"}',
    '{"topic":"t01","event":"refresh\\n","data":1}', '{"topic":"","data":"t01 0 0 0 "}',
    '{"marker":1}', '{"marker":"abcdefghijklm","set":"0123456789abcdef","pid":1}',
]


def strike_forge(world, fault):
    """Notifications that are none of ours, and markers that nobody sent."""
    channels = ["pgsse_marker", *(f"topic_broadcast_{shard}" for shard in range(8))]
    for turn in range(4):
        for at, payload in enumerate(NONSENSE):
            world.execute("SELECT pg_notify(%s, %s)", (channels[(at + turn) % 9], payload))
        yield 0.02


def strike_repeat(world, fault):
    """A marker that was heard is sent again: verbatim, or with the forger's own pid, which makes
    another name of it. Neither is of any effect."""
    with contextlib.suppress(psycopg2.Error):
        connection = world.database.connect()
        try:
            yield from _repeat(connection, fault)
        finally:
            connection.close()


def _repeat(connection, fault):
    with connection.cursor() as cursor:
        cursor.execute("LISTEN pgsse_marker")
        deadline = time.monotonic() + 2
        while not connection.notifies and time.monotonic() < deadline:
            yield 0.02
            connection.poll()
        cursor.execute("UNLISTEN *")
        for notify in connection.notifies[-1:]:
            with contextlib.suppress(ValueError, KeyError):
                marker = json.loads(notify.payload)
                if fault.how == "forged":
                    marker["pid"] = connection.info.backend_pid
                cursor.execute("SELECT pg_notify('pgsse_marker', %s)", (json.dumps(marker),))


# --- drawing --------------------------------------------------------------------------------------

def _draw_program(rng, part, how=""):
    where = rng.choice("AB")
    number = rng.randrange(STREAMS)
    how = how or rng.choice(["kill", "kill", "stop"])
    strike, effects = {"broker": (strike_broker, {"broker", "stall"}),
                       "stream": (strike_stream, {"handler", "stall"}),
                       "publish": (strike_publish, set())}[part]
    target = f"{part} {where} {number}" if part == "stream" else f"{part} {where}"
    return Fault(f"{part} {how}", strike, frozenset([target]), where, frozenset(effects), where,
                 number, rng.choice([0, rng.uniform(0, 1)]), how)


def _draw_freeze(rng, part, seconds=0.0):
    """LISTEN goes on meanwhile, and what it brings waits in the socket: that is no break."""
    where = rng.choice("AB")
    number = rng.randrange(STREAMS)
    seconds = seconds or rng.choice([0.05, rng.uniform(0.05, 0.6), rng.uniform(0.5, 2)])
    target = f"{part} {where} {number}" if part == "stream" else f"{part} {where}"
    return Fault(f"{part} freeze", strike_freeze, frozenset([target]), where, frozenset({"stall"}),
                 where, number, seconds)


def _draw_postgres(rng, kind):
    """What all of them notice."""
    strike, seconds = {
        "postgres stop": (strike_postgres_stop, rng.uniform(0, 1.5)),
        "postgres crash": (strike_postgres_crash, 0),
        "postgres freeze": (strike_postgres_freeze, rng.choice([rng.uniform(0.1, 0.6),
                                                                rng.uniform(0.6, 3)])),
    }[kind]
    is_short = kind == "postgres freeze" and seconds < CLOSE_TO_TIMEOUT
    return Fault(kind, strike, frozenset(["postgres"]), "AB",
                 frozenset({"stall"} if is_short else {"break", "stall"}), rng.choice("AB"), 0,
                 seconds, rng.choice(["fast", "immediate"]) if kind == "postgres stop" else "")


def _draw_connection(rng, kind, how="", seconds=0.0):
    where = rng.choice("AB")
    if kind == "terminate":
        how = how or rng.choice(["LISTEN", "LISTEN", "others", "table"])
        effects = {"LISTEN": {"break", "stall"}, "others": {"table"}, "table": {"table"}}
        return Fault(kind, strike_terminate, frozenset(["postgres"]), where,
                     frozenset(effects[how]), where, how=how)
    seconds = seconds or rng.choice([rng.uniform(0.05, 0.8), rng.uniform(1.5, 3.5)])
    return Fault(kind, strike_listen_freeze, frozenset(["postgres"]), where,
                 frozenset({"break", "stall"} if seconds > CLOSE_TO_TIMEOUT else {"stall"}), where,
                 seconds=seconds)


def _draw_table(rng, kind, how="", number=None):
    if kind == "unsubscribe":
        return Fault(kind, strike_unsubscribe, frozenset(["unsubscribe"]), "AB", frozenset(),
                     rng.choice("AB"), how=how or rng.choice(["SQL", "HTTP"]))
    if kind == "prune":
        how = how or rng.choice(["keep", "keep", "batches", "age"])
        number = rng.choice([0, 1, 5, 40, 200]) if number is None else number
        return Fault(kind, strike_prune, frozenset(["prune", "postgres"]), "AB", frozenset(),
                     number=number, how=how)
    return Fault(kind, strike_lock, frozenset(["lock", "postgres"]), "AB", frozenset({"table"}),
                 seconds=rng.choice([rng.uniform(0.1, 1), rng.uniform(2.1, 4)]),
                 how=how or rng.choice(["events", "events", "floors", "publishing"]))


def _draw_forgery(rng, kind, how=""):
    if kind == "forge":
        return Fault(kind, strike_forge, frozenset(["forge", "postgres"]), "AB", frozenset())
    return Fault(kind, strike_repeat, frozenset(["forge", "postgres"]), "AB", frozenset(),
                 how=how or rng.choice(["verbatim", "forged"]))


KINDS = [  # how often, how it is drawn, of what
    (10, _draw_program, "broker"), (9, _draw_program, "stream"), (3, _draw_program, "publish"),
    (9, _draw_freeze, "broker"), (5, _draw_freeze, "stream"),
    (4, _draw_postgres, "postgres stop"), (2, _draw_postgres, "postgres crash"),
    (4, _draw_postgres, "postgres freeze"),
    (8, _draw_connection, "terminate"), (6, _draw_connection, "listen freeze"),
    (4, _draw_forgery, "forge"), (4, _draw_forgery, "repeat"),
    (10, _draw_table, "prune"), (5, _draw_table, "lock"), (5, _draw_table, "unsubscribe"),
]


NEEDED = [  # each comes early in every run, however short: how it is drawn, of what, with what
    (_draw_program, "broker", "kill"), (_draw_program, "broker", "stop"),
    (_draw_program, "stream", "kill"), (_draw_program, "stream", "stop"),
    (_draw_freeze, "stream", 4.0), (_draw_freeze, "stream", 1.7), (_draw_freeze, "broker", 1.5),
    (_draw_connection, "terminate", "LISTEN"), (_draw_connection, "listen freeze", "", 0.5),
    (_draw_postgres, "postgres stop"), (_draw_forgery, "repeat", "forged"),
    (_draw_connection, "terminate", "table"), (_draw_table, "lock", "events"),
    (_draw_table, "prune", "keep", 0), (_draw_table, "prune", "batches", 5),
    (_draw_table, "prune", "keep", 40), (_draw_table, "unsubscribe", "SQL"),
    (_draw_table, "unsubscribe", "HTTP"),
]


def draw_fault(rng):
    _, draw, kind = rng.choices(KINDS, [weight for weight, _, _ in KINDS])[0]
    return draw(rng, kind)


def schedule(rng):
    """For ever: (seconds of quiet before, [(seconds into the round, fault)])."""
    needed = rng.sample(NEEDED, len(NEEDED))
    while True:
        quiet = rng.uniform(2, 4) if rng.random() < 0.25 else rng.uniform(0.2, 1.2)
        if needed:
            draw, *what = needed.pop()
            faults = [(0.0, draw(rng, *what))]
        else:
            faults = [(0.0, draw_fault(rng))]
        if rng.random() < 0.35:
            second = draw_fault(rng)
            if not second.targets & faults[0][1].targets:
                faults.append((rng.uniform(0, 0.8), second))
        yield quiet, faults


# --- running --------------------------------------------------------------------------------------

class Round:
    """The faults of one round, side by side, until both machines are well again."""

    def __init__(self, world, faults):
        self.world = world
        self.windows = []
        now = time.monotonic()
        self._running = [[now + delay, self._run(fault)] for delay, fault in faults]

    def _run(self, fault):
        start = time.monotonic()
        yield from fault.strike(self.world, fault)
        ill = yield from wait_well(self.world, fault.machines)
        if ill:
            self.world.problems.append(f"{', '.join(ill)} did not recover after {fault.describe()}")
        self.windows.append(Window(fault.kind, start, time.monotonic(), frozenset(fault.machines),
                                   fault.effects, fault.describe()))

    def turn(self):
        """Does what is due; returns the seconds until something is, or None at the end."""
        for entry in list(self._running):
            if entry[0] <= time.monotonic():
                try:
                    entry[0] = time.monotonic() + next(entry[1])
                except StopIteration:
                    self._running.remove(entry)
        if not self._running:
            return None
        return max(0, min(when for when, _ in self._running) - time.monotonic())
