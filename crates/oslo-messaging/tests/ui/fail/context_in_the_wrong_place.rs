use oslo_messaging::endpoint;

struct Conductor;

#[endpoint]
impl Conductor {
    fn late(&self, host: String, ctx: &oslo_messaging::Context) {}

    fn defaulted(&self, #[default] ctx: &oslo_messaging::Context) {}
}

fn main() {}
