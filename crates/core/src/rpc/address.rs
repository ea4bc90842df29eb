//! The target of a client, in parts that variations of the client share.

use std::sync::Arc;

use oslo_messaging_proto::target::Target;

use crate::driver::Destination;

/// Where requests go, and which interface they ask for.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) exchange: Option<Arc<str>>,
    pub(crate) topic: Option<Arc<str>>,
    pub(crate) namespace: Option<Arc<str>>,
    pub(crate) version: Option<Arc<str>>,
    pub(crate) server: Option<Arc<str>>,
    pub(crate) fanout: bool,
}

impl Address {
    /// The parts of `target`.
    pub(crate) fn of(target: &Target) -> Self {
        let shared = |text: Option<&str>| text.map(Arc::from);
        Self {
            exchange: shared(target.exchange_name()),
            topic: shared(target.topic_name()),
            namespace: shared(target.namespace_name()),
            version: shared(target.version_text()),
            server: shared(target.server_name()),
            fanout: target.is_fanout(),
        }
    }

    /// Where a request goes; nowhere without a topic (parity T6). Fanout wins over a server (T9). Empty
    /// names count as missing.
    pub(crate) fn destination(&self) -> Option<Destination<'_>> {
        let topic = filled(&self.topic)?;
        let exchange = filled(&self.exchange);
        Some(match filled(&self.server) {
            _ if self.fanout => Destination::Fanout { topic },
            Some(server) => Destination::Server {
                exchange,
                topic,
                server,
            },
            None => Destination::Topic { exchange, topic },
        })
    }

    /// The parts as one target again.
    pub(crate) fn to_target(&self) -> Target {
        Target::new()
            .fanout(self.fanout)
            .exchange(self.exchange.as_deref())
            .with_topic(self.topic.as_deref())
            .namespace(self.namespace.as_deref())
            .version(self.version.as_deref())
            .server(self.server.as_deref())
    }
}

fn filled(name: &Option<Arc<str>>) -> Option<&str> {
    name.as_deref().filter(|name| !name.is_empty())
}
