//! What answers requests: an endpoint with the methods of the reference's simulator (parity 1.17).

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oslo_messaging::driver::BoxFuture;
use oslo_messaging::rpc::{Interface, Invocation, MethodInfo, ReplyBody};
use oslo_messaging::{Context, Endpoint, RawJson, RemoteError};
use serde::Deserialize;
use tokio::sync::Notify;

use super::load::now;
use super::taken::Taken;
use super::workload::{Info, Message};
use crate::lock::lock;

/// Loads that may announce themselves at once; more are not remembered.
const LOADS: usize = 100_000;

/// Counts and echoes.
pub(super) struct Echo {
    pub(super) taken: Arc<Taken>,
    pub(super) loads: Arc<Loads>,
    /// How long each request is worked on.
    pub(super) wait: Duration,
}

/// The loads that said that they began, and not yet that they are done.
#[derive(Default)]
pub(super) struct Loads {
    under_way: Mutex<HashSet<String>>,
    done: Notify,
}

/// How a load announces itself.
#[derive(Deserialize)]
struct Announced {
    message: Announcement,
}

#[derive(Deserialize)]
struct Announcement {
    id: RawJson,
}

impl Loads {
    fn begin(&self, id: &RawJson) {
        let mut under_way = lock(&self.under_way);
        if under_way.len() < LOADS {
            under_way.insert(id.as_str().to_owned());
        }
    }

    fn end(&self, id: &RawJson) {
        let mut under_way = lock(&self.under_way);
        under_way.remove(id.as_str());
        if under_way.is_empty() {
            self.done.notify_one();
        }
    }

    /// Resolves when the last load that announced itself is done. Cancel safe.
    pub(super) async fn all_done(&self) {
        self.done.notified().await;
    }
}

impl Endpoint for Echo {
    fn interface(&self) -> Interface {
        Interface::new()
    }

    /// `info` carries the load; with the other two a load says that it begins and is done.
    fn method(&self, name: &str) -> Option<MethodInfo> {
        matches!(name, "info" | "sync_start" | "sync_done").then(MethodInfo::exposed)
    }

    fn call<'a>(
        &'a self,
        _ctx: &'a Context,
        call: Invocation<'a>,
    ) -> BoxFuture<'a, Result<ReplyBody, RemoteError>> {
        Box::pin(async move {
            match call.method() {
                "info" => {}
                method => {
                    let Announced { message } = call.parse_args()?;
                    match method {
                        "sync_start" => self.loads.begin(&message.id),
                        _ => self.loads.end(&message.id),
                    }
                    return call.respond(&());
                }
            }
            let Info {
                message: (number, content, sent, _, _),
            }: Info<Cow<'_, str>> = call.parse_args()?;
            let came = now();
            if self.taken.looks() {
                self.taken.look(content.len(), sent);
            }
            if !self.wait.is_zero() {
                tokio::time::sleep(self.wait).await;
            }
            self.taken.took(1);
            let answer: Message<&str> = (number, content.as_ref(), sent, came, 0.0);
            call.respond(&answer)
        })
    }
}
