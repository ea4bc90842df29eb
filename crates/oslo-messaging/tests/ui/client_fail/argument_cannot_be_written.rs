use oslo_messaging::client;

pub struct Opaque;

#[client]
trait Conductor {
    async fn take(&self, value: Opaque);
    async fn give(&self) -> Opaque;
}

fn main() {}
