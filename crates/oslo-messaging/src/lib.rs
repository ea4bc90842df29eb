//! RPC and notifications between OpenStack services, on the wire of oslo.messaging
