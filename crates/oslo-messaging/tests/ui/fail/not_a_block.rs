use oslo_messaging::endpoint;

struct Conductor;

#[endpoint]
fn ping() {}

fn main() {}
