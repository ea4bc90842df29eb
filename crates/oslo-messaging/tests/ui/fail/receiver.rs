use oslo_messaging::endpoint;

struct Conductor;

#[endpoint]
impl Conductor {
    fn changes(&mut self) {}

    fn without(host: String) -> String {
        host
    }

    fn consumes(self) {}

    fn shared(self: std::sync::Arc<Self>) {}
}

fn main() {}
