use oslo_messaging::endpoint;

struct Conductor;

struct Opaque;

#[endpoint]
impl Conductor {
    async fn bare(&self) -> Opaque {
        Opaque
    }

    async fn fallible(&self) -> Result<Opaque, String> {
        Ok(Opaque)
    }
}

fn main() {}
