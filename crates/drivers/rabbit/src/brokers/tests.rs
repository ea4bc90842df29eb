//! Which broker is tried when, and who logs in there.

use std::sync::LazyLock;

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;

use super::*;

/// Never in use, and always there: where the crate `tracing` knows of one subscriber only, it asks that of the thread which
/// comes to a line first whether anybody wants it, and that may be the thread of a test that reads no log.
static ANOTHER: LazyLock<tracing::Dispatch> =
    LazyLock::new(|| tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new()));

/// What is written to the log meanwhile.
pub(crate) fn log_of(work: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    LazyLock::force(&ANOTHER);
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    tracing::subscriber::with_default(subscriber, work);
    String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
}

fn brokers(url: &str) -> Brokers {
    let url = TransportUrl::parse(url).unwrap();
    let config = RabbitConfig::from_query(url.query()).unwrap();
    Brokers::new(&url, &config)
}

fn place(brokers: &Brokers, address: &str) -> usize {
    let find = |at: &usize| &**brokers.address(*at) == address;
    (0..brokers.hosts.len()).find(find).unwrap()
}

#[test]
fn a_connection_is_named_after_program_process_a_random_id_purpose_and_machine() {
    let name = connection_name("publish", "node-7");
    let parts: Vec<&str> = name.split(':').collect();
    assert_eq!(
        (parts.len(), parts[1].parse().ok()),
        (3, Some(std::process::id()))
    );
    let (id, rest) = parts[2].split_once(' ').unwrap();
    assert_eq!((id.len(), rest), (36, "publish@node-7"));
    assert_ne!(name, connection_name("publish", "node-7"));
    assert!(!machine().is_empty());
}

#[test]
fn brokers_of_a_url_fall_back_to_guest_at_localhost_and_the_root_virtual_host() {
    for (text, address, vhost) in [
        ("rabbit://", "localhost:5672", "/"),
        ("rabbit:///", "localhost:5672", "/"),
        ("rabbit://h/", "h:5672", "/"),
        ("rabbit://h:1/nova", "h:1", "nova"),
        ("rabbit://[::1]/nova", "[::1]:5672", "nova"),
    ] {
        let brokers = brokers(text);
        assert_eq!(
            (&**brokers.address(0), &**brokers.vhost()),
            (address, vhost),
            "{text}"
        );
        let guest = Login::AmqPlain {
            user: "guest".into(),
            password: "guest".into(),
        };
        assert_eq!(brokers.hosts[0].login, guest);
        assert_eq!(brokers.options.virtual_host, vhost);
    }
}

#[cfg(feature = "tls")]
#[test]
fn a_broker_without_a_port_is_looked_for_where_tls_is_spoken_when_tls_is_on() {
    let brokers = brokers("rabbit://a,b:7/?ssl=true");
    place(&brokers, "a:5671");
    place(&brokers, "b:7");
}

#[test]
fn each_broker_has_its_own_login() {
    let brokers = brokers("rabbit://one:1st@a,two:2nd@b/?rabbit_login_method=PLAIN");
    for (address, user, password) in [("a:5672", "one", "1st"), ("b:5672", "two", "2nd")] {
        let expected = Login::Plain {
            user: user.into(),
            password: password.into(),
        };
        let at = place(&brokers, address);
        assert_eq!(brokers.hosts[at].login, expected);
    }
}

#[test]
fn hosts_with_and_without_credentials_are_worth_a_warning() {
    let log = |url: &str| log_of(|| drop(brokers(url)));
    let mixed = log("rabbit://one:secret-word@a,b/");
    assert!(
        mixed.contains("log in as guest") && !mixed.contains("secret-word"),
        "{mixed}"
    );
    for alike in ["rabbit://a,b/", "rabbit://one:1@a,two:2@b/"] {
        assert_eq!(log(alike), "");
    }
}

#[test]
fn the_external_login_takes_no_user_and_no_password() {
    let brokers = brokers("rabbit://one:1st@a/?rabbit_login_method=EXTERNAL");
    assert_eq!(brokers.hosts[0].login, Login::External);
}

