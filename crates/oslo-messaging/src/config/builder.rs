//! From files, environment and defaults of the program to a [`Config`].

use std::path::{Path, PathBuf};

use oslo_messaging_config::error::ConfigError;
use oslo_messaging_config::resolve::{Report, Resolver};
use oslo_messaging_config::sources::Sources;
use oslo_messaging_core::error::{Error, Result};
use tracing::warn;

use super::{Config, TABLES, gone};

/// Gathers what a [`Config`] is read from. Later files win.
///
/// ```no_run
/// use oslo_messaging::Config;
///
/// # #[tokio::main]
/// # async fn main() -> oslo_messaging::Result<()> {
/// let config = Config::builder()
///     .set_default("DEFAULT", "control_exchange", "nova")
///     .file("/etc/nova/nova.conf")
///     .dir("/etc/nova/nova.conf.d")
///     .process_environment()
///     .load()?;
/// let transport = oslo_messaging::connect_config(&config).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[must_use = "nothing is read into options before `load` or `read`"]
pub struct ConfigBuilder {
    sources: Sources,
    errors: Vec<ConfigError>,
}

impl ConfigBuilder {
    /// Reads a file, as `--config-file` of a service does. What is wrong with it is told by [`ConfigBuilder::load`].
    ///
    /// ```
    /// use oslo_messaging::Config;
    ///
    /// assert!(Config::builder().file("/nowhere/nova.conf").load().is_err());
    /// ```
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.errors.extend(self.sources.file(path).err());
        self
    }

    /// Reads all files `*.conf` of a directory in the order of their names, as `--config-dir` of a service does.
    ///
    /// ```
    /// use oslo_messaging::Config;
    ///
    /// assert!(Config::builder().dir("/nowhere").load().is_err());
    /// ```
    pub fn dir(mut self, path: impl AsRef<Path>) -> Self {
        self.errors.extend(self.sources.dir(path).err());
        self
    }

    /// Takes `text` as the content of a file of this name.
    ///
    /// ```
    /// use oslo_messaging::Config;
    ///
    /// assert!(Config::builder().text("a.conf", "[DEFAULT]\n").load().is_ok());
    /// ```
    pub fn text(mut self, name: impl Into<PathBuf>, text: &str) -> Self {
        self.errors.extend(self.sources.text(name, text).err());
        self
    }

    /// Takes the variables `OS_<GROUP>__<OPTION>` of this process.
    ///
    /// ```
    /// use oslo_messaging::Config;
    ///
    /// let _ = Config::builder().process_environment();
    /// ```
    pub fn process_environment(mut self) -> Self {
        self.sources.process_environment();
        self
    }

    /// Takes these as the environment.
    ///
    /// ```
    /// use oslo_messaging::Config;
    ///
    /// let variable = ("OS_DEFAULT__CONTROL_EXCHANGE".to_owned(), "nova".to_owned());
    /// let config = Config::builder().environment([variable]).load().unwrap();
    /// assert_eq!(config.default.control_exchange, "nova");
    /// ```
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.sources.environment(variables);
        self
    }

    /// Gives an option another default, as services do for `control_exchange` and `executor_thread_pool_size`
    /// (parity TR7).
    ///
    /// ```
    /// use oslo_messaging::Config;
    ///
    /// let config = Config::builder().set_default("DEFAULT", "control_exchange", "nova").load().unwrap();
    /// assert_eq!(config.default.control_exchange, "nova");
    /// assert!(!config.origin("DEFAULT", "control_exchange").is_set());
    /// ```
    pub fn set_default(mut self, group: &str, name: &str, value: &str) -> Self {
        self.sources.set_default(group, name, value);
        self
    }

    /// The configuration. Logs each of its warnings once.
    ///
    /// ```
    /// use oslo_messaging::{Config, ErrorKind};
    ///
    /// let error = Config::builder().text("nova.conf", "[oslo_messaging_kafka]\nmax_poll_records = 0\n").load().unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// assert!(error.to_string().contains("nova.conf:2"));
    /// ```
    ///
    /// # Errors
    /// [`Config`](oslo_messaging_core::error::ErrorKind::Config) for the first thing that is wrong, with its file and line, variable or path:
    /// a file that cannot be read, a line that is none, a value its option does not take, a reference to nothing.
    /// It says how many more there are.
    pub fn load(self) -> Result<Config> {
        let config = self.read();
        for warning in config.warnings() {
            warn!(%warning, "configuration");
        }
        let mut errors = config.report.errors().iter();
        let Some(first) = errors.next() else {
            return Ok(config);
        };
        let error = Error::from(first.clone());
        match errors.len() {
            0 => Err(error),
            more => Err(error.with("further errors", more.to_string())),
        }
    }

    /// What can be read; what is wrong is in its [`errors`](Config::errors), and those options have their defaults.
    ///
    /// ```
    /// let config = oslo_messaging::Config::builder().file("/nowhere/nova.conf").read();
    /// assert_eq!(config.errors().len(), 1);
    /// ```
    pub fn read(self) -> Config {
        let mut resolver = Resolver::new(&self.sources, TABLES);
        let mut config = Config {
            default: resolver.load(),
            notifications: resolver.load(),
            #[cfg(feature = "rabbit")]
            rabbit: resolver.load(),
            kafka: resolver.load(),
            metrics: resolver.load(),
            tracing: resolver.load(),
            report: Report::default(),
            files: self.sources.files().map(Path::to_owned).collect(),
        };
        let found = resolver.finish();
        config.report = found.after(self.errors);
        for warning in gone::warnings(&self.sources) {
            config.report.push_warning(warning);
        }
        config
    }
}
