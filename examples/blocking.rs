//! RPC without async: `cargo run --example blocking`

use std::collections::HashMap;

use oslo_messaging::blocking::{self, RpcClient, RpcServer};
use oslo_messaging::{Context, Target, endpoint};

struct Adder;

#[endpoint]
impl Adder {
    fn add(&self, a: i64, b: i64) -> i64 {
        a + b
    }
}

pub(crate) fn main() -> oslo_messaging::Result<()> {
    let transport = blocking::connect("memory://blocking")?;
    let target = Target::topic("adder").server("host-1");
    let server = RpcServer::start(transport.serve(target).endpoint(Adder))?;

    let client = RpcClient::new(&transport, Target::topic("adder"));
    let numbers = HashMap::from([("a", 2), ("b", 3)]);
    let sum: i64 = client.call(&Context::new(), "add", numbers)?;
    println!("2 + 3 = {sum}");

    server.stop()?;
    transport.close()
}
