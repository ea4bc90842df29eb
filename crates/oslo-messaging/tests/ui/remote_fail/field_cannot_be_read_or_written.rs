use oslo_messaging::RemoteError;

#[derive(Debug)]
struct Opaque;

#[derive(Debug, thiserror::Error, RemoteError)]
#[remote(module = "nova.exception")]
#[error("no instance")]
struct InstanceNotFound {
    instance: Opaque,
}

fn main() {}
