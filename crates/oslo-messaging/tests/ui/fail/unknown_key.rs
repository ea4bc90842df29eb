use oslo_messaging::endpoint;

struct Conductor;

#[endpoint(namespace = "conductor", topic = "conductor")]
impl Conductor {}

fn main() {}
