use oslo_messaging::RemoteError;

#[derive(Debug, thiserror::Error, RemoteError)]
#[remote(module = "nova exception")]
enum ComputeError {
    #[error("no instance")]
    #[remote(class = "nova.InstanceNotFound")]
    NoInstance,
    #[error("no key")]
    #[remote(class = "A", class = "B")]
    NoKey,
    #[error("no node")]
    #[remote(class = 5)]
    NoNode,
}

fn main() {}
