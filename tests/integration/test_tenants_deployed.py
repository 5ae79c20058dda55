"""The tenants that the shipped configurations offer for a virtual host: with real lighttpd and real
Apache."""

import json

import pytest

import apache
import program
import test_auth
import web
from deployment import Deployment, ending

NAMES = {"acme.example.org": "acme", "ACME.Example.org": "acme", "acme.example.org:80": "acme",
         "globex.example.org": "globex", "localhost": "none", "127.0.0.1": "none", "acme.example.org.": "acme",
         "other.example.org": "none", "x.acme.example.org": "none", "acme.example.orgx": "none"}
OF_APACHE = {"acme.example.org": "acme", "localhost": "acme"}


def in_force(text, *_, **replaced):
    assert text.count("#tenant# ") > 0
    for old, new in replaced.values():
        text = text.replace(old, new)
    return text.replace("#tenant# ", "")


def start_lighttpd(deployment, monkeypatch):
    monkeypatch.setattr(test_auth, "with_rule", lambda text, **_: in_force(text))
    test_auth.start_lighttpd(deployment)
    return NAMES


def start_apache(deployment, _):
    conf = deployment.path("sample.conf")
    conf.write_text(in_force(apache.CONF.read_text()))
    conf.chmod(0o644)
    deployment.apache = apache.Apache(deployment, conf=conf, more_modules=["env"])
    return OF_APACHE


@pytest.fixture(name="hosts", params=[start_lighttpd, start_apache], ids=["lighttpd", "apache"])
def fixture_hosts(request, cluster, monkeypatch):
    database = cluster.create_database()
    with ending(Deployment(database.url, **apache.settings())) as deployment:
        deployment.start_broker()
        deployment.database = database
        deployment.names = request.param(deployment, monkeypatch)
        yield deployment
    cluster.give_back(database)


def test_each_host_has_its_tenant(hosts):
    assert program.ROOT  # the shipped files
    for name, tenant in hosts.names.items():
        headers = {"Host": name, "Pgsse-Tenant": "evil", "PGSSE_TENANT": "evil", "Tenant": "evil"}
        stream = hosts.keep(web.HttpStream(hosts.port, "/topics/alpha/events?tenant=evil", headers))
        assert stream.status == 200, (name, stream.status)
        stream.next_block()
        answer = hosts.request("POST", "/topics/alpha/events", json.dumps({"data": [1, name]}), headers)
        assert answer.status == 200, (name, answer)
        assert json.loads(stream.next_event().data) == [1, name]
        for other in ["evil", "", "acme", "globex", "none"]:
            if other != tenant:
                hosts.database.publish("alpha", "evil", tenant=other)
        hosts.database.publish("alpha", "own", tenant=tenant)
        assert json.loads(stream.next_event().data) == "own", name
        stream.close()
        listed = json.loads(hosts.request("GET", "/healthz", headers=headers).body)["topics"]
        assert {topic.get("tenant", "") for topic in listed} == {tenant}
