//! Which names of URL options and context keys stand for values that are never shown.

/// Whether the value under `key` is one to hide.
pub(crate) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    [
        "password",
        "passwd",
        "secret",
        "token",
        "credential",
        "private_key",
        "api_key",
    ]
    .iter()
    .any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    use super::is_secret;

    #[test]
    fn names_that_hold_a_telling_word_in_any_case_are_secret() {
        for key in ["auth_token", "Admin_Password", "x-secret", "api_key"] {
            assert!(is_secret(key), "{key}");
        }
        for key in ["user", "request_id", "heartbeat_rate", "key"] {
            assert!(!is_secret(key), "{key}");
        }
    }
}
