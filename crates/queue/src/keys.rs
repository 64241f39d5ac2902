//! The names of everything in Redis.

use std::sync::Arc;

use domain::{CompanyId, SessionId};

/// Makes names that begin with the queue's prefix.
#[derive(Clone)]
pub(crate) struct Keys {
    prefix: Arc<str>,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
        }
    }

    /// What is written to see whether writes are taken.
    pub(crate) fn probe(&self) -> String {
        format!("{}probe", self.prefix)
    }

    /// LIST of the waiting jobs of one company at one location, the next one first.
    pub(crate) fn ready(&self, location: &str, company: CompanyId) -> String {
        format!("{}{company}", self.ready_start(location))
    }

    /// What the names of all lists of a location begin with; the company follows.
    pub(crate) fn ready_start(&self, location: &str) -> String {
        format!("{}ready:{location}:", self.prefix)
    }

    /// LIST of the companies that have jobs at a location, each once, the next one first.
    pub(crate) fn ring(&self, location: &str) -> String {
        format!("{}ring:{location}", self.prefix)
    }

    /// LIST of a few tokens for idle workers to block on.
    pub(crate) fn wake(&self, location: &str) -> String {
        format!("{}wake:{location}", self.prefix)
    }

    /// SET of the workers that have told live figures of a session.
    pub(crate) fn live_workers(&self, session: SessionId) -> String {
        format!("{}live:{session}", self.prefix)
    }

    /// What one worker does for a session right now, as JSON; expires.
    pub(crate) fn live(&self, session: SessionId, worker: &str) -> String {
        format!("{}live:{session}:{worker}", self.prefix)
    }

    /// When the last reservation of a session's bandwidth ends; expires.
    pub(crate) fn bandwidth(&self, session: SessionId) -> String {
        format!("{}bandwidth:{session}", self.prefix)
    }

    /// SET by score of the workers that are alive, and of when they told so.
    pub(crate) fn workers(&self) -> String {
        format!("{}workers", self.prefix)
    }

    /// What one worker tells of itself, as JSON; expires.
    pub(crate) fn worker(&self, id: &str) -> String {
        format!("{}worker:{id}", self.prefix)
    }

    /// That somebody sweeps for all; expires when it is due again.
    pub(crate) fn sweep(&self) -> String {
        format!("{}sweep", self.prefix)
    }

    /// Channel: the figures of a session have changed.
    pub(crate) fn progress(&self, session: SessionId) -> String {
        format!("{}progress:{session}", self.prefix)
    }

    /// Pattern of all [`Keys::progress`] channels.
    pub(crate) fn every_progress(&self) -> String {
        format!("{}progress:*", self.prefix)
    }

    /// Channel: somebody has set a session's stop flag.
    pub(crate) fn stop(&self) -> String {
        format!("{}stop", self.prefix)
    }
}
