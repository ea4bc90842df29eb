//! Counting: this program once more, under valgrind, with one hot path to run.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::hot::HotPath;

/// Callgrind counts each byte of a `rep movsb` as an instruction, which the C library copies large blocks with on some
/// processors: this keeps it from doing so.
const WITHOUT_REP: &str =
    "glibc.cpu.x86_rep_movsb_threshold=1073741824:glibc.cpu.x86_rep_stosb_threshold=1073741824";

/// Runs a hot path: once for what is made the first time, and once to be counted.
pub(crate) fn run_under_valgrind(path: &HotPath) {
    let mut work = (path.prepare)();
    work();
    counted_by_callgrind(&mut *work);
}

/// What valgrind watches. Never inlined, and of a name of its own.
#[inline(never)]
fn counted_by_callgrind(work: &mut dyn FnMut()) {
    work();
    // So that the call above is no jump out of this function.
    std::hint::black_box(());
}

/// How many instructions the hot path of this name takes for one round. Leaves its profile in `profiles`.
pub(crate) fn count(name: &str, profiles: &Path) -> Result<u64, String> {
    let make = |fault: std::io::Error| format!("{}: {fault}", profiles.display());
    fs::create_dir_all(profiles).map_err(make)?;
    let profile = profiles.join(format!("{}.callgrind", name.replace('/', "-")));
    let program = std::env::current_exe().map_err(|fault| format!("who am I? {fault}"))?;
    let mut command = Command::new("valgrind");
    command
        .args([
            "--tool=callgrind",
            "--toggle-collect=*counted_by_callgrind*",
            "--quiet",
        ])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program)
        .args(["--run", name])
        // What stands on the stack moves what lies behind it, and with it what is aligned.
        .env_clear()
        .env("GLIBC_TUNABLES", WITHOUT_REP)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let ended = command
        .output()
        .map_err(|fault| format!("valgrind cannot be run ({fault}): install it"))?;
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr);
        return Err(format!(
            "{name} failed under valgrind, {}:\n{said}",
            ended.status
        ));
    }
    let text =
        fs::read_to_string(&profile).map_err(|fault| format!("{}: {fault}", profile.display()))?;
    match total(&text) {
        Some(0) | None => Err(format!("{}: valgrind counted nothing", profile.display())),
        Some(total) => Ok(total),
    }
}

/// The total of a profile: the first number of its line `totals:`, which adds up all parts.
fn total(profile: &str) -> Option<u64> {
    let line = profile
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("totals:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_from_the_end_of_a_profile() {
        let profile = "version: 1\nevents: Ir\nsummary: 5\n\nfn=(1) a\n1 5\n\ntotals: 1234\n";
        assert_eq!(total(profile), Some(1234));
        assert_eq!(total("version: 1\n"), None);
    }
}
