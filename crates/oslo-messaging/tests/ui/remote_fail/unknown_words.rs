use oslo_messaging::RemoteError;

#[derive(Debug, thiserror::Error, RemoteError)]
#[remote(namespace = "nova")]
#[error("no node")]
struct NoNode;

#[derive(Debug, thiserror::Error, RemoteError)]
#[remote(module = "nova.exception")]
enum ComputeError {
    #[error("no instance")]
    #[remote(klass = "InstanceNotFound")]
    NoInstance,
    #[error("no key")]
    NoKey {
        #[remote(keyword)]
        key: String,
    },
}

fn main() {}
