//! omsg: the command line of oslo-messaging.
fn main() {}
