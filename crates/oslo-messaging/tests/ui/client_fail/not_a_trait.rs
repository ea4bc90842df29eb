use oslo_messaging::client;

#[client]
struct Conductor;

fn main() {}
