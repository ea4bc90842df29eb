# SPDX-License-Identifier: Apache-2.0
"""What the tests of the driver share: URLs, transports, servers, and programs in processes of their own."""

import os
import subprocess
import sys
import uuid

import pytest

import oslo_messaging
from oslo_config import cfg

RABBIT = os.environ.get('OSLO_TEST_RABBIT_URL')
REQUIRED = os.environ.get('OSLO_TEST_REQUIRE_SERVICES') == '1'
PROGRAMS = os.path.join(os.path.dirname(__file__), 'programs')


def rabbit_url():
    """The broker the tests run on."""
    if RABBIT is None:
        if REQUIRED:
            pytest.fail('OSLO_TEST_RABBIT_URL names no broker')
        pytest.skip('OSLO_TEST_RABBIT_URL names no broker')
    return RABBIT


@pytest.fixture(params=['memory', 'rabbit'])
def url(request):
    """Both of the engine's drivers."""
    if request.param == 'memory':
        return f'rust+memory://{uuid.uuid4().hex}'
    return 'rust+' + rabbit_url()


@pytest.fixture
def rabbit():
    """The reference's URL of the broker."""
    return rabbit_url()


@pytest.fixture(scope='session')
def kafka():
    """The reference's URL of a cluster in this process: the client library's own mock, which listens on a real port."""
    import confluent_kafka
    mock = confluent_kafka.Producer({'test.mock.num.brokers': 2})
    brokers = mock.list_topics(timeout=20).brokers.values()
    hosts = ','.join(f'{broker.host}:{broker.port}' for broker in brokers)
    yield f'kafka://{hosts}/'
    # The cluster lives as long as its client.
    del mock


@pytest.fixture
def conf():
    """A configuration of its own, not the global one."""
    conf = cfg.ConfigOpts()
    conf(args=[])
    # The reference registers these two groups on the global configuration only.
    from oslo_messaging import _metrics  # noqa: F401
    from oslo_messaging import conffixture
    with conffixture.ConfFixture(conf):
        yield conf


@pytest.fixture
def topic():
    return 'test-' + uuid.uuid4().hex


class Echo:
    """An endpoint."""

    target = oslo_messaging.Target(version='1.5')

    def __init__(self):
        self.seen = []

    def echo(self, ctxt, value=None):
        self.seen.append(value)
        return value

    def context(self, ctxt):
        return ctxt

    def fail(self, ctxt, text):
        raise ValueError(text)


@pytest.fixture
def transports(conf):
    """Makes transports, and cleans them up."""
    made = []

    def make(url):
        made.append(oslo_messaging.get_rpc_transport(conf, url))
        return made[-1]

    yield make
    for transport in made:
        transport.cleanup()


@pytest.fixture
def serve(transports, topic):
    """Starts servers, and stops them."""
    running = []

    def start(url, endpoint=None, server='one', **options):
        endpoint = endpoint or Echo()
        started = oslo_messaging.get_rpc_server(
            transports(url),
            oslo_messaging.Target(topic=topic, server=server), [endpoint])
        started.start(**options)
        running.append(started)
        return started, endpoint

    yield start
    for server in running:
        server.stop()
        server.wait()


@pytest.fixture
def client(transports, topic):
    """Makes clients of the topic."""
    def make(url, timeout=20, **target):
        return oslo_messaging.get_rpc_client(
            transports(url), oslo_messaging.Target(topic=topic, **target),
            timeout=timeout)
    return make


@pytest.fixture
def program():
    """Runs a program of the folder ``programs`` to its end."""
    def run(name, *arguments, timeout=180, ok=True):
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', os.path.join(PROGRAMS, name),
             *map(str, arguments)],
            capture_output=True, text=True, timeout=timeout)
        if ok:
            assert done.returncode == 0, done.stdout + done.stderr
        return done
    return run
