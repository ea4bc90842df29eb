//! omsg as its users meet it: words in; standard output, standard error and exit status out.

mod bench;
mod config;
mod memory;
mod notifications;
mod rabbit;
mod run;
mod unreachable;
mod usage;
