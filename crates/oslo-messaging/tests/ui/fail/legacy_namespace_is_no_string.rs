use oslo_messaging::endpoint;

struct Conductor;

#[endpoint(legacy_namespaces(nil))]
impl Conductor {}

fn main() {}
