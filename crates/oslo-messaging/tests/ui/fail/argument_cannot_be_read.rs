use oslo_messaging::endpoint;

struct Conductor;

struct Opaque;

#[endpoint]
impl Conductor {
    async fn take(&self, first: String, opaque: Opaque) {
        drop((first, opaque));
    }
}

fn main() {}
