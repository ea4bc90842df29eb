//! HTTP requests and their responses as notifications: a tower layer (parity MW1).
//!
//! Each request becomes `http.request`, each response or failure `http.response`, both of priority `info`. What cannot be
//! told is logged and forgotten: a request is served whether or not somebody hears of it.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use http::header::HeaderMap;
use http::{Request, Response};
use oslo_messaging_core::context::Context;
use oslo_messaging_core::notify::Notifier;
use oslo_messaging_proto::json::value::{Object, Value};
use tower_layer::Layer;
use tower_service::Service;
use tracing::error;

/// Headers that are never told. The reference leaves out the first only.
const SECRET: [&str; 8] = [
    "x-auth-token",
    "x-subject-token",
    "x-service-token",
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-storage-token",
];

/// Tells of HTTP requests and their responses by a [`Notifier`].
///
/// The payload of `http.request` is `{"request": …}` with the members of a WSGI environment that the reference sends:
/// `REQUEST_METHOD`, `PATH_INFO`, `QUERY_STRING`, `SERVER_PROTOCOL`, `HTTP_…` for each header, and `HTTP_X_SERVICE_NAME`.
/// `http.response` has the same `request`, and `response` with `status` and `headers`, or `exception` with `value` if the
/// service failed. Tokens, cookies and authorizations are left out.
///
/// A request waits for its notification no longer than the notifier's deadline.
///
/// ```
/// use std::convert::Infallible;
/// use oslo_messaging::memory::MemoryBroker;
/// use oslo_messaging::{Notifier, RequestNotificationLayer};
/// use tower_layer::Layer;
///
/// #[derive(Clone)]
/// struct Api;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> oslo_messaging::Result<()> {
/// let notifier = Notifier::builder(MemoryBroker::new().transport()).publisher_id("api.node-1").build()?;
/// let layer = RequestNotificationLayer::new(notifier).service_name("compute").ignore("HEAD");
/// let told = layer.layer(Api);
/// # drop(told);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RequestNotificationLayer {
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Shared {
    notifier: Notifier,
    service_name: Option<String>,
    /// Methods, in upper case.
    ignored: BTreeSet<String>,
}

impl RequestNotificationLayer {
    /// A layer that tells of every request.
    ///
    /// ```
    /// # use oslo_messaging::{Notifier, RequestNotificationLayer, memory::MemoryBroker};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> oslo_messaging::Result<()> {
    /// let notifier = Notifier::builder(MemoryBroker::new().transport()).build()?;
    /// let layer = RequestNotificationLayer::new(notifier);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(notifier: Notifier) -> Self {
        Self {
            shared: Arc::new(Shared {
                notifier,
                service_name: None,
                ignored: BTreeSet::new(),
            }),
        }
    }

    /// What `HTTP_X_SERVICE_NAME` says (option `service_name`); without it, the host that the request names.
    #[must_use]
    pub fn service_name(mut self, name: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.shared).service_name = Some(name.into());
        self
    }

    /// Tells nothing of requests of this method, whatever its case (option `ignore_req_list`). May be called several times.
    #[must_use]
    pub fn ignore(mut self, method: &str) -> Self {
        let method = method.trim().to_ascii_uppercase();
        Arc::make_mut(&mut self.shared).ignored.insert(method);
        self
    }
}

impl<S> Layer<S> for RequestNotificationLayer {
    type Service = RequestNotification<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestNotification {
            inner,
            shared: Arc::clone(&self.shared),
        }
    }
}

impl fmt::Debug for RequestNotificationLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestNotificationLayer")
            .field("service_name", &self.shared.service_name)
            .field("ignored", &self.shared.ignored)
            .finish_non_exhaustive()
    }
}

/// The service that a [`RequestNotificationLayer`] makes of another one.
///
/// ```
/// use oslo_messaging::memory::MemoryBroker;
/// use oslo_messaging::{Notifier, RequestNotification, RequestNotificationLayer};
/// use tower_layer::Layer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> oslo_messaging::Result<()> {
/// let notifier = Notifier::builder(MemoryBroker::new().transport()).build()?;
/// let told: RequestNotification<&str> = RequestNotificationLayer::new(notifier).layer("a service");
/// # drop(told);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RequestNotification<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S: fmt::Debug> fmt::Debug for RequestNotification<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestNotification")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

type Answer<R, E> = Pin<Box<dyn Future<Output = Result<R, E>> + Send>>;

