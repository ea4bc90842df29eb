# SPDX-License-Identifier: Apache-2.0
"""Calls, casts and fanouts through the driver, as a service uses them."""

import threading
import time

import oslo_messaging
import pytest
from conftest import Echo

VALUES = [
    None, True, 0, -1, 10 ** 40, -10 ** 4000, 1.5, 1e308, float('inf'), '',
    'plain', 'é ☃ 𝄞', '\ud800', 'a\udfffb', '\x00\x1f\x7f"\\/', [], {},
    [1, [2, {'a': [None]}]], {'a b': {'': 1}, 'ключ': 'значение'},
]


@pytest.mark.parametrize('value', VALUES, ids=repr)
def test_a_value_comes_back_as_it_was(url, serve, client, value):
    serve(url)
    assert client(url).call({}, 'echo', value=value) == value


def test_nan_comes_back(url, serve, client):
    serve(url)
    result = client(url).call({}, 'echo', value=float('nan'))
    assert result != result


def test_objects_are_written_by_jsonutils(url, serve, client):
    import datetime
    import uuid
    serve(url)
    made = client(url)
    id_ = uuid.uuid4()
    assert made.call({}, 'echo', value=id_) == str(id_)
    when = datetime.datetime(2026, 1, 2, 3, 4, 5)
    assert made.call({}, 'echo', value=when) == '2026-01-02T03:04:05.000000'


def test_what_jsonutils_cannot_write_is_raised_to_the_caller(url, client):
    with pytest.raises(TypeError):
        client(url).call({}, 'echo', value={(1, 2): 'no name for a member'})


def test_the_context_arrives_with_the_clients_timeout(url, serve, client):
    serve(url)
    context = client(url).call({'user': 'me', 'n': [1]}, 'context')
    assert context == {'user': 'me', 'n': [1], 'client_timeout': None}


def test_a_failure_arrives_as_the_exception_it_was(url, serve, client):
    serve(url)
    with pytest.raises(ValueError, match='no such node') as raised:
        client(url).call({}, 'fail', text='no such node')
    assert 'Traceback' in str(raised.value)


def test_a_failure_keeps_every_character(url, serve, client):
    class Own(Exception):
        pass

    class Endpoint:
        def own(self, ctxt):
            raise Own('own \udfff')

        def builtin(self, ctxt):
            raise ValueError('odd \ud800')

    serve(url, Endpoint())
    made = client(url)
    with pytest.raises(ValueError) as raised:
        made.call({}, 'builtin')
    # The message, and the last line of the traceback.
    text = raised.value.args[0]
    assert text.startswith('odd \ud800\n'), ascii(text)
    assert text.endswith('ValueError: odd \ud800\n'), ascii(text)
    with pytest.raises(oslo_messaging.RemoteError) as raised:
        made.call({}, 'own')
    assert raised.value.value == 'own \udfff'
    assert 'own \udfff' in ''.join(raised.value.traceback)


def test_an_exception_of_a_foreign_module_is_a_remote_error(url, serve, client):
    class Own(Exception):
        pass

    class Endpoint:
        def fail(self, ctxt):
            raise Own('mine')

    serve(url, Endpoint())
    with pytest.raises(oslo_messaging.RemoteError) as raised:
        client(url).call({}, 'fail')
    assert raised.value.exc_type == 'Own'
    assert raised.value.value == 'mine'


def test_an_exception_of_an_allowed_module_is_rebuilt(conf, url, serve, topic):
    class Endpoint:
        def fail(self, ctxt):
            raise oslo_messaging.MessagingTimeout('late')

    serve(url, Endpoint())
    transport = oslo_messaging.get_rpc_transport(
        conf, url, allowed_remote_exmods=['oslo_messaging.exceptions'])
    client = oslo_messaging.get_rpc_client(
        transport, oslo_messaging.Target(topic=topic), timeout=20)
    with pytest.raises(oslo_messaging.MessagingTimeout) as raised:
        client.call({}, 'fail')
    transport.cleanup()
    rebuilt = raised.value
    assert (type(rebuilt).__name__, type(rebuilt).__module__) == (
        'MessagingTimeout_Remote', 'oslo_messaging.exceptions_Remote')
    assert str(rebuilt).startswith('late\nTraceback')


