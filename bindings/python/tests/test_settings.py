# SPDX-License-Identifier: Apache-2.0
"""URLs and options: hosts, virtual hosts, and configurations that are not global."""

import oslo_messaging
import pytest
from conftest import Echo
from oslo_config import cfg
from oslo_messaging import conffixture


@pytest.fixture
def confs():
    """Two configurations of one process, neither of them global."""
    with conffixture.ConfFixture(cfg.ConfigOpts()) as one:
        with conffixture.ConfFixture(cfg.ConfigOpts()) as two:
            one.conf(args=[])
            two.conf(args=[])
            yield one.conf, two.conf


def client_of(conf, url, topic, **options):
    transport = oslo_messaging.get_rpc_transport(conf, url)
    target = oslo_messaging.Target(topic=topic)
    return transport, oslo_messaging.get_rpc_client(transport, target,
                                                    **options)


def test_configurations_of_one_process_are_kept_apart(confs, rabbit, topic):
    one, two = confs
    one.set_override('control_exchange', 'one-' + topic)
    two.set_override('control_exchange', 'two-' + topic)
    two.set_override('rpc_response_timeout', 1)
    url = 'rust+' + rabbit
    serving = oslo_messaging.get_rpc_transport(one, url)
    one.set_override('rabbit_qos_prefetch_count', 7,
                     group='oslo_messaging_rabbit')
    assert oslo_messaging.get_rpc_transport(
        one, url)._driver.prefetch_size == 7
    assert oslo_messaging.get_rpc_transport(
        two, url)._driver.prefetch_size == 0
    server = oslo_messaging.get_rpc_server(
        serving, oslo_messaging.Target(topic=topic, server='s'), [Echo()])
    server.start()
    # The reference finds it at the exchange of the same configuration, too.
    for conf, scheme, answered in ((one, 'rust+', True), (one, '', True),
                                   (two, 'rust+', False)):
        transport, client = client_of(conf, scheme + rabbit, topic)
        if answered:
            assert client.call({}, 'echo', value=1) == 1
        else:
            with pytest.raises(oslo_messaging.MessagingTimeout):
                client.call({}, 'echo', value=1)
        transport.cleanup()
    server.stop()
    server.wait()
    serving.cleanup()


def test_the_transport_url_comes_from_the_configuration(conf, rabbit, topic):
    conf.set_override('transport_url', 'rust+' + rabbit)
    transport = oslo_messaging.get_rpc_transport(conf)
    client = oslo_messaging.get_rpc_client(
        transport, oslo_messaging.Target(topic=topic), retry=0)
    client.cast({}, 'anything')
    assert transport._driver._engine.health()['connected']
    transport.cleanup()


def test_the_next_host_is_tried_when_one_is_not_there(conf, rabbit, topic,
                                                      serve):
    serve('rust+' + rabbit)
    there = rabbit.partition('://')[2].strip('/')
    transport, client = client_of(
        conf, f'rust+rabbit://guest:guest@127.0.0.1:1,{there}/', topic,
        timeout=20)
    assert client.call({}, 'echo', value=1) == 1
    assert transport._driver._engine.health()['host'].endswith(
        there.rpartition(':')[2])
    transport.cleanup()


@pytest.mark.parametrize('vhost,there', [('', True), ('/', True), ('%2F', True),
                                         ('none-such', False)])
def test_the_virtual_host_is_the_one_of_the_url(conf, rabbit, topic, serve,
                                                vhost, there):
    serve('rust+' + rabbit)
    transport, client = client_of(conf, f'rust+{rabbit}{vhost}', topic,
                                  timeout=20, retry=0)
    if there:
        assert client.call({}, 'echo', value=1) == 1
    else:
        with pytest.raises(oslo_messaging.MessageDeliveryFailure):
            client.call({}, 'echo', value=1)
    transport.cleanup()


def test_options_reach_the_engine(conf, rabbit):
    def driver(query):
        return oslo_messaging.get_rpc_transport(
            conf, 'rust+' + rabbit + query)._driver

    plain = driver('')
    assert ('rabbit_qos_prefetch_count', '0') in plain._settings.options
    conf.set_override('rabbit_qos_prefetch_count', 7,
                      group='oslo_messaging_rabbit')
    assert driver('').prefetch_size == 7
    asked = driver('?rabbit_qos_prefetch_count=9&kombu_compression=gzip')
    assert asked.prefetch_size == 9
    assert ('kombu_compression', 'gzip') in asked._settings.options
    assert asked.conf.oslo_messaging_rabbit.kombu_compression == 'gzip'


def test_the_names_of_own_options_are_those_of_the_engine():
    from oslo_messaging_rust import _native
    from oslo_messaging_rust import options
    for driver, own in (('rabbit', options._OWN_RABBIT_OPTIONS),
                        ('kafka', options._OWN_KAFKA_OPTIONS)):
        assert {option.dest for option in own} <= set(
            _native.option_names(driver))


@pytest.mark.parametrize('query', [
    '?no_such_option=1', '?rabbit_qos_prefetch_count=many'])
def test_bad_options_in_a_url_are_refused_when_the_transport_is_made(
        conf, rabbit, query):
    with pytest.raises((cfg.Error, ValueError)):
        oslo_messaging.get_rpc_transport(conf, 'rust+' + rabbit + query)


def test_settings_that_cannot_work_are_a_load_failure(conf, rabbit):
    with pytest.raises(oslo_messaging.DriverLoadFailure):
        oslo_messaging.get_rpc_transport(
            conf, 'rust+' + rabbit + '?rabbit_login_method=RABBIT-CR-DEMO')
    with pytest.raises(oslo_messaging.DriverLoadFailure):
        oslo_messaging.get_rpc_transport(conf, 'rust+pigeon://')
