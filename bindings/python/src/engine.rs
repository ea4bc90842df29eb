//! The engine of one driver: a transport, and the operations on it.

use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use oslo_messaging::driver::{Destination, Notifications, Outgoing, Pool, Prefetch};
use oslo_messaging::rpc::foreign::{ForeignRequest, ForeignServer, ForeignTarget, call, cast};
use oslo_messaging::{Transport, connect_with};
use pyo3::types::{PyDict, PyDictMethods as _};
use pyo3::{Bound, PyResult, Python, pyclass, pymethods};

use crate::bridge::Bridge;
use crate::fork::Owned;
use crate::intake::{Intake, Listener, Source};
use crate::notes::{self, Notes};
use crate::op::{Op, Value};
use crate::{convert, errors, runtime, settings};

/// Where a message goes, with names of its own.
struct Place {
    exchange: Option<String>,
    topic: String,
    server: Option<String>,
    fanout: bool,
}

impl Place {
    fn destination(&self) -> Destination<'_> {
        let (exchange, topic) = (self.exchange.as_deref(), self.topic.as_str());
        match &self.server {
            _ if self.fanout => Destination::Fanout { topic },
            Some(server) => Destination::Server {
                exchange,
                topic,
                server,
            },
            None => Destination::Topic { exchange, topic },
        }
    }
}

/// A transport. Making one starts nothing on the network.
#[pyclass(frozen, module = "oslo_messaging_rust._native")]
pub(crate) struct Engine {
    transport: Owned<Transport>,
}

#[pymethods]
impl Engine {
    /// A transport of the engine's driver `driver` for `url`, which has no query; `options` are pairs of option names and
    /// texts.
    #[new]
    fn new(
        driver: &str,
        url: &str,
        options: Vec<(String, String)>,
        control_exchange: String,
        response_timeout: f64,
    ) -> PyResult<Self> {
        let mut connect = settings::connect_options(driver, &options)?;
        connect.control_exchange = control_exchange;
        connect.transport.rpc_response_timeout =
            convert::seconds(response_timeout).max(Duration::from_millis(1));
        // It does not wait for anything.
        let made = runtime::handle()?.block_on(connect_with(url, connect));
        Ok(Self {
            transport: Owned::new(made.map_err(errors::bad_settings)?),
        })
    }

    /// Sends a call, given as JSON text, and waits for its result.
    #[allow(clippy::too_many_arguments)]
    #[pyo3(signature = (exchange, topic, server, message, timeout, monitor, retry, mandatory, bridge=None))]
    fn call(
        &self,
        exchange: Option<String>,
        topic: String,
        server: Option<String>,
        message: &str,
        timeout: f64,
        monitor: Option<f64>,
        retry: Option<i64>,
        mandatory: bool,
        bridge: Option<&Bridge>,
    ) -> PyResult<Op> {
        let transport = self.transport()?.clone();
        let message = convert::json(message)?;
        let place = Place {
            exchange,
            topic,
            server,
            fanout: false,
        };
        let (timeout, monitor) = (convert::seconds(timeout), monitor.map(convert::seconds));
        let retry = convert::retry(retry);
        let work = async move {
            let mut request = ForeignRequest::new(place.destination(), message);
            request.retry = retry;
            request.mandatory = mandatory;
            call(&transport, request, timeout, monitor)
                .await
                .map(Value::Json)
        };
        Op::start(work, bridge.and_then(Bridge::bell))
    }

    /// Sends a cast, given as JSON text, and waits until the broker took it.
    #[allow(clippy::too_many_arguments)]
    #[pyo3(signature = (exchange, topic, server, fanout, message, retry, mandatory, bridge=None))]
    fn cast(
        &self,
        exchange: Option<String>,
        topic: String,
        server: Option<String>,
        fanout: bool,
        message: &str,
        retry: Option<i64>,
        mandatory: bool,
        bridge: Option<&Bridge>,
    ) -> PyResult<Op> {
        let transport = self.transport()?.clone();
        let message = convert::json(message)?;
        let place = Place {
            exchange,
            topic,
            server,
            fanout,
        };
        let retry = convert::retry(retry);
        let work = async move {
            let mut request = ForeignRequest::new(place.destination(), message);
            request.retry = retry;
            request.mandatory = mandatory;
            cast(&transport, request).await.map(|()| Value::Nothing)
        };
        Op::start(work, bridge.and_then(Bridge::bell))
    }

