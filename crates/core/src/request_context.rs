//! The request context of OpenStack services: who asks, for which project, with which roles, in oslo.context's dictionary.
//!
//! Reads and writes a [`Context`]; keys it does not know are kept in their order. Never shows a token.

use std::fmt;

use oslo_messaging_proto::json::raw::RawJson;
use oslo_messaging_proto::wire::context::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};

/// Keys of the dictionary that are made from fields, or read into them.
const KNOWN: [&str; 22] = [
    "user",
    "project_id",
    "system_scope",
    "project",
    "domain",
    "user_domain",
    "project_domain",
    "is_admin",
    "read_only",
    "show_deleted",
    "auth_token",
    "request_id",
    "global_request_id",
    "resource_uuid",
    "roles",
    "user_identity",
    "is_admin_project",
    "user_name",
    "project_name",
    "domain_name",
    "user_domain_name",
    "project_domain_name",
];

/// Who asks for what, as `oslo_context.context.RequestContext` holds it.
///
/// The fields have its attributes' names and defaults. [`to_context`](Self::to_context) writes the dictionary of its
/// `to_dict`, [`from_context`](Self::from_context) reads what its `from_dict` reads, and the keys of Mitaka's version, too;
/// what a service adds of its own is kept. `Debug` shows the dictionary without the token.
///
/// ```
/// use oslo_messaging_core::request_context::RequestContext;
///
/// let mut request = RequestContext::new();
/// request.user_id = Some("u-1".to_owned());
/// request.roles = vec!["reader".to_owned()];
/// request.auth_token = Some("gAAAA".to_owned());
///
/// let context = request.to_context();
/// assert_eq!(context.get::<String>("user").unwrap()?, "u-1");
/// assert_eq!(RequestContext::from_context(&context)?, request);
/// assert!(!format!("{request:?}").contains("gAAAA"));
/// # Ok::<(), oslo_messaging_core::error::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestContext {
    /// Identifies the request within this service and those it calls; `req-` and a random UUID unless given.
    pub request_id: String,
    /// Identifies what an operator or user asked for over all services.
    pub global_request_id: Option<String>,
    /// The user's token. Not in `Debug`, not in [`redacted`](RequestContext::redacted).
    pub auth_token: Option<String>,
    /// The user; key `user`.
    pub user_id: Option<String>,
    /// The user's name. Written only if set: oslo.context reads it and does not write it.
    pub user_name: Option<String>,
    /// Domain of the user; key `user_domain`.
    pub user_domain_id: Option<String>,
    /// Its name; written only if set.
    pub user_domain_name: Option<String>,
    /// The project the token is for; keys `project_id` and `project`.
    pub project_id: Option<String>,
    /// Its name; written only if set.
    pub project_name: Option<String>,
    /// Domain of the project; key `project_domain`.
    pub project_domain_id: Option<String>,
    /// Its name; written only if set.
    pub project_domain_name: Option<String>,
    /// The domain a domain token is for; key `domain`.
    pub domain_id: Option<String>,
    /// Its name; written only if set.
    pub domain_name: Option<String>,
    /// The system a system token is for, such as `all`.
    pub system_scope: Option<String>,
    /// The user's roles in what the token is for.
    pub roles: Vec<String>,
    /// Whether this is an administrator's request; none if the policy has not been asked. Default false.
    pub is_admin: Option<bool>,
    /// Whether the project is the administrators' one. Default true, as there.
    pub is_admin_project: bool,
    /// Nothing may be changed on behalf of it. Default false.
    pub read_only: bool,
    /// What was deleted is shown. Default false.
    pub show_deleted: bool,
    /// What the request is about.
    pub resource_uuid: Option<String>,
    /// Keys that are none of the above, in order.
    extra: Vec<(String, RawJson)>,
}

impl Default for RequestContext {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestContext {
    /// A request of nobody in particular, with a new request id.
    ///
    /// ```
    /// use oslo_messaging_core::request_context::RequestContext;
    ///
    /// let request = RequestContext::new();
    /// assert!(request.request_id.starts_with("req-"));
    /// assert!(request.is_admin_project && request.is_admin == Some(false));
    /// ```
    pub fn new() -> Self {
        Self {
            request_id: format!("req-{}", Uuid::new_v4()),
            global_request_id: None,
            auth_token: None,
            user_id: None,
            user_name: None,
            user_domain_id: None,
            user_domain_name: None,
            project_id: None,
            project_name: None,
            project_domain_id: None,
            project_domain_name: None,
            domain_id: None,
            domain_name: None,
            system_scope: None,
            roles: Vec::new(),
            is_admin: Some(false),
            is_admin_project: true,
            read_only: false,
            show_deleted: false,
            resource_uuid: None,
            extra: Vec::new(),
        }
    }

