use oslo_messaging::endpoint;

struct Conductor;

#[endpoint]
impl Conductor {
    #[rpc(rename = "b")]
    fn a(&self) {}

    #[rpc(name = "")]
    fn c(&self) {}

    #[expose(always)]
    fn d(&self) {}

    fn e(&self, #[default(3)] n: u8) {}

    #[expected]
    fn f(&self) {}

    #[expected = "ValueError"]
    fn g(&self) -> Result<(), String> {
        Ok(())
    }

    #[rpc(limit = 0)]
    fn h(&self) {}
}

fn main() {}
