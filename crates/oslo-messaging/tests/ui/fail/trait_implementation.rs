use oslo_messaging::endpoint;

struct Conductor;

trait Ping {
    fn ping(&self);
}

#[endpoint]
impl Ping for Conductor {
    fn ping(&self) {}
}

fn main() {}
