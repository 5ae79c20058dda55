"""Faults at random between Postgres and a few hundred clients of two machines, and a judge of what
the clients got. `make chaos` calls it. The same seed gives the same faults in the same order, the
same settings and habits; when exactly things meet is up to the machine.

    chaos.py [--seed N] [--seconds N] [--clients N] [--rate N]

Ends with 0 when every promise was kept."""

import argparse
import collections
import os
import pathlib
import random
import signal
import sys
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import crowd  # noqa: E402
import faults  # noqa: E402
import publishers  # noqa: E402
import report  # noqa: E402
from keys import BROADCAST, key_of, name_of, tenant_of  # noqa: E402
from rows import Table  # noqa: E402
from judge import Judge, Seen, Settings, Violation, Window  # noqa: E402
from world import World, draw_settings  # noqa: E402

TOPICS = [f"t{number:02}" for number in range(20)]   # which the topics API can name
GROUP = [f"o.{number:02}" for number in range(6)]     # which it cannot,
QUICK = [f"p.{number:02}" for number in range(3)]     # and without durable events
DURABLE = [f"d{number:02}" for number in range(6)]    # with nothing but durable events
SHARED = ["t01", "t02", "t05", "t06", "t10", "t14", "t18", "o.01", "o.04"]  # with both kinds
HEAVY = ["t00", "t05", "d05", "o.03", "p.00"]  # large events; slow clients follow these
GROUPS = ["o.", "p.", "t1"]            # what patterns begin with
OVERFLOWS = ["p.*", "t00"]             # what slow listeners ask for: nothing durable is in its way
OTHER = "b"               # a second tenant, with some topics of the same names
OF_OTHER = {"t00", "t01", "t05", "o.01", "o.03", "p.00", "p.01", "d00", "d05", BROADCAST}
USERS = 12                # of the durable API
CROWDS = 2                # processes of clients
SETTLE_SECONDS = 20
LOGGED = [                # who says what, and what it stands for
    ("pgsse-broker", "the LISTEN connection is down", "LISTEN lost"),
    ("pgsse-broker", "closed: too slow", "handlers too slow"),
    ("pgsse-stream", "connected to the broker", "handlers resumed"),  # or connected at first
    ("pgsse-stream", "a client is too slow", "slow clients ended"),
]
CLOSING_SECONDS = 150     # the watchdog's patience beside the run itself


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10 ** 6))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=240)
    parser.add_argument("--rate", type=float, default=1000, help="events a second")
    parser.add_argument("--durable-rate", type=float, default=300, help="durable ones a second")
    parser.add_argument("--connections", type=float, default=0.3,
                        help="how many of the clients come through the durable API, of 1")
    parser.add_argument("--listeners", type=float, default=0.15,
                        help="how many of them through the events API, of 1")
    parser.add_argument("--tenants", type=int, choices=(1, 2), default=2,
                        help="2: a sixth of the clients is of a second one")
    parser.add_argument("--only", default="", help="faults whose description contains this")
    return parser.parse_args()


