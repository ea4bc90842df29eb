"""The Python half of the interop matrix: endpoints, policies and serializers that the Rust half has alike, and many calls in
one operation, each told by its outcome."""

import collections
import concurrent.futures
import datetime
import decimal
import ipaddress
import uuid

import oslo_messaging
from oslo_context import context as oslo_context
from oslo_messaging.rpc import dispatcher
from oslo_serialization import jsonutils

import peer_errors

AT_ONCE = 8

# Namespace, version and legacy namespaces of each endpoint, in the order they are asked.
INTERFACES = (
    (None, None, None),
    ('base', '1.3', None),
    ('compute', '2.1', ['old', None]),
    ('base', '2.0', None),
)


def raise_kind(kind):
    if kind == 'value':
        raise ValueError('bad \u00fc', 42)
    if kind == 'key':
        raise KeyError('missing')
    if kind == 'file':
        raise FileNotFoundError(2, 'No such file')
    if kind == 'custom':
        raise peer_errors.InstanceNotFound(instance_id='i-1')
    if kind == 'unit':
        raise peer_errors.OverQuota()
    if kind == 'picky':
        raise peer_errors.Picky('a', 'b', third='c')
    if kind == 'foreign':
        raise decimal.InvalidOperation('x')
    raise LookupError(kind)


class Endpoint:
    def __init__(self, index):
        self._index = index
        namespace, version, legacy = INTERFACES[index]
        self.target = oslo_messaging.Target(
            namespace=namespace, version=version or '1.0', legacy_namespaces=legacy)

    def plain(self, ctxt):
        return '%s.plain' % self._index

    @oslo_messaging.expose
    def exposed(self, ctxt):
        return '%s.exposed' % self._index

    def _private(self, ctxt):
        return '%s._private' % self._index

    def delete_it(self, ctxt):
        return '%s.delete_it' % self._index

    def values(self, ctxt, **args):
        ctxt = dict(ctxt)
        ctxt.pop('client_timeout', None)
        return {'ctxt': ctxt, 'args': args}

    def fail(self, ctxt, kind, expected=False):
        if expected:
            return self._expected(kind)
        raise_kind(kind)

    @oslo_messaging.expected_exceptions(Exception)
    def _expected(self, kind):
        raise_kind(kind)


class NoDelete(dispatcher.RPCAccessPolicyBase):
    def is_allowed(self, endpoint, method):
        return not method.startswith(('_', 'delete_'))


POLICIES = {
    'default': dispatcher.DefaultRPCAccessPolicy,
    'legacy': dispatcher.LegacyRPCAccessPolicy,
    'explicit': dispatcher.ExplicitRPCAccessPolicy,
    'own': NoDelete,
}


class ContextSerializer(oslo_messaging.NoOpSerializer):
    def serialize_context(self, ctxt):
        return {**ctxt, **oslo_context.RequestContext.from_dict(ctxt).to_dict()}

    deserialize_context = serialize_context


class OwnSerializer(oslo_messaging.NoOpSerializer):
    def serialize_entity(self, ctxt, entity):
        return {'own': entity}

    def deserialize_entity(self, ctxt, entity):
        if isinstance(entity, dict) and list(entity) == ['own']:
            return entity['own']
        return entity

    def serialize_context(self, ctxt):
        return dict(ctxt, stamp='own')


SERIALIZERS = {
    'none': lambda: None,
    'noop': oslo_messaging.NoOpSerializer,
    'json': oslo_messaging.JsonPayloadSerializer,
    'context': ContextSerializer,
    'own': OwnSerializer,
}


def server(transport, topic, policy, serializer):
    return oslo_messaging.get_rpc_server(
        transport, oslo_messaging.Target(topic=topic, server='python'),
        [Endpoint(index) for index in range(len(INTERFACES))], executor='threading',
        serializer=SERIALIZERS[serializer](), access_policy=POLICIES[policy])


def outcome(transport, topic, method, namespace=None, version=None, args=None, ctxt=None, serializer='none'):
    """What a call gave: `ok`, or what there is to know of the exception but its traceback."""
    client = oslo_messaging.get_rpc_client(
        transport, oslo_messaging.Target(topic=topic, namespace=namespace, version=version), timeout=30,
        serializer=SERIALIZERS[serializer]())
    try:
        return {'ok': client.call(ctxt or {}, method, **(args or {}))}
    except Exception as error:
        kind = type(error)
        args = list(error.args)
        text = str(error)
        if kind.__module__ == 'builtins':
            # The first one is replaced by the text with its traceback.
            text, args = str(args[0]), args[1:]
        elif kind is oslo_messaging.RemoteError or kind.__module__.startswith('oslo_messaging'):
            args = []
        text = getattr(error, 'value', None) or text.split('\n')[0]
        return {
            'class': getattr(error, 'exc_type', None) or kind.__name__, 'module': kind.__module__, 'text': text,
            'args': args, 'kwargs': getattr(error, 'kwargs', None)}


def outcomes(transport, requests):
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda request: outcome(transport, **request), requests))


class Instance:
    def __init__(self):
        self.name = 'vm-1'
        self.at = datetime.datetime(2024, 1, 2, 3, 4, 5)


def primitives():
    """What the reference makes of values that JSON has no type for, by name."""
    zone = datetime.timezone(datetime.timedelta(hours=2))
    values = {
        'datetime': datetime.datetime(2024, 1, 2, 3, 4, 5, 678901),
        'datetime whole': datetime.datetime(1969, 12, 31, 23, 59, 59),
        'datetime utc': datetime.datetime(2024, 2, 29, 0, 0, 0, 1, datetime.timezone.utc),
        # The zone is dropped, not converted.
        'datetime zone': datetime.datetime(2024, 1, 2, 3, 4, 5, 0, zone),
        'date': datetime.date(2024, 2, 29),
        'uuid': uuid.UUID('12345678-1234-5678-1234-567812345678'),
        'bytes': 'na\u00efve'.encode(),
        'set': {'admin'},
        'frozenset': frozenset((1,)),
        'tuple': (1, 'a', None),
        'range': range(3),
        'ipv4': ipaddress.ip_address('10.0.0.1'),
        'ipv6': ipaddress.ip_address('fe80::1'),
        'decimal': decimal.Decimal('1.50'),
        'mapping': collections.OrderedDict((('b', 1), ('a', (2,)))),
        'instance': Instance(),
        'keys': {1: 'a', 2.5: 'b', False: 'c', None: 'd'},
        'nested': {'at': [datetime.date(2024, 1, 1)]},
    }
    return {name: jsonutils.dumps(jsonutils.to_primitive(value, convert_instances=True)) for name, value in values.items()}


def contexts(attributes):
    """oslo.context's dictionaries for a context with these attributes."""
    context = oslo_context.RequestContext(**attributes)
    return {
        'dict': context.to_dict(),
        'redacted': context.redacted_copy().to_dict(),
    }


def read_context(values):
    """What oslo.context makes of a dictionary, as a dictionary again and as attributes."""
    context = oslo_context.RequestContext.from_dict(values)
    names = ('user_name', 'project_name', 'domain_name', 'user_domain_name', 'project_domain_name')
    return {'dict': context.to_dict(), 'names': {name: getattr(context, name) for name in names}}