def test_an_unknown_method_and_version_are_told(url, serve, client):
    serve(url)
    made = client(url)
    with pytest.raises(oslo_messaging.RemoteError, match='NoSuchMethod'):
        made.call({}, 'nothing')
    with pytest.raises(oslo_messaging.RemoteError, match='UnsupportedVersion'):
        made.prepare(version='2.0').call({}, 'echo')


def test_a_call_nobody_takes_times_out_in_time(url, client):
    started = time.monotonic()
    with pytest.raises(oslo_messaging.MessagingTimeout):
        client(url, timeout=1).call({}, 'echo')
    assert 0.9 < time.monotonic() - started < 5


def test_a_mandatory_call_nobody_takes_fails_at_once(url, transports, topic):
    client = oslo_messaging.get_rpc_client(
        transports(url), oslo_messaging.Target(topic=topic, server='gone'),
        timeout=20, transport_options=oslo_messaging.TransportOptions(
            at_least_once=True))
    started = time.monotonic()
    with pytest.raises(oslo_messaging.MessageUndeliverable) as raised:
        client.call({}, 'echo')
    assert raised.value.routing_key == f'{topic}.gone'
    assert time.monotonic() - started < 10


def test_what_a_request_tells_and_how_it_is_settled(url, conf, topic, client):
    transport = oslo_messaging.get_rpc_transport(conf, url)
    driver = transport._driver
    driver.require_features(requeue=True)
    listener = driver.listen(oslo_messaging.Target(topic=topic, server='s'),
                             1, None)._poll_style_listener
    made = oslo_messaging.get_rpc_client(
        transport, oslo_messaging.Target(topic=topic), timeout=20,
        call_monitor_timeout=9)
    results = []
    caller = threading.Thread(target=lambda: results.append(
        made.call({'user': 'me'}, 'ask', n=1)))
    caller.start()
    incoming, = listener.poll(timeout=20)
    assert incoming.message.pop('args') == {'n': 1}
    assert incoming.message.pop('method') == 'ask'
    # Nothing of the engine's own.
    assert not {key for key in incoming.message if key.startswith('_')}
    assert incoming.ctxt == {'user': 'me', 'client_timeout': 9}
    assert incoming.client_timeout == 9
    assert len(incoming.msg_id) == 32
    incoming.acknowledge()
    incoming.requeue()
    incoming.heartbeat()
    incoming.reply({'answer': 1})
    incoming.reply({'answer': 2})
    caller.join(20)
    assert results == [{'answer': 1}]
    made.cast({}, 'tell')
    incoming, = listener.poll(timeout=20)
    assert (incoming.client_timeout, incoming.ctxt) == (
        None, {'client_timeout': None})
    # Nobody waits: neither does anything.
    incoming.heartbeat()
    incoming.reply(1)
    listener.stop()
    listener.cleanup()
    transport.cleanup()


def test_casts_arrive_in_order(url, serve, client):
    _, endpoint = serve(url, override_pool_size=1)
    made = client(url)
    for n in range(50):
        made.cast({}, 'echo', value=n)
    made.call({}, 'echo', value='end')
    assert endpoint.seen == [*range(50), 'end']


def test_a_fanout_reaches_all_servers(url, serve, client):
    endpoints = [serve(url, server=name)[1] for name in ('a', 'b', 'c')]
    made = client(url)
    made.prepare(fanout=True).cast({}, 'echo', value='all')
    deadline = time.monotonic() + 20
    while any(endpoint.seen != ['all'] for endpoint in endpoints):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_is_reached_by_its_name(url, serve, client):
    _, a = serve(url, server='a')
    _, b = serve(url, server='b')
    client(url, server='b').call({}, 'echo', value=1)
    assert (a.seen, b.seen) == ([], [1])


