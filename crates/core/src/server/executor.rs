//! Where the handlers of a server run.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};

/// How a server runs its handlers (parity RS2).
///
/// Whatever it is, a method marked as blocking ([`MethodInfo::blocking`](crate::rpc::endpoint::MethodInfo::blocking)) gets a
/// thread of its own while it runs. The names of configuration are read by [`FromStr`]:
///
/// ```
/// use oslo_messaging_core::rpc::server::Executor;
///
/// assert_eq!("threading".parse::<Executor>().unwrap(), Executor::Threading);
/// assert_eq!("blocking".parse::<Executor>().unwrap(), Executor::Blocking);
/// // What Python does with green threads is done with tasks here.
/// assert_eq!("eventlet".parse::<Executor>().unwrap(), Executor::default());
/// assert!("carrier-pigeon".parse::<Executor>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Executor {
    /// A task of the runtime for each request: the default, and what green threads are for Python. `async`, `eventlet`.
    ///
    /// Handlers share the runtime's threads, so they must not block.
    #[default]
    Async,
    /// A thread for each request, of a pool as large as the server's concurrency, for handlers that block. `threading`.
    ///
    /// Threads are made as they are needed and kept until the server ends. A handler that never returns cannot be ended
    /// from outside: a stop leaves its thread behind, and says so.
    Threading,
    /// One request after the other, in one task: none is taken before the reply of the last is with the bus. `blocking`.
    ///
    /// The concurrency is 1, whatever else was asked for, and the prefetch is 1 unless it is set: that one waits here,
    /// not acknowledged. With [`Acknowledge::After`](crate::rpc::server::Acknowledge::After) not even that.
    Blocking,
}

impl Executor {
    /// Its name in configuration.
    ///
    /// ```
    /// use oslo_messaging_core::rpc::server::Executor;
    ///
    /// assert_eq!(Executor::Threading.as_str(), "threading");
    /// ```
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Async => "async",
            Self::Threading => "threading",
            Self::Blocking => "blocking",
        }
    }
}

impl fmt::Display for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Executor {
    type Err = Error;

    /// Reads a name; [`Config`](ErrorKind::Config) for one that is none (the reference's `ExecutorLoadFailure`, parity E9).
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "async" | "eventlet" => Ok(Self::Async),
            "threading" => Ok(Self::Threading),
            "blocking" => Ok(Self::Blocking),
            other => {
                let text = format!(
                    "no executor is called {other:?}; there are async (also called eventlet), threading and blocking"
                );
                Err(Error::new(ErrorKind::Config, text))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_executor_is_read_by_its_name_and_others_are_refused_with_the_names_there_are() {
        for executor in [Executor::Async, Executor::Threading, Executor::Blocking] {
            assert_eq!(executor.to_string().parse::<Executor>().unwrap(), executor);
        }
        let error = "aioeventlet".parse::<Executor>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        for name in ["aioeventlet", "async", "eventlet", "threading", "blocking"] {
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
