use oslo_messaging::endpoint;

struct Conductor;

#[endpoint]
impl Conductor {
    fn any<T>(&self, value: T) {}

    fn sized<const N: usize>(&self) {}

    fn display(&self, value: impl std::fmt::Display) {}
}

fn main() {}