    /// Reads a context as oslo.context's `from_dict` does: what is missing has its default, a missing or empty request id is
    /// drawn anew. `user_id` and `tenant`, the keys of older releases, stand in for `user` and `project_id`.
    ///
    /// # Errors
    /// [`Decode`](ErrorKind::Decode) if a key has a value of another type; the error names the key.
    ///
    /// ```
    /// use oslo_messaging_core::context::Context;
    /// use oslo_messaging_core::request_context::RequestContext;
    ///
    /// let mut context = Context::new();
    /// context.insert("user", "u-1")?;
    /// context.insert("quota_class", "gold")?;
    /// let request = RequestContext::from_context(&context)?;
    /// assert_eq!(request.user_id.as_deref(), Some("u-1"));
    /// assert_eq!(request.extra("quota_class").unwrap().as_str(), r#""gold""#);
    ///
    /// context.insert("roles", &5)?;
    /// assert!(RequestContext::from_context(&context).unwrap_err().to_string().contains("roles"));
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn from_context(context: &Context) -> Result<Self> {
        let text = |key| read::<String>(context, key);
        let flag = |key| read::<bool>(context, key);
        let mut request = Self::new();
        if let Some(id) = text("request_id")?.filter(|id| !id.is_empty()) {
            request.request_id = id;
        }
        request.global_request_id = text("global_request_id")?;
        request.auth_token = text("auth_token")?;
        request.user_id = text("user")?.or(text("user_id")?);
        request.user_name = text("user_name")?;
        request.user_domain_id = text("user_domain")?;
        request.user_domain_name = text("user_domain_name")?;
        request.project_id = text("project_id")?.or(text("tenant")?);
        request.project_name = text("project_name")?;
        request.project_domain_id = text("project_domain")?;
        request.project_domain_name = text("project_domain_name")?;
        request.domain_id = text("domain")?;
        request.domain_name = text("domain_name")?;
        request.system_scope = text("system_scope")?;
        request.roles = read(context, "roles")?.unwrap_or_default();
        if context.raw("is_admin").is_some() {
            request.is_admin = flag("is_admin")?;
        }
        request.is_admin_project = flag("is_admin_project")?.unwrap_or(true);
        request.read_only = flag("read_only")?.unwrap_or(false);
        request.show_deleted = flag("show_deleted")?.unwrap_or(false);
        request.resource_uuid = text("resource_uuid")?;
        request.extra = context
            .iter()
            .filter(|(key, _)| !KNOWN.contains(key))
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .collect();
        Ok(request)
    }

    /// Writes the dictionary of oslo.context's `to_dict`, then the names that are set and the keys that are kept.
    ///
    /// ```
    /// use oslo_messaging_core::request_context::RequestContext;
    ///
    /// let mut request = RequestContext::new();
    /// request.project_id = Some("p-1".to_owned());
    /// let context = request.to_context();
    /// assert_eq!(context.get::<String>("user_identity").unwrap()?, "- p-1 - - -");
    /// assert_eq!(context.raw("auth_token").unwrap().as_str(), "null");
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn to_context(&self) -> Context {
        let mut context = Context::new();
        let mut put = |key: &str, value: RawJson| context.insert_raw(key, value);
        put("user", json(&self.user_id));
        put("project_id", json(&self.project_id));
        put("system_scope", json(&self.system_scope));
        put("project", json(&self.project_id));
        put("domain", json(&self.domain_id));
        put("user_domain", json(&self.user_domain_id));
        put("project_domain", json(&self.project_domain_id));
        put("is_admin", json(&self.is_admin));
        put("read_only", json(&self.read_only));
        put("show_deleted", json(&self.show_deleted));
        put("auth_token", json(&self.auth_token));
        put("request_id", json(&self.request_id));
        put("global_request_id", json(&self.global_request_id));
        put("resource_uuid", json(&self.resource_uuid));
        put("roles", json(&self.roles));
        put("user_identity", json(&self.user_identity()));
        put("is_admin_project", json(&self.is_admin_project));
        for (key, name) in [
            ("user_name", &self.user_name),
            ("project_name", &self.project_name),
            ("domain_name", &self.domain_name),
            ("user_domain_name", &self.user_domain_name),
            ("project_domain_name", &self.project_domain_name),
        ] {
            if name.is_some() {
                put(key, json(name));
            }
        }
        for (key, value) in &self.extra {
            put(key, value.clone());
        }
        context
    }

