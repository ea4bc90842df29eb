//! Tests of transport URLs, row by row of the parity table.

use super::*;

fn url(text: &str) -> TransportUrl {
    TransportUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error(text: &str) -> UrlError {
    TransportUrl::parse(text).unwrap_err()
}

/// Host name, port, user, password of the only host.
fn host(text: &str) -> (Option<String>, Option<u16>, Option<String>, Option<String>) {
    let url = url(text);
    assert_eq!(url.hosts().len(), 1, "{text}");
    let host = url.hosts()[0].clone();
    (host.hostname, host.port, host.username, host.password)
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn u1_an_empty_text_is_its_own_error() {
    assert_eq!(error(""), UrlError::Empty);
    assert_eq!(error(" \n"), UrlError::Empty);
}

#[test]
fn u3_a_url_needs_a_scheme() {
    for text in [
        "foo",
        "//host",
        ":",
        "1a://h",
        "ra bit://h",
        "räbbit://h",
        "host/rabbit://h",
    ] {
        assert_eq!(error(text), UrlError::NoScheme, "{text}");
    }
    assert_eq!(error("rabbit:host"), UrlError::NoAuthority);
    assert_eq!(error("host:5672"), UrlError::NoAuthority);
}

#[test]
fn u4_the_scheme_is_lowered_and_kept_whole() {
    assert_eq!(url("RABBIT://").scheme(), "rabbit");
    assert_eq!(url("kombu+Memory://").scheme(), "kombu+memory");
}

#[test]
fn u5_the_virtual_host_is_the_path_without_its_first_slash() {
    assert_eq!(url("rabbit://h").virtual_host(), None);
    assert_eq!(url("rabbit://h/").virtual_host(), Some(""));
    assert_eq!(url("rabbit://h//").virtual_host(), Some("/"));
    assert_eq!(url("rabbit://h/%2F").virtual_host(), Some("/"));
    assert_eq!(url("rabbit://h/a/b").virtual_host(), Some("a/b"));
    assert_eq!(url("rabbit://h/%C3%A9%25").virtual_host(), Some("é%"));
    assert_eq!(url("rabbit://h/%ff").virtual_host(), Some("\u{fffd}"));
}

#[test]
fn u6_hosts_are_split_at_commas_and_the_rightmost_at_sign() {
    let parsed = url("rabbit://u:p@h1:1,,h2:2,");
    assert_eq!(parsed.hosts().len(), 2);
    assert_eq!(parsed.hosts()[1].hostname(), Some("h2"));
    assert_eq!(
        host("rabbit://%75+1:p%40%3A+@h"),
        (some("h"), None, some("u+1"), some("p@:+"))
    );
}

#[test]
fn u7_credentials_have_edge_cases() {
    assert_eq!(host("rabbit://u@h"), (some("h"), None, some("u"), None));
    assert_eq!(
        host("rabbit://u:@h"),
        (some("h"), None, some("u"), some(""))
    );
    assert_eq!(
        host("rabbit://:p@h"),
        (some("h"), None, some(""), some("p"))
    );
    assert_eq!(
        host("rabbit://u@d:p@h"),
        (some("h"), None, some("u@d"), some("p"))
    );
    assert_eq!(
        host("rabbit://u:p:q@h"),
        (some("h"), None, some("u"), some("p:q"))
    );
    assert_eq!(host("rabbit://u:p@"), (None, None, some("u"), some("p")));
}

#[test]
fn u8_credentials_are_not_inherited() {
    let mixed = url("rabbit://u:p@h1,h2");
    assert_eq!(mixed.hosts()[1].username(), None);
    assert!(mixed.has_mixed_credentials());
    assert!(!url("rabbit://u:p@h1,u:p@h2").has_mixed_credentials());
    assert!(!url("rabbit://h1,h2").has_mixed_credentials());
    assert!(!url("rabbit://").has_mixed_credentials());
}

#[test]
fn u9_ports_are_numbers_and_ipv6_may_stand_in_brackets() {
    assert_eq!(
        host("rabbit://[::1]:5672"),
        (some("::1"), Some(5672), None, None)
    );
    assert_eq!(host("rabbit://[::1]"), (some("::1"), None, None, None));
    assert_eq!(host("rabbit://::1"), (some("::1"), None, None, None));
    assert_eq!(host("rabbit://h:5672"), (some("h"), Some(5672), None, None));
    assert_eq!(host("rabbit://:5672"), (None, Some(5672), None, None));
    for text in [
        "h:x",
        "h:",
        "h:99999",
        "h:+1",
        "h:-1",
        "h: 1",
        "[::1]:x",
        "a:1,h:65536",
    ] {
        let number = text.split(',').count();
        assert_eq!(
            error(&format!("rabbit://{text}")),
            UrlError::BadPort { host: number },
            "{text}"
        );
    }
    for text in [
        "[::1", "[]", "[]:1", "[::1]x:1", "::]", "[a[b]", "a b", "h :1", "h\t,i",
    ] {
        assert_eq!(
            error(&format!("rabbit://{text}")),
            UrlError::BadHost { host: 1 },
            "{text}"
        );
    }
}

#[test]
fn u10_the_query_drops_blanks_and_joins_what_is_repeated() {
    let parsed = url("rabbit://h/v?a=1&b=&c&a=2&d=x+y%2B&=z");
    let expected = [("a", "1,2"), ("d", "x y+"), ("", "z")];
    let query: Vec<(&str, &str)> = parsed
        .query()
        .iter()
        .map(|(key, value)| (&**key, &**value))
        .collect();
    assert_eq!(query, expected);
    assert_eq!(url("rabbit://h?a=1").query().len(), 1);
    assert_eq!(url("rabbit://h?a=1").virtual_host(), None);
    assert_eq!(url("rabbit://h?a=b/c?d").query()[0].1, "b/c?d");
}

#[test]
fn u11_the_fragment_is_dropped() {
    let parsed = url("rabbit://h/v?a=1#u:p@x");
    assert_eq!(parsed.expose(), "rabbit://h/v?a=1");
    // An unescaped slash in a password ends the hosts: an error that shows nothing of it.
    let error = error("rabbit://user:se/cret@h/");
    assert_eq!(error, UrlError::BadPort { host: 1 });
    assert!(error.to_string().contains("percent-encoded") && !error.to_string().contains("se"));
}

#[test]
fn u12_exposed_text_is_quoted_and_reads_back() {
    let text = "rabbit://us%2Fer:p%40ss%2Fw%3Ard%25@[::1]:5672,h2/a/b%20c%3F?x=1%2C2&y=%2B";
    let parsed = url(text);
    assert_eq!(parsed.expose(), text);
    assert_eq!(url(&parsed.expose()), parsed);
    // Unlike the reference's, the text tells no virtual host from an empty one.
    assert_eq!(url("rabbit://h").expose(), "rabbit://h");
    assert_eq!(url("rabbit://h/").expose(), "rabbit://h/");
    assert_eq!(url("rabbit://h/%2F").expose(), "rabbit://h//");
}

#[test]
fn u13_equality_and_hash_ignore_the_query() {
    use std::collections::HashSet;
    let urls: HashSet<TransportUrl> = [
        "rabbit://h/v?a=1",
        "RABBIT://h/v",
        "rabbit://h/w",
        "rabbit://i/v",
    ]
    .iter()
    .map(|text| url(text))
    .collect();
    assert_eq!(urls.len(), 3);
}

#[test]
fn u14_passwords_do_not_show() {
    let parsed = url("rabbit://u:hunter2@h1,u:hunter2@h2/v?ssl_key_password=hunter2&retry=1");
    for shown in [
        format!("{parsed}"),
        format!("{parsed:?}"),
        format!("{:?}", parsed.hosts()),
        parsed.hosts()[0].to_string(),
    ] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert_eq!(
        parsed.to_string(),
        "rabbit://u:***@h1,u:***@h2/v?ssl_key_password=***&retry=1"
    );
    assert_eq!(format!("{parsed:?}"), format!("<TransportUrl {parsed}>"));
    assert!(parsed.expose().contains("hunter2"));
}

#[test]
fn u16_no_and_an_empty_virtual_host_are_the_brokers_default() {
    assert_eq!(url("rabbit://h").broker_virtual_host(), "/");
    assert_eq!(url("rabbit://h/").broker_virtual_host(), "/");
    assert_eq!(url("rabbit://h/%2F").broker_virtual_host(), "/");
    assert_eq!(
        url("rabbit://h/a%3Fb%23c%2525").broker_virtual_host(),
        "a?b#c%25"
    );
}

#[test]
fn u17_a_password_may_have_a_slash() {
    assert_eq!(host("rabbit://u:a%2Fb@h:1").3, some("a/b"));
}

#[test]
fn u18_there_may_be_no_hosts() {
    assert!(url("rabbit://").hosts().is_empty());
    assert!(url("memory:///v").hosts().is_empty());
    assert_eq!(url("memory:///v").virtual_host(), Some("v"));
}

#[test]
fn u19_the_driver_is_the_scheme_before_the_first_plus() {
    assert_eq!(url("kombu+memory:///").driver(), "kombu");
    assert_eq!(url("rabbit://").driver(), "rabbit");
}

#[test]
fn white_space_around_the_url_is_ignored() {
    assert_eq!(url(" rabbit://h/v\n"), url("rabbit://h/v"));
}

#[test]
fn tr11_hosts_are_equal_by_all_four_parts_and_hash_alike() {
    use std::collections::HashSet;
    let hosts: Vec<TransportHost> = [
        "u:p@h:1", "u:p@h:1", "v:p@h:1", "u:q@h:1", "u:p@i:1", "u:p@h:2",
    ]
    .iter()
    .map(|text| url(&format!("rabbit://{text}")).hosts()[0].clone())
    .collect();
    assert_eq!(hosts[0], hosts[1]);
    assert!(hosts[2..].iter().all(|other| *other != hosts[0]));
    assert_eq!(hosts.into_iter().collect::<HashSet<_>>().len(), 5);
}