#[test]
fn the_order_of_the_url_is_not_the_order_of_all_processes() {
    let first = |_| brokers("rabbit://a,b,c/").address(0).clone();
    let firsts: std::collections::HashSet<_> = (0..100).map(first).collect();
    assert_eq!(firsts.len(), 3);
}

#[test]
fn brokers_take_turns_and_those_that_failed_come_last_until_they_have_cooled_down() {
    let brokers = brokers("rabbit://a,b,c/?rabbit_interval_max=9");
    let now = Instant::now();
    assert_eq!(brokers.round(0, now), [0, 1, 2]);
    assert_eq!(brokers.round(brokers.after(1), now), [2, 0, 1]);
    brokers.note_failure(2, now);
    assert_eq!(brokers.round(2, now), [0, 1, 2]);
    // One whose connection broke may be well; one that cannot be reached is not.
    brokers.note_loss(0, now);
    assert_eq!(brokers.round(2, now), [1, 0, 2]);
    brokers.note_loss(1, now);
    assert_eq!(brokers.round(2, now), [0, 1, 2]);
    let later = now + Duration::from_secs(9);
    assert_eq!(brokers.round(2, later), [2, 0, 1]);
}

#[test]
fn a_shuffled_round_still_tries_each_broker_once_and_the_failed_ones_last() {
    let brokers = brokers("rabbit://a,b,c,d/?kombu_failover_strategy=shuffle");
    let now = Instant::now();
    brokers.note_failure(1, now);
    let mut firsts = std::collections::HashSet::new();
    for _ in 0..100 {
        let order = brokers.round(0, now);
        firsts.insert(order[0]);
        assert_eq!(order[3], 1);
        let mut all = order;
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3]);
    }
    assert_eq!(firsts.len(), 3);
}

#[test]
fn heartbeats_off_leave_the_peer_s_death_to_the_probes_of_tcp() {
    let off = brokers("rabbit://a/?heartbeat_timeout_threshold=0").options;
    assert_eq!(
        (off.heartbeat, off.tcp_user_timeout),
        (Duration::ZERO, None)
    );
    assert!(off.tcp_keepalive.is_some());
    let on = brokers("rabbit://a/?heartbeat_timeout_threshold=7").options;
    assert_eq!(on.tcp_user_timeout, Some(Duration::from_secs(7)));
}

#[test]
fn the_other_connection_s_broker_comes_after_those_that_are_as_good() {
    let brokers = brokers("rabbit://a,b,c/");
    let now = Instant::now();
    let other = brokers.occupy(0);
    assert_eq!(brokers.round(0, now), [1, 2, 0]);
    brokers.note_loss(1, now);
    assert_eq!(brokers.round(0, now), [2, 0, 1]);
    drop(other);
    assert_eq!(brokers.round(0, now), [0, 2, 1]);
}

#[test]
fn half_of_a_password_that_was_not_encoded_is_not_shown_as_the_virtual_host() {
    let brokers = brokers("rabbit://u:p@ss/word@h:5672/");
    assert_eq!(brokers.options.virtual_host, "word@h:5672/");
    let shown = brokers.vhost();
    assert!(
        !shown.contains("word@h") && shown.contains("percent-encoded"),
        "{shown}"
    );
}

/// What must be escaped in a password at the very least.
const LEAST: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'%')
    .add(b'/')
    .add(b'?')
    .add(b'#')
    .add(b'@')
    .add(b':')
    .add(b',')
    .add(b'[')
    .add(b']');

proptest! {
    #[test]
    fn any_user_and_password_arrive_at_the_login_as_they_are(
        user in "\\PC{1,20}",
        password in any::<String>(),
        everything: bool,
    ) {
        let escaped = if everything { NON_ALPHANUMERIC } else { LEAST };
        let write = |text: &str| utf8_percent_encode(text, escaped).to_string();
        let url = format!("rabbit://{}:{}@h:5672/v", write(&user), write(&password));
        let brokers = brokers(&url);
        prop_assert_eq!(&brokers.hosts[0].login, &Login::AmqPlain { user, password });
        prop_assert_eq!(&**brokers.address(0), "h:5672");
    }
}
