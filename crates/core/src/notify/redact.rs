//! What of a request context may be told on a bus that many read (parity N7).
//!
//! The reference sends `RequestContext.redacted_copy()`: what says who asked and why, never what lets others ask in
//! their name. Here the same is done to the context as it is sent along with requests.

use oslo_messaging_proto::json::raw::RawJson;
use oslo_messaging_proto::wire::context::Context;

/// What of the context goes out with a notification.
///
/// ```
/// use oslo_messaging_core::notify::ContextPolicy;
///
/// assert_eq!(ContextPolicy::default(), ContextPolicy::Redacted);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ContextPolicy {
    /// What a request context of oslo tells about itself when it is redacted: ids, names, roles and request ids. Its
    /// secrets go out as null, and entries that are not oslo's do not go out, as the reference's own do not.
    #[default]
    Redacted,
    /// Everything but what looks like a secret, which goes out as null: for contexts of one's own.
    Masked,
    /// Nothing, as the reference does with a plain dictionary.
    Nothing,
}

/// Entries that stay as they are.
const KEPT: [&str; 29] = [
    "user",
    "user_id",
    "user_name",
    "project_id",
    "project",
    "project_name",
    "domain",
    "domain_id",
    "domain_name",
    "user_domain",
    "user_domain_id",
    "user_domain_name",
    "project_domain",
    "project_domain_id",
    "project_domain_name",
    "system_scope",
    "is_admin",
    "request_id",
    "global_request_id",
    "roles",
    "user_identity",
    "service_user_id",
    "service_user_domain_id",
    "service_user_domain_name",
    "service_project_id",
    "service_project_name",
    "service_project_domain_id",
    "service_project_domain_name",
    "service_roles",
];

/// Entries that are told to be there and have their default.
const RESET: [(&str, &str); 7] = [
    ("auth_token", "null"),
    ("user_token", "null"),
    ("service_token", "null"),
    ("read_only", "false"),
    ("show_deleted", "false"),
    ("resource_uuid", "null"),
    ("is_admin_project", "true"),
];

/// Words that make an entry a secret.
const SECRETS: [&str; 6] = ["password", "passwd", "secret", "token", "credential", "key"];

impl ContextPolicy {
    /// The context as it goes out.
    ///
    /// ```
    /// use oslo_messaging_core::context::Context;
    /// use oslo_messaging_core::notify::ContextPolicy;
    ///
    /// let mut context = Context::new();
    /// context.insert("user", "alice")?;
    /// context.insert("auth_token", "gAAAA")?;
    /// context.insert("shoe_size", &43)?;
    /// let sent = ContextPolicy::Redacted.apply(&context);
    /// assert_eq!(sent.raw("user").unwrap().as_str(), r#""alice""#);
    /// assert!(sent.raw("auth_token").unwrap().is_null() && sent.raw("shoe_size").is_none());
    /// # Ok::<(), oslo_messaging_proto::EncodeError>(())
    /// ```
    pub fn apply(self, context: &Context) -> Context {
        match self {
            Self::Nothing => Context::new(),
            Self::Redacted => context.iter().filter_map(redacted).collect(),
            Self::Masked => context.iter().map(without_secret).collect(),
        }
    }
}

fn redacted((key, value): (&str, &RawJson)) -> Option<(String, RawJson)> {
    if KEPT.contains(&key) {
        return Some((key.to_owned(), value.clone()));
    }
    let (_, text) = RESET.iter().find(|(known, _)| *known == key)?;
    // Invariant: the table holds JSON.
    Some((key.to_owned(), RawJson::from_text(*text).ok()?))
}

fn without_secret((key, value): (&str, &RawJson)) -> (String, RawJson) {
    let lower = key.to_ascii_lowercase();
    let is_secret = SECRETS.iter().any(|word| lower.contains(word));
    let value = if is_secret {
        RawJson::null()
    } else {
        value.clone()
    };
    (key.to_owned(), value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_keeps_credentials_back() {
        let mut context = Context::new();
        for key in ["user", "auth_token", "service_token", "my_password", "mine"] {
            context.insert(key, "x").unwrap();
        }
        let keys = |policy: ContextPolicy| {
            let sent = policy.apply(&context);
            let told = sent
                .iter()
                .map(|(key, value)| (key.to_owned(), !value.is_null()));
            told.collect::<Vec<_>>()
        };
        let pairs = |pairs: &[(&str, bool)]| {
            pairs
                .iter()
                .map(|(key, told)| ((*key).to_owned(), *told))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            keys(ContextPolicy::Redacted),
            pairs(&[
                ("user", true),
                ("auth_token", false),
                ("service_token", false)
            ])
        );
        assert_eq!(
            keys(ContextPolicy::Masked),
            pairs(&[
                ("user", true),
                ("auth_token", false),
                ("service_token", false),
                ("my_password", false),
                ("mine", true)
            ])
        );
        assert!(keys(ContextPolicy::Nothing).is_empty());
    }
}
