use oslo_messaging::RemoteError;

#[derive(Debug, thiserror::Error, RemoteError)]
#[remote(module = "nova.exception")]
enum ComputeError {
    #[error("other: {0}")]
    #[remote(other)]
    Other(String),
}

fn main() {}
