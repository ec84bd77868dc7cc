//! What happens after a rollout has changed: it is written down, then told.

use gateway_core::config::model::Notify;
use gateway_core::name::ServiceName;
use gateway_core::rollout::{Change, Record};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Changes of one service's rollouts; the shares they lead to are in force already.
#[derive(Debug)]
pub(crate) struct Announcement {
    pub(crate) service: ServiceName,
    /// All rollouts of the service as they are now.
    pub(crate) records: Vec<Record>,
    /// In the order they happened.
    pub(crate) changes: Vec<Change>,
    /// Who is to be told.
    pub(crate) notify: Vec<Notify>,
}

/// Takes announcements without ever waiting.
#[derive(Debug, Clone)]
pub(crate) struct Announcer(UnboundedSender<Announcement>);

impl Announcer {
    /// The way in, and the way out for whoever writes and tells.
    pub(crate) fn new() -> (Self, UnboundedReceiver<Announcement>) {
        let (sender, receiver) = unbounded_channel();
        (Self(sender), receiver)
    }

    pub(crate) fn announce(&self, announcement: Announcement) {
        // The receiver goes only with the process.
        let _ = self.0.send(announcement);
    }
}
