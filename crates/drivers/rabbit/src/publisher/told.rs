//! What a sender is told whose message the broker did not take.

use oslo_messaging_amqp::Error as AmqpError;
use oslo_messaging_core::driver::Destination;
use oslo_messaging_core::error::{Error, ErrorKind};

use crate::connection::Session;
use crate::error::{
    Place, nacked_error, publish_error, unanswered_error, unconfirmed_error, undeliverable_error,
};
use crate::lane::is_blocked;
use crate::parcel::{Fault, Parcel};
use crate::publisher::Publisher;

impl Publisher {
    pub(super) fn error(&self, entity: Destination<'_>, session: &Session, fault: Fault) -> Error {
        let entity = entity.to_string();
        let place = Place {
            host: &session.host,
            vhost: self.link.brokers().vhost(),
            entity: &entity,
        };
        match fault {
            Fault::Nacked => nacked_error(place),
            Fault::Returned(code, text) => undeliverable_error(code, &text, place),
            Fault::Amqp(error) => publish_error(error, place),
            Fault::Unanswered(why) => unanswered_error(&why, place),
        }
    }

    pub(super) fn unconfirmed(
        &self,
        parcel: &Parcel<'_>,
        session: &Session,
        error: AmqpError,
    ) -> Error {
        let entity = parcel.entity.to_string();
        let place = Place {
            host: &session.host,
            vhost: self.link.brokers().vhost(),
            entity: &entity,
        };
        unconfirmed_error(error, place)
    }

    /// What a sender is told whose deadline passed: why there was no connection, or that no confirm came, and what was
    /// wrong with the last attempt.
    pub(super) fn late(&self, entity: Destination<'_>, last: Option<Fault>) -> Error {
        let session = self.link.with_status(|status| status.session().cloned());
        let error = match session {
            Some(session) if is_blocked(&session) => {
                let text = "the broker blocks publishers (memory or disk alarm) and did not take the message in time";
                Error::new(ErrorKind::Timeout, text).with_host(&*session.host)
            }
            Some(session) => {
                let (text, cause) = match last {
                    Some(fault) => (
                        "the broker did not take the message in time, though it was tried again and again",
                        Some(self.error(entity, &session, fault)),
                    ),
                    None => ("the broker did not confirm the message in time", None),
                };
                let error = Error::new(ErrorKind::Timeout, text).with_host(&*session.host);
                match cause {
                    Some(cause) => error.with_source(cause),
                    None => error,
                }
            }
            None => self.link.last_error().unwrap_or_else(|| {
                Error::new(
                    ErrorKind::Unreachable,
                    "no connection to the broker was made in time",
                )
            }),
        };
        error
            .with("vhost", &**self.link.brokers().vhost())
            .with("entity", entity.to_string())
    }
}
