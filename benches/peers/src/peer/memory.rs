//! Calls on the bus inside a process, as the front page shows them.

use std::sync::Arc;
use std::time::Duration;

use oslo_messaging::{Context, RpcClient, RpcServer, Target, endpoint};
use serde::Serialize;

use crate::load::{Callers, Operation, Outcome};
use crate::peer::{Desk, say, text};
use crate::protocol::{Answer, Command, Done};

struct Echo;

#[endpoint]
impl Echo {
    async fn echo(&self, value: String) -> String {
        value
    }
}

#[derive(Serialize)]
struct Value<'a> {
    value: &'a str,
}

/// Plays caller and server in one process until there are no more orders.
pub(super) async fn play(mut desk: Desk) -> Result<(), String> {
    let explain = |fault: oslo_messaging::Error| fault.to_string();
    let transport = oslo_messaging::connect("memory://bench")
        .await
        .map_err(explain)?;
    let target = Target::topic("bench").server("one");
    let server = RpcServer::builder(transport.clone(), target)
        .endpoint(Echo)
        .start()
        .await
        .map_err(explain)?;
    let client = RpcClient::new(transport, Target::topic("bench"));
    say(&Answer::Ready);
    while let Some(command) = desk.next().await {
        let answer = match command {
            Command::Memory { callers, seconds } => {
                let calling = Calling {
                    client: client.clone(),
                    ctx: Context::new(),
                    value: text(100),
                };
                let mut load = Callers::start(callers, None, calling);
                tokio::time::sleep(Duration::from_secs_f64(seconds / 4.0)).await;
                let before = desk.usage(0);
                load.begin();
                tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
                let used = desk.usage(0).since(before);
                Answer::Done(Done {
                    used,
                    ..load.end().await
                })
            }
            other => Answer::Failed {
                why: format!("the memory bus does not play {other:?}"),
            },
        };
        say(&answer);
    }
    server.stop().await;
    Ok(())
}

#[derive(Clone)]
struct Calling {
    client: RpcClient,
    ctx: Context,
    value: Arc<str>,
}

impl Operation for Calling {
    async fn once(&self) -> Outcome {
        let value = Value { value: &self.value };
        let echo: String = self
            .client
            .call(&self.ctx, "echo", value)
            .await
            .map_err(|fault| fault.to_string())?;
        if echo.len() == self.value.len() {
            Ok(())
        } else {
            Err("another answer".to_owned())
        }
    }
}
