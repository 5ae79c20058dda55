"""The programs may start in any order; each waits for the others, and keeps its clients."""

import pytest

from waiting import wait_for

def start(step, deployment, cluster):
    if step == "postgres":
        cluster.start()
    elif step == "broker":
        deployment.spawn_broker()
    elif step == "stream":
        deployment.start_stream()
    else:
        deployment.start_publisher()


@pytest.mark.parametrize("order", [
    ("postgres", "broker", "stream", "publish"),
    ("publish", "stream", "broker", "postgres"),
    ("stream", "publish", "postgres", "broker"),
    ("broker", "publish", "stream", "postgres"),
    ("broker", "postgres", "publish", "stream"),
], ids="-".join)
def test_any_order(deploy, fragile_cluster, fragile_database, order):
    deployment = deploy(fragile_database.url)
    fragile_database.close()
    fragile_cluster.stop()
    stream = None
    try:
        for step in order:
            start(step, deployment, fragile_cluster)
            if step == "stream":
                deployment.start_lighttpd()
                stream = deployment.stream(greeted=False)  # it comes early, and stays
    finally:
        if not fragile_cluster.server.is_running():
            fragile_cluster.start()
    deployment.wait_ready()
    block = stream.next_block()
    while "listening alpha" not in block.comments:
        assert block.comments == ["waiting"]
        block = stream.next_block()
    wait_for(lambda: deployment.post("alpha", '{"data":"arrived"}').status == 200, "published")
    event = stream.next_event()
    if event.event == "refresh":
        event = stream.next_event()
    assert event.json() == "arrived"
    deployment.wait_totals(subscribers=1)


def test_two_brokers_and_two_deployments_on_one_database(deploy, database):
    """As on two machines: publish at one, read at both; a position means the same at each."""
    one, two = deploy(database.url).start(), deploy(database.url).start()
    streams = [one.stream(), two.stream()]
    one.publish("alpha", 1)
    two.publish("alpha", 2)
    for stream in streams:
        assert [stream.next_data(), stream.next_data()] == [1, 2]


def test_handlers_of_two_kinds_restart(deploy, database):
    """A handler that is killed loses its streams and nothing else."""
    deployment = deploy(database.url).start(handlers=2)
    streams = [deployment.stream() for _ in range(6)]
    wait_for(lambda: deployment.totals()["subscribers"] == 6, "all are there")
    deployment.streams[0].kill()
    survivors = []
    deployment.restart_stream(0)
    deployment.wait_served(2)
    deployment.publish("alpha", "after")
    for stream in streams:
        blocks = []
        try:
            blocks.append(stream.next_event(2))
        except AssertionError:
            assert stream.is_ended
            continue
        assert blocks[0].json() == "after"
        survivors.append(stream)
    assert 0 < len(survivors) < 6
    deployment.wait_totals(subscribers=len(survivors))
    deployment.publisher.kill()
    deployment.start_publisher()
    deployment.publish("alpha", "again")
    assert [stream.next_data() for stream in survivors] == ["again"] * len(survivors)
