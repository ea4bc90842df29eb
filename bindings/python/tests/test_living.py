# SPDX-License-Identifier: Apache-2.0
"""Living in Python: forks, green threads, signals, the interpreter's end, logs, memory."""

import logging
import os
import pickle  # noqa: F401  (loaded before forks, as services have it)
import threading
import time

import oslo_messaging
import pytest

GREEN = pytest.mark.parametrize('green', [(), ('eventlet',)],
                                ids=['threads', 'eventlet'])


def ends_well(done):
    assert 'all is well' in done.stdout, done.stdout + done.stderr
    assert 'panicked' not in done.stderr, done.stderr


@GREEN
@pytest.mark.parametrize('state', ['never', 'connected', 'serving', 'calling'])
def test_parent_and_child_live_on_after_a_fork(rabbit, topic, program, state,
                                               green):
    ends_well(program('fork.py', 'rust+' + rabbit, topic, state, *green))


@pytest.mark.parametrize('backend', ['eventlet', 'threading'])
def test_workers_of_oslo_service_serve_and_end(rabbit, topic, program,
                                               backend):
    done = program('workers.py', 'rust+' + rabbit, topic, backend, timeout=120,
                   ok=False)
    assert 'workers answered' in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'panicked' not in done.stderr, done.stderr


@GREEN
@pytest.mark.parametrize('state', ['idle', 'served', 'called', 'calling',
                                   'casting', 'listening'])
def test_an_interpreter_ends_in_any_state(rabbit, topic, program, state,
                                          green):
    started = time.monotonic()
    ends_well(program('ends.py', 'rust+' + rabbit, topic, state, *green))
    assert time.monotonic() - started < 60


def test_an_interpreter_that_fails_ends_with_its_own_code(rabbit, topic,
                                                          program):
    done = program('ends.py', 'rust+' + rabbit, topic, 'error', ok=False)
    assert done.returncode == 1
    assert 'on purpose' in done.stderr


def test_an_interpreter_ends_without_a_broker(topic, program):
    nowhere = 'rust+rabbit://guest:guest@127.0.0.1:1/'
    ends_well(program('ends.py', nowhere, topic, 'calling'))


@GREEN
def test_an_interrupt_reaches_a_waiting_call(rabbit, topic, program, green):
    ends_well(program('interrupt.py', 'rust+' + rabbit, topic, *green))


def test_other_threads_run_while_one_waits(rabbit, topic, serve, transports):
    class Endpoint:
        def slow(self, ctxt):
            time.sleep(1)

    serve('rust+' + rabbit, Endpoint())
    transport = transports('rust+' + rabbit)
    client = oslo_messaging.get_rpc_client(
        transport, oslo_messaging.Target(topic=topic), timeout=20)
    listener = transport._driver.listen(
        oslo_messaging.Target(topic=topic + '-idle', server='s'), 1,
        None)._poll_style_listener
    for wait in (lambda: client.call({}, 'slow'),
                 lambda: listener.poll(timeout=1)):
        waiting = threading.Thread(target=wait)
        waiting.start()
        ticks = 0
        while waiting.is_alive():
            ticks += 1
            time.sleep(0.005)
        assert ticks > 20, ticks
    listener.stop()
    listener.cleanup()


def test_green_threads_run_while_others_wait(rabbit, topic, program):
    ends_well(program('hub.py', 'rust+' + rabbit, topic))


@GREEN
def test_kafka_lives_through_forks_and_ends(kafka, topic, program, green):
    ends_well(program('kafka.py', f'rust+{kafka}?session_timeout=3', topic,
                      *green, timeout=120))


def test_a_hundred_thousand_calls_leave_nothing_behind(topic, program):
    calls = int(os.environ.get('OSLO_TEST_LEAK_CALLS', '100000'))
    done = program('leak.py', 'rust+memory://leak', topic, calls, timeout=900)
    before, after = map(int, done.stdout.split())
    # 80,000 calls: less than 40 bytes each.
    assert after - before < 3000, done.stdout


def test_the_engine_logs_through_logging(transports, topic, caplog):
    caplog.set_level(logging.INFO, logger='oslo_messaging_rust')
    transport = transports('rust+rabbit://guest:secret@127.0.0.1:1/')
    client = oslo_messaging.get_rpc_client(
        transport, oslo_messaging.Target(topic=topic), retry=0)
    from oslo_messaging_rust import bridge
    bridge.follow_level()
    with pytest.raises(oslo_messaging.MessageDeliveryFailure):
        client.cast({}, 'x')
    deadline = time.monotonic() + 10
    ours = []
    while not ours:
        assert time.monotonic() < deadline
        time.sleep(0.01)
        ours = [record for record in caplog.records
                if record.name.startswith('oslo_messaging_rust.')]
    assert not any('secret' in record.getMessage() for record in ours)


def test_a_transport_can_be_copied_with_its_url(conf, rabbit):
    import copy
    url = oslo_messaging.TransportURL.parse(conf, 'rust+' + rabbit)
    assert str(copy.deepcopy(url)) == str(url)


def test_one_process_has_two_connections_and_few_threads(rabbit, topic,
                                                         serve, client):
    url = 'rust+' + rabbit
    serve(url)
    made = client(url)
    for n in range(5):
        made.call({}, 'echo', value=n)
    with open('/proc/self/net/tcp') as file:
        port = '%04X' % int(rabbit.rsplit(':', 1)[1].strip('/'))
        inodes = {line.split()[9] for line in file
                  if line.split()[2].endswith(':' + port)}
    mine = set()
    for fd in os.listdir('/proc/self/fd'):
        try:
            link = os.readlink(f'/proc/self/fd/{fd}')
        except OSError:
            continue
        if link.startswith('socket:['):
            mine.add(link[8:-1])
    # Two transports here, the server's and the client's.
    assert len(inodes & mine) <= 4
    names = []
    for thread in os.listdir('/proc/self/task'):
        with open(f'/proc/self/task/{thread}/comm') as file:
            names.append(file.read().strip())
    assert names.count('oslo-messaging') == 1
