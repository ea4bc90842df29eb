//! The endpoint of `omsg serve`: an echo, or canned answers; tells of every request it served.

use std::time::{Duration, Instant};

use indexmap::IndexMap;
use oslo_messaging::driver::BoxFuture;
use oslo_messaging::rpc::ping::PING_METHOD;
use oslo_messaging::rpc::{Interface, Invocation, MethodInfo, ReplyBody};
use oslo_messaging::{Context, Endpoint, RemoteError};
use serde::Serialize;
use tokio::sync::mpsc;
use tracing::debug;

use crate::answers::Answers;
use crate::output::{Record, Text};
use crate::time::{now_utc, show_duration};
use crate::values::clean_line;

/// Where requests are answered.
pub(crate) struct Desk {
    interface: Interface,
    /// `None` is the echo.
    answers: Option<Answers>,
    served: mpsc::Sender<Served>,
}

/// A request that was served. Names and sizes only: values may be secret.
#[derive(Serialize)]
pub(crate) struct Served {
    event: &'static str,
    time: String,
    kind: Kind,
    method: String,
    /// Bytes of JSON by argument.
    args: IndexMap<String, usize>,
    #[serde(serialize_with = "crate::time::millis", rename = "ms")]
    took: Duration,
    #[serde(flatten)]
    outcome: Outcome,
}

/// Whether somebody waits for the answer.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Call,
    Cast,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
enum Outcome {
    Result,
    Error { class: String },
}

impl Record for Served {
    fn describe(&self, text: &mut Text) {
        let kind = match self.kind {
            Kind::Call => "call",
            Kind::Cast => "cast",
        };
        text.dim(&self.time)
            .plain(format!("  {kind}  "))
            .bold(clean_line(&self.method))
            .plain("(");
        for (position, (name, bytes)) in self.args.iter().enumerate() {
            let comma = if position == 0 { "" } else { ", " };
            text.plain(format!("{comma}{}", clean_line(name)))
                .dim(format!(" {bytes} B"));
        }
        text.plain(format!(")  {}  ", show_duration(self.took)));
        match &self.outcome {
            Outcome::Result => text.good("result"),
            Outcome::Error { class } => text.bad(format!("error {}", clean_line(class))),
        };
    }
}

impl Desk {
    /// A desk that serves this interface and tells `served` of every request.
    pub(crate) fn new(
        interface: Interface,
        answers: Option<Answers>,
        served: mpsc::Sender<Served>,
    ) -> Self {
        Self {
            interface,
            answers,
            served,
        }
    }

    async fn answer(&self, call: &Invocation<'_>) -> Result<ReplyBody, RemoteError> {
        let method = call.method();
        match &self.answers {
            None if method.starts_with('_') || method.starts_with("no_") => {
                Err(call.no_such_method())
            }
            None => call.respond(call.args()),
            Some(answers) => {
                let answer = answers.get(method).ok_or_else(|| call.no_such_method())?;
                tokio::time::sleep(answer.delay).await;
                match &answer.outcome {
                    Ok(result) => call.respond(result),
                    Err(failure) => Err(failure.clone()),
                }
            }
        }
    }
}

impl Endpoint for Desk {
    fn interface(&self) -> Interface {
        self.interface.clone()
    }

    /// Every name gets here, so that refused requests are told of, too; the ping has an endpoint of its own.
    fn method(&self, name: &str) -> Option<MethodInfo> {
        (name != PING_METHOD).then(MethodInfo::exposed)
    }

