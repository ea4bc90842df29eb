use oslo_messaging::endpoint;

struct Conductor;

#[endpoint]
impl Conductor {
    #[rpc(limit = 0)]
    fn a(&self) {}
}

fn main() {
    let _ = oslo_messaging::Endpoint::method(&Conductor, "a");
}
