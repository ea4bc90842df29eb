# SPDX-License-Identifier: Apache-2.0
"""From a service's configuration and a transport URL to what the engine is told."""

from __future__ import annotations

import enum
import logging
from typing import Any, NamedTuple

from oslo_config import cfg
from oslo_messaging._drivers import common

from oslo_messaging_rust import _native

LOG = logging.getLogger('oslo_messaging_rust')

#: Other names of the engine's drivers.
_ALIASES = {'kombu': 'rabbit', 'fake': 'memory'}
_RABBIT_GROUP = 'oslo_messaging_rabbit'
_KAFKA_GROUP = 'oslo_messaging_kafka'

#: Options the reference does not have; the engine knows more about each.
_OWN_RABBIT_OPTIONS = [
    cfg.BoolOpt('ssl_verify',
                help='Verify the certificate of each broker and its name. '
                'By default that is done if ssl_ca_file is set.'),
    cfg.StrOpt('private_queues', default='classic',
               choices=['classic', 'reference'],
               help='What reply and fanout queues are: durable classic ones '
               'that expire, or transient ones as those of the rabbit '
               'driver.'),
    cfg.FloatOpt('consumer_check_interval', default=5.0, min=0.0,
                 help='Seconds between two looks at whether the broker still '
                 'has the consumers of this process.'),
    cfg.IntOpt('max_message_size', default=536870912, min=1,
               help='Largest message sent, in bytes after compression.'),
    cfg.FloatOpt('connect_timeout', default=5.0, min=0.1,
                 help='Seconds one attempt to connect may take.'),
    cfg.FloatOpt('listen_timeout', default=30.0, min=1.0,
                 help='Seconds after which the reason is logged why a '
                 'server cannot listen yet.'),
]


_OWN_KAFKA_OPTIONS = [
    cfg.FloatOpt('delivery_timeout', default=30.0, min=0.1,
                 help='Seconds one attempt to deliver a message may take.'),
    cfg.FloatOpt('listen_timeout', default=60.0, min=0.1,
                 help='Seconds a listener waits at its start for its group '
                 'and partitions.'),
    cfg.FloatOpt('session_timeout', default=45.0, min=1.0,
                 help='Seconds of silence after which the group gives the '
                 'partitions of a listener to others.'),
    cfg.IntOpt('max_message_size', default=1000000, min=1000,
               help='Largest message sent, in bytes.'),
    cfg.BoolOpt('enable_idempotence', default=False,
                help='Let the brokers drop copies of a message that was sent '
                'again after a lost connection.'),
]


class Context(enum.Enum):
    """How a context travels and arrives."""

    #: In members of the message; what arrives tells ``client_timeout`` besides.
    FLAT = enum.auto()
    #: Likewise, and arrives as it was.
    FLAT_ALONE = enum.auto()
    #: In one member, as it is.
    MEMBER = enum.auto()


class Settings(NamedTuple):
    """What a driver is made with."""

    #: The driver of the engine, such as ``rabbit``.
    engine: str
    #: Whether it has calls, casts and servers.
    rpc: bool
    #: What oslo.messaging reads its own options from.
    conf: Any
    #: The transport URL without its query.
    url: str
    #: Options of the engine's driver, as pairs of texts.
    options: list[tuple[str, str]]
    #: How many messages the broker may hand out unacknowledged.
    prefetch: int
    #: How the reference's driver hands a context over.
    context: Context


def read(conf: Any, url: Any) -> Settings:
    """Reads everything and checks it; connects nothing.

    :raises RuntimeError: for settings that cannot work, which oslo.messaging turns into DriverLoadFailure
    """
    scheme = url.transport.partition('+')[2] or 'rabbit'
    engine = _ALIASES.get(scheme, scheme)
    names = _native.option_names(engine)
    options, prefetch, context = [], 0, Context.FLAT
    if engine == 'rabbit':
        conf = _rabbit_conf(conf, url)
        options = _rabbit_options(conf[_RABBIT_GROUP], names)
        prefetch = conf[_RABBIT_GROUP].rabbit_qos_prefetch_count
    elif engine == 'kafka':
        conf = _kafka_conf(conf, url)
        options = _texts({name: conf[_KAFKA_GROUP][name] for name in names})
        context = Context.MEMBER
    elif url.query:
        raise RuntimeError('the memory driver has no options, but the '
                           'transport URL sets %s' % ', '.join(url.query))
    elif scheme == 'fake':
        context = Context.FLAT_ALONE
    _native.check_options(engine, options)
    return Settings(engine, engine != 'kafka', conf, _plain_url(url, engine),
                    options, prefetch, context)


def _plain_url(url: Any, engine: str) -> str:
    text = str(url)
    return engine + text[text.index('://'):].partition('?')[0]


def _rabbit_conf(conf: Any, url: Any) -> Any:
    # Imported here: it loads all of kombu, which a service on another driver does without.
    from oslo_messaging._drivers import amqp
    from oslo_messaging._drivers import impl_rabbit

    conf.register_group(cfg.OptGroup(
        name=_RABBIT_GROUP, title='RabbitMQ driver options'))
    conf.register_opts(impl_rabbit.rabbit_opts + amqp.amqp_opts
                       + _OWN_RABBIT_OPTIONS, group=_RABBIT_GROUP)
    return common.ConfigOptsProxy(conf, url, _RABBIT_GROUP)


def _kafka_conf(conf: Any, url: Any) -> Any:
    from oslo_messaging._drivers.kafka_driver import kafka_options

    conf.register_group(cfg.OptGroup(
        name=_KAFKA_GROUP, title='Kafka driver options'))
    conf.register_opts(kafka_options.KAFKA_OPTS + _OWN_KAFKA_OPTIONS,
                       group=_KAFKA_GROUP)
    return common.ConfigOptsProxy(conf, url, _KAFKA_GROUP)


def _rabbit_options(group: Any, names: list[str]) -> list[tuple[str, str]]:
    values = {name: getattr(group, name) for name in names if name in group}
    if values.get('ssl_verify') is None:
        values['ssl_verify'] = bool(values.get('ssl_ca_file'))
        if values.get('ssl') and not values['ssl_verify']:
            LOG.warning('TLS without ssl_ca_file: the certificates of the '
                        'brokers are not verified. Set ssl_verify=true to '
                        'verify them by the authorities the system trusts.')
    return _texts(values)


def _texts(values: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in values.items()
            if value is not None]
