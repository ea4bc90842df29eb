"""Exceptions that the Python peer raises and, where allowed, rebuilds: what a service's own module would hold."""


class PeerError(Exception):
    """An error of the style OpenStack services share: a message pattern filled from keyword arguments."""

    pattern = 'An unknown error occurred.'

    def __init__(self, message=None, **kwargs):
        self.kwargs = kwargs
        super().__init__(message or self.pattern % kwargs)


class InstanceNotFound(PeerError):
    pattern = 'Instance %(instance_id)s could not be found.'


class OverQuota(PeerError):
    pattern = 'Quota exceeded.'


class Picky(Exception):
    """Its constructor does not take what it hands to its base, so nobody can rebuild it from `args`."""

    def __init__(self, first, second, *, third):
        super().__init__('%s %s %s' % (first, second, third))