impl<S, B, R> Service<Request<B>> for RequestNotification<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: fmt::Display + Send,
    B: Send + 'static,
    R: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answer<S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that said it is ready takes the request; its clone need not be.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        if self.shared.ignored.contains(request.method().as_str()) {
            return Box::pin(inner.call(request));
        }
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let environ = shared.environ(&request);
            let mut payload = Object::new();
            payload.insert("request".to_owned(), environ);
            shared.tell("http.request", payload.clone()).await;
            let answer = inner.call(request).await;
            match &answer {
                Ok(response) => payload.insert("response".to_owned(), describe(response)),
                Err(fault) => {
                    let members = [
                        ("value", Value::from(fault.to_string())),
                        ("traceback", Value::from(Vec::<String>::new())),
                    ];
                    payload.insert("exception".to_owned(), members.into_iter().collect())
                }
            };
            shared.tell("http.response", payload).await;
            answer
        })
    }
}

impl Shared {
    async fn tell(&self, event_type: &str, payload: Object) {
        let payload = Value::from(payload);
        if let Err(fault) = self
            .notifier
            .info(&Context::new(), event_type, &payload)
            .await
        {
            error!(event_type, %fault, "an HTTP request was not told of");
        }
    }

    /// The members of a WSGI environment that are known here.
    fn environ<B>(&self, request: &Request<B>) -> Value {
        let (uri, headers) = (request.uri(), request.headers());
        let mut environ = Object::new();
        let mut put = |name: &str, value: String| {
            environ.insert(name.to_owned(), Value::from(value));
        };
        put("REQUEST_METHOD", request.method().to_string());
        put("SCRIPT_NAME", String::new());
        put("PATH_INFO", uri.path().to_owned());
        put("QUERY_STRING", uri.query().unwrap_or_default().to_owned());
        put("SERVER_PROTOCOL", format!("{:?}", request.version()));
        for (name, value) in shown(headers) {
            let name = name.to_ascii_uppercase().replace('-', "_");
            match name.as_str() {
                "CONTENT_TYPE" | "CONTENT_LENGTH" => put(&name, value),
                _ => put(&format!("HTTP_{name}"), value),
            }
        }
        let host = || {
            headers
                .get("host")
                .map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned())
        };
        let named = self.service_name.clone().or_else(host);
        let named = named.or_else(|| uri.authority().map(|authority| authority.host().to_owned()));
        put("HTTP_X_SERVICE_NAME", named.unwrap_or_default());
        Value::from(environ)
    }
}

/// Status and headers of a response.
fn describe<R>(response: &Response<R>) -> Value {
    let status = response.status();
    let status = match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_str()),
        None => status.as_str().to_owned(),
    };
    let headers: Value = shown(response.headers()).collect();
    [("status", Value::from(status)), ("headers", headers)]
        .into_iter()
        .collect()
}

