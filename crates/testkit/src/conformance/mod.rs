//! What every driver must do, as one suite: run over memory always, over a broker where there is one.
//!
//! [`driver`] looks at the seam alone, [`rpc`] at clients and servers above it. A test crate says how
//! to reach its bus and names the suite; each case becomes a test of its own:
//!
//! ```ignore
//! oslo_messaging_testkit::conformance_tests!(#[tokio::test] crate::bus);
//!
//! /// A bus that this case has for itself, or nothing after saying that it is skipped.
//! async fn bus(case: &str) -> Option<Bus> { .. }
//! ```

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use oslo_messaging_core::driver::Capabilities;
use oslo_messaging_core::transport::Transport;

pub mod driver;
pub mod rpc;

/// How long a case waits for what must come.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// How long a case waits for what must not come.
pub(crate) const A_WHILE: Duration = Duration::from_millis(300);

type Connecting = Pin<Box<dyn Future<Output = Transport> + Send>>;

/// A bus for one case, which nobody else uses.
pub struct Bus {
    connect: Box<dyn Fn() -> Connecting + Send + Sync>,
    _kept: Box<dyn Any + Send>,
}

impl Bus {
    /// A bus that `connect` reaches; each call gives a new transport.
    pub fn new<F, C>(connect: F) -> Self
    where
        F: Fn() -> C + Send + Sync + 'static,
        C: Future<Output = Transport> + Send + 'static,
    {
        Self {
            connect: Box::new(move || Box::pin(connect())),
            _kept: Box::new(()),
        }
    }

    /// Keeps something alive as long as the bus.
    #[must_use]
    pub fn keeping(mut self, kept: impl Any + Send) -> Self {
        self._kept = Box::new(kept);
        self
    }

    /// A new transport to the bus.
    pub async fn connect(&self) -> Transport {
        (self.connect)().await
    }
}

/// Whether the bus can do what a case is about; says so if it cannot.
pub(crate) fn can(transport: &Transport, what: &str, has: impl Fn(Capabilities) -> bool) -> bool {
    let can = has(transport.capabilities());
    if !can {
        eprintln!("not applicable: the driver has no {what}");
    }
    can
}

/// Runs a case on its bus, if there is one.
pub async fn run<B, C>(name: &str, bus: impl FnOnce(String) -> B, case: impl FnOnce(Bus) -> C)
where
    B: Future<Output = Option<Bus>>,
    C: Future<Output = ()>,
{
    if let Some(bus) = bus(name.to_owned()).await {
        case(bus).await;
    }
}

/// Makes a test of each case; see [`conformance`](crate::conformance).
#[macro_export]
macro_rules! conformance_tests {
    (#[$test:meta] $bus:path) => {
        $crate::conformance_tests! {
            @each [$test] $bus;
            driver: [
                servers_of_a_topic_share_its_messages
                a_named_server_alone_gets_what_is_meant_for_it
                a_fanout_reaches_every_server_once
                a_message_to_another_exchange_does_not_arrive
                messages_of_one_sender_arrive_in_order
                bodies_arrive_as_they_were_sent
                a_message_without_a_queue_is_dropped
                a_mandatory_message_without_a_queue_is_undeliverable
                messages_wait_for_a_server_that_went
                an_expired_message_is_not_handed_out
                a_consumer_holds_no_more_than_its_prefetch
                a_requeued_message_comes_again_and_says_so
                a_delivery_dropped_without_a_word_comes_again
                what_a_closed_server_held_goes_to_another
                a_paused_server_gets_nothing_new
                a_reply_queue_has_an_address_of_its_own
                a_closed_driver_refuses_all
            ];
            rpc: [
                a_call_returns_what_the_method_returns
                a_cast_runs_the_method
                a_fanout_cast_runs_on_every_server
                a_call_reaches_the_server_it_names
                calls_at_once_get_their_own_results
                a_failure_arrives_with_all_its_fields
                an_unknown_method_and_version_and_namespace_are_told_apart
                a_panic_becomes_a_failure
                a_call_without_a_server_times_out
                a_call_that_must_arrive_fails_at_once_without_a_server
                a_call_monitor_keeps_a_slow_call_alive
                a_context_travels_with_the_request
                a_large_payload_goes_both_ways
                a_request_that_comes_twice_runs_once
                a_body_that_cannot_be_read_does_not_stop_the_server
                a_stopping_server_finishes_what_it_started
                what_a_stopping_server_had_not_started_runs_elsewhere
                what_a_lost_server_had_not_finished_runs_elsewhere
                a_method_at_its_limit_leaves_room_for_others
                a_request_whose_caller_gave_up_is_not_run
                a_result_that_cannot_be_read_as_asked_is_an_error
                a_closed_transport_ends_its_calls
            ];
        }
    };
    (@each [$test:meta] $bus:path; $($group:ident: [$($case:ident)*];)*) => {
        $(mod $group {
            $(#[$test]
            async fn $case() {
                let bus = |case: String| async move { $bus(&case).await };
                $crate::conformance::run(stringify!($case), bus, $crate::conformance::$group::$case).await;
            })*
        })*
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_is_in_the_list() {
        let list = include_str!("mod.rs");
        for source in [include_str!("driver.rs"), include_str!("rpc.rs")] {
            let cases = source
                .lines()
                .filter_map(|line| line.strip_prefix("pub async fn ")?.split('(').next());
            for case in cases {
                assert!(
                    list.contains(&format!("                {case}\n")),
                    "{case} is not run"
                );
            }
        }
    }
}
