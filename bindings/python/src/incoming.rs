//! One message that Python has taken: a request to be answered, or a notification to be settled.

use std::sync::{Arc, Mutex, PoisonError};

use oslo_messaging::driver::Delivery;
use oslo_messaging::proto::Duplicates;
use oslo_messaging::rpc::ReplyBody;
use oslo_messaging::rpc::foreign::Taken;
use oslo_messaging::{Error, RawJson};
use pyo3::exceptions::PyValueError;
use pyo3::types::PyString;
use pyo3::{Bound, PyResult, Python, pyclass, pymethods};

use crate::fork::Owned;
use crate::{convert, errors};

/// A message on its way into Python.
pub(crate) enum Item {
    /// Acknowledged already, to be answered.
    Request(Taken),
    /// To be acknowledged or given back.
    Note(Note),
}

/// A notification; dropped without a word it goes back to the bus.
pub(crate) struct Note {
    pub(crate) delivery: Delivery,
    pub(crate) message: RawJson,
    pub(crate) unique_id: Option<String>,
    /// What was acknowledged, which must not come again.
    pub(crate) seen: Arc<Mutex<Duplicates>>,
}

impl Note {
    fn acknowledge(self) {
        if let Some(id) = &self.unique_id {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.insert(id);
        }
        self.delivery.ack();
    }
}

/// A message that Python has taken.
#[pyclass(module = "oslo_messaging_rust._native")]
pub(crate) struct Incoming {
    item: Owned<Option<Item>>,
}

impl Incoming {
    /// This message, in Python's hands.
    pub(crate) fn new(item: Item) -> Self {
        Self {
            item: Owned::new(Some(item)),
        }
    }

    /// The message, which is settled now whatever becomes of it. None the second time.
    fn settle(&mut self) -> Option<Item> {
        self.item.get_mut().and_then(Option::take)
    }

    fn give(&mut self, body: ReplyBody) {
        if let Some(Item::Request(taken)) = self.settle() {
            taken.answer(body);
        }
    }
}

#[pymethods]
impl Incoming {
    /// The message as JSON text.
    fn message<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let text = match self.item.get().ok_or_else(errors::inherited)? {
            Some(Item::Request(taken)) => taken.message(),
            Some(Item::Note(note)) => &note.message,
            None => return Err(PyValueError::new_err("it was settled")),
        };
        Ok(PyString::new(py, text.as_str()))
    }

    /// Answers a request with a result, given as JSON text; nothing stands for null.
    #[pyo3(signature = (result=None))]
    fn answer(&mut self, result: Option<&str>) -> PyResult<()> {
        let body = match result {
            None => ReplyBody::null(),
            Some(text) => ReplyBody::encode_result(&convert::json(text)?)
                .map_err(|fault| PyValueError::new_err(Error::from(fault).to_string()))?,
        };
        self.give(body);
        Ok(())
    }

    /// Answers a request with a failure, given as JSON text.
    fn fail(&mut self, failure: &str) -> PyResult<()> {
        let failure = convert::json(failure)?;
        self.give(ReplyBody::failure_text(&failure));
        Ok(())
    }

    /// Acknowledges a notification.
    fn acknowledge(&mut self) {
        if let Some(Item::Note(note)) = self.settle() {
            note.acknowledge();
        }
    }

    /// Gives a notification back to the bus.
    fn requeue(&mut self) {
        if let Some(Item::Note(note)) = self.settle() {
            note.delivery.requeue();
        }
    }
}
