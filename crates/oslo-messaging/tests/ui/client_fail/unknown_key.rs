use oslo_messaging::client;

#[client(namespace = "conductor", topic = "conductor")]
trait Conductor {}

#[client(version = "1.0", version = "1.1")]
trait Twice {}

fn main() {}
