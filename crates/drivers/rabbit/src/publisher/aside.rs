//! The way past all others, for what is urgent: a channel of the connection that consumes, where nothing waits for its turn.

use oslo_messaging_core::driver::Outgoing;

use crate::connection::Session;
use crate::lane::is_blocked;
use crate::publisher::Publisher;

impl Publisher {
    /// Sends what is urgent on the connection that consumes, past all that waits for its turn on the other one; nobody says
    /// whether it arrives. False if it has to go the usual way.
    pub(crate) async fn send_aside(&self, message: &Outgoing<'_>, session: &Session) -> bool {
        // A broker that is short of memory stops reading a connection on which somebody publishes, and with it its acks.
        if self.is_blocked() || is_blocked(session) {
            return false;
        }
        let Ok(parcel) = self.pack(message) else {
            return false;
        };
        let mut aside = self.aside.lock().await;
        let kept = aside.take().filter(|(generation, channel)| {
            *generation == session.generation && channel.closed_reason().is_none()
        });
        let channel = match kept {
            Some((_, channel)) => channel,
            None => match session.connection.open_channel().await {
                Ok(channel) => channel,
                Err(_) => return false,
            },
        };
        let sent = channel.send(&self.envelope(&parcel, false), &parcel.body);
        *aside = Some((session.generation, channel));
        sent.is_ok()
    }
}
