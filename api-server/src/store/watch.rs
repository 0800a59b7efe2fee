//! [`Watch`]: changes of documents, as they happen.

use tokio::sync::broadcast;

use super::Document;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A document was written.
    Put(Document),
    /// A document was removed.
    Deleted {
        /// Its key.
        key: String,
        /// Revision of the removal.
        revision: u64,
    },
    /// Changes came faster than they were read, and some were lost: read everything again.
    Lost,
}

impl Event {
    fn key(&self) -> &str {
        match self {
            Self::Put(document) => document.key(),
            Self::Deleted { key, .. } => key,
            Self::Lost => "",
        }
    }
}

/// Changes below a prefix.
#[derive(Debug)]
pub struct Watch {
    prefix: String,
    receiver: broadcast::Receiver<Event>,
}

impl Watch {
    pub(super) fn new(prefix: &str, receiver: broadcast::Receiver<Event>) -> Self {
        Self {
            prefix: prefix.to_owned(),
            receiver,
        }
    }

    /// The next change; `None` when the store is gone.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.recv().await {
                Ok(event) if event.key().starts_with(&self.prefix) => return Some(event),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => return Some(Event::Lost),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