    /// Subscribes for the requests of a server; gives a [`Listener`].
    #[pyo3(signature = (exchange, topic, server, concurrency, bridge=None))]
    fn listen(
        &self,
        exchange: Option<String>,
        topic: String,
        server: String,
        concurrency: NonZeroUsize,
        bridge: Option<&Bridge>,
    ) -> PyResult<Op> {
        let transport = self.transport()?.clone();
        let bell = bridge.and_then(Bridge::bell);
        let intake = Intake::new(bell.clone());
        let mut target = ForeignTarget::new(topic, server);
        target.exchange = exchange;
        target.concurrency = concurrency;
        target.prefetch = Prefetch::Limited(prefetch(concurrency));
        let work = async move {
            let handler = Arc::clone(&intake);
            let server = ForeignServer::start(&transport, target, handler).await?;
            let source = Source::Server(Arc::new(server));
            Ok(Value::Listener(Box::new(Listener::new(intake, source))))
        };
        Op::start(work, bell)
    }

    /// Sends a notification, given as JSON text, and waits until the broker took it. `topic` includes the priority.
    #[pyo3(signature = (exchange, topic, message, envelope, retry, bridge=None))]
    fn notify(
        &self,
        exchange: Option<String>,
        topic: String,
        message: &str,
        envelope: bool,
        retry: Option<i64>,
        bridge: Option<&Bridge>,
    ) -> PyResult<Op> {
        let transport = self.transport()?.clone();
        let message = convert::json(message)?;
        let retry = convert::retry(retry);
        let work = async move {
            let (exchange, topic) = (exchange.as_deref(), topic.as_str());
            let destination = Destination::Notification { exchange, topic };
            let mut message = Outgoing::new(destination, notes::body(&message, envelope)?);
            message.retry = retry;
            transport.driver().send(message).await?;
            Ok(Value::Nothing)
        };
        Op::start(work, bridge.and_then(Bridge::bell))
    }

    /// Subscribes for notifications from `sources`, pairs of exchange and topic with priority; gives a [`Listener`].
    #[pyo3(signature = (sources, pool, prefetch, bridge=None))]
    fn listen_for_notifications(
        &self,
        sources: Vec<(Option<String>, String)>,
        pool: Option<String>,
        prefetch: NonZeroU16,
        bridge: Option<&Bridge>,
    ) -> PyResult<Op> {
        let transport = self.transport()?.clone();
        let bell = bridge.and_then(Bridge::bell);
        let intake = Intake::new(bell.clone());
        let mut what = Notifications::new(sources);
        what.pool = pool.map(Pool::shared);
        what.prefetch = Prefetch::Limited(prefetch);
        let work = async move {
            let notes = Notes::start(&**transport.driver(), what, &intake).await?;
            let source = Source::Notes(Arc::new(notes));
            Ok(Value::Listener(Box::new(Listener::new(intake, source))))
        };
        Op::start(work, bell)
    }

    /// How the transport is doing.
    fn health<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let health = self.transport()?.health();
        let dict = PyDict::new(py);
        dict.set_item("connected", health.connected)?;
        dict.set_item("host", health.host)?;
        dict.set_item("blocked", health.blocked)?;
        dict.set_item("last_error", health.last_error)?;
        dict.set_item("consumers", health.consumers)?;
        dict.set_item("reply_queue", health.reply_queue)?;
        dict.set_item("calls_in_flight", health.calls_in_flight)?;
        Ok(dict)
    }

    /// Ends all subscriptions and connections.
    #[pyo3(signature = (bridge=None))]
    fn close(&self, bridge: Option<&Bridge>) -> PyResult<Op> {
        let transport = self.transport()?.clone();
        let work = async move {
            transport.close().await;
            Ok(Value::Nothing)
        };
        Op::start(work, bridge.and_then(Bridge::bell))
    }
}

impl Engine {
    fn transport(&self) -> PyResult<&Transport> {
        self.transport.get().ok_or_else(errors::inherited)
    }
}

/// What waits behind `concurrency` requests: as many again, so that a batch of replies finds its next requests here.
fn prefetch(concurrency: NonZeroUsize) -> NonZeroU16 {
    NonZeroU16::try_from(concurrency).unwrap_or(NonZeroU16::MAX)
}
