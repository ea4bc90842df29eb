use oslo_messaging::{Error, RemoteError};

#[derive(Debug, thiserror::Error, RemoteError)]
#[remote(module = "nova.exception")]
enum ComputeError {
    #[error("one")]
    #[remote(other)]
    One(Error),
    #[error("two")]
    #[remote(other)]
    Two(Error),
    #[error("three")]
    #[remote(unknown)]
    Three { error: RemoteError },
    #[error("four")]
    #[remote(other, unknown)]
    Four(Error),
}

fn main() {}
