use oslo_messaging::endpoint;

struct Conductor;

struct Oops;

#[endpoint]
impl Conductor {
    async fn fails(&self) -> Result<u8, Oops> {
        Err(Oops)
    }
}

fn main() {}
