"""Fixtures: a Postgres cluster for the whole run, and for each test a database and a deployment of
its own. What a deployment has to complain about at its end fails the test."""

import pytest

from cluster import Cluster
from deployment import Deployment, ending


@pytest.fixture(scope="session")
def cluster():
    """For tests that leave it running."""
    new = Cluster()
    yield new
    new.destroy()


@pytest.fixture(scope="session")
def _fragile_cluster():
    new = Cluster()
    yield new
    new.destroy()


@pytest.fixture
def fragile_cluster(_fragile_cluster):
    """Another one, to be stopped, frozen and killed; runs at the start of each test."""
    if not _fragile_cluster.server.is_running():
        _fragile_cluster.start()
    yield _fragile_cluster
    if _fragile_cluster.server.is_running():
        _fragile_cluster.resume()


@pytest.fixture
def database(cluster):
    """Fresh, of the cluster that nobody stops."""
    new = cluster.create_database()
    yield new
    cluster.give_back(new)


@pytest.fixture
def fragile_database(fragile_cluster):
    new = fragile_cluster.create_database()
    yield new
    fragile_cluster.give_back(new)


@pytest.fixture(scope="module")
def shared(cluster):
    """One whole deployment for the tables of a module, whose cases leave nothing behind. It has its
    database in .database."""
    database = cluster.create_database()
    with ending(Deployment(database.url)) as deployment:
        deployment.database = database
        deployment.start()
        yield deployment
    cluster.give_back(database)


@pytest.fixture
def deploy(request):
    """deploy(database_url, **settings): a Deployment with nothing started yet."""
    # In whatever order a test names them: its programs end before their schema is dropped, or that
    # and their statements deadlock.
    for name in {"durable", "fragile"} & set(request.fixturenames):
        request.getfixturevalue(name)
    deployments = []

    def new(database_url, **settings):
        deployments.append(Deployment(database_url, **settings))
        return deployments[-1]

    yield new
    complaints = []
    for deployment in deployments:
        complaints += deployment.close()
        print(deployment.logs())  # pytest shows it when something failed
        deployment.remove()
    assert not complaints, complaints


@pytest.fixture
def running(deploy, database):
    """Everything, with one stream handler, on a fresh database."""
    return deploy(database.url).start()
