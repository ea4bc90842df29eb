use oslo_messaging::endpoint;

struct Conductor;

#[endpoint(version = 1.3)]
impl Conductor {}

fn main() {}
