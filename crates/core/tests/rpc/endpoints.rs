//! Endpoints for the tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use oslo_messaging_core::context::Context;
use oslo_messaging_core::driver::BoxFuture;
use oslo_messaging_core::error::RemoteError;
use oslo_messaging_core::rpc::{
    Endpoint, Interface, IntoFailure, Invocation, MethodInfo, ReplyBody,
};
use oslo_messaging_proto::json::value::Value;
use serde::ser::Error as _;
use tokio::sync::Semaphore;

/// What the tests look at and hold.
pub struct Desk {
    pub started: AtomicUsize,
    pub ended: AtomicUsize,
    pub running: AtomicUsize,
    pub most_running: AtomicUsize,
    /// `hold` waits for one of these.
    pub gate: Semaphore,
    /// One is added whenever a method starts.
    pub entered: Semaphore,
}

impl Desk {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            started: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
            gate: Semaphore::new(0),
            entered: Semaphore::new(0),
        })
    }

    pub fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    /// Waits until this many more methods have started.
    pub async fn entered(&self, count: u32) {
        self.entered.acquire_many(count).await.unwrap().forget();
    }
}

/// What a handler may panic with: its drop panics as well, with one more of its kind.
struct Chain;

impl Drop for Chain {
    fn drop(&mut self) {
        std::panic::panic_any(Chain);
    }
}

/// Methods of every temper.
pub struct Methods {
    pub desk: Arc<Desk>,
    pub interface: Interface,
    pub names: &'static [&'static str],
}

pub const NAMES: &[&str] = &[
    "echo",
    "add",
    "hold",
    "boom",
    "chain",
    "fail",
    "unwritable",
    "nan",
    "huge",
    "context",
    "_private",
    "who",
];

impl Methods {
    pub fn new(desk: &Arc<Desk>) -> Self {
        Self {
            desk: Arc::clone(desk),
            interface: Interface::new(),
            names: NAMES,
        }
    }

    pub fn interface(mut self, interface: Interface) -> Self {
        self.interface = interface;
        self
    }

    pub fn names(mut self, names: &'static [&'static str]) -> Self {
        self.names = names;
        self
    }

    async fn run(&self, ctx: &Context, mut call: Invocation<'_>) -> Result<ReplyBody, RemoteError> {
        match call.method() {
            "echo" => {
                let value: Value = call.take_or_else("value", || Value::Null)?;
                call.finish_args()?;
                call.respond(&value)
            }
            "add" => {
                let (a, b): (i64, i64) = (call.take("a")?, call.take("b")?);
                call.finish_args()?;
                call.respond(&(a + b))
            }
            "hold" => {
                self.desk.gate.acquire().await.unwrap().forget();
                call.respond(&())
            }
            "boom" => panic!("the sky fell"),
            "chain" => std::panic::panic_any(Chain),
            "fail" => Err("on purpose".into_failure()),
            "unwritable" => call.respond(&Unwritable),
            "nan" => call.respond(&f64::NAN),
            "huge" => call.respond("a very long text"),
            "context" => call.respond(&ctx.get::<String>("user").and_then(Result::ok)),
            "who" => call.respond(&self.interface.version_text()),
            other => call.respond(other),
        }
    }
}

impl Endpoint for Methods {
    fn interface(&self) -> Interface {
        self.interface.clone()
    }

    fn method(&self, name: &str) -> Option<MethodInfo> {
        self.names.contains(&name).then(|| {
            if name == "echo" {
                MethodInfo::exposed()
            } else {
                MethodInfo::new()
            }
        })
    }

    fn call<'a>(
        &'a self,
        ctx: &'a Context,
        call: Invocation<'a>,
    ) -> BoxFuture<'a, Result<ReplyBody, RemoteError>> {
        Box::pin(async move {
            let _running = Running::new(&self.desk);
            let result = self.run(ctx, call).await;
            self.desk.ended.fetch_add(1, Ordering::SeqCst);
            result
        })
    }
}

struct Running<'a>(&'a Desk);

impl<'a> Running<'a> {
    fn new(desk: &'a Desk) -> Self {
        desk.started.fetch_add(1, Ordering::SeqCst);
        let now = desk.running.fetch_add(1, Ordering::SeqCst) + 1;
        desk.most_running.fetch_max(now, Ordering::SeqCst);
        desk.entered.add_permits(1);
        Self(desk)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Unwritable;

impl serde::Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("this cannot be written"))
    }
}

type Answered<'a> = BoxFuture<'a, Result<ReplyBody, RemoteError>>;
type Act = dyn for<'a> Fn(&'a Context, Invocation<'a>) -> Answered<'a> + Send + Sync;

/// Methods that a test writes in place.
pub struct Acts {
    names: Vec<(&'static str, MethodInfo)>,
    interface: Interface,
    act: Box<Act>,
}

/// An endpoint with these methods, all of which do `act`.
pub fn acts(
    names: &[(&'static str, MethodInfo)],
    act: impl for<'a> Fn(&'a Context, Invocation<'a>) -> Answered<'a> + Send + Sync + 'static,
) -> Acts {
    Acts {
        names: names.to_vec(),
        interface: Interface::new(),
        act: Box::new(act),
    }
}

impl Endpoint for Acts {
    fn interface(&self) -> Interface {
        self.interface.clone()
    }

    fn method(&self, name: &str) -> Option<MethodInfo> {
        let found = self.names.iter().find(|(known, _)| *known == name);
        found.map(|(_, info)| *info)
    }

    fn call<'a>(&'a self, ctx: &'a Context, call: Invocation<'a>) -> Answered<'a> {
        (self.act)(ctx, call)
    }
}