def test_many_callers_at_once_get_each_its_own_answer(url, serve, client):
    serve(url)
    made, wrong = client(url), []

    def work(n):
        for m in range(20):
            if made.call({}, 'echo', value=[n, m]) != [n, m]:
                wrong.append((n, m))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_more_requests_run_at_once_than_the_option_says_if_the_server_does(
        url, serve, client, conf):
    from oslo_messaging import server
    conf.register_opts(server._pool_opts)
    conf.set_override('executor_thread_pool_size', 1)
    everybody = threading.Barrier(30)

    class Endpoint:
        def meet(self, ctxt):
            everybody.wait(20)
            return True

    serve(url, Endpoint(), override_pool_size=30)
    made = client(url)
    results = []
    threads = [threading.Thread(
        target=lambda: results.append(made.call({}, 'meet')))
        for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [True] * 30


def test_a_long_call_lives_on_its_heartbeats(url, serve, topic, transports):
    class Endpoint:
        def slow(self, ctxt):
            time.sleep(6)
            return 'done'

    serve(url, Endpoint())
    client = oslo_messaging.get_rpc_client(
        transports(url), oslo_messaging.Target(topic=topic), timeout=30,
        call_monitor_timeout=4)
    assert client.call({}, 'slow') == 'done'


def test_no_request_is_lost_when_a_server_stops(url, serve, client):
    first, one = serve(url, server='a')
    made = client(url)
    sent = 0
    stopper = threading.Thread(target=lambda: (first.stop(), first.wait()))
    for n in range(400):
        if n == 100:
            stopper.start()
        made.cast({}, 'echo', value=n)
        sent += 1
    stopper.join(30)
    _, two = serve(url, server='b')
    deadline = time.monotonic() + 20
    while len(one.seen) + len(two.seen) < sent:
        assert time.monotonic() < deadline, (len(one.seen), len(two.seen))
        time.sleep(0.01)
    assert sorted(one.seen + two.seen) == list(range(sent))


def test_a_server_can_be_started_again(url, serve, client):
    server, endpoint = serve(url)
    server.stop()
    server.wait()
    server.start()
    assert client(url).call({}, 'echo', value=1) == 1


def test_a_closed_transport_says_so(url, transports, topic):
    transport = transports(url)
    client = oslo_messaging.get_rpc_client(
        transport, oslo_messaging.Target(topic=topic))
    client.cast({}, 'echo')
    transport.cleanup()
    with pytest.raises(oslo_messaging.ClientSendError):
        client.cast({}, 'echo')


def test_a_broker_that_is_not_there_is_told_when_the_attempts_are_used_up(
        transports, topic):
    transport = transports('rust+rabbit://guest:guest@127.0.0.1:1/')
    client = oslo_messaging.get_rpc_client(
        transport, oslo_messaging.Target(topic=topic), retry=0)
    with pytest.raises(oslo_messaging.MessageDeliveryFailure):
        client.cast({}, 'echo')
    with pytest.raises(oslo_messaging.MessagingTimeout):
        oslo_messaging.get_rpc_client(
            transport, oslo_messaging.Target(topic=topic),
            timeout=1).call({}, 'echo')


def test_requests_that_python_cannot_read_do_not_end_the_server(
        rabbit, serve, client, topic):
    import kombu
    url = 'rust+' + rabbit
    serve(url)
    digits = '1' * 5000
    bodies = ['{"method": "echo", "args": {"value": %s}}' % digits,
              '[' * 100_000, '{"oslo.version": "9.0", "oslo.message": "{}"}',
              'garbage']
    with kombu.Connection(rabbit.replace('rabbit://', 'amqp://')) as link:
        producer = kombu.Producer(link.channel())
        for body in bodies:
            producer.publish(body, routing_key=topic, exchange='openstack',
                             content_type='application/json',
                             content_encoding='utf-8')
    assert client(url).call({}, 'echo', value=1) == 1


def test_the_endpoint_class_is_shared(topic):
    # The other tests count on an endpoint that remembers.
    echo = Echo()
    echo.echo({}, 1)
    assert echo.seen == [1]