/// Headers that may be told; of one that comes several times, all values with commas between them.
fn shown(headers: &HeaderMap) -> impl Iterator<Item = (String, String)> {
    headers
        .keys()
        .filter(|name| !SECRET.contains(&name.as_str()))
        .map(|name| {
            let values = headers.get_all(name).iter();
            let values: Vec<_> = values
                .map(|value| String::from_utf8_lossy(value.as_bytes()))
                .collect();
            (name.as_str().to_owned(), values.join(", "))
        })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{Ready, ready};

    use oslo_messaging_core::driver::BoxFuture;
    use oslo_messaging_core::error::{Error, ErrorKind, Result};
    use oslo_messaging_core::memory::MemoryBroker;
    use oslo_messaging_core::notify::{Posting, Sink, TestSink};
    use oslo_messaging_proto::priority::Priority;

    use super::*;

    /// Answers 201, or fails.
    #[derive(Clone)]
    struct Api<E>(Result<(), E>);

    impl<E: Clone> Service<Request<()>> for Api<E> {
        type Response = Response<()>;
        type Error = E;
        type Future = Ready<Result<Response<()>, E>>;

        fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), E>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<()>) -> Self::Future {
            let response = Response::builder()
                .status(201)
                .header("content-type", "application/json")
                .header("set-cookie", "hunter2");
            let path = request.uri().path().to_owned();
            let response = response.header("location", path).body(());
            ready(self.0.clone().map(|()| response.unwrap()))
        }
    }

    fn layer(sink: &TestSink) -> RequestNotificationLayer {
        let builder = Notifier::builder(MemoryBroker::new().transport());
        let notifier = builder
            .publisher_id("api.node-1")
            .sink(sink.clone())
            .build()
            .unwrap();
        RequestNotificationLayer::new(notifier).ignore("head")
    }

    fn request(method: &str) -> Request<()> {
        Request::builder()
            .method(method)
            .uri("/v2/servers?limit=2")
            .header("host", "api:8774")
            .header("x-auth-token", "hunter2")
            .header("authorization", "Bearer hunter2")
            .header("x-project-id", "p1")
            .header("accept", "text/html")
            .header("accept", "application/json")
            .body(())
            .unwrap()
    }

    #[tokio::test]
    async fn a_request_and_its_response_are_told_with_the_references_members_and_without_secrets() {
        let sink = TestSink::new();
        let mut told = layer(&sink).layer(Api::<Infallible>(Ok(())));
        let answer = told.call(request("POST")).await.unwrap();
        assert_eq!(answer.status(), 201);
        let notes = sink.recorded();
        let events: Vec<_> = notes
            .iter()
            .map(|told| told.note.event_type().unwrap_or_default())
            .collect();
        assert_eq!(events, ["http.request", "http.response"]);
        assert!(notes.iter().all(|told| told.priority == Priority::Info));
        let first: Value = notes[0].note.parse().unwrap();
        let environ = first.get("request").unwrap();
        for (name, value) in [
            ("REQUEST_METHOD", "POST"),
            ("PATH_INFO", "/v2/servers"),
            ("QUERY_STRING", "limit=2"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("HTTP_HOST", "api:8774"),
            ("HTTP_X_PROJECT_ID", "p1"),
            ("HTTP_ACCEPT", "text/html, application/json"),
            ("HTTP_X_SERVICE_NAME", "api:8774"),
        ] {
            assert_eq!(
                environ.get(name).and_then(Value::as_str),
                Some(value),
                "{name}"
            );
        }
        let second: Value = notes[1].note.parse().unwrap();
        assert_eq!(second.get("request"), Some(environ));
        let response = second.get("response").unwrap();
        assert_eq!(
            response.get("status").and_then(Value::as_str),
            Some("201 Created")
        );
        let location = response
            .get("headers")
            .and_then(|headers| headers.get("location"));
        assert_eq!(location.and_then(Value::as_str), Some("/v2/servers"));
        for told in &notes {
            assert!(!told.note.payload().as_str().contains("hunter2"));
        }
    }

    #[tokio::test]
    async fn a_failure_is_told_and_passed_on() {
        let sink = TestSink::new();
        let layer = layer(&sink).service_name("compute");
        let mut told = layer.layer(Api(Err("no database")));
        assert_eq!(told.call(request("GET")).await.unwrap_err(), "no database");
        let last: Value = sink.recorded()[1].note.parse().unwrap();
        assert!(last.get("response").is_none());
        let value = last
            .get("exception")
            .and_then(|exception| exception.get("value"));
        assert_eq!(value.and_then(Value::as_str), Some("no database"));
        let name = last
            .get("request")
            .and_then(|request| request.get("HTTP_X_SERVICE_NAME"));
        assert_eq!(name.and_then(Value::as_str), Some("compute"));
    }

    /// A sink that takes nothing.
    struct Broken;

    impl Sink for Broken {
        fn name(&self) -> &str {
            "broken"
        }

        fn post<'a>(&'a self, _post: Posting<'a>) -> BoxFuture<'a, Result<()>> {
            Box::pin(async { Err(Error::new(ErrorKind::Unreachable, "the bus is gone")) })
        }
    }

    #[tokio::test]
    async fn nothing_is_told_of_ignored_methods_and_a_bus_that_is_gone_fails_no_request() {
        let sink = TestSink::new();
        let mut told = layer(&sink).layer(Api::<Infallible>(Ok(())));
        told.call(request("HEAD")).await.unwrap();
        assert!(sink.recorded().is_empty());

        let builder = Notifier::builder(MemoryBroker::new().transport());
        let notifier = builder.sink(Broken).build().unwrap();
        let mut told = RequestNotificationLayer::new(notifier).layer(Api::<Infallible>(Ok(())));
        assert_eq!(told.call(request("GET")).await.unwrap().status(), 201);
    }
}
