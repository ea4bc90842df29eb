use oslo_messaging::RemoteError;

#[derive(RemoteError)]
#[remote(module = "nova.exception")]
union Both {
    one: u8,
    two: i8,
}

#[derive(Debug, thiserror::Error, RemoteError)]
#[remote(module = "nova.exception")]
#[error("generic")]
struct Generic<T>(T);

#[derive(Debug, thiserror::Error, RemoteError)]
#[remote(module = "nova.exception", class = "ComputeError")]
#[error("named")]
enum Named {
    One,
}

fn main() {}
