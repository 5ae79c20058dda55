"""What is shaken: one Postgres, and two machines on it, each with a broker, two stream handlers, a
publish handler, a lighttpd and a directory of its own."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import time

import psycopg2

import program
import schema
import web
from cluster import Cluster
from keys import name_of, tenant_of
from rows import Row
from deployment import Deployment
from program import Program

STREAMS = 2      # handlers on each machine
CANARY_TIMEOUT = 2.0  # a busy machine may stand still for half of it, and nothing is lost

# Small, so that every rule is met within a minute. What a build does not know yet is left out.
SETTINGS = {
    "canary_interval": "500ms", "canary_timeout": f"{CANARY_TIMEOUT:.0f}s",
    "reconnect_min": "50ms", "reconnect_max": "500ms", "keep_alive": "500ms", "retry": "200ms",
    "client_queue_bytes": 64 << 10, "publish_timeout": "1s", "graceful_drain": "2s",
    "stall_timeout": "20s", "table_poll": "1s",
}

# What is committed to the table, and pruned, as it happens: the judge's truth.
WITNESS = """
CREATE TABLE chaos_durable
    (id bigint, topic text, number bigint, size integer, removed timestamptz);
CREATE INDEX ON chaos_durable (id);
CREATE FUNCTION chaos_committed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.chaos_durable
    SELECT id, CASE tenant WHEN '' THEN topic ELSE tenant || '/' || topic END, split_part(data #>> '{}', ' ', 2)::bigint, bytes FROM rows;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_committed AFTER INSERT ON pgsse.events REFERENCING NEW TABLE AS rows
    EXECUTE FUNCTION chaos_committed();
CREATE FUNCTION chaos_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public.chaos_durable d SET removed = clock_timestamp() FROM rows r WHERE d.id = r.id;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_removed AFTER DELETE ON pgsse.events REFERENCING OLD TABLE AS rows
    EXECUTE FUNCTION chaos_removed();
"""
ROWS = "SELECT id, topic, number, size, extract(epoch FROM removed)::float8 FROM chaos_durable"


def draw_settings(rng):
    """What differs from seed to seed: how much the log holds, some seconds in any case; how much
    may wait for a handler; and what becomes of who is slow."""
    history_bytes, ring_capacity = rng.choice([(2 << 20, 4096), (4 << 20, 4096), (4 << 20, 256),
                                               (64 << 20, 128), (64 << 20, 256), (64 << 20, 512)])
    return {**SETTINGS,
            "history_bytes": history_bytes, "ring_capacity": ring_capacity,
            "handler_queue_bytes": rng.choice([128 << 10, 512 << 10]),
            "slow_client": rng.choice(["refresh", "refresh", "refresh", "disconnect"])}


def known_settings(settings):
    """Those that this build's programs know."""
    known = set()
    for binary in (program.BROKER, program.STREAM, program.PUBLISH):
        _, text, _ = program.run([binary, "--help"])
        known.update(re.findall(r"^  ([a-z_]+) ", text, re.MULTILINE))
    return {key: value for key, value in settings.items() if key in known}


class Machine(Deployment):
    """Each further tenant has a lighttpd of its own, which says who it is."""

    def __init__(self, name, database_url, settings, tenants):
        super().__init__(f"{database_url} application_name=machine-{name}", **settings)
        self.name = name
        self.ports = {}  # {tenant: port}
        self.lighttpds = []
        self._tenants = tenants

    def start_lighttpd(self, handlers=1):
        super().start_lighttpd(handlers)
        self.ports[""] = self.port
        self.lighttpds.append(self.lighttpd)
        text = self.path("lighttpd.conf").read_text()
        for tenant in self._tenants:
            if tenant:
                self._start_lighttpd_of(tenant, text)

    def _start_lighttpd_of(self, tenant, text):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.ports[tenant] = port = probe.getsockname()[1]
        text = text.replace(f"server.port = {self.port}", f"server.port = {port}")
        text = text.replace('("mod_fastcgi")', '("mod_setenv", "mod_fastcgi")')
        text = text.replace("lighttpd-errors.log", f"lighttpd-{tenant}-errors.log")
        conf = self.path(f"lighttpd-{tenant}.conf")
        conf.write_text(f'{text}setenv.set-environment = ("PGSSE_TENANT" => "{tenant}")\n')
        new = self._started(Program("lighttpd", [program.tool("lighttpd"), "-D", "-f", conf],
                                    self.path(f"lighttpd-{tenant}.log")))
        new.expected = self.lighttpd.expected
        self.lighttpds.append(new)

    def logged(self, name, text):
        """How often programs of that name said this."""
        return sum(one.log().count(text) for one in self.programs if one.name == name)

    def is_well(self):
        """Everything runs, the broker hears Postgres and has heard a marker of its own."""
        if not self.broker.is_running() or any(not one.is_running() for one in self.streams):
            return False
        with contextlib.suppress(OSError, ValueError):
            status, health = self._ask_soon()
            return status == 200 and health["totals"]["canary_ms"] is not None
        return False

    def _ask_soon(self):
        """As ask_status_socket, but the broker may be frozen, and who asks has to thaw it."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(0.1)
            connection.connect(str(self.status_socket))
            connection.sendall(b"GET /healthz?limit=0 HTTP/1.0\r\n\r\n")
            text = b""
            while got := connection.recv(1 << 16):
                text += got
        head, _, body = text.partition(b"\r\n\r\n")
        return int(head.split()[1]) if head else 0, json.loads(body)

    def dead(self):
        """Programs that nobody ended, and that run no more."""
        return [one for one in self.programs
                if not one.is_running() and one.process.returncode not in one.expected
                or one in (self.broker, self.publisher, *self.lighttpds, *self.streams)
                and not one.is_running()]


class World:
    def __init__(self, settings, tenants):
        """tenants: "" is always one."""
        self.cluster = Cluster()
        self.database = self.cluster.create_database()
        self.settings = known_settings(settings)
        self.machines = {name: Machine(name, self.database.url, self.settings, tenants)
                         for name in "AB"}
        self.stopped = set()  # pids that a fault has frozen
        self.volatile = []    # (user, channel): subscriptions that are to end
        self.unsubscribed = {}  # (user, channel): (begun, done)
        self.prunes = 0       # statements
        self.pruned = 0       # events that they removed, as far as they said
        self.problems = []    # what programs did that they should not, as text

    def start(self):
        schema.install(self.database)
        self.database.execute(WITNESS)
        for machine in self.machines.values():
            machine.start(handlers=STREAMS)

    @property
    def ports(self):
        """{machine: {tenant: port}}"""
        return {name: machine.ports for name, machine in self.machines.items()}

    def dead(self):
        """What has died of itself, as text."""
        return [f"{one.name} of {machine.name} is gone: {one.process.returncode}; {one.log_path}"
                for machine in self.machines.values() for one in machine.dead()]

    def subscribe(self, users, rng):
        """users: {user: (channels, those that stay subscribed)}"""
        for user, (channels, stable) in users.items():
            for channel in channels:
                self.database.execute("SELECT pgsse.subscribe(%s, %s, %s)",
                                      (user, name_of(channel), tenant_of(channel)))
                if channel not in stable:
                    self.volatile.append((user, channel))
        rng.shuffle(self.volatile)

    def unsubscribe(self, machine, user, channel):
        """Over HTTP; False if that cannot be known to have been done."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = web.request(self.ports[machine][tenant_of(channel)], "POST",
                                 "/api/events/channels/unsubscribe",
                                 json.dumps({"userId": user, "channel": name_of(channel)}), seconds=5)
            return answer.status == 200
        return False

    def rows(self):
        """Every durable event that was ever committed."""
        self.execute("SELECT 1")  # here it shows if a fault has cut the connection
        clock = time.time() - time.monotonic()
        return [Row(number, topic, event, size, None if removed is None else removed - clock)
                for number, topic, event, size, removed in self.database.execute(ROWS)]

    # --- Postgres' side ---------------------------------------------------------------------------

    def backends(self, machine, what):
        """The pids of a machine's connections: "LISTEN", "table", "others" (all but LISTEN); []
        when nobody can be asked."""
        try:
            rows = self.database.execute(
                "SELECT pid, query FROM pg_stat_activity WHERE application_name = %s",
                (f"machine-{machine}",))
        except psycopg2.Error:
            return []
        listening = [pid for pid, query in rows if "LISTEN" in query.upper()]
        if what == "LISTEN":
            return listening
        return [pid for pid, query in rows if pid not in listening
                and (what == "others" or "pgsse." in query and "notify" not in query)]

    def execute(self, sql, arguments=None):
        """For faults: when it cannot be done, it is not."""
        with contextlib.suppress(psycopg2.Error):
            return self.database.execute(sql, arguments)
        return []

    # --- freezing ---------------------------------------------------------------------------------

    def freeze(self, pids):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                self.stopped.add(pid)

    def thaw(self, pids):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            self.stopped.discard(pid)

    # --- the end ----------------------------------------------------------------------------------

    def close(self):
        """Ends everything; returns what is to complain about."""
        self.thaw(list(self.stopped))
        complaints = []
        for machine in self.machines.values():
            complaints += [f"{machine.name}: {text}" for text in machine.close()]
        self.database.close()
        return complaints

    def remove(self, keep):
        """The cluster always ends; directories stay when their logs are wanted."""
        log = (self.cluster.directory / "log").read_text(errors="replace")
        for machine in self.machines.values():
            if keep:
                machine.path("postgres.log").write_text(log)
            else:
                machine.remove()
        self.cluster.destroy()


def wait_well(world, names, seconds=10):
    """A generator, see faults.py: until these machines are well. Returns who is not in time."""
    deadline = time.monotonic() + seconds
    while True:
        ill = [name for name in names if not world.machines[name].is_well()]
        if not ill or time.monotonic() > deadline:
            return ill
        yield 0.03