    fn call<'a>(
        &'a self,
        _ctx: &'a Context,
        call: Invocation<'a>,
    ) -> BoxFuture<'a, Result<ReplyBody, RemoteError>> {
        Box::pin(async move {
            let (time, started) = (now_utc(), Instant::now());
            debug!(method = call.method(), "request begins");
            let answer = self.answer(&call).await;
            let served = Served {
                event: "request",
                time,
                kind: if call.is_call() {
                    Kind::Call
                } else {
                    Kind::Cast
                },
                method: call.method().to_owned(),
                args: sizes(&call),
                took: started.elapsed(),
                outcome: match &answer {
                    Ok(_) => Outcome::Result,
                    Err(failure) => Outcome::Error {
                        class: failure.class().to_owned(),
                    },
                },
            };
            // Waits for room, so that no line is lost; the other side is gone only when all is over.
            let _ = self.served.send(served).await;
            answer
        })
    }
}

fn sizes(call: &Invocation<'_>) -> IndexMap<String, usize> {
    call.args()
        .clone()
        .into_entries()
        .into_iter()
        .map(|(name, value)| (name, value.as_str().len()))
        .collect()
}

#[cfg(test)]
mod tests {
    use oslo_messaging::{ErrorKind, LegacyRpcAccessPolicy, RawJson, RpcClient, RpcServer, Target};

    use super::*;

    /// A desk on a bus of its own, a client of it, and what the desk tells.
    async fn open(answers: Option<&str>) -> (RpcServer, RpcClient, mpsc::Receiver<Served>) {
        let name = std::thread::current()
            .name()
            .unwrap_or("desk")
            .replace(':', "-");
        let transport = oslo_messaging::connect(format!("memory://{name}"))
            .await
            .expect("a memory bus");
        let answers = answers.map(|text| Answers::parse(text).expect("good answers"));
        let (served, told) = mpsc::channel(8);
        let server = RpcServer::builder(transport.clone(), Target::topic("t").server("s"))
            .endpoint(Desk::new(Interface::new(), answers, served))
            .access_policy(LegacyRpcAccessPolicy)
            .start()
            .await
            .expect("the memory bus takes servers");
        (server, RpcClient::new(transport, Target::topic("t")), told)
    }

    async fn call(client: &RpcClient, method: &str, args: &str) -> Result<String, ErrorKind> {
        let args = RawJson::from_text(args).expect("JSON");
        let result = client.call_raw(&Context::new(), method, &args).await;
        result
            .map(|json| json.as_str().to_owned())
            .map_err(|fault| fault.kind())
    }

    #[tokio::test]
    async fn the_echo_gives_arguments_back_digit_by_digit() {
        let (server, client, mut told) = open(None).await;
        let args = r#"{"n": 1.10, "s": "\u00e9", "b": 123456789012345678901}"#;
        assert_eq!(call(&client, "anything", args).await.as_deref(), Ok(args));
        let served = told.recv().await.expect("it tells");
        assert_eq!(
            (served.method.as_str(), served.args["n"], served.args["b"]),
            ("anything", 4, 21)
        );
        for method in ["_private", "no_such", "_"] {
            assert_eq!(
                call(&client, method, "{}").await,
                Err(ErrorKind::NoSuchMethod),
                "{method}"
            );
            let served = told.recv().await.expect("it tells of refusals, too");
            assert!(
                matches!(served.outcome, Outcome::Error { ref class } if class == "NoSuchMethod")
            );
        }
        server.stop().await;
    }

    #[tokio::test]
    async fn canned_answers_take_their_time() {
        let answers = "{now: {result: [1, null]}, later: {delay: 0.05, result: 2}, bad: {error: {class: ValueError}}}";
        let (server, client, mut told) = open(Some(answers)).await;
        assert_eq!(call(&client, "now", "{}").await.as_deref(), Ok("[1, null]"));
        told.recv().await.expect("it tells");
        assert_eq!(call(&client, "later", "{}").await.as_deref(), Ok("2"));
        assert!(told.recv().await.expect("it tells").took >= Duration::from_millis(50));
        assert_eq!(call(&client, "bad", "{}").await, Err(ErrorKind::Remote));
        assert_eq!(
            call(&client, "anything", "{}").await,
            Err(ErrorKind::NoSuchMethod)
        );
        server.stop().await;
    }
}
