//! Options of the engine's drivers: what there is, and from pairs of texts to what a transport is made with.

use oslo_messaging::ConnectOptions;
#[cfg(feature = "kafka")]
use oslo_messaging::kafka::config::KafkaConfig;
use oslo_messaging::rabbit::config::RabbitConfig;
use pyo3::exceptions::PyRuntimeError;
use pyo3::{PyErr, PyResult, pyfunction};

use crate::errors;

/// Pairs of an option's name and its value as text.
pub(crate) type Pairs = [(String, String)];

/// The names of the options of the engine's driver `driver`.
#[pyfunction]
pub(crate) fn option_names(driver: &str) -> PyResult<Vec<&'static str>> {
    let options = match driver {
        "rabbit" => RabbitConfig::OPTIONS,
        #[cfg(feature = "kafka")]
        "kafka" => KafkaConfig::OPTIONS,
        "memory" => &[],
        _ => return Err(unknown(driver)),
    };
    Ok(options.iter().map(|option| option.name).collect())
}

/// Raises `RuntimeError` if these options of the engine's driver `driver` cannot work.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)]
pub(crate) fn check_options(driver: &str, options: Vec<(String, String)>) -> PyResult<()> {
    let connect = connect_options(driver, &options)?;
    let checked = match driver {
        "rabbit" => connect.rabbit.validate(),
        #[cfg(feature = "kafka")]
        "kafka" => connect.kafka.validate(),
        _ => Ok(()),
    };
    checked.map_err(errors::bad_settings)
}

/// What a transport of the engine's driver `driver` is made with.
///
/// # Errors
/// `RuntimeError` for a driver or an option that is not there, and for a value that an option cannot have.
pub(crate) fn connect_options(driver: &str, options: &Pairs) -> PyResult<ConnectOptions> {
    let mut connect = ConnectOptions::default();
    match driver {
        "rabbit" => {
            connect.rabbit = RabbitConfig::from_query(options).map_err(errors::bad_settings)?;
        }
        #[cfg(feature = "kafka")]
        "kafka" => {
            connect.kafka = KafkaConfig::from_query(options).map_err(errors::bad_settings)?;
        }
        "memory" if options.is_empty() => {}
        "memory" => {
            return Err(PyRuntimeError::new_err("the memory driver has no options"));
        }
        _ => return Err(unknown(driver)),
    }
    Ok(connect)
}

fn unknown(driver: &str) -> PyErr {
    let there = if cfg!(feature = "kafka") {
        "rust+rabbit, rust+kafka and rust+memory"
    } else {
        "rust+rabbit and rust+memory; rust+kafka is a feature of the wheel that this one was built without"
    };
    PyRuntimeError::new_err(format!(
        "no driver {driver:?} in oslo-messaging-rust; there are {there}"
    ))
}
