//! The signals that end a service. In a process of their own, since they are sent to all of it.

#![cfg(unix)]

use std::pin::pin;
use std::process::Command;
use std::time::Duration;

use oslo_messaging::shutdown_signal;
use tokio::time::timeout;

#[tokio::test]
async fn sigterm_and_sigint_end_the_wait_and_not_the_process() {
    for signal in ["-TERM", "-INT"] {
        let mut end = pin!(shutdown_signal());
        // The first poll is what catches the signals.
        tokio::select! {
            biased;
            () = &mut end => panic!("nobody asked us to end"),
            () = std::future::ready(()) => {}
        }
        // The shell's own: small systems have no program of that name.
        let kill = format!("kill {signal} {}", std::process::id());
        let sent = Command::new("sh").args(["-c", &kill]).status();
        assert!(sent.expect("there is a shell").success());
        timeout(Duration::from_secs(20), end)
            .await
            .expect("the signal ends the wait");
    }
}
