//! The comparison bench: this library, Python's oslo.messaging, lapin and amqprs doing the same work on one broker.
//!
//! The orchestrator ([`run`](crate::main)) starts a server and a client of one peer after the other, in an order drawn
//! anew each round, and reads what each process says of itself. Start at `stage.rs`, which knows what is measured.

mod args;
mod broker;
mod child;
mod goals;
mod load;
mod machine;
mod peer;
mod protocol;
mod relay;
mod report;
mod series;
mod stage;
mod usage;

use std::process::ExitCode;

pub use crate::usage::{Heap, HeapMeter};

/// Runs the program: the orchestrator, or one of the processes it starts. `heap` tells what was allocated, where the
/// binary counts that.
pub fn main(heap: Option<HeapMeter>) -> ExitCode {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some("peer") {
        return peer::main(words.collect(), heap);
    }
    stage::main(args::read())
}
