use oslo_messaging::endpoint;

struct Conductor;

#[endpoint(version = "1.0", version = "1.1")]
impl Conductor {}

fn main() {}
