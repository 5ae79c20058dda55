"""Many NOTIFYs to as many topics that nobody reads: counted, kept as far as history_bytes go,
and forgotten."""

import program
from waiting import wait_for

TOPICS = 600_000
BATCH = 100_000
FIRST = 1_000_000  # names of one length: else memory grows once more where they become longer
KEPT = 20_000  # at least, of so small events in the smallest of histories here


def test_topics_without_end(deploy, database):
    deployment = deploy(database.url, history_bytes="16MiB")
    deployment.start(publisher=False)
    stream = deployment.stream("watched")
    number_of = "SELECT pg_notify('topic_broadcast_' || n %% 8," \
                f" '{{\"topic\":\"t' || {FIRST} + n || '\",\"data\":1}}')" \
                " FROM generate_series(%s, %s) n"
    memory, kept = [], []
    for first in range(1, TOPICS + 1, BATCH):
        last = min(first + BATCH - 1, TOPICS)
        database.execute(f"DO $$ BEGIN PERFORM count(*) FROM ({number_of % (first, last)}) all_of;"
                         " END $$".replace("%%", "%"))
        wait_for(lambda last=last: deployment.totals()["published"] == last,
                 lambda: f"published: {deployment.totals()['published']}", 30)
        totals = deployment.totals()
        kept.append(totals["topics"])
        memory.append(deployment.broker.memory_kib())
    assert totals["published"] == TOPICS and totals["bad_notifications"] == 0
    assert totals["broadcast"] == 0
    assert KEPT < min(kept) and max(kept) < 1.05 * min(kept), kept
    if not program.is_sanitized():
        assert max(memory) < 120 * 1024, memory
        assert memory[-1] < memory[1] + 8 * 1024, memory

    # The oldest were forgotten first.
    names = [topic["topic"] for topic in deployment.health("?limit=65536")["topics"]]
    # The list ends at 512 KiB: the youngest are there, in their order.
    assert names[0] == "watched" and 1000 < len(names) < kept[-1]
    last = FIRST + TOPICS
    assert names[1:] == [f"t{number}" for number in range(last, last - len(names) + 1, -1)]
    assert deployment.health("?limit=2")["topics"][1]["topic"] == f"t{last}"

    database.publish("watched", "still here")
    assert stream.next_data() == "still here"
