use oslo_messaging::endpoint;

struct Conductor;

#[endpoint]
impl Conductor {
    fn pair(&self, (a, b): (u8, u8)) {}

    fn ignored(&self, _: u8) {}

    fn exclusive(&self, name: &mut String) {}
}

fn main() {}
