//! `instructions`: counts what the hot paths execute, and compares it with what was recorded.
//!
//! Each path of `hot` runs in a process of its own under `valgrind --tool=callgrind`, which counts the instructions between entry
//! and exit of one function. Valgrind shows every program the same processor, so the counts move neither with the machine's
//! load nor with its model; they do move with the compiler and the C library.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod arguments;
mod counting;
mod hot;
mod record;
mod verdict;

use std::path::Path;
use std::process::ExitCode;

use crate::arguments::{Arguments, Task, USAGE};
use crate::counting::{count, run_under_valgrind};
use crate::hot::{HotPath, hot_paths};
use crate::record::{Counts, Record, Toolchain};
use crate::verdict::Verdict;

fn main() -> ExitCode {
    match Arguments::read(std::env::args().skip(1)).and_then(|given| run(&given)) {
        Ok(code) => code,
        Err(text) => {
            eprintln!("instructions: {text}");
            ExitCode::from(2)
        }
    }
}

fn run(given: &Arguments) -> Result<ExitCode, String> {
    match &given.task {
        Task::Help => println!("{USAGE}"),
        Task::List => hot_paths()
            .iter()
            .for_each(|path| println!("{}", path.name)),
        Task::Run(name) => {
            let paths = hot_paths();
            let path = paths.iter().find(|path| path.name == name);
            run_under_valgrind(path.ok_or_else(|| format!("there is no hot path {name}"))?);
        }
        Task::Check => return check(given),
        Task::Renew => renew(given)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn check(given: &Arguments) -> Result<ExitCode, String> {
    let record = Record::read(&given.record)?;
    let here = Toolchain::here()?;
    if record.toolchain.target != here.target {
        println!(
            "The counts were recorded on {}, and this is {}: there is nothing to compare.",
            record.toolchain.target, here.target
        );
        return Ok(ExitCode::SUCCESS);
    }
    for difference in record.toolchain.differences(&here) {
        println!("{difference}");
    }
    let counted = measure(given)?;
    let verdict = Verdict::of(&given.wanted(&record.counts), &counted);
    println!("{verdict}");
    Ok(if verdict.is_good() {
        ExitCode::SUCCESS
    } else {
        println!("If this is meant: scripts/instructions --renew, and say in the commit why.");
        ExitCode::FAILURE
    })
}

fn renew(given: &Arguments) -> Result<(), String> {
    let toolchain = Toolchain::here()?;
    let counted = measure(given)?;
    let before = Record::read_if_there(&given.record)?;
    let mut counts = before.map_or_else(Counts::new, |record| record.counts);
    println!("{}", Verdict::of(&given.wanted(&counts), &counted));
    counts.retain(|name, _| !given.is_wanted(name));
    counts.extend(counted);
    Record { toolchain, counts }.write(&given.record)
}

/// Counts all that is wanted, one after the other.
fn measure(given: &Arguments) -> Result<Counts, String> {
    let mut counts = Counts::new();
    for HotPath {
        name, operations, ..
    } in hot_paths()
    {
        if given.is_wanted(name) {
            let all = count(name, Path::new(&given.profiles))?;
            counts.insert(name.to_owned(), all.div_ceil(operations));
        }
    }
    if counts.is_empty() {
        return Err("no hot path has such a name".to_owned());
    }
    Ok(counts)
}
