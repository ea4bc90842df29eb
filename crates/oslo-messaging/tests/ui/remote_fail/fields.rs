use oslo_messaging::RemoteError;

#[derive(Debug, thiserror::Error, RemoteError)]
#[remote(module = "nova.exception")]
enum ComputeError {
    #[error("no instance {0}")]
    InstanceNotFound(#[remote(name = "instance_id")] String),
    #[error("no node {0}")]
    NodeNotFound(#[remote(arg)] String),
}

fn main() {}
