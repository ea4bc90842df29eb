use oslo_messaging::endpoint;

struct Conductor;

#[endpoint(version = "one")]
impl Conductor {}

fn main() {}