class Chaos:
    def __init__(self, arguments):
        self.arguments = arguments
        self.seed = arguments.seed
        self.rng = random.Random(f"{self.seed} faults")
        self.began = time.monotonic()
        self.windows = []
        self.children = []
        self.crowds = []
        self.publishers = None
        self.table = None          # what stood in it, at the end
        self.coverage = collections.Counter()
        settings = draw_settings(random.Random(f"{self.seed} settings"))
        self.tenants = ["", OTHER][:arguments.tenants]
        self.world = World(settings, self.tenants)

    def keys(self, *lists):
        """The topics of these lists, of all tenants."""
        return [key_of(tenant, name) for tenant in self.tenants for names in lists for name in names
                if not tenant or name in OF_OTHER]

    # --- the run ----------------------------------------------------------------------------------

    def run(self):
        self._start()
        self._shake()
        self._calm()
        return self._collect()

    def _start(self):
        start = time.monotonic()
        self.world.start()
        self.windows.append(Window("start", start, time.monotonic(), frozenset("AB"),
                                   frozenset(["broker", "handler"])))
        print(f"chaos: {self.world.settings}", flush=True)
        self.world.database.execute(publishers.TABLE)
        plan = self._plan()
        for number in range(CROWDS):
            self.crowds.append(crowd.start(f"clients {number}", self.world.ports,
                                             plan[number::CROWDS], self.seed))
        self.publishers = publishers.start(self.world.database.url, self.world.ports,
                                           self.keys(TOPICS, GROUP, QUICK, [BROADCAST]), self.keys(HEAVY),
                                           self.arguments.rate, self.keys(SHARED, DURABLE),
                                           self.arguments.durable_rate, self.seed)
        self.children = [*self.crowds, self.publishers]
        time.sleep(2)

    def _plan(self):
        rng = random.Random(f"{self.seed} clients")
        plan = []
        for tenant in self.tenants:
            share = 1 if len(self.tenants) == 1 else 1 / 6 if tenant else 5 / 6
            plan += self._plan_tenant(rng, tenant, len(plan), round(self.arguments.clients * share))
        rng.shuffle(plan)  # each crowd has some of all
        return plan

    def _plan_tenant(self, rng, tenant, first, count):
        def keys(*lists):
            return [key for key in self.keys(*lists) if tenant_of(key) == tenant]
        connections = round(count * self.arguments.connections)
        listeners = round(count * self.arguments.listeners)
        plan = crowd.plan(rng, first, count - connections - listeners, keys(TOPICS, DURABLE),
                            [key for key in keys(HEAVY) if name_of(key).isalnum()])
        plan += crowd.plan_listeners(rng, first + len(plan), listeners,
                                       keys(TOPICS, GROUP, QUICK, DURABLE), GROUPS, OVERFLOWS)
        users = crowd.plan_users(rng, USERS, keys(SHARED, DURABLE))
        self.world.subscribe(users, rng)
        return plan + crowd.plan_connections(rng, first + len(plan), connections, users, keys(HEAVY))

    def _shake(self):
        end = time.monotonic() + self.arguments.seconds
        for quiet, planned in faults.schedule(self.rng):
            planned = [(delay, fault) for delay, fault in planned
                       if self.arguments.only in fault.describe()]
            if not planned:
                continue
            time.sleep(max(0, min(quiet, end - time.monotonic())))
            dead = self.world.dead()
            self.world.problems += dead
            if time.monotonic() >= end or dead:
                return
            print(f"{time.monotonic() - self.began:7.2f} "
                  + "; ".join(fault.describe() for _, fault in planned), flush=True)
            now = faults.Round(self.world, planned)
            while (wait := now.turn()) is not None:
                time.sleep(wait)
            self.windows += now.windows

    def _calm(self):
        """Nothing goes wrong any more: everybody stays, and gets the last event."""
        time.sleep(2)
        for one in self.crowds:
            one.tell("settle")
        for one in self.crowds:
            if one.hear(SETTLE_SECONDS) is None:
                self.world.problems.append(f"{one.name}: not everybody has a stream after "
                                           f"{SETTLE_SECONDS} s without faults")

    def _collect(self):
        self.publishers.tell("stop")
        self.published = self.publishers.result(90)
        self.table = Table(self.world.rows(), self.published["notes"])
        goal = {topic: (max((event.seq for event in events if event.outcome == "committed"),
                            default=-1), self.table.last_id(topic))
                for topic, events in self.published["published"].items()}
        for one in self.crowds:
            one.tell("goal", goal)
        deadline = time.monotonic() + SETTLE_SECONDS
        for one in self.crowds:
            one.hear(deadline - time.monotonic())  # who got none is found by the judge
            one.tell("end")
        return [one.result(60) for one in self.crowds]

    def count_coverage(self, results, judge):
        """What a run is there for, as far as its records and the programs' logs say."""
        machines = self.world.machines.values()
        self.coverage.update(judge.coverage)
        for what in ("replays over 64 KiB", "cut in a replay", "evictions under a replay"):
            self.coverage[what] = sum(result["counts"].pop(what, 0) for result in results)
        for name, text, what in LOGGED:
            self.coverage[what] = sum(machine.logged(name, text) for machine in machines)
        self.coverage["handlers resumed"] -= sum(
            one.name == "pgsse-stream" for machine in machines for one in machine.programs)

    # --- the end ----------------------------------------------------------------------------------

    def close(self):
        for child in self.children:
            child.end()
        return self.world.close()

    def judge(self, results):
        settings = self.world.settings
        seen = Seen()
        conflicts = []
        for result in results:
            for place, event in result["places"].items():
                known = seen.places.setdefault(place, event)
                if known != event:
                    conflicts.append(Violation("bad", 0, f"{place} is {event} and {known}"))
            for number, event in result["durable"].items():
                known = seen.durable.setdefault(number, event)
                if known != event:
                    conflicts.append(Violation("bad", 0, f"id {number} is {event} and {known}"))
            for marker, first in result["markers"].items():
                seen.markers[marker] = min(first, seen.markers.get(marker, first))
        judge = Judge(self.published["published"],
                      [record for result in results for record in result["records"]],
                      self.windows,
                      Settings(settings["client_queue_bytes"],
                               settings.get("history_bytes", 0), settings.get("ring_capacity", 0),
                               settings.get("slow_client", "disconnect")), seen, self.table,
                      self.world.unsubscribed)
        judge.violations += conflicts
        judge.judge()
        return judge


def on_alarm(_number, frame):
    signal.signal(signal.SIGALRM, lambda *_: os._exit(3))  # all children die with this process
    signal.alarm(60)
    raise TimeoutError("the watchdog has barked at\n" + "".join(traceback.format_stack(frame)))


def on_terminate(_number, _frame):
    raise KeyboardInterrupt


def main():
    arguments = parse_arguments()
    print(f"chaos: seed {arguments.seed}", flush=True)
    signal.signal(signal.SIGALRM, on_alarm)
    signal.signal(signal.SIGTERM, on_terminate)
    signal.alarm(int(arguments.seconds) + CLOSING_SECONDS)
    chaos = Chaos(arguments)
    keeps_logs = True
    try:
        results = chaos.run()
        complaints = chaos.world.problems + chaos.close()
        judge = chaos.judge(results)
        chaos.count_coverage(results, judge)
        report.tell_counts(chaos, results, judge)
        kinds = report.tell_violations(chaos, judge.violations)
        for text in complaints:
            print(f"\nprocess: {text}")
        kinds["process"] += len(complaints)
        count = sum(kinds.values())
        keeps_logs = count > 0
        if keeps_logs:
            report.keep(chaos, results, judge)
        print(f"\nviolations: {count}, {report.listed(kinds)}")
    finally:
        signal.alarm(60)
        for child in chaos.children:
            child.end()
        chaos.world.close()
        chaos.world.remove(keeps_logs)
        if keeps_logs:
            print("logs: " + " ".join(str(machine.directory)
                                      for machine in chaos.world.machines.values()))
        print(f"chaos: seed {arguments.seed}", flush=True)
    return 1 if keeps_logs else 0


if __name__ == "__main__":
    sys.exit(main())
