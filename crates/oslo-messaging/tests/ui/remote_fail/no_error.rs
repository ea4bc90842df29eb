use oslo_messaging::RemoteError;

#[derive(Debug, RemoteError)]
#[remote(module = "nova.exception")]
struct InstanceNotFound;

fn main() {}
