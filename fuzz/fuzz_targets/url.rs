//! Any text as a transport URL: what parses is the same after exposing it, and hides its passwords.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oslo_messaging_proto::{TransportUrl, Version};

fuzz_target!(|text: &str| {
    let _ = text.parse::<Version>();
    let Ok(url) = TransportUrl::parse(text) else {
        return;
    };
    let again = TransportUrl::parse(&url.expose()).expect("an exposed URL parses");
    assert_eq!(again, url);
    assert_eq!(again.query(), url.query());
    let shown = TransportUrl::parse(&url.to_string()).expect("a redacted URL parses");
    for (shown, host) in shown.hosts().iter().zip(url.hosts()) {
        assert_eq!(shown.hostname(), host.hostname());
        assert_eq!(shown.password(), host.password().map(|_| "***"));
    }
    assert_eq!(format!("{url:?}"), format!("<TransportUrl {url}>"));
});
