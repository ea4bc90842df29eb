//! The load of the demo: several callers at once, each calling as soon as it has its answer, level after level.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use oslo_messaging::{Context, Error, RpcClient};
use serde::Serialize;
use tokio::task::JoinSet;

use super::Sum;
use crate::output::{Output, Progress, Row};
use crate::time::show_duration;

/// Callers at once, level by level.
const LEVELS: [u32; 4] = [1, 16, 64, 256];
/// Latencies are counted up to here; none can be longer than the call's own timeout allows.
const LONGEST: Duration = Duration::from_secs(3600);
/// How often the bar moves.
const TICK: Duration = Duration::from_millis(50);

/// What one level showed.
#[derive(Serialize)]
pub(super) struct Level {
    event: &'static str,
    callers: u32,
    calls: u64,
    seconds: f64,
    calls_per_second: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
}

impl Row for Level {
    const TITLES: &'static [&'static str] = &[
        "callers", "calls", "calls/s", "p50", "p90", "p99", "p99.9", "max",
    ];

    fn cells(&self) -> Vec<String> {
        let shown = |micros: f64| show_duration(Duration::from_secs_f64(micros / 1e6));
        vec![
            self.callers.to_string(),
            self.calls.to_string(),
            format!("{:.0}", self.calls_per_second),
            shown(self.p50_us),
            shown(self.p90_us),
            shown(self.p99_us),
            shown(self.p999_us),
            shown(self.max_us),
        ]
    }
}

/// Runs all levels within `total`; gives the levels done, and the error that ended it early.
pub(super) async fn run(
    client: &RpcClient,
    total: Duration,
    output: &Output,
) -> (Vec<Level>, Option<Error>) {
    let each = total / u32::try_from(LEVELS.len()).unwrap_or(1);
    let progress = output.progress(total);
    let mut levels = Vec::with_capacity(LEVELS.len());
    for (done, callers) in (0..).zip(LEVELS) {
        let passed = each * done;
        match level(client, callers, each, passed, &progress).await {
            Ok(level) => levels.push(level),
            Err(fault) => return (levels, Some(fault)),
        }
    }
    (levels, None)
}

async fn level(
    client: &RpcClient,
    callers: u32,
    length: Duration,
    passed: Duration,
    progress: &Progress,
) -> Result<Level, Error> {
    let started = Instant::now();
    let until = started + length;
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        tasks.spawn(caller(client.clone(), until));
    }
    let what = if callers == 1 {
        "1 caller".to_owned()
    } else {
        format!("{callers} callers")
    };
    let mut tick = tokio::time::interval(TICK);
    let mut times = histogram();
    loop {
        tokio::select! {
            _ = tick.tick() => progress.set(&what, passed + started.elapsed().min(length)),
            ended = tasks.join_next() => match ended {
                // Dropping the set aborts the others.
                Some(Ok(own)) => times += own?,
                Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
                None => break,
            },
        }
    }
    Ok(Level::of(callers, started.elapsed(), &times))
}

async fn caller(client: RpcClient, until: Instant) -> Result<Histogram<u64>, Error> {
    let ctx = Context::new();
    let mut times = histogram();
    let mut now = Instant::now();
    // At least one call each, however late the task gets to run.
    loop {
        let _: i64 = client.call(&ctx, "add", Sum { a: 1, b: 2 }).await?;
        let ended = Instant::now();
        times.saturating_record(u64::try_from((ended - now).as_nanos()).unwrap_or(u64::MAX));
        now = ended;
        if now >= until {
            return Ok(times);
        }
    }
}

fn histogram() -> Histogram<u64> {
    let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
    Histogram::new_with_bounds(1, longest, 2)
        .expect("the bounds are in order and two digits are allowed")
}

impl Level {
    fn of(callers: u32, took: Duration, times: &Histogram<u64>) -> Self {
        // Counts stay far below where a float loses whole numbers.
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let at = |quantile| micros(times.value_at_quantile(quantile));
        let seconds = took.as_secs_f64();
        Self {
            event: "load",
            callers,
            calls: times.len(),
            seconds,
            calls_per_second: times.len() as f64 / seconds,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: micros(times.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_sums_up_rates_and_percentiles() {
        let mut times = histogram();
        for millis in 1..=100 {
            times.record(millis * 1_000_000).expect("within the bounds");
        }
        let level = Level::of(4, Duration::from_secs(2), &times);
        assert_eq!(level.calls, 100);
        assert!((level.calls_per_second - 50.0).abs() < 1e-9);
        assert!(
            (level.p50_us - 50_000.0).abs() < 1_000.0,
            "{}",
            level.p50_us
        );
        assert!(
            (level.p99_us - 99_000.0).abs() < 1_500.0,
            "{}",
            level.p99_us
        );
        assert_eq!(level.cells()[..3], ["4", "100", "50"]);
    }
}
