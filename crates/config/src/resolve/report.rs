//! What reading options has shown: where each value is from, what is wrong, what is worth a word.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{ConfigError, Warning};
use crate::origin::Origin;

/// Where the values are from, and what was noticed on the way.
///
/// ```
/// use oslo_messaging_config::origin::Origin;
/// use oslo_messaging_config::resolve::Report;
///
/// assert_eq!(*Report::default().origin("DEFAULT", "transport_url"), Origin::Default);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Report {
    origins: BTreeMap<(&'static str, &'static str), Origin>,
    hidden: BTreeSet<(&'static str, &'static str)>,
    warnings: Vec<Warning>,
    errors: Vec<ConfigError>,
}

impl Report {
    /// Who set this option.
    ///
    /// ```
    /// # use oslo_messaging_config::resolve::Report;
    /// assert!(!Report::default().origin("DEFAULT", "transport_url").is_set());
    /// ```
    pub fn origin(&self, group: &str, name: &str) -> &Origin {
        static DEFAULT: Origin = Origin::Default;
        let found = self
            .origins
            .iter()
            .find(|((own, option), _)| *own == group && *option == name);
        found.map_or(&DEFAULT, |(_, origin)| origin)
    }

    /// Notes who set an option, for values that come from elsewhere than the sources.
    ///
    /// ```
    /// # use oslo_messaging_config::resolve::Report;
    /// # use oslo_messaging_config::origin::Origin;
    /// let mut report = Report::default();
    /// report.set_origin("DEFAULT", "control_exchange", Origin::Url);
    /// assert_eq!(*report.origin("DEFAULT", "control_exchange"), Origin::Url);
    /// ```
    pub fn set_origin(&mut self, group: &'static str, name: &'static str, origin: Origin) {
        self.origins.insert((group, name), origin);
    }

    /// Whether the value must not be shown though the option itself is no secret: a secret was put into it.
    ///
    /// ```
    /// # use oslo_messaging_config::resolve::Report;
    /// assert!(!Report::default().is_hidden("DEFAULT", "control_exchange"));
    /// ```
    pub fn is_hidden(&self, group: &str, name: &str) -> bool {
        self.hidden
            .iter()
            .any(|(own, option)| *own == group && *option == name)
    }

    /// What the operator should know of, once each.
    ///
    /// ```
    /// # use oslo_messaging_config::resolve::Report;
    /// assert!(Report::default().warnings().is_empty());
    /// ```
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// What is wrong, in the order of the options.
    ///
    /// ```
    /// # use oslo_messaging_config::resolve::Report;
    /// assert!(Report::default().errors().is_empty());
    /// ```
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// Adds an error found elsewhere.
    ///
    /// ```
    /// # use oslo_messaging_config::{error::{ConfigError, Refusal}, origin::Origin, resolve::Report};
    /// let mut report = Report::default();
    /// let refusal = Refusal::value("transport_url", None, "a URL");
    /// report.push_error(ConfigError::Value { origin: Origin::Url, group: "DEFAULT", refusal });
    /// assert_eq!(report.errors().len(), 1);
    /// ```
    pub fn push_error(&mut self, error: ConfigError) {
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    /// This report with errors found before it.
    ///
    /// ```
    /// # use oslo_messaging_config::{error::{ConfigError, Refusal}, origin::Origin, resolve::Report};
    /// let refusal = Refusal::value("transport_url", None, "a URL");
    /// let error = ConfigError::Value { origin: Origin::Url, group: "DEFAULT", refusal };
    /// assert_eq!(Report::default().after(vec![error]).errors().len(), 1);
    /// ```
    #[must_use]
    pub fn after(mut self, errors: Vec<ConfigError>) -> Self {
        self.errors.splice(0..0, errors);
        self
    }

    /// Adds a warning found elsewhere, unless it is there.
    ///
    /// ```
    /// # use oslo_messaging_config::{error::Warning, origin::Origin, resolve::Report};
    /// let mut report = Report::default();
    /// let warning = Warning::Gone { origin: Origin::Url, group: "DEFAULT", name: "rpc_backend", instead: "set transport_url" };
    /// report.push_warning(warning.clone());
    /// report.push_warning(warning);
    /// assert_eq!(report.warnings().len(), 1);
    /// ```
    pub fn push_warning(&mut self, warning: Warning) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Notes that a secret was put into the value of an option that is none.
    pub(super) fn hide(&mut self, group: &'static str, name: &'static str) {
        self.hidden.insert((group, name));
    }
}
