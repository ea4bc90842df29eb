use oslo_messaging::RemoteError;

#[derive(Debug, thiserror::Error, RemoteError)]
enum ComputeError {
    #[error("no instance {0}")]
    InstanceNotFound(String),
    #[error("no key {0}")]
    #[remote(module = "builtins")]
    KeyError(String),
}

fn main() {}