    /// Ids of user, project, domain, user's domain and project's domain in one line, `-` for each that is missing: what logs
    /// show.
    ///
    /// ```
    /// # use oslo_messaging_core::request_context::RequestContext;
    /// assert_eq!(RequestContext::new().user_identity(), "- - - - -");
    /// ```
    pub fn user_identity(&self) -> String {
        let ids = [
            &self.user_id,
            &self.project_id,
            &self.domain_id,
            &self.user_domain_id,
            &self.project_domain_id,
        ];
        let shown: Vec<&str> = ids
            .into_iter()
            .map(|id| id.as_deref().filter(|id| !id.is_empty()).unwrap_or("-"))
            .collect();
        shown.join(" ")
    }

    /// The id to pass to other services: the global one if there is one, else the request's own.
    ///
    /// ```
    /// # use oslo_messaging_core::request_context::RequestContext;
    /// let mut request = RequestContext::new();
    /// assert_eq!(request.global_id(), request.request_id);
    /// request.global_request_id = Some("req-global".to_owned());
    /// assert_eq!(request.global_id(), "req-global");
    /// ```
    pub fn global_id(&self) -> &str {
        let global = self.global_request_id.as_deref();
        global
            .filter(|id| !id.is_empty())
            .unwrap_or(&self.request_id)
    }

    /// A copy for those who must not act on the user's behalf, as notifications carry it (parity N7): without the token, and
    /// without the keys that a service added, which may hold anything. Ids, names, roles and scope stay.
    ///
    /// ```
    /// # use oslo_messaging_core::request_context::RequestContext;
    /// let mut request = RequestContext::new();
    /// request.auth_token = Some("gAAAA".to_owned());
    /// request.set_extra("service_catalog", &["…"])?;
    /// let redacted = request.redacted();
    /// assert_eq!(redacted.auth_token, None);
    /// assert_eq!(redacted.request_id, request.request_id);
    /// assert!(redacted.extra("service_catalog").is_none());
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    #[must_use]
    pub fn redacted(&self) -> Self {
        let mut copy = self.clone();
        copy.auth_token = None;
        copy.extra = Vec::new();
        // Wire: `redacted_copy` leaves these at their defaults.
        copy.resource_uuid = None;
        copy.is_admin_project = true;
        copy.read_only = false;
        copy.show_deleted = false;
        copy
    }

    /// The value of a key that is none of oslo.context's.
    ///
    /// ```
    /// # use oslo_messaging_core::request_context::RequestContext;
    /// assert!(RequestContext::new().extra("quota_class").is_none());
    /// ```
    pub fn extra(&self, key: &str) -> Option<&RawJson> {
        let found = self.extra.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value)
    }

    /// Sets a key of the service's own.
    ///
    /// # Errors
    /// [`Encode`](ErrorKind::Encode) if the value has no JSON form, [`Config`](ErrorKind::Config) for a key that belongs to a
    /// field.
    ///
    /// ```
    /// # use oslo_messaging_core::request_context::RequestContext;
    /// let mut request = RequestContext::new();
    /// request.set_extra("quota_class", "gold")?;
    /// assert_eq!(request.to_context().get::<String>("quota_class").unwrap()?, "gold");
    /// assert!(request.set_extra("user", "u-2").is_err());
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn set_extra<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<()> {
        if KNOWN.contains(&key) {
            return Err(Error::new(
                ErrorKind::Config,
                format!("the key {key} of a request context belongs to a field of it; set that"),
            ));
        }
        let value = RawJson::from_value(value)?;
        match self.extra.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.extra.push((key.to_owned(), value)),
        }
        Ok(())
    }
}

/// Reads a key; a null is none.
fn read<T: DeserializeOwned>(context: &Context, key: &'static str) -> Result<Option<T>> {
    let value = context.get::<Option<T>>(key).transpose();
    value.map(Option::flatten).map_err(|_| {
        let found = context.raw(key).map_or("nothing", |raw| raw.kind().python_name());
        // The value stays out of the error: it may be a token.
        Error::new(
            ErrorKind::Decode,
            format!(
                "the key {key} of the request context has a value of another type than oslo.context's"
            ),
        )
        .with("found", found)
    })
}

/// A field as JSON.
fn json<T: Serialize + ?Sized>(value: &T) -> RawJson {
    RawJson::from_value(value).expect("texts, lists of texts and truth values have a JSON form")
}

impl From<&RequestContext> for Context {
    fn from(request: &RequestContext) -> Self {
        request.to_context()
    }
}

impl From<RequestContext> for Context {
    fn from(request: RequestContext) -> Self {
        request.to_context()
    }
}

impl TryFrom<&Context> for RequestContext {
    type Error = Error;

    fn try_from(context: &Context) -> Result<Self> {
        Self::from_context(context)
    }
}

impl fmt::Debug for RequestContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestContext")
            .field(&self.to_context())
            .finish()
    }
}
