use oslo_messaging::endpoint;

struct Conductor;

#[endpoint]
impl Conductor {
    fn ping(&self) {}

    #[rpc(name = "ping")]
    fn pong(&self) {}
}

fn main() {}
