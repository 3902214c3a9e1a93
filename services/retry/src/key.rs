// SPDX-License-Identifier: Apache-2.0
//! What the two queues differ in: their keys, what is asked of the publisher
//! for one, what then goes to the host, and how its answer reads.

use std::fmt;
use std::sync::Arc;

use dvs_ledger::Table;
use dvs_schemas::v1::{
    ApplyOutcome, ApplyReport, Clobber, FinalState, PortFailure, Queue, Remove, RemoveOutcome,
    RemoveReport, RenderReply, RenderRequest, RepushKey, RipKey,
};
use dvs_schemas::{HostName, PortId, Revision, SessionId, SwitchName};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::commit::Commit;
use crate::ledger::{REPUSH, RIP};

/// Failed ports that an error names; the rest is counted.
const PORTS_NAMED: usize = 3;

/// A key's parts, joined by NUL. No name contains it and it sorts before all
/// that they do contain; so paths sort by host, switch and port, and all of a
/// host's lie together. Also the key in the ledger.
pub(crate) type Path = Arc<str>;

/// Ends a part of a [`Path`].
pub(crate) const SEPARATOR: char = '\0';

/// What one host is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostCall {
    /// Make a full state true.
    Clobber(Box<Clobber>),
    /// Remove a virtual port.
    Remove(Remove),
}

/// How a call to a host ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The host's answer to a clobber.
    Clobber(ApplyReport),
    /// The host's answer to a remove.
    Remove(RemoveReport),
    /// Nothing came in time; the host may have done it.
    TimedOut,
    /// The host's agent is not there.
    NoResponder,
    /// The call did not leave, and why.
    NotSent(String),
    /// The host said something that is no answer.
    Unreadable(String),
}

/// What the publisher's answer means for an entry.
#[derive(Debug)]
pub(crate) enum Rendering {
    /// Send this; the answer of this session counts, and all that was put up to
    /// this commit is in it.
    Call(HostCall, SessionId, Commit),
    /// Nothing is to be done any more.
    Cancelled,
}

/// The key of a queue's entries.
pub(crate) trait Key: Clone + fmt::Debug + Serialize + DeserializeOwned {
    /// Which queue.
    const QUEUE: Queue;
    /// Its table.
    const TABLE: Table;

    fn host(&self) -> &HostName;
    fn switch(&self) -> &SwitchName;
    fn port(&self) -> Option<&PortId>;

    /// What to ask the publisher.
    fn question(&self, revision: Revision) -> RenderRequest;

    /// What the publisher's answer means.
    fn rendering(&self, reply: RenderReply) -> Result<Rendering, String>;

    /// Whether the host has done it, or why not. `session`: that of its agent.
    fn verdict(&self, answer: Answer, session: SessionId) -> Result<(), String>;

    fn path(&self) -> Path {
        let mut path = under(self.host(), Some(self.switch()));
        if let Some(port) = self.port() {
            path.push_str(port.as_str());
        }
        path.into()
    }
}

/// The beginning that the paths of a host, or of a switch on a host, share.
pub(crate) fn under(host: &HostName, switch: Option<&SwitchName>) -> String {
    let mut path = format!("{host}{SEPARATOR}");
    if let Some(switch) = switch {
        path.push_str(switch.as_str());
        path.push(SEPARATOR);
    }
    path
}

impl Key for RepushKey {
    const QUEUE: Queue = Queue::Repush;
    const TABLE: Table = REPUSH;

    fn host(&self) -> &HostName {
        &self.host
    }

    fn switch(&self) -> &SwitchName {
        &self.switch
    }

    fn port(&self) -> Option<&PortId> {
        None
    }

    fn question(&self, _: Revision) -> RenderRequest {
        RenderRequest::State {
            host: self.host.clone(),
            switch: self.switch.clone(),
        }
    }

    fn rendering(&self, reply: RenderReply) -> Result<Rendering, String> {
        match reply {
            RenderReply::Clobber { session, clobber } if clobber.switch == self.switch => {
                match clobber.state {
                    FinalState::Full { .. } | FinalState::Absent => {
                        let commit = Commit {
                            store: clobber.store,
                            revision: clobber.revision,
                        };
                        Ok(Rendering::Call(HostCall::Clobber(clobber), session, commit))
                    }
                    FinalState::Partial { .. } => Err("config-publisher rendered a partial state \
                                                   where the full state was asked for"
                        .to_owned()),
                }
            }
            RenderReply::Clobber { clobber, .. } => Err(format!(
                "config-publisher rendered switch {} where {} was asked for",
                clobber.switch, self.switch
            )),
            RenderReply::Remove { .. } => {
                Err("config-publisher rendered a removal where a state was asked for".to_owned())
            }
            RenderReply::Cancelled {} => Ok(Rendering::Cancelled),
        }
    }

