"""What all clients live through at once: a cut before the first event, live events, the end.

Every client opens STREAMS. Each is judged alone: what one does not get, no other waits for long."""

import shutil
import signal
import time

import durable_api
from clients import PAGES
from deployment import Deployment
from reports import Reports
from schema import install
from waiting import wait_for

STREAMS = {
    "cut": "/topics/cut/events",
    "beat": "/topics/beat/events?heartbeat=event",
    "lost": "/topics/lost/events?last_event_id=garbage",
    "user": "/api/events/stream?userId=1&channels=user",
    "asked": "/api/events/stream?userId=1&channels=asked&position=1",
    "many": "/events?topics=many,group.*,g*&with_topic=1",  # a browser's sixth connection, and last
}
DURABLE = ("user", "asked")
TOPICS = {"many": ("many", "group.1", "*", "group.2", "größe")}  # of its events; * is everybody

# A user stream is given its position after 2 s of silence; the first heartbeat comes after that.
SETTINGS = {"keep_alive": "2500ms", "retry": "1500"}
SILENCE_SECONDS = 3

MEANWHILE = [f'{{"n":{n},"text":"größe"}}' for n in (1, 2, 3)]
LIVE = {
    "cut": [('{"n":4}', "tick"), ('"' + "x" * 900_000 + '"', "message"), ('{"n":5}', "message")],
    "many": [('{"n":4}', "tick"), ('{"n":5}', "message")],
}

START_SECONDS = 40
STEP_SECONDS = 15


def topic_of(stream, number):
    """Of its next event, the first being 0."""
    return TOPICS[stream][number] if stream in TOPICS else stream


def wanted(stream):
    """[(type, data)] of what it has to be handed after the cut, until the server stops."""
    sent = [(text, "message") for text in MEANWHILE] + LIVE.get(stream, [])
    return [(type, f'{{"topic":"{topic_of(stream, number)}","data":{text}}}' if stream in TOPICS
             else text) for number, (text, type) in enumerate(sent)]


class Scenario:
    def __init__(self, database, clients):
        self.database = database
        self.clients = {client.name: client for client in clients}
        self.faults = {}  # {client's name: why nothing waits for it any more}
        self.reports = Reports()
        self.deployment = Deployment(database.url, **SETTINGS)

    def run(self):
        self._start()
        self._wait("open", 1, START_SECONDS)
        time.sleep(SILENCE_SECONDS)
        self._cut()
        self._wait("open", 2)
        self._publish_live()
        self._stop_handlers()

    def _start(self):
        install(self.database)
        self.deployment.start(handlers=2)
        shutil.copytree(PAGES, self.deployment.path("pages"))
        for channel in DURABLE:
            body = {"userId": 1, "channel": channel}
            assert durable_api.change(self.deployment, "subscribe", body).status == 201
        base = f"http://127.0.0.1:{self.deployment.port}"
        for name, client in self.clients.items():
            try:
                client.start(base, STREAMS, self.reports)
            except Exception as fault:  # pylint: disable=broad-except
                self.faults[name] = repr(fault)  # it fails the tests of this client alone

    def _wait(self, type, count, seconds=STEP_SECONDS, streams=tuple(STREAMS)):
        """Until everybody was handed so many of that type on each of these streams. For a client
        that was not, nothing waits any more."""
        def late():
            return {name for name in self.clients if name not in self.faults for stream in streams
                    if self.reports.count(name, stream, type) < count}
        try:
            wait_for(lambda: not late(), "", seconds)
        except AssertionError:
            for name in late():
                self.faults[name] = f"no {type} within {seconds} s"

    def _cut(self):
        """No handler lives while the events are published; the clients come back to new ones."""
        for handler in self.deployment.streams:
            handler.kill()
        self._publish([("publish" if stream in DURABLE else "notify", topic_of(stream, number), text,
                        "message") for stream in STREAMS for number, text in enumerate(MEANWHILE)])
        for number in range(len(self.deployment.streams)):
            self.deployment.restart_stream(number)

    def _publish(self, events):
        """[(function, topic, text, type)], in one commit: the clients come back soon."""
        self.database.execute("; ".join(f"SELECT pgsse.{function}(%s, %s::json, %s)"
                                        for function, *_ in events),
                              [value for _, *event in events for value in event])

    def _publish_live(self):
        """Durable events, which are of any size and keep their order among themselves; those of many
        topics are not, and keep it, too."""
        self._publish([("publish" if stream == "cut" else "notify", topic_of(stream, number), *event)
                       for stream, live in LIVE.items()
                       for number, event in enumerate(live, len(MEANWHILE))])
        for stream in LIVE:
            count = sum(type == "message" for type, _ in wanted(stream))
            self._wait("message", count, streams=(stream,))

    def _stop_handlers(self):
        for handler in self.deployment.streams:
            handler.send_signal(signal.SIGTERM)
        self._wait("close", 1)

    def records_of(self, name):
        """A function of the stream's name."""
        def records(stream):
            seen = self.reports.of(name, stream)
            assert seen, f"{name}: {self.faults.get(name)}\n{self.clients[name].log()}"
            return seen
        return records

    def close(self):
        """Returns what is to complain about."""
        for client in self.clients.values():
            client.close()
        complaints = self.deployment.close()
        print(self.deployment.logs())
        self.deployment.remove()
        self.reports.close()
        return complaints


def live_through(cluster, clients):
    """A fixture's life: the scenario has been run when a test gets it."""
    database = cluster.create_database()
    scenario = Scenario(database, clients)
    try:
        scenario.run()
        yield scenario
    finally:
        complaints = scenario.close()
        cluster.give_back(database)
    assert not complaints, complaints


def positions(records):
    return [record for record in records if record.type == "position"]


def until_cut(records):
    """What was handed over before the stream was opened again."""
    opened = [number for number, record in enumerate(records) if record.type == "open"]
    return records[:opened[1]] if len(opened) > 1 else records


def after_cut(records):
    return records[len(until_cut(records)):]


def events(records):
    """What an application acts upon."""
    return [(record.type, record.data) for record in records if record.type not in ("open", "position")]
