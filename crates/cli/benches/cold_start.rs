//! How long `omsg call` takes from its start to its answer and to its end, and the same of a Python program.
//!
//! Each is a fresh process that connects, calls an `omsg serve` and goes; they alternate, so that a busy machine is busy
//! for all. Needs RabbitMQ, as the tests do (`with-services`), or the bus of `OSLO_TRANSPORT_URL`; Python is the one of
//! `OSLO_TEST_PYTHON` and left out without it. An argument is the number of rounds, 40 if there is none.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const OMSG: &str = env!("CARGO_BIN_EXE_omsg");
const TOPIC: &str = "omsg-cold-start";

/// The shortest program for the same call. The reference reads some options from the global object, whatever it is given.
const PYTHON: &str = "\
import sys
from oslo_config import cfg
import oslo_messaging as om
cfg.CONF([])
transport = om.get_rpc_transport(cfg.CONF, url=sys.argv[1])
client = om.get_rpc_client(transport, om.Target(topic=sys.argv[2]))
print(client.call({}, 'hello', a=1), flush=True)
transport.cleanup()
";

/// From the start of one process to its first line, and to its end.
fn once(command: &mut Command) -> (Duration, Duration) {
    let start = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        // Python's warnings; whoever fails is told by the status.
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut line = String::new();
    let out = child.stdout.take().expect("standard output is a pipe");
    BufReader::new(out).read_line(&mut line).expect("text");
    let answer = start.elapsed();
    let status = child.wait().expect("it was ours");
    let end = start.elapsed();
    assert!(status.success() && line.contains('1'), "{status}: {line}");
    (answer, end)
}

fn call(url: &str) -> Command {
    let mut command = Command::new(OMSG);
    command
        .args(["call", TOPIC, "hello", "a=1"])
        .env("OSLO_TRANSPORT_URL", url);
    command
}

/// A server that is ended with this.
struct Server(Child);

impl Server {
    fn start(url: &str) -> Self {
        let mut child = Command::new(OMSG)
            .args(["serve", TOPIC, "--server", "cold"])
            .env("OSLO_TRANSPORT_URL", url)
            .stdout(Stdio::piped())
            .spawn()
            .expect("omsg starts");
        let out = child.stdout.take().expect("standard output is a pipe");
        let mut lines = BufReader::new(out).lines();
        let ready = lines.next().expect("a line").expect("text");
        assert!(ready.contains("ready"), "{ready}");
        // It tells of each request; somebody has to read it.
        std::thread::spawn(move || lines.for_each(drop));
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn show(name: &str, what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |share: usize| 1e3 * times[(times.len() - 1) * share / 100].as_secs_f64();
    println!(
        "{name:<16} to its {what:<7} min {:6.1} ms   p25 {:6.1} ms   median {:6.1} ms   p90 {:6.1} ms",
        at(0),
        at(25),
        at(50),
        at(90)
    );
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test` only wants to know that it works.
    let measures = words.iter().any(|word| word == "--bench");
    let rounds = words.iter().find_map(|word| word.parse::<usize>().ok());
    let rounds = rounds.unwrap_or(if measures { 40 } else { 1 }).max(1);
    let variable = |name| {
        std::env::var(name)
            .ok()
            .filter(|text: &String| !text.is_empty())
    };
    let Some(url) = variable("OSLO_TRANSPORT_URL").or_else(|| variable("OSLO_TEST_RABBIT_URL"))
    else {
        println!("skipped: neither OSLO_TRANSPORT_URL nor OSLO_TEST_RABBIT_URL is set");
        return;
    };
    let python = variable("OSLO_TEST_PYTHON");
    let _server = Server::start(&url);
    let mut programs: Vec<(&str, Command, Vec<Duration>, Vec<Duration>)> =
        vec![("omsg call", call(&url), Vec::new(), Vec::new())];
    if let Some(python) = python {
        let mut command = Command::new(python);
        command.args(["-c", PYTHON, &url, TOPIC]);
        programs.push(("oslo.messaging", command, Vec::new(), Vec::new()));
    }
    for round in 0..=rounds {
        for (_, command, answers, ends) in &mut programs {
            let (answer, end) = once(command);
            // The first has the files still on the disk.
            if round > 0 {
                answers.push(answer);
                ends.push(end);
            }
        }
    }
    for (name, _, answers, ends) in &mut programs {
        show(name, "answer", answers);
        show(name, "end", ends);
    }
}