    fn verdict(&self, answer: Answer, session: SessionId) -> Result<(), String> {
        match answer {
            Answer::Clobber(report) => {
                spoke(self, &report.host, &report.switch)?;
                in_session(report.session, session)?;
                match report.outcome {
                    ApplyOutcome::Applied { .. } => Ok(()),
                    ApplyOutcome::Failed { message, ports } => Err(failed(message, &ports)),
                }
            }
            Answer::Remove(_) => Err(crossed()),
            Answer::TimedOut | Answer::NoResponder | Answer::NotSent(_) | Answer::Unreadable(_) => {
                Err(unheard(answer))
            }
        }
    }
}

impl Key for RipKey {
    const QUEUE: Queue = Queue::Rip;
    const TABLE: Table = RIP;

    fn host(&self) -> &HostName {
        &self.host
    }

    fn switch(&self) -> &SwitchName {
        &self.switch
    }

    fn port(&self) -> Option<&PortId> {
        Some(&self.port)
    }

    fn question(&self, revision: Revision) -> RenderRequest {
        RenderRequest::Removal {
            host: self.host.clone(),
            switch: self.switch.clone(),
            port: self.port.clone(),
            revision,
        }
    }

    fn rendering(&self, reply: RenderReply) -> Result<Rendering, String> {
        match reply {
            RenderReply::Remove { session, remove } if remove.switch == self.switch => {
                let ours = remove.ports.iter().find(|port| port.port == self.port);
                let commit = ours.map(|port| Commit {
                    store: remove.store,
                    revision: port.revision,
                });
                match commit {
                    Some(commit) => Ok(Rendering::Call(HostCall::Remove(remove), session, commit)),
                    None => Err(format!(
                        "config-publisher rendered a removal without port {}",
                        self.port
                    )),
                }
            }
            RenderReply::Remove { remove, .. } => Err(format!(
                "config-publisher rendered switch {} where {} was asked for",
                remove.switch, self.switch
            )),
            RenderReply::Clobber { .. } => {
                Err("config-publisher rendered a state where a removal was asked for".to_owned())
            }
            RenderReply::Cancelled {} => Ok(Rendering::Cancelled),
        }
    }

    fn verdict(&self, answer: Answer, session: SessionId) -> Result<(), String> {
        match answer {
            Answer::Remove(report) => {
                spoke(self, &report.host, &report.switch)?;
                in_session(report.session, session)?;
                match report.outcome {
                    RemoveOutcome::Removed => Ok(()),
                    RemoveOutcome::Failed { ports } => Err(failed(String::new(), &ports)),
                }
            }
            Answer::Clobber(_) => Err(crossed()),
            Answer::TimedOut | Answer::NoResponder | Answer::NotSent(_) | Answer::Unreadable(_) => {
                Err(unheard(answer))
            }
        }
    }
}

/// The subject proves the host; the message has to agree with it.
fn spoke(key: &impl Key, host: &HostName, switch: &SwitchName) -> Result<(), String> {
    if host == key.host() && switch == key.switch() {
        Ok(())
    } else {
        Err(format!(
            "the host answered for host {host}, switch {switch}"
        ))
    }
}

/// The host's agent has to be the one that the publisher knows.
fn in_session(said: SessionId, session: SessionId) -> Result<(), String> {
    if said == session {
        Ok(())
    } else {
        Err(format!(
            "an agent answered in session {said}, and the host's is in {session}; see dvsctl \
             describe host"
        ))
    }
}

fn crossed() -> String {
    "the host answered another question than the one asked".to_owned()
}

fn unheard(answer: Answer) -> String {
    match answer {
        Answer::TimedOut => "the host did not answer in time".to_owned(),
        Answer::NoResponder => {
            "nobody listens for the host: its agent or its connection is down".to_owned()
        }
        Answer::NotSent(why) => why,
        Answer::Unreadable(why) => format!("the host's answer is not readable: {why}"),
        Answer::Clobber(_) | Answer::Remove(_) => crossed(),
    }
}

fn failed(message: String, ports: &[PortFailure]) -> String {
    let named = ports.iter().take(PORTS_NAMED).map(|failure| {
        let field = failure.field.as_deref().map(|field| format!(" {field}"));
        format!(
            "port {}{}: {}",
            failure.port,
            field.unwrap_or_default(),
            failure.message
        )
    });
    let more = ports
        .len()
        .checked_sub(PORTS_NAMED + 1)
        .map(|rest| format!("and {} more ports", rest + 1));
    let parts: Vec<String> = Some(message)
        .filter(|message| !message.is_empty())
        .into_iter()
        .chain(named)
        .chain(more)
        .collect();
    if parts.is_empty() {
        "the host failed without a reason".to_owned()
    } else {
        parts.join("; ")
    }
}
